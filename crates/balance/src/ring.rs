//! A ring: every host has points on a circle of 64 bits, and a key belongs to the first point at or after it
//! (Envoy `RING_HASH` with xxHash64, Istio DR21, DR22).
//!
//! The points are those of Envoy, bit by bit, so that both proxies keep a key at the same host: the hash of
//! `<address>:<port>_<number>`, and as many numbers as Envoy gives out.

use config::EndpointAddress;
use config::balancing::RING_SIZE_MAX;
use xxhash_rust::xxh64::xxh64;

/// A host with its share; shares add up to 1.
pub(crate) struct Share<'a> {
    /// Its place in the set.
    pub(crate) host: u32,
    /// Where it listens.
    pub(crate) address: &'a EndpointAddress,
    /// Its share.
    pub(crate) share: f64,
}

/// Points in order.
#[derive(Debug)]
pub(crate) struct Ring(Vec<(u64, u32)>);

impl Ring {
    /// The ring of some hosts, with at least `minimum` points if it has hosts.
    pub(crate) fn new(shares: &[Share<'_>], minimum: u32) -> Self {
        let mut points = Vec::new();
        let smallest = shares.iter().map(|one| one.share).fold(1.0, f64::min);
        // The host with the smallest share gets a whole number of points, the others what their share makes of it.
        let scale = ((smallest * f64::from(minimum)).ceil() / smallest).min(f64::from(RING_SIZE_MAX));
        // Sums over all hosts, not per host: what rounding adds for one is not added for the next.
        let (mut made, mut wanted) = (0.0, 0.0);
        let mut key = String::new();
        for Share { host, address, share } in shares {
            wanted += scale * share;
            let mut number = 0_u64;
            while made < wanted {
                key.clear();
                // Writing to a String cannot fail.
                _ = std::fmt::Write::write_fmt(&mut key, format_args!("{}_{number}", HashText(address)));
                points.push((xxh64(key.as_bytes(), 0), *host));
                number += 1;
                made += 1.0;
            }
        }
        points.sort_unstable();
        Self(points)
    }

    /// The host of a key; `attempt` counts picks that were repeated, each of which goes one point further.
    pub(crate) fn host(&self, key: u64, attempt: u32) -> Option<u32> {
        let first = self.0.partition_point(|(point, _)| *point < key);
        let at = first.checked_rem(self.0.len())? + attempt as usize;
        Some(self.0[at % self.0.len()].1)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// An address as Envoy writes it: a Unix socket is its path alone.
pub(crate) struct HashText<'a>(pub(crate) &'a EndpointAddress);

impl std::fmt::Display for HashText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            EndpointAddress::Pipe(path) => f.write_str(path),
            other => other.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u16) -> EndpointAddress {
        EndpointAddress::Socket(([127, 0, 0, 1], number).into())
    }

    #[test]
    fn a_point_is_the_hash_of_address_and_number() {
        let address = address(90);
        let ring = Ring::new(&[Share { host: 0, address: &address, share: 1.0 }], 4);
        let mut wanted: Vec<u64> = (0..4).map(|n| xxh64(format!("127.0.0.1:90_{n}").as_bytes(), 0)).collect();
        wanted.sort_unstable();
        assert_eq!(ring.0.iter().map(|(point, _)| *point).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn dr22_every_host_gets_a_whole_number_of_points() {
        // Envoy: three equal hosts and 1024 points are 342 each.
        let addresses = [1, 2, 3].map(address);
        let shares: Vec<_> =
            (0..).zip(&addresses).map(|(host, address)| Share { host, address, share: 1.0 / 3.0 }).collect();
        let ring = Ring::new(&shares, 1024);
        assert_eq!(ring.len(), 1026);
        let of = |host| ring.0.iter().filter(|point| point.1 == host).count();
        assert_eq!([0, 1, 2].map(of), [342, 342, 342]);
        assert_eq!(Ring::new(&shares, 2).len(), 3, "a ring that is too small has a point for each host");
    }

    #[test]
    fn weights_are_numbers_of_points() {
        let addresses = [1, 2].map(address);
        let shares: Vec<_> = (0..)
            .zip(addresses.iter().zip([0.25, 0.75]))
            .map(|(host, (address, share))| Share { host, address, share })
            .collect();
        let ring = Ring::new(&shares, 1024);
        assert_eq!(ring.0.iter().filter(|point| point.1 == 0).count(), 256);
    }

    #[test]
    fn a_key_belongs_to_the_first_point_at_or_after_it_and_the_end_is_the_beginning() {
        let ring = Ring(vec![(10, 0), (20, 1), (30, 2)]);
        let hosts = [0, 10, 11, 20, 30, 31].map(|key| ring.host(key, 0));
        assert_eq!(hosts, [0, 0, 1, 1, 2, 0].map(Some));
        assert_eq!([0, 1, 2, 3].map(|attempt| ring.host(15, attempt)), [1, 2, 0, 1].map(Some));
        assert_eq!(Ring(Vec::new()).host(1, 1), None);
    }
}
