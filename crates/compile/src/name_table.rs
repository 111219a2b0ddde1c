//! The name table of a class of sidecars: what their DNS questions are answered with (SE33).
//!
//! In: what the class's listeners show. Out: complete host names with addresses. Shorter names the proxy makes itself, by
//! its own namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use config::{Cidr, NameInfo, NameTable};

use crate::endpoints;
use crate::outlook::Outlook;
use crate::registry::Seen;
use crate::service::Resolution;
use crate::world::{Joined, World};

/// Names of every service that some listener shows. Ranges of addresses and services without any are left to the
/// resolvers.
pub(crate) fn compute(outlook: &Outlook, world: &World) -> NameTable {
    let mut names = BTreeMap::new();
    for seen in outlook.views.iter().flat_map(|view| &view.visible.services) {
        let service = seen.service();
        let addresses = match service.resolution {
            Resolution::Headless => {
                let joined = world.joined(&service.origin).map(|(joined, _)| &**joined);
                pods(seen, joined, &mut names);
                endpoints::ready_addresses(joined).into_iter().collect()
            }
            _ => single(&seen.addresses(true)),
        };
        if !addresses.is_empty() {
            names.insert(service.host.to_string(), info(seen, &service.name, addresses));
        }
    }
    NameTable { names }
}

fn single(ranges: &[Cidr]) -> Vec<IpAddr> {
    let alone = ranges.iter().filter(|range| **range == Cidr::host(range.address));
    alone.map(|range| range.address).collect::<BTreeSet<_>>().into_iter().collect()
}

/// `<pod>.<service>.<namespace>.svc.<domain>` of pods that have a host name of their own (StatefulSets).
fn pods(seen: &Seen, joined: Option<&Joined>, names: &mut BTreeMap<String, NameInfo>) {
    let service = seen.service();
    for endpoint in joined.iter().flat_map(|joined| &joined.endpoints) {
        let (Some(hostname), Some(ip)) = (&endpoint.hostname, endpoint.ip()) else { continue };
        let short = format!("{hostname}.{}", service.name);
        let name = format!("{hostname}.{}", service.host);
        let made = names.entry(name).or_insert_with(|| info(seen, &short, Vec::new()));
        made.addresses.push(ip);
    }
}

fn info(seen: &Seen, short: &str, addresses: Vec<IpAddr>) -> NameInfo {
    let service = seen.service();
    let kubernetes = service.is_kubernetes();
    NameInfo {
        addresses,
        kubernetes,
        short_name: if kubernetes { short.to_owned() } else { String::new() },
        namespace: if kubernetes { service.namespace.to_string() } else { String::new() },
    }
}
