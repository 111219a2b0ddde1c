//! A Maglev table: the hosts take turns in taking entries, each in an order of its own, until all are taken; a key is
//! an entry (Envoy `MAGLEV`, Istio DR23; Eisenbud et al., "Maglev", NSDI 2016, section 3.4).
//!
//! Orders and turns are those of Envoy, bit by bit, so that both proxies keep a key at the same host.

use xxhash_rust::xxh64::xxh64;

use crate::ring::{HashText, Share};

/// Hosts by entry; empty without hosts.
#[derive(Debug)]
pub(crate) struct Maglev(Vec<u32>);

/// One host while the table is filled.
struct Filling {
    host: u32,
    // Its entries in its own order are `offset + n * skip`, for n = 0, 1, ….
    next: u64,
    skip: u64,
    share: f64,
    // It has its turn when its share, added up once a round, has reached this.
    due: f64,
}

const FREE: u32 = u32::MAX;

impl Maglev {
    /// The table of some hosts; `size` must be a prime number.
    pub(crate) fn new(shares: &[Share<'_>], size: u32) -> Self {
        let size = u64::from(size);
        if shares.is_empty() || size < 2 {
            return Self(Vec::new());
        }
        // Turns go by the text of the address, so that the order in which hosts came does not matter.
        let mut named: Vec<(String, &Share<'_>)> =
            shares.iter().map(|one| (HashText(one.address).to_string(), one)).collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let mut filling: Vec<Filling> = named
            .iter()
            .map(|(name, one)| Filling {
                host: one.host,
                next: xxh64(name.as_bytes(), 0) % size,
                skip: xxh64(name.as_bytes(), 1) % (size - 1) + 1,
                share: one.share,
                due: 0.0,
            })
            .collect();
        let largest = shares.iter().map(|one| one.share).fold(0.0, f64::max);
        let mut table = vec![FREE; size as usize];
        let mut free = table.len();
        let mut round = 0.0;
        while free > 0 {
            round += 1.0;
            for one in &mut filling {
                if free == 0 {
                    break;
                }
                // The host with the largest share has a turn in every round.
                if round * one.share < one.due {
                    continue;
                }
                one.due += largest;
                while table[one.next as usize] != FREE {
                    one.next = (one.next + one.skip) % size;
                }
                table[one.next as usize] = one.host;
                one.next = (one.next + one.skip) % size;
                free -= 1;
            }
        }
        Self(table)
    }

    /// The host of a key; `attempt` counts picks that were repeated, each of which is another key.
    pub(crate) fn host(&self, key: u64, attempt: u32) -> Option<u32> {
        let key = match attempt {
            0 => key,
            attempt => key ^ (u64::MAX - u64::from(attempt) + 1),
        };
        let size = self.0.len() as u64;
        Some(self.0[key.checked_rem(size)? as usize])
    }
}

#[cfg(test)]
mod tests {
    use config::EndpointAddress;

    use super::*;

    fn table(shares: &[(u16, f64)], size: u32) -> Maglev {
        let addresses: Vec<_> =
            shares.iter().map(|(port, _)| EndpointAddress::Socket(([127, 0, 0, 1], *port).into())).collect();
        let shares: Vec<_> = (0..)
            .zip(addresses.iter().zip(shares))
            .map(|(host, (address, (_, share)))| Share { host, address, share: *share })
            .collect();
        Maglev::new(&shares, size)
    }

    fn counts(table: &Maglev, hosts: u32) -> Vec<usize> {
        (0..hosts).map(|host| table.0.iter().filter(|one| **one == host).count()).collect()
    }

    #[test]
    fn equal_hosts_have_equal_parts_of_the_table() {
        let table = table(&[(1, 0.25), (2, 0.25), (3, 0.25), (4, 0.25)], 65_537);
        assert!(counts(&table, 4).iter().all(|count| (16_384..=16_385).contains(count)), "{:?}", counts(&table, 4));
    }

    #[test]
    fn weights_are_parts_of_the_table() {
        let counts = counts(&table(&[(1, 0.75), (2, 0.25)], 65_537), 2);
        assert!((49_100..49_200).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn the_order_of_hosts_does_not_matter() {
        let host_at = |shares: &[(u16, f64)], key| {
            let host = table(shares, 257).host(key, 0).map(|host| shares[host as usize].0);
            host.expect("the table has hosts")
        };
        let there = [(1, 0.25), (2, 0.25), (3, 0.5)];
        let back = [(3, 0.5), (2, 0.25), (1, 0.25)];
        assert!((0..257).all(|key| host_at(&there, key) == host_at(&back, key)));
    }

    #[test]
    fn a_repeated_pick_is_another_entry() {
        let table = table(&[(1, 0.5), (2, 0.5)], 65_537);
        let hosts: std::collections::BTreeSet<_> = (0..8).map(|attempt| table.host(7, attempt)).collect();
        assert_eq!(hosts.len(), 2);
        assert_eq!(Maglev(Vec::new()).host(7, 0), None);
    }
}
