//! A host of another priority, for a request whose tries failed (VS84, Envoy `previous_priorities`).

use config::{EndpointAddress, Health};

use crate::balancer::{Balancer, HostId};

impl Balancer {
    /// A host of the first priority that none of the addresses is in; `None` when every priority with a healthy host was
    /// tried, and then the request goes where it would have gone.
    pub fn elsewhere(&self, tried: &[EndpointAddress], draw: impl FnOnce() -> u32) -> Option<HostId> {
        let hosts = self.hosts();
        let of_tried: Vec<u32> =
            hosts.iter().filter(|host| tried.contains(&host.address)).map(|host| host.priority).collect();
        let is_fresh = |priority: u32| !of_tried.contains(&priority);
        let healthy = || (0..).zip(hosts).filter(|(_, host)| host.health == Health::Healthy && is_fresh(host.priority));
        let first = healthy().map(|(_, host)| host.priority).min()?;
        let of_first = || healthy().filter(|(_, host)| host.priority == first);
        let sum: u64 = of_first().map(|(_, host)| u64::from(host.weight)).sum();
        let mut point = (u64::from(draw()) * sum) >> 32;
        for (place, host) in of_first() {
            match point.checked_sub(u64::from(host.weight)) {
                Some(rest) => point = rest,
                None => return Some(HostId(place)),
            }
        }
        None
    }
}
