//! Addresses for ServiceEntries that have none, so that each has listeners of its own and a DNS answer (SE16, TR81).
//!
//! In: all services, the oldest first. Out: for each that wants one, an IPv4 address of 240.240.0.0/16 and an IPv6 address
//! of 2001:2::/48. Computed from namespace and host, so every replica gives the same and nothing has to be written down;
//! on a collision the older service keeps the address and the other one takes the next free one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::service::{Known, Resolution, Service, Source};

/// Sets a class's Service apart: `networking.istio.io/enable-autoallocate-ip: "false"` turns it off.
pub(crate) const LABEL: &str = "networking.istio.io/enable-autoallocate-ip";
/// Network and broadcast address are never given.
const PLACES: u32 = (1 << 16) - 2;

/// The addresses of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AutoAddress(u16);

impl AutoAddress {
    /// IPv4 and IPv6.
    pub(crate) fn both(self) -> [IpAddr; 2] {
        let Self(place) = self;
        let [high, low] = place.to_be_bytes();
        [Ipv4Addr::new(240, 240, high, low).into(), Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, place).into()]
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => match v4.octets() {
                [240, 240, high, low] => Some(Self(u16::from_be_bytes([high, low]))),
                _ => None,
            },
            IpAddr::V6(v6) => match v6.segments() {
                [0x2001, 2, 0, 0, 0, 0, 0, place] => Some(Self(place)),
                _ => None,
            },
        }
    }
}

/// Gives addresses to those that want one, in their order. Addresses that users chose are taken.
pub(crate) fn allocate(services: &mut [Known]) {
    let chosen = services.iter().flat_map(|known| &known.service.addresses);
    let mut taken: BTreeSet<u16> = chosen.filter_map(|range| AutoAddress::of(range.address)).map(|one| one.0).collect();
    for known in services.iter_mut().filter(|known| wants(&known.service)) {
        let place = free(&known.service, &taken);
        taken.extend(place);
        known.auto = place.map(AutoAddress);
    }
}

fn wants(service: &Service) -> bool {
    matches!(service.source, Source::ServiceEntry { .. })
        && service.auto_address
        && service.addresses.is_empty()
        && service.resolution != Resolution::OriginalDst
        && (!words::host::is_wildcard(&service.host) || service.resolution == Resolution::Dynamic)
}

// `None` when all are taken.
fn free(service: &Service, taken: &BTreeSet<u16>) -> Option<u16> {
    let first = hash(&service.namespace, &service.host) % PLACES;
    (0..PLACES).map(|step| ((first + step) % PLACES + 1) as u16).find(|place| !taken.contains(place))
}

// FNV-1a: short, and the same in every build.
fn hash(namespace: &str, host: &str) -> u32 {
    let bytes = namespace.bytes().chain([b'/']).chain(host.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn se16_addresses_are_of_istios_ranges_and_read_back() {
        let [v4, v6] = AutoAddress(258).both();
        assert_eq!((v4.to_string(), v6.to_string()), ("240.240.1.2".into(), "2001:2::102".into()));
        assert_eq!((AutoAddress::of(v4), AutoAddress::of(v6)), (Some(AutoAddress(258)), Some(AutoAddress(258))));
        assert_eq!(AutoAddress::of("10.0.0.1".parse().unwrap()), None);
    }
}
