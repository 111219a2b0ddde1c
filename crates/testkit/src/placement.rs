//! Which pod a key belongs to, worked out from the text of the algorithms (Envoy `RING_HASH` and `MAGLEV` with xxHash64),
//! not by our code: what both proxies must agree with.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use xxhash_rust::xxh64::xxh64;

use crate::world::World;

/// What keys lead to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Placement {
    /// `RING_HASH` or `MAGLEV`.
    pub by: String,
    /// Points of the ring at least, or entries of the table.
    pub size: u32,
    /// The pods' port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The pods that may be used, with their weights.
    pub pods: BTreeMap<String, u32>,
    /// The key of call `{n}`.
    pub key: String,
}

fn default_port() -> u16 {
    9080
}

impl Placement {
    /// The pods of calls 1 to `times`.
    pub fn pods(&self, world: &World, times: u32) -> Result<Vec<String>> {
        // In the order of the addresses, as they are sent.
        let mut hosts: Vec<(String, &str, f64)> = Vec::new();
        let total: u32 = self.pods.values().sum();
        for (name, weight) in &self.pods {
            let pod = world.pods.iter().find(|pod| pod.name == *name).with_context(|| format!("no pod {name}"))?;
            hosts.push((format!("{}:{}", pod.ip, self.port), name, f64::from(*weight) / f64::from(total)));
        }
        hosts.sort_by_key(|(address, ..)| address.parse::<std::net::SocketAddr>().ok());
        let pod_of: Box<dyn Fn(u64) -> usize> = match self.by.as_str() {
            "RING_HASH" => ring(&hosts, self.size),
            "MAGLEV" => maglev(&hosts, self.size),
            other => bail!("placement by {other:?} is not known"),
        };
        let key = |number: u32| xxh64(self.key.replace("{n}", &number.to_string()).as_bytes(), 0);
        Ok((1..=times).map(|number| hosts[pod_of(key(number))].1.to_owned()).collect())
    }
}

fn ring(hosts: &[(String, &str, f64)], size: u32) -> Box<dyn Fn(u64) -> usize> {
    let least = hosts.iter().map(|host| host.2).fold(1.0, f64::min);
    let scale = (least * f64::from(size)).ceil() / least;
    let mut points = BTreeMap::new();
    let (mut have, mut want) = (0.0, 0.0);
    for (index, (address, _, share)) in hosts.iter().enumerate() {
        want += scale * share;
        for number in 0.. {
            if have >= want {
                break;
            }
            points.insert(xxh64(format!("{address}_{number}").as_bytes(), 0), index);
            have += 1.0;
        }
    }
    Box::new(move |key| points.range(key..).next().or(points.iter().next()).map_or(0, |(_, host)| *host))
}

fn maglev(hosts: &[(String, &str, f64)], size: u32) -> Box<dyn Fn(u64) -> usize> {
    let size = u64::from(size);
    let mut order: Vec<usize> = (0..hosts.len()).collect();
    order.sort_by_key(|index| &hosts[*index].0);
    let most = hosts.iter().map(|host| host.2).fold(0.0, f64::max);
    let mut table: BTreeMap<u64, usize> = BTreeMap::new();
    let mut next = vec![0_u64; hosts.len()];
    let mut due = vec![0.0; hosts.len()];
    let mut turn = 0.0;
    while (table.len() as u64) < size {
        turn += 1.0;
        for index in order.iter().copied() {
            if turn * hosts[index].2 < due[index] || table.len() as u64 == size {
                continue;
            }
            due[index] += most;
            let name = hosts[index].0.as_bytes();
            let (offset, skip) = (xxh64(name, 0) % size, xxh64(name, 1) % (size - 1) + 1);
            loop {
                let entry = (offset + skip * next[index]) % size;
                next[index] += 1;
                if let std::collections::btree_map::Entry::Vacant(free) = table.entry(entry) {
                    free.insert(index);
                    break;
                }
            }
        }
    }
    Box::new(move |key| table.get(&(key % size)).copied().unwrap_or(0))
}
