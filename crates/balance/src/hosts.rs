//! A cluster's endpoints, flat, as every worker shares them.

use std::sync::Arc;

use config::{
    Cluster, Endpoint, EndpointAddress, Endpoints, Health, Lb, Locality, LocalityEndpoints, LocalityMode, SlowStart,
    Workload,
};
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
    /// The share of its locality among those of its priority; 0 for none.
    pub locality_weight: u32,
    /// The workload, for metrics.
    pub workload: Option<Workload>,
    /// It takes mutual TLS.
    pub mtls: bool,
}

/// How a cluster chooses among its hosts; part of the set, which is made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The algorithm.
    pub lb: Lb,
    /// With a smaller share of usable hosts in a priority than this, in percent, all of them are used; 0: never (DR53).
    pub panic_percent: u32,
    /// A locality is drawn by its weight, then a host in it.
    pub by_locality: bool,
    /// New hosts get their share little by little.
    pub slow_start: Option<SlowStart>,
}

impl Shape {
    /// The shape of a cluster's choice.
    pub fn of(cluster: &Cluster) -> Self {
        Self {
            lb: cluster.lb,
            panic_percent: cluster.panic_percent,
            by_locality: cluster.balancing.locality == LocalityMode::Weighted,
            slow_start: cluster.balancing.slow_start,
        }
    }
}

impl From<Lb> for Shape {
    /// An algorithm and Istio's defaults.
    fn from(lb: Lb) -> Self {
        Self { lb, panic_percent: 0, by_locality: false, slow_start: None }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Lb::LeastRequest.into()
    }
}

/// All endpoints of a cluster, immutable.
#[derive(Debug, Default)]
pub struct HostSet {
    hosts: Vec<Arc<Host>>,
    shape: Shape,
    // Which of them may be picked as far as the control plane knows.
    view: View,
}

impl HostSet {
    /// The hosts of an EDS resource. An address that stands there twice counts once.
    pub fn new(endpoints: &Endpoints, shape: Shape) -> Self {
        let mut seen = FxHashSet::default();
        let mut hosts = Vec::new();
        for group in &endpoints.localities {
            for endpoint in &group.endpoints {
                if seen.insert(&endpoint.address) {
                    hosts.push(Arc::new(host(endpoint, group)));
                }
            }
        }
        Self::of(hosts, shape)
    }

    /// A set of hosts that are known already, such as addresses that a resolver found.
    pub fn of(hosts: Vec<Arc<Host>>, shape: Shape) -> Self {
        let view = View::new(&hosts, shape, |host| host.health == Health::Healthy);
        Self { hosts, shape, view }
    }

    /// The same hosts for another choice.
    pub fn reshaped(&self, shape: Shape) -> Self {
        Self::of(self.hosts.clone(), shape)
    }

    /// What the set was made for.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The same hosts, in the same places; those that `is_out` says, by place, are not usable.
    pub fn without(&self, is_out: impl Fn(u32) -> bool) -> Self {
        let out: FxHashSet<&EndpointAddress> =
            (0..).zip(&self.hosts).filter(|(place, _)| is_out(*place)).map(|(_, host)| &host.address).collect();
        let is_usable = |host: &Host| host.health == Health::Healthy && !out.contains(&host.address);
        Self { hosts: self.hosts.clone(), shape: self.shape, view: View::new(&self.hosts, self.shape, is_usable) }
    }

    /// Every host, usable or not.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }
}

fn host(endpoint: &Endpoint, group: &LocalityEndpoints) -> Host {
    let Endpoint { address, weight, health, workload, mtls } = endpoint;
    Host {
        address: address.clone(),
        weight: (*weight).max(1),
        health: *health,
        priority: group.priority,
        locality: group.locality.clone(),
        locality_weight: group.weight.unwrap_or(0),
        workload: workload.clone(),
        mtls: *mtls,
    }
}
