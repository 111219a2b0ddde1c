//! A cluster's endpoints, flat, as every worker shares them.

use std::sync::Arc;

use config::{Endpoint, EndpointAddress, Endpoints, Health, Locality, Workload};
use rustc_hash::FxHashSet;

use crate::view::View;

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
    // Which of them may be picked as far as the control plane knows.
    view: View,
}

impl HostSet {
    /// The hosts of an EDS resource. An address that stands there twice counts once.
    pub fn new(endpoints: &Endpoints) -> Self {
        let mut seen = FxHashSet::default();
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
        // Istio sets the panic threshold to 0 (DR53): a host that is not healthy is not used, even when none is.
        let view = View::new(&hosts, |host| host.health == Health::Healthy);
        Self { hosts, view }
    }

    /// Every host, usable or not.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
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
