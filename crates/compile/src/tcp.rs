//! The back end of connections: which TCP proxy a rule or a service gets (VS64, VS124, DR33, DR34).
//!
//! In: a rule or a service port, what the proxy sees. Out: a [`TcpProxy`]. Which connections fall to it, `outbound.rs`
//! and `gateway_tcp.rs` decide.

use config::{ClusterChoice, Name, TcpProxy, Weighted};
use words::Labels;

use crate::cluster;
use crate::destination_rule::{Lookup, Rules};
use crate::hashing::Hashing;
use crate::intent::{ConnectionRule, Destination, Routing};
use crate::listener::{self, Bounds};
use crate::mesh::MeshConfig;
use crate::registry::Visible;
use crate::service::Service;

/// What decides about TCP proxies.
#[derive(Clone, Copy)]
pub(crate) struct Proxies<'a> {
    /// Services.
    pub(crate) visible: &'a Visible,
    /// DestinationRules, for bounds in time.
    pub(crate) rules: &'a Rules,
    /// The namespace of the proxies.
    pub(crate) namespace: &'a str,
    /// Their labels.
    pub(crate) labels: &'a Labels,
    /// Mesh-wide settings.
    pub(crate) mesh: &'a MeshConfig,
}

impl Proxies<'_> {
    /// Carries to the destinations of a rule; `port` is where its connections come in. Bounds are those of the first
    /// destination (VS64).
    pub(crate) fn of_rule(&self, routing: &Routing, rule: &ConnectionRule, port: u16) -> TcpProxy {
        // Of several destinations none in particular is asked whether it hashes: the first one's whole service is.
        let subset = match rule.destinations.as_slice() {
            [one] => one.subset.as_str(),
            _ => "",
        };
        let first = rule.destinations.first().and_then(|one| self.visible.find(&one.host));
        let bounds = first.map(|seen| self.bounds(seen.service(), subset)).unwrap_or_default();
        let choice = match rule.destinations.as_slice() {
            [one] => ClusterChoice::One(self.cluster(one, port)),
            many => ClusterChoice::Weighted(
                many.iter().map(|one| Weighted::new(self.cluster(one, port), one.weight)).collect(),
            ),
        };
        let stat_prefix = match &choice {
            ClusterChoice::One(cluster) => cluster.to_string(),
            ClusterChoice::Weighted(_) => format!("{}.{}", routing.origin.name, routing.origin.namespace),
        };
        listener::tcp_proxy(stat_prefix, choice, bounds, self.mesh)
    }

    /// Carries to a service that no rule speaks about.
    pub(crate) fn of_service(&self, service: &Service, cluster: Name) -> TcpProxy {
        listener::tcp_proxy(cluster.to_string(), ClusterChoice::One(cluster), self.bounds(service, ""), self.mesh)
    }

    /// Port as written, else the service's only one, else the one that the connection came in on (VS32). An unknown
    /// service still names a cluster: its connections are closed, flag NC (TR28).
    fn cluster(&self, destination: &Destination, port: u16) -> Name {
        let service = self.visible.find(&destination.host).map(crate::registry::Seen::service);
        let only = service.and_then(|service| match service.ports.as_slice() {
            [one] => Some(one.number),
            _ => None,
        });
        let host = service.map_or(&destination.host, |service| &service.host);
        cluster::name(destination.port.or(only).unwrap_or(port), &destination.subset, host)
    }

    /// `tcp.idleTimeout` and `tcp.maxConnectionDuration` of the rule's own policy; ports and subsets do not count here
    /// (DR33, DR34).
    fn bounds(&self, service: &Service, subset: &str) -> Bounds {
        let Some(rule) = self.rules.lookup(Lookup {
            client: self.namespace,
            labels: self.labels,
            host: &service.host,
            namespace: &service.namespace,
        }) else {
            return Bounds::default();
        };
        let pool = rule.policy.as_ref().and_then(|policy| policy.blocks.pool.as_ref());
        Bounds {
            idle: pool.and_then(|pool| pool.tcp_idle_timeout),
            age: pool.and_then(|pool| pool.max_connection_duration),
            by_source: Hashing::keeps_connections(rule, subset),
        }
    }
}
