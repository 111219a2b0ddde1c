//! A cluster's endpoints, flat, as every worker shares them.

use std::sync::Arc;

use config::{Endpoint, EndpointAddress, Endpoints, Health, Locality, Workload};

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Its share, at least 1.
    pub weight: u32,
    /// What the control plane says of its health.
    pub health: Health,
    /// 0 is used first.
    pub priority: u32,
    /// Where it is.
    pub locality: Locality,
    /// The workload, for metrics.
    pub workload: Option<Workload>,
}

/// All endpoints of a cluster, immutable.
#[derive(Debug, Default)]
pub struct HostSet {
    hosts: Vec<Arc<Host>>,
    /// Indexes of the hosts that may be picked.
    pub(crate) usable: Vec<u32>,
    pub(crate) equal_weights: bool,
    pub(crate) total_weight: u64,
}

impl HostSet {
    /// The hosts of an EDS resource. An address that stands there twice counts once.
    pub fn new(endpoints: &Endpoints) -> Self {
        let mut seen = std::collections::BTreeSet::new();
        let mut hosts = Vec::new();
        for group in &endpoints.localities {
            for endpoint in &group.endpoints {
                if seen.insert(&endpoint.address) {
                    hosts.push(Arc::new(host(endpoint, group.priority, &group.locality)));
                }
            }
        }
        Self::of(hosts)
    }

    /// A set of hosts that are known already, such as addresses that a resolver found.
    pub fn of(hosts: Vec<Arc<Host>>) -> Self {
        let usable = usable(&hosts);
        let weights = || usable.iter().map(|index| hosts[*index as usize].weight);
        let first = weights().next().unwrap_or(1);
        let (equal_weights, total_weight) = (weights().all(|weight| weight == first), weights().map(u64::from).sum());
        Self { usable, equal_weights, total_weight, hosts }
    }

    /// Every host, usable or not.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }
}

fn host(endpoint: &Endpoint, priority: u32, locality: &Locality) -> Host {
    let Endpoint { address, weight, health, workload } = endpoint;
    Host {
        address: address.clone(),
        weight: (*weight).max(1),
        health: *health,
        priority,
        locality: locality.clone(),
        workload: workload.clone(),
    }
}

// The healthy hosts of the best priority that has any. Istio sets the panic threshold to 0 (DR53): without a healthy
// host there is no host, and the answer is 503 UH.
fn usable(hosts: &[Arc<Host>]) -> Vec<u32> {
    let healthy = || (0_u32..).zip(hosts).filter(|(_, host)| host.health == Health::Healthy);
    let Some(best) = healthy().map(|(_, host)| host.priority).min() else { return Vec::new() };
    healthy().filter(|(_, host)| host.priority == best).map(|(index, _)| index).collect()
}
