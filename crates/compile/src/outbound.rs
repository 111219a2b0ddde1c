//! Outbound listeners of captured sidecars: one per HTTP port for all services, one per address and port for TCP and
//! detected ports (DP03, X43, X44, SE31, TR82).
//!
//! In: what a class of sidecars sees. Out: listeners that never bind. Makes no routes: HTTP names its table.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::{ChainMatch, Cidr, FilterChain, Listener, Name, RouteSource};
use words::{Diagnostic, Origin, Protocol};

use crate::class::Class;
use crate::destination_rule::{Lookup, Rules};
use crate::hashing::Hashing;
use crate::listener::{self, Side};
use crate::mesh::{MeshConfig, OutboundTrafficPolicy};
use crate::notes::LISTENER_CONFLICT;
use crate::passthrough;
use crate::registry::{Seen, Visible};
use crate::service::{Port, Resolution, Service};
use crate::{cluster, endpoints};

/// What decides about outbound listeners.
pub(crate) struct Inputs<'a> {
    /// Services.
    pub(crate) visible: &'a Visible,
    /// Addresses of ready pods, for headless services by origin.
    pub(crate) pods: &'a BTreeMap<Origin, std::collections::BTreeSet<IpAddr>>,
    /// DestinationRules, for bounds on silence.
    pub(crate) rules: &'a Rules,
    /// Who obeys them.
    pub(crate) class: &'a Class,
    /// What becomes of what is unknown.
    pub(crate) policy: OutboundTrafficPolicy,
    /// Mesh-wide settings.
    pub(crate) mesh: &'a MeshConfig,
}

/// What one address and port carries.
#[derive(Default)]
struct Slot {
    /// The table of plaintext HTTP.
    table: Option<Name>,
    /// Where everything else goes.
    tcp: Option<Target>,
    /// Where connections to a range of addresses go.
    ranges: BTreeMap<Cidr, Target>,
}

/// Where connections go.
#[derive(Clone)]
struct Target {
    cluster: Name,
    origin: Origin,
    idle: Option<Duration>,
    /// Connections are kept by the client's address (DR21).
    by_source: bool,
}

impl Inputs<'_> {
    /// The listeners, and conflicts between services.
    pub(crate) fn compute(&self) -> (Vec<Listener>, Vec<Diagnostic>) {
        let mut slots = BTreeMap::new();
        let mut conflicts = Vec::new();
        let mut oldest_first: Vec<&Seen> = self.visible.services.iter().collect();
        oldest_first
            .sort_by(|a, b| a.service().age.cmp(&b.service().age).then(a.service().host.cmp(&b.service().host)));
        for seen in oldest_first {
            for port in &seen.service().ports {
                self.place(seen.service(), port, &mut slots, &mut conflicts);
            }
        }
        let mut made = vec![passthrough::virtual_outbound(self.class.v6, self.policy, self.mesh)];
        made.extend(slots.into_iter().map(|((ip, port), slot)| self.listener(SocketAddr::new(ip, port), slot)));
        (made, conflicts)
    }

    fn place(
        &self,
        service: &Arc<Service>,
        port: &Port,
        slots: &mut BTreeMap<(IpAddr, u16), Slot>,
        conflicts: &mut Vec<Diagnostic>,
    ) {
        let everywhere = listener::any_address(self.class.v6);
        let shared: Name = port.number.to_string().into();
        if port.protocol.is_http() {
            slots.entry((everywhere, port.number)).or_default().table.get_or_insert(shared);
            return;
        }
        let cluster = cluster::name(port.number, "", &service.host);
        let (idle, by_source) = (self.idle(service), self.is_by_source(service));
        let target = Target { cluster, origin: service.origin.clone(), idle, by_source };
        let addresses = self.addresses(service);
        if addresses.is_empty() && service.resolution != Resolution::Headless {
            let slot = slots.entry((everywhere, port.number)).or_default();
            if port.protocol == Protocol::Auto {
                slot.table.get_or_insert(shared);
            }
            set_tcp(slot, target, port.number, conflicts);
            return;
        }
        for address in addresses {
            if address != Cidr::host(address.address) {
                let slot = slots.entry((everywhere, port.number)).or_default();
                slot.ranges.entry(address).or_insert_with(|| target.clone());
                continue;
            }
            let slot = slots.entry((address.address, port.number)).or_default();
            if port.protocol == Protocol::Auto {
                slot.table.get_or_insert_with(|| format!("{}:{}", service.host, port.number).into());
            }
            set_tcp(slot, target.clone(), port.number, conflicts);
        }
    }

    /// Virtual addresses, or the ready pods of a headless service (TR82).
    fn addresses(&self, service: &Service) -> Vec<Cidr> {
        match service.resolution {
            Resolution::Headless => {
                self.pods.get(&service.origin).into_iter().flatten().map(|ip| Cidr::host(*ip)).collect()
            }
            _ => service.addresses.clone(),
        }
    }

    fn listener(&self, address: SocketAddr, slot: Slot) -> Listener {
        let Slot { table, tcp, ranges } = slot;
        let origin = tcp.as_ref().map(|target| target.origin.clone()).filter(|_| table.is_none());
        let mut made = listener::captured(address, origin);
        if let Some(table) = table {
            made.filters = listener::sniffing();
            let stat_prefix = format!("outbound_{}", made.name);
            let http = listener::http(Side::Outbound, stat_prefix, RouteSource::Rds(table), self.mesh);
            made.chains
                .push(FilterChain { matches: listener::plaintext_http(), ..listener::chain(made.name.clone(), http) });
        }
        let chain = |Target { cluster, origin, idle, by_source }: Target| FilterChain {
            origin: Some(origin),
            ..listener::chain(cluster.clone(), listener::tcp_for(cluster, idle, by_source, self.mesh))
        };
        for (range, target) in ranges {
            let matches = ChainMatch { destination_ranges: vec![range], ..ChainMatch::default() };
            made.chains.push(FilterChain { matches, ..chain(target) });
        }
        made.default_chain = Some(match tcp {
            Some(target) => chain(target),
            None => passthrough::unknown_chain("PassthroughFilterChain", self.policy, self.mesh),
        });
        made
    }

    fn is_by_source(&self, service: &Service) -> bool {
        let rule = self.rules.lookup(Lookup {
            client: &self.class.namespace,
            labels: &self.class.labels,
            host: &service.host,
            namespace: &service.namespace,
        });
        rule.is_some_and(|rule| Hashing::keeps_connections(rule, ""))
    }

    /// `tcp.idleTimeout` of the rule's own policy; ports and subsets do not count here (DR34).
    fn idle(&self, service: &Service) -> Option<Duration> {
        let rule = self.rules.lookup(Lookup {
            client: &self.class.namespace,
            labels: &self.class.labels,
            host: &service.host,
            namespace: &service.namespace,
        })?;
        rule.policy.as_ref()?.blocks.pool.as_ref()?.tcp_idle_timeout
    }
}

/// The oldest service keeps an address and port (X44).
fn set_tcp(slot: &mut Slot, target: Target, port: u16, conflicts: &mut Vec<Diagnostic>) {
    match &slot.tcp {
        None => slot.tcp = Some(target),
        Some(holder) if holder.origin == target.origin => {}
        Some(Target { origin, .. }) => {
            let message = format!("port {port} is carried for {origin}, which is older; TCP connections go there");
            conflicts.push(Diagnostic::warning(LISTENER_CONFLICT, target.origin, "spec.ports", message));
        }
    }
}

/// Addresses of ready pods of every headless service that is seen.
pub(crate) fn headless_pods(
    visible: &Visible,
    world: &crate::World,
) -> BTreeMap<Origin, std::collections::BTreeSet<IpAddr>> {
    let headless = visible.services.iter().map(Seen::service).filter(|service| {
        service.resolution == Resolution::Headless && service.ports.iter().any(|port| !port.protocol.is_http())
    });
    headless
        .map(|service| {
            let joined = world.joined(&service.origin).map(|(joined, _)| &**joined);
            (service.origin.clone(), endpoints::ready_addresses(joined))
        })
        .collect()
}
