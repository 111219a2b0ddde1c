//! Gateways: one listener per port for all Gateways that select the proxies, and a table with their hosts (GW01 to
//! GW11, TR60). What their listeners do with connections that are not HTTP is in `gateway_tcp.rs`.
//!
//! In: what a class of gateway proxies sees. Out: listeners and tables. VirtualServices for one host are merged, oldest
//! first, catch-alls last (X33, TR13).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::proxy_config::InFront;
use config::{Filter, Listener, Name, RouteSource, ServerTls, VirtualHost};
use words::{Diagnostic, Fingerprint};

use crate::class::Class;
use crate::gateway_tcp;
use crate::intent::{Asker, Routing};
use crate::listener::{self, Side};
use crate::memo::Unit;
use crate::mutual_tls;
use crate::notes::{LISTENER_CONFLICT, NOT_OBEYED};
use crate::piece::{Piece, refresh};
use crate::rate_limit::{self, Limits};
use crate::route::{self, Facts, Place};
use crate::selection;
use crate::server::{Carries, Gateway, Server, ServerHost};
use crate::service::Target;
use crate::shared::{ListenerSet, TableSet, Units};
use crate::sidecar_routes::{Known, Seen, listener_set, table_unit};
use crate::world::World;

/// What a class of gateways had.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    listeners: Option<Piece<ListenerSet>>,
    tables: Option<Piece<TableSet>>,
}

/// A port with the servers that share it.
pub(crate) struct Port<'a> {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// `http.<port>[.<bind>]` (X52).
    table: Name,
    /// Oldest Gateway first. Either all carry requests, or all carry TLS, or there is one.
    pub(crate) servers: Vec<(&'a Gateway, &'a Server)>,
}

impl<'a> Port<'a> {
    fn has_requests(&self) -> bool {
        self.servers.iter().any(|(_, server)| server.carries == Carries::Http && server.tls.is_none())
    }

    /// Its parts that have a table of their own: all plaintext servers together, each server that opens TLS by itself.
    fn with_tables(self) -> Vec<Self> {
        if self.has_requests() {
            return vec![self];
        }
        let Self { address, servers, .. } = &self;
        let secured = servers.iter().filter(|(_, server)| server.carries == Carries::Http);
        let part = |(gateway, server): &(&'a Gateway, &'a Server)| Self {
            address: *address,
            table: secured_table(&self, gateway, server),
            servers: vec![(*gateway, *server)],
        };
        secured.map(part).collect()
    }
}

impl Slots {
    /// Listeners and tables.
    pub(crate) fn refresh(&mut self, seen: Seen<'_>, units: &mut Units) -> (Piece<ListenerSet>, Piece<TableSet>) {
        let Seen { base, class, outlook, round, .. } = seen;
        let targets = targets(seen);
        let cache = seen.cache();
        let place = Fingerprint::of(&(base.prints.gateways, &targets, class.print(), base.prints.mesh, &cache));
        let selected = selected(seen.world, class);
        let of_connections = (base.connections.print, base.rules.print, outlook.print);
        let listeners = refresh(&mut self.listeners, Fingerprint::of(&(place, of_connections)), |_| {
            let mut found = Vec::new();
            let ports = ports(seen, &selected, &targets, &mut found);
            let mut made: Vec<_> = ports.iter().filter_map(|port| listener(port, seen, &mut found)).collect();
            made.iter_mut().for_each(|one| class.telemetry.put(one));
            if class.identity {
                made.iter_mut().for_each(mutual_tls::put);
            }
            made.iter_mut().for_each(|one| class.guards.put(one));
            listener_set(made, found, round, units)
        });
        let rules = base.rules.value.hash_print();
        let inputs = Fingerprint::of(&(place, base.routings.print, base.limits.print, outlook.print, rules));
        let tables = refresh(&mut self.tables, inputs, |_| {
            let mut tables = TableSet::new();
            let mut prints = Vec::new();
            let ports = ports(seen, &selected, &targets, &mut Vec::new());
            for port in ports.into_iter().flat_map(Port::with_tables) {
                let hosts = hosts(&port, seen, units);
                let unit = table_unit(&port.table, hosts, round, units);
                prints.push(unit.print);
                tables.insert(port.table, unit.value);
            }
            let print = Fingerprint::of(&prints);
            (tables, print)
        });
        (listeners, tables)
    }
}

/// The Gateways that select these proxies, oldest first.
fn selected<'a>(world: &'a World, class: &Class) -> Vec<&'a Arc<Gateway>> {
    let all = world.gateways();
    let mut selected: Vec<_> = all.filter(|gateway| words::labels_select(&gateway.selector, &class.labels)).collect();
    selected.sort_by(|a, b| a.age.cmp(&b.age));
    selected
}

/// True when these proxies need clusters by the server names of services (GW17).
pub(crate) fn passes_by_service_name(world: &World, class: &Class) -> bool {
    let mut servers = selected(world, class).into_iter().flat_map(|gateway| &gateway.servers);
    servers.any(|server| server.carries == Carries::AutoPassthrough)
}

/// Service ports that lead to these proxies, and where they lead (GW03).
fn targets(seen: Seen<'_>) -> BTreeMap<u16, u16> {
    let Seen { world, base, class, .. } = seen;
    let mut services: Vec<_> = base
        .registry
        .value
        .iter()
        .map(|known| &known.service)
        .filter(|service| service.namespace == class.namespace && service.gateway_ports && !service.is_alias())
        .filter(|service| !service.selector.is_empty() && words::labels_select(&service.selector, &class.labels))
        .collect();
    services.sort_by(|a, b| a.age.cmp(&b.age));
    let mut targets = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            let number = match &port.target {
                Target::Number(number) => Some(*number),
                // By name: the pods' slices say the number.
                Target::Name(_) => world
                    .joined(&service.origin)
                    .and_then(|(joined, _)| joined.endpoints.iter().find_map(|endpoint| endpoint.port(port))),
            };
            if let Some(number) = number {
                targets.entry(port.number).or_insert(number);
            }
        }
    }
    targets
}

/// The ports with the servers that can share them, and findings about those that cannot (GW11, GW12).
fn ports<'a>(
    seen: Seen<'_>,
    selected: &[&'a Arc<Gateway>],
    targets: &BTreeMap<u16, u16>,
    found: &mut Vec<Diagnostic>,
) -> Vec<Port<'a>> {
    let mut by_place: BTreeMap<(IpAddr, u16), Port<'a>> = BTreeMap::new();
    for gateway in selected {
        for (index, server) in gateway.servers.iter().enumerate() {
            // Without a certificate of its own a gateway could open nothing here.
            if server.tls.as_ref().is_some_and(ServerTls::is_of_the_mesh) && !seen.class.identity {
                let field = format!("spec.servers[{index}].tls.mode");
                let message =
                    "ISTIO_MUTUAL needs a gateway with an identity; this one has none, and the server is left out";
                found.push(Diagnostic::warning(NOT_OBEYED, gateway.origin.clone(), field, message));
                continue;
            }
            let number = targets.get(&server.port).copied().unwrap_or(server.port);
            let default = seen.class.bind_ip.unwrap_or_else(|| listener::any_address(seen.class.v6));
            let ip = server.bind.unwrap_or(default);
            let table = match server.bind {
                Some(bind) => format!("http.{number}.{bind}"),
                None => format!("http.{number}"),
            };
            let port = by_place.entry((ip, number)).or_insert_with(|| Port {
                address: SocketAddr::new(ip, number),
                table: table.into(),
                servers: Vec::new(),
            });
            match conflict(&port.servers, server) {
                None => port.servers.push((gateway, server)),
                Some(reason) => {
                    let message = format!("{reason}; the server is left out");
                    let origin = gateway.origin.clone();
                    found.push(Diagnostic::warning(LISTENER_CONFLICT, origin, "spec.servers", message));
                }
            }
        }
    }
    by_place.into_values().collect()
}

/// Why a server cannot join others on its port: only servers with requests share one, and TLS servers of different
/// hosts.
fn conflict(holders: &[(&Gateway, &Server)], server: &Server) -> Option<String> {
    let (holder, first) = holders.first()?;
    let has_tls =
        |one: &Server| one.tls.is_some() || matches!(one.carries, Carries::Passthrough | Carries::AutoPassthrough);
    if has_tls(first) && has_tls(server) {
        let taken = |host: &&ServerHost| {
            holders.iter().any(|(_, other)| other.hosts.iter().any(|taken| taken.host == host.host))
        };
        let host = server.hosts.iter().find(taken)?;
        return Some(format!("host {} on port {} is taken already", host.host, server.port));
    }
    let plain = |one: &Server| one.carries == Carries::Http && one.tls.is_none();
    let share = plain(first) && plain(server);
    (!share).then(|| format!("port {} is taken by {} for another protocol", server.port, holder.origin))
}

/// `https.<port>.<port name>.<gateway>.<namespace>[.<bind>]` (X52).
pub(crate) fn secured_table(port: &Port<'_>, gateway: &Gateway, server: &Server) -> Name {
    let origin = &gateway.origin;
    let bind = server.bind.map(|bind| format!(".{bind}")).unwrap_or_default();
    format!("https.{}.{}.{}.{}{bind}", port.address.port(), server.name, origin.name, origin.namespace).into()
}

/// `None` when nothing is served there: a port without rules is not opened (GW10).
fn listener(port: &Port<'_>, seen: Seen<'_>, found: &mut Vec<Diagnostic>) -> Option<Listener> {
    let mesh = seen.world.mesh();
    let origin = port.servers.first().map(|(gateway, _)| gateway.origin.clone());
    let mut made = listener::captured(port.address, origin);
    made.bind_to_port = true;
    if !port.has_requests() {
        made.chains = gateway_tcp::chains(port, seen, found);
        // Envoy knows no server name but the inspector's, and policies may ask for it where no chain does.
        if made.chains.iter().any(|chain| chain.tls.is_some() || !chain.matches.server_names.is_empty()) {
            made.filters = listener::reading_names();
        }
        put_behind(seen.class.front, &mut made);
        return (!made.chains.is_empty()).then_some(made);
    }
    let routes = RouteSource::Rds(port.table.clone());
    let http = listener::http(Side::Gateway, format!("outbound_{}", made.name), routes, seen.cache().as_ref(), mesh);
    made.chains.push(listener::chain(made.name.clone(), http));
    put_behind(seen.class.front, &mut made);
    Some(made)
}

/// Has a listener believe what stands in front of it.
fn put_behind(front: InFront, listener: &mut Listener) {
    listener.filters.proxy_protocol = front.proxy_protocol;
    for chain in &mut listener.chains {
        if let Filter::Http(http) = &mut chain.filter {
            http.xff_trusted_hops = front.trusted_proxies;
        }
    }
}

/// A VirtualService on a host of a port, through one of the Gateways.
struct Attached<'a> {
    routing: &'a Arc<Routing>,
    gateway: &'a str,
    /// The port as the Gateway writes it: rules compare with it (TR60).
    port: u16,
}

/// The virtual hosts of a port, by host.
fn hosts(port: &Port<'_>, seen: Seen<'_>, units: &mut Units) -> Vec<Unit<VirtualHost>> {
    let Seen { base, class, round, .. } = seen;
    let mut by_host: BTreeMap<&str, Vec<Attached<'_>>> = BTreeMap::new();
    let mut secure: BTreeSet<&str> = BTreeSet::new();
    for (gateway, server) in &port.servers {
        for routing in selection::ordered(&base.routings.value, &gateway.name, &class.namespace) {
            let namespace = &routing.origin.namespace;
            let pairs = routing.hosts.iter().flat_map(|host| server.hosts.iter().map(move |taken| (host, taken)));
            let attached: BTreeSet<&str> = pairs.filter_map(|(host, taken)| taken.attach(namespace, host)).collect();
            secure.extend(attached.iter().filter(|_| server.https_redirect));
            for host in attached {
                let list = by_host.entry(host).or_default();
                if !list.iter().any(|known| known.routing.origin == routing.origin && known.port == server.port) {
                    list.push(Attached { routing, gateway: &gateway.name, port: server.port });
                }
            }
        }
    }
    // A host without any rule is redirected too (GW19, TR61).
    for (_, server) in port.servers.iter().filter(|(_, server)| server.https_redirect) {
        secure.extend(server.hosts.iter().map(|host| host.host.as_str()));
    }
    for host in &secure {
        by_host.entry(host).or_default();
    }
    let mut made = Vec::new();
    for (host, mut attached) in by_host {
        // The same order as for one Gateway: stable, by visibility and age (X23).
        attached.sort_by_key(|one| position(&base.routings.value, one.routing, &class.namespace));
        let require_tls = secure.contains(host);
        match merged(host, &attached, require_tls, seen, units) {
            None if require_tls => made.push(redirecting(host, port, round, units)),
            merged => made.extend(merged),
        }
    }
    if made.is_empty() {
        made.push(blackhole(port, round, units));
    }
    made
}

/// A host that no rule speaks about, on a server that asks for https.
fn redirecting(host: &str, port: &Port<'_>, round: u64, units: &mut Units) -> Unit<VirtualHost> {
    let number = port.servers.first().map_or(port.address.port(), |(_, server)| server.port);
    units.hosts.get(round, Fingerprint::of(&("https", host, number)), || VirtualHost {
        name: format!("{host}:{number}").into(),
        domains: vec![host.to_owned()],
        routes: Vec::new(),
        include_attempt_count: true,
        require_tls: true,
        limits: Vec::new(),
    })
}

fn position(sorted: &[Arc<Routing>], routing: &Arc<Routing>, namespace: &str) -> (Option<u8>, Option<usize>) {
    let index = sorted.binary_search_by(|other| other.age.cmp(&routing.age)).ok();
    (selection::group(routing, namespace), index)
}

/// One host's routes; `None` when no rule is left for these proxies.
fn merged(
    host: &str,
    attached: &[Attached<'_>],
    require_tls: bool,
    seen: Seen<'_>,
    units: &mut Units,
) -> Option<Unit<VirtualHost>> {
    let Seen { base, class, outlook, round, .. } = seen;
    let lookup = Known { rules: &base.rules.value, class, visible: &outlook.value.whole };
    let askers: Vec<(&Attached<'_>, Asker<'_>)> = attached
        .iter()
        .map(|one| {
            let gateways = vec![one.gateway];
            (one, Asker { namespace: &class.namespace, labels: &class.labels, gateways, port: one.port })
        })
        .filter(|(one, asker)| route::applies(one.routing, asker))
        .collect();
    let port = askers.first().map(|(_, asker)| asker.port)?;
    let mut known = Facts::default();
    for (one, _) in &askers {
        known.extend(lookup.facts(one.routing));
    }
    let mut sorted: Vec<_> = known.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(b.0));
    let parts: Vec<_> = askers.iter().map(|(one, asker)| (one.routing.print, asker)).collect();
    let all = Limits { all: &seen.base.limits.value, mesh: seen.world.mesh() };
    // All Gateways that serve the host at this port count.
    let gateways = askers.iter().flat_map(|(_, asker)| asker.gateways.clone()).collect();
    let whole = Asker { namespace: &class.namespace, labels: &class.labels, gateways, port };
    let limits = all.of_host(host, &whole);
    let inputs = Fingerprint::of(&("gateway", host, require_tls, parts, sorted, rate_limit::print(&limits)));
    Some(units.hosts.get(round, inputs, || {
        let mut routes = Vec::new();
        let mut last = None;
        for (one, asker) in &askers {
            let place = Place { asker, facts: &known, port: asker.port, is_tls: false };
            for route in route::emit(one.routing, place) {
                match route.matches.is_catch_all() {
                    false => routes.push(route),
                    // The oldest catch-all wins; the others would never be reached (TR13).
                    true => last = last.or(Some(route)),
                }
            }
        }
        routes.extend(last);
        let mut made = VirtualHost {
            name: format!("{host}:{port}").into(),
            domains: vec![host.to_owned()],
            routes,
            include_attempt_count: true,
            require_tls,
            limits: Vec::new(),
        };
        rate_limit::put(&limits, &mut made);
        made
    }))
}

/// A port without VirtualServices answers 404 to everything (GW10).
fn blackhole(port: &Port<'_>, round: u64, units: &mut Units) -> Unit<VirtualHost> {
    let number = port.servers.first().map_or(port.address.port(), |(_, server)| server.port);
    units.hosts.get(round, Fingerprint::of(&("blackhole", number)), || VirtualHost {
        name: format!("blackhole:{number}").into(),
        domains: vec!["*".into()],
        routes: Vec::new(),
        include_attempt_count: false,
        require_tls: false,
        limits: Vec::new(),
    })
}
