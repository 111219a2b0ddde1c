//! Listeners and route tables that a class of sidecars shares.
//!
//! In: what the class sees. Out: pieces. Which routes a host has is decided in `selection.rs`, what they look like in
//! `route.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::{DnsCache, Listener, Name, RouteTable, VirtualHost};
use words::Fingerprint;

use crate::class::Class;
use crate::compiler::Base;
use crate::destination_rule::{Lookup, Rules};
use crate::intent::{Asker, MESH, Routing, RuleAction};
use crate::memo::Unit;
use crate::mesh::DefaultRetries;
use crate::mutual_tls;
use crate::outbound;
use crate::outlook::{Destinations, Outlook, View};
use crate::passthrough::Unknown;
use crate::piece::{Piece, refresh};
use crate::rate_limit::{self, Limits};
use crate::registry::Visible;
use crate::route::{Fact, Facts};
use crate::route_table::{self, TableFrame};
use crate::selection::{self, MeshRoutings};
use crate::service::Service;
use crate::shared::{ListenerSet, TableSet, Units};
use crate::sidecar::Egress;
use crate::tcp::Proxies;
use crate::virtual_host::{Frame, Inputs};
use crate::world::World;

/// What a class is made from.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) world: &'a World,
    pub(crate) base: &'a Base,
    pub(crate) class: &'a Class,
    pub(crate) outlook: &'a Piece<Outlook>,
    pub(crate) round: u64,
}

impl Seen<'_> {
    /// Where hosts that requests name are remembered; `None` when no service has such hosts (SE09).
    pub(crate) fn cache(self) -> Option<DnsCache> {
        self.base.registry.value.any_dynamic.then(DnsCache::default)
    }
}

/// What a class of sidecars had.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    frames: Option<Piece<Vec<TableFrame>>>,
    listeners: Option<Piece<ListenerSet>>,
    tables: Option<Piece<TableSet>>,
}

impl Slots {
    /// Outbound listeners; without capture only those that have sockets.
    pub(crate) fn listeners(&mut self, seen: Seen<'_>, units: &mut Units) -> Piece<ListenerSet> {
        let Seen { world, base, class, outlook, round } = seen;
        let listens = class.captured || outlook.value.binds();
        let pods = match listens {
            true => outbound::headless_pods(&outlook.value, world),
            false => Default::default(),
        };
        let unknown = class.unknown(world);
        let cache = seen.cache();
        // Labels decide which DestinationRule bounds the silence of TCP connections.
        let rules = (base.rules.print, &class.labels);
        let sidecar = class.sidecar.as_ref().map(|sidecar| sidecar.print);
        let facts = (class.captured, class.dns, class.v6, &cache, &class.telemetry, class.identity);
        let of_world = (base.prints.mesh, rules, base.connections.print, sidecar);
        let inputs = Fingerprint::of(&(outlook.print, &pods, facts, &unknown, of_world));
        refresh(&mut self.listeners, inputs, |_| {
            if !listens {
                return (ListenerSet::default(), Fingerprint::default());
            }
            let views = &outlook.value.views;
            let of = |view| taken(&base.connections.value, class, std::slice::from_ref(view));
            let routings: Vec<MeshRoutings> = views.iter().map(of).collect();
            let inputs = outbound::Inputs {
                outlook: &outlook.value,
                pods: &pods,
                routings: &routings,
                proxies: Proxies {
                    visible: &outlook.value.whole,
                    rules: &base.rules.value,
                    namespace: &class.namespace,
                    labels: &class.labels,
                    mesh: world.mesh(),
                },
                class,
                unknown: &unknown,
                cache: cache.as_ref(),
            };
            let (mut made, diagnostics) = inputs.compute();
            made.iter_mut().for_each(|one| class.telemetry.put(one));
            if class.identity {
                made.iter_mut().for_each(mutual_tls::put);
            }
            listener_set(made, diagnostics, round, units)
        })
    }

    /// Route tables.
    pub(crate) fn tables(&mut self, seen: Seen<'_>, units: &mut Units) -> Piece<TableSet> {
        let Seen { world, base, class, outlook, round } = seen;
        let content = Fingerprint::of(&(outlook.print, class.explicit, class.dns));
        let frames = refresh(&mut self.frames, content, |_| {
            (route_table::frames(&outlook.value, class, &world.mesh().domain), content)
        });
        let unknown = class.unknown(world);
        let sidecar = class.sidecar.as_ref().map(|sidecar| sidecar.print);
        let rules = &base.rules.value;
        let default_retries = world.mesh().default_retries;
        let of_class = (sidecar, &unknown, &class.labels);
        let of_mesh = (default_retries, rules.hash_print());
        let of_objects = (base.routings.print, base.limits.print);
        let inputs = Fingerprint::of(&(frames.print, of_objects, of_class, of_mesh));
        refresh(&mut self.tables, inputs, |_| {
            let all = taken(&base.routings.value, class, &outlook.value.views);
            let each = each(&base.routings.value, class, &outlook.value);
            let known = Known { rules, class, visible: &outlook.value.whole };
            let limits = Limits { all: &base.limits.value, mesh: world.mesh() };
            let maker =
                Maker { known, outlook: &outlook.value, all: &all, each: &each, limits, default_retries, round };
            let mut tables = TableSet::new();
            let mut prints = Vec::with_capacity(frames.value.len());
            for frame in &*frames.value {
                let table = maker.table(frame, &unknown, units);
                prints.push(table.print);
                tables.insert(table.value.name.clone(), table.value);
            }
            let print = Fingerprint::of(&prints);
            (tables, print)
        })
    }
}

/// Listeners as units, by name.
pub(crate) fn listener_set(
    made: Vec<Listener>,
    diagnostics: Vec<words::Diagnostic>,
    round: u64,
    units: &mut Units,
) -> (ListenerSet, Fingerprint) {
    let mut set = ListenerSet { diagnostics, ..ListenerSet::default() };
    let mut prints = Vec::with_capacity(made.len());
    for one in made {
        let print = Fingerprint::of(&one);
        let unit = units.listeners.get_with(round, print, || (one, print));
        prints.push(unit.print);
        set.by_name.insert(unit.value.name.clone(), unit.value);
    }
    let print = Fingerprint::of(&(prints, &set.diagnostics));
    (set, print)
}

/// A table of virtual hosts as a unit: its fingerprint is that of its parts.
pub(crate) fn table_unit(
    name: &Name,
    hosts: Vec<Unit<VirtualHost>>,
    round: u64,
    units: &mut Units,
) -> Unit<RouteTable> {
    let prints: Vec<Fingerprint> = hosts.iter().map(|unit| unit.print).collect();
    let print = Fingerprint::of(&(name, prints));
    units.tables.get_with(round, print, || {
        let virtual_hosts = hosts.into_iter().map(|unit| unit.value).collect();
        // The domains of a forward proxy's table have ports, which decide (X15).
        let ignore_port = !name.starts_with(crate::route_table::EXPLICIT);
        (RouteTable { name: name.clone(), ignore_port, virtual_hosts }, print)
    })
}

/// What destinations are looked up in.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) class: &'a Class,
    pub(crate) visible: &'a Visible,
}

struct Maker<'a> {
    known: Known<'a>,
    outlook: &'a Outlook,
    all: &'a MeshRoutings,
    // By listener; empty when there is one.
    each: &'a [MeshRoutings],
    default_retries: DefaultRetries,
    limits: Limits<'a>,
    round: u64,
}

impl Maker<'_> {
    fn table(&self, frame: &TableFrame, unknown: &Unknown, units: &mut Units) -> Unit<RouteTable> {
        let routings = frame.view.and_then(|view| self.each.get(view)).unwrap_or(self.all);
        let view = frame.view.and_then(|view| self.outlook.views.get(view));
        let visible = view.map_or(&*self.outlook.whole, |view| &*view.visible);
        let mut hosts = Vec::with_capacity(frame.hosts.len() + 1);
        for host in &frame.hosts {
            let asker = self.asker(host.port);
            let routing = routings.of_host(&host.host, &asker);
            hosts.push(self.host(host, routing, &asker, units));
        }
        let mut everything = false;
        if frame.open {
            let named = routings.all.iter().enumerate();
            let named = named.flat_map(|(index, routing)| routing.hosts.iter().map(move |host| (index, host.clone())));
            let asker = self.asker(80);
            let applying = named.filter(|(index, _)| crate::route::applies(&routings.all[*index], &asker));
            for (index, foreign) in frame.foreign(applying, visible) {
                everything |= foreign.domains.iter().any(|domain| domain == "*");
                hosts.push(self.host(&foreign, Some(&routings.all[index]), &asker, units));
            }
        }
        if !everything {
            let dialled = self.known.class.captured && frame.port.is_some();
            let unknown = route_table::unknown(unknown, dialled);
            let print = Fingerprint::of(&unknown);
            hosts.push(units.hosts.get_with(self.round, print, || (unknown, print)));
        }
        table_unit(&frame.name, hosts, self.round, units)
    }

    fn asker(&self, port: u16) -> Asker<'_> {
        let class = self.known.class;
        Asker { namespace: &class.namespace, labels: &class.labels, gateways: vec![MESH], port }
    }

    fn host(
        &self,
        frame: &Frame,
        routing: Option<&Arc<Routing>>,
        asker: &Asker<'_>,
        units: &mut Units,
    ) -> Unit<VirtualHost> {
        let facts = match routing {
            Some(routing) => self.known.facts(routing),
            None => self.known.own_facts(&frame.host),
        };
        let asker_print = Fingerprint::of(asker);
        let default_retries = self.default_retries;
        let routing = routing.map(|routing| &**routing);
        let inputs = Inputs { frame, routing, asker, asker_print, facts: &facts, default_retries };
        let limits = self.limits.of_host(&frame.host, asker);
        let print = match limits.is_empty() {
            true => inputs.print(),
            false => Fingerprint::of(&(inputs.print(), rate_limit::print(&limits))),
        };
        units.hosts.get(self.round, print, || {
            let mut host = inputs.compute();
            rate_limit::put(&limits, &mut host);
            host
        })
    }
}

impl Known<'_> {
    /// What is known of the destinations of an object.
    pub(crate) fn facts(&self, routing: &Routing) -> Facts {
        let mut facts = Facts::default();
        for rule in &routing.http {
            let RuleAction::Forward(forward) = &rule.action else { continue };
            for host in forward.hosts() {
                let Some(seen) = self.visible.find(host) else { continue };
                facts.insert(host.clone(), self.fact(seen.service()));
            }
        }
        facts
    }

    /// What is known of a service that has its own route; nothing as long as no rule has a key.
    fn own_facts(&self, host: &Arc<str>) -> Facts {
        let seen = self.visible.find(host).filter(|_| self.rules.any_hash);
        seen.map(|seen| (host.clone(), self.fact(seen.service()))).into_iter().collect()
    }

    fn fact(&self, service: &Service) -> Fact {
        let only_port = (service.ports.len() == 1).then(|| service.ports[0].number);
        let hashing = self.rules.hashing(Lookup {
            client: &self.class.namespace,
            labels: &self.class.labels,
            host: &service.host,
            namespace: &service.namespace,
        });
        Fact { host: service.host.clone(), only_port, hashing }
    }
}

/// A VirtualService is taken in whole when one of its hosts is (VS70).
fn imports(egress: Option<&Egress>, routing: &Routing) -> bool {
    let Some(egress) = egress else { return true };
    routing.hosts.iter().any(|host| egress.takes_routing(&routing.origin.namespace, host))
}

/// The VirtualServices that some of these listeners take in.
fn taken(sorted: &[Arc<Routing>], class: &Class, views: &[View]) -> MeshRoutings {
    let imported = |routing: &Routing| views.iter().any(|view| imports(view.egress.as_ref(), routing));
    MeshRoutings::new(sorted, &class.namespace, imported)
}

/// The same by listener; empty when there is one.
fn each(sorted: &[Arc<Routing>], class: &Class, outlook: &Outlook) -> Vec<MeshRoutings> {
    match outlook.views.as_slice() {
        [_] => Vec::new(),
        many => many.iter().map(|view| taken(sorted, class, std::slice::from_ref(view))).collect(),
    }
}

/// The destinations of the VirtualServices that a Sidecar's listeners take in (SC08).
pub(crate) fn destinations(sorted: &[Arc<Routing>], namespace: &str, egress: &[Egress]) -> Destinations {
    let taken = selection::ordered(sorted, MESH, namespace)
        .filter(|routing| egress.iter().any(|one| imports(Some(one), routing)));
    let mut found = Destinations::new();
    for routing in taken {
        let requests = routing.http.iter().filter_map(|rule| match &rule.action {
            RuleAction::Forward(forward) => Some(forward.everywhere()),
            _ => None,
        });
        let connections = routing.tls.iter().chain(&routing.tcp).flat_map(|rule| &rule.destinations);
        for destination in requests.flatten().chain(connections) {
            let ports = found.entry(destination.host.clone()).or_insert_with(|| Some(BTreeSet::new()));
            match (destination.port, ports.as_mut()) {
                (Some(port), Some(ports)) => _ = ports.insert(port),
                // Without a port it may be any of them.
                _ => *ports = None,
            }
        }
    }
    found
}
