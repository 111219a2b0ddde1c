//! Outbound listeners of sidecars: one per HTTP port for all services, one per address and port for TCP and detected ports
//! (DP03, X43, X44, SE31, TR82), and those that a Sidecar declares (SC02 to SC07, SC18).
//!
//! In: what a class of sidecars sees. Out: listeners, which bind only where the Sidecar or the lack of capture asks for
//! it. Makes no routes: HTTP names its table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use config::{ChainMatch, Cidr, DnsCache, DynamicHost, Filter, FilterChain, Listener, Name, RouteSource, TcpProxy};
use words::{Diagnostic, Origin, Protocol};

use crate::chains::{Chains, Draft};
use crate::class::Class;
use crate::intent::{Asker, MESH};
use crate::listener::{self, Side};
use crate::notes::LISTENER_CONFLICT;
use crate::outlook::{Outlook, View};
use crate::passthrough::{self, Unknown};
use crate::registry::Seen;
use crate::route_table;
use crate::selection::MeshRoutings;
use crate::service::{Port, Resolution, Service};
use crate::tcp::Proxies;
use crate::{cluster, endpoints, host_name};

/// What decides about outbound listeners.
pub(crate) struct Inputs<'a> {
    /// Services, by listener.
    pub(crate) outlook: &'a Outlook,
    /// Addresses of ready pods, for headless services by origin.
    pub(crate) pods: &'a BTreeMap<Origin, std::collections::BTreeSet<IpAddr>>,
    /// VirtualServices with rules about connections, by listener.
    pub(crate) routings: &'a [MeshRoutings],
    /// Makes TCP proxies.
    pub(crate) proxies: Proxies<'a>,
    /// Who obeys them.
    pub(crate) class: &'a Class,
    /// What becomes of what is unknown.
    pub(crate) unknown: &'a Unknown,
    /// Where hosts that requests name are remembered; `None` when there are no such services.
    pub(crate) cache: Option<&'a DnsCache>,
}

/// What one address and port carries.
#[derive(Default)]
struct Slot {
    /// It has a socket of its own.
    bound: bool,
    /// The table of plaintext HTTP.
    table: Option<Name>,
    /// Where everything else goes.
    chains: Chains,
}

type Slots = BTreeMap<(IpAddr, u16), Slot>;

/// Where a service port's connections are met.
struct Place<'a> {
    /// VirtualServices that the listener takes in.
    routings: &'a MeshRoutings,
    /// The range that it has of a listener for all addresses.
    range: Option<Cidr>,
    /// Other services meet there too, and only a server name tells them apart (VS121).
    shared: bool,
}

impl Inputs<'_> {
    /// The listeners, and conflicts between services.
    pub(crate) fn compute(&self) -> (Vec<Listener>, Vec<Diagnostic>) {
        let mut slots = Slots::new();
        let mut conflicts = Vec::new();
        for (index, view) in self.outlook.views.iter().enumerate() {
            // Without capture nothing reaches a listener that has no socket.
            if view.bound || self.class.captured {
                self.place_all(index, view, &mut slots, &mut conflicts);
            }
        }
        let mut made = Vec::with_capacity(slots.len() + 1);
        let mesh = self.proxies.mesh;
        made.extend(self.class.captured.then(|| passthrough::virtual_outbound(self.class, self.unknown, mesh)));
        let taken: BTreeSet<SocketAddr> = slots.keys().map(|(ip, port)| SocketAddr::new(*ip, *port)).collect();
        made.extend(slots.into_iter().map(|((ip, port), slot)| {
            let address = SocketAddr::new(ip, port);
            // One that a Sidecar puts there has it for itself.
            let also = listener::other_family(address, self.class.dual).filter(|also| !taken.contains(also));
            Listener { also, ..self.listener(address, slot) }
        }));
        (made, conflicts)
    }

    fn place_all(&self, index: usize, view: &View, slots: &mut Slots, conflicts: &mut Vec<Diagnostic>) {
        if let Some(number) = view.port().filter(|_| view.is_http()) {
            let table = match view.is_forward_proxy() {
                true => route_table::forward_proxy(index),
                false => number.to_string().into(),
            };
            self.slot(view, None, number, slots).table.get_or_insert(table);
            return;
        }
        let Some(routings) = self.routings.get(index).or(self.routings.first()) else { return };
        let mut oldest_first: Vec<&Seen> = view.visible.services.iter().collect();
        oldest_first
            .sort_by(|a, b| a.service().age.cmp(&b.service().age).then(a.service().host.cmp(&b.service().host)));
        for seen in oldest_first {
            for port in seen.service().ports.iter().filter(|port| view.carries(port.number)) {
                self.place((view, routings), seen, port, slots, conflicts);
            }
        }
    }

    /// The slot of a port: at the listener's one address, else at the service's, else at all addresses.
    fn slot<'b>(&self, view: &View, own: Option<IpAddr>, port: u16, slots: &'b mut Slots) -> &'b mut Slot {
        let ip = view.bind.or(own).unwrap_or_else(|| listener::any_address(self.class.v6));
        let slot = slots.entry((ip, port)).or_default();
        slot.bound |= view.bound;
        slot
    }

    fn place(
        &self,
        (view, routings): (&View, &MeshRoutings),
        seen: &Seen,
        written: &Port,
        slots: &mut Slots,
        conflicts: &mut Vec<Diagnostic>,
    ) {
        let service = seen.service();
        // What the Sidecar declares beats what the service does.
        let port = &Port { protocol: view.protocol(written), ..written.clone() };
        let shared: Name = port.number.to_string().into();
        if port.protocol.is_http() {
            self.slot(view, None, port.number, slots).table.get_or_insert(shared);
            return;
        }
        let addresses = if view.bind.is_some() { Vec::new() } else { self.addresses(seen) };
        let everywhere = addresses.is_empty() && (view.bind.is_some() || service.resolution != Resolution::Headless);
        if everywhere || service.resolution == Resolution::Dynamic {
            let slot = self.slot(view, None, port.number, slots);
            if port.protocol == Protocol::Auto {
                slot.table.get_or_insert(shared);
            }
            self.fill(slot, seen, port, &Place { routings, range: None, shared: true }, conflicts);
            return;
        }
        for address in addresses {
            if address != Cidr::host(address.address) {
                let slot = self.slot(view, None, port.number, slots);
                self.fill(slot, seen, port, &Place { routings, range: Some(address), shared: true }, conflicts);
                continue;
            }
            let slot = self.slot(view, Some(address.address), port.number, slots);
            if port.protocol == Protocol::Auto {
                slot.table.get_or_insert_with(|| format!("{}:{}", service.host, port.number).into());
            }
            self.fill(slot, seen, port, &Place { routings, range: None, shared: false }, conflicts);
        }
    }

    /// Puts a port's chains into a slot; the oldest service keeps what it has (X44).
    fn fill(&self, slot: &mut Slot, seen: &Seen, port: &Port, place: &Place<'_>, conflicts: &mut Vec<Diagnostic>) {
        let drafts = match port.protocol.is_tls() {
            true => self.by_name(seen, port, place),
            false => self.by_address(seen, port, place),
        };
        for draft in drafts {
            let owner = draft.owner.clone();
            if let Some(holder) = slot.chains.add(draft) {
                let number = port.number;
                let message =
                    format!("port {number} is carried for {holder}, which is older; TCP connections go there");
                conflicts.push(Diagnostic::warning(LISTENER_CONFLICT, owner, "spec.ports", message));
            }
        }
    }

    /// A TLS port: a chain per match that holds here, else one to the service (VS120, VS121).
    fn by_name(&self, seen: &Seen, port: &Port, place: &Place<'_>) -> Vec<Draft> {
        let asker = self.asker(port);
        let mut drafts = Vec::new();
        for routing in place.routings.all_of_host(&seen.service().host) {
            for rule in &routing.tls {
                for block in rule.matches.iter().filter(|block| block.filter.holds_for_connections(&asker)) {
                    let ranges = match block.subnets.is_empty() {
                        true => place.range.into_iter().collect(),
                        false => block.subnets.clone(),
                    };
                    let proxy = self.proxies.of_rule(routing, rule, port.number);
                    let draft = draft(seen.service(), &routing.origin, proxy, ranges);
                    drafts.push(Draft { server_names: block.server_names.clone(), ..draft });
                }
            }
        }
        if drafts.is_empty() {
            let aliases = seen.aliases.iter().map(|alias| &alias.service.host);
            let names = std::iter::once(&seen.service().host).chain(aliases).filter(|_| place.shared);
            // A host that no server name can be, `*` among them, takes what is left.
            let server_names = names.filter(|name| host_name::is_server_name(name)).map(ToString::to_string).collect();
            drafts.push(Draft { server_names, ..self.whole(seen, port, place) });
        }
        drafts
    }

    /// Any other port: rules for ranges, up to the first one for every address, else the service (VS122).
    fn by_address(&self, seen: &Seen, port: &Port, place: &Place<'_>) -> Vec<Draft> {
        let asker = self.asker(port);
        let mut drafts = Vec::new();
        for routing in place.routings.all_of_host(&seen.service().host) {
            for rule in &routing.tcp {
                let mut holding =
                    rule.matches.iter().filter(|block| block.filter.holds_for_connections(&asker)).peekable();
                if holding.peek().is_none() {
                    continue;
                }
                let proxy = self.proxies.of_rule(routing, rule, port.number);
                let of_ranges = |ranges| draft(seen.service(), &routing.origin, proxy, ranges);
                let subnets: Vec<&[Cidr]> = holding.map(|block| block.subnets.as_slice()).collect();
                if subnets.iter().any(|subnets| subnets.is_empty()) {
                    drafts.push(of_ranges(place.range.into_iter().collect()));
                    return drafts;
                }
                drafts.push(of_ranges(subnets.concat()));
            }
        }
        drafts.push(self.whole(seen, port, place));
        drafts
    }

    /// Everything to the service.
    fn whole(&self, seen: &Seen, port: &Port, place: &Place<'_>) -> Draft {
        let service = seen.service();
        let mut proxy = self.proxies.of_service(service, cluster::name(port.number, "", &service.host));
        if service.resolution == Resolution::Dynamic {
            // The host is the one that the ClientHello names (SE09).
            let target = endpoints::target_number(&port.target, &BTreeMap::new()).unwrap_or(port.number);
            proxy.dynamic_host = Some(DynamicHost { cache: DnsCache::default(), port: target });
        }
        draft(service, &service.origin, proxy, place.range.into_iter().collect())
    }

    fn asker(&self, port: &Port) -> Asker<'_> {
        let Class { namespace, labels, .. } = self.class;
        Asker { namespace, labels, gateways: vec![MESH], port: port.number }
    }

    /// Virtual addresses, or the ready pods of a headless service (TR82).
    fn addresses(&self, seen: &Seen) -> Vec<Cidr> {
        match seen.service().resolution {
            Resolution::Headless => {
                self.pods.get(&seen.service().origin).into_iter().flatten().map(|ip| Cidr::host(*ip)).collect()
            }
            _ => seen.addresses(self.class.dns),
        }
    }

    fn listener(&self, address: SocketAddr, slot: Slot) -> Listener {
        let Slot { bound, table, chains } = slot;
        let mut chains = chains.into_made();
        let everything = chains.iter().position(|chain| chain.matches == ChainMatch::default());
        let last = everything.map(|index| chains.remove(index));
        let origin = last.as_ref().and_then(|chain| chain.origin.clone()).filter(|_| table.is_none());
        let mesh = self.proxies.mesh;
        let mut made = listener::captured(address, origin);
        made.bind_to_port = bound;
        let only_http = bound && chains.is_empty() && last.is_none();
        if chains.iter().any(|chain| !chain.matches.server_names.is_empty()) {
            made.filters = listener::reading_names();
        }
        if let Some(table) = table {
            let stat_prefix = format!("outbound_{}", made.name);
            let http = listener::http(Side::Outbound, stat_prefix, RouteSource::Rds(table), self.cache, mesh);
            let whole = listener::chain(made.name.clone(), http);
            made.chains.push(match only_http {
                true => whole,
                false => FilterChain { matches: listener::plaintext_http(), ..whole },
            });
            if !only_http {
                made.filters = listener::sniffing();
            }
        }
        made.chains.extend(chains);
        // Where a connection was dialled is not known at a socket of its own.
        let unknown = || passthrough::unknown_chain("PassthroughFilterChain", self.unknown, mesh);
        made.default_chain = last.or_else(|| (!bound).then(unknown));
        made
    }
}

fn draft(service: &Service, origin: &Origin, proxy: TcpProxy, ranges: Vec<Cidr>) -> Draft {
    Draft {
        name: proxy.stat_prefix.as_str().into(),
        ranges,
        server_names: Vec::new(),
        application_protocols: Vec::new(),
        tls: None,
        filter: Filter::Tcp(proxy),
        origin: origin.clone(),
        owner: service.origin.clone(),
    }
}

/// Addresses of ready pods of every headless service that is seen.
pub(crate) fn headless_pods(
    outlook: &Outlook,
    world: &crate::World,
) -> BTreeMap<Origin, std::collections::BTreeSet<IpAddr>> {
    let headless = outlook.whole.services.iter().map(Seen::service).filter(|service| {
        service.resolution == Resolution::Headless && service.ports.iter().any(|port| !port.protocol.is_http())
    });
    headless
        .map(|service| {
            let joined = world.joined(&service.origin).map(|(joined, _)| &**joined);
            (service.origin.clone(), endpoints::ready_addresses(joined))
        })
        .collect()
}
