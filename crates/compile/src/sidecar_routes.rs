//! Listeners and route tables that a class of sidecars shares.
//!
//! In: what the class sees. Out: pieces. Which routes a host has is decided in `selection.rs`, what they look like in
//! `route.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::{Listener, Name, RouteTable, VirtualHost};
use words::Fingerprint;

use crate::class::Class;
use crate::compiler::Base;
use crate::destination_rule::{Lookup, Rules};
use crate::intent::{Asker, MESH, Routing, RuleAction};
use crate::memo::Unit;
use crate::mesh::DefaultRetries;
use crate::outbound;
use crate::piece::{Piece, refresh};
use crate::rate_limit::{self, Limits};
use crate::registry::Visible;
use crate::route::{Fact, Facts};
use crate::route_table::{self, TableFrame};
use crate::selection::{self, MeshRoutings};
use crate::service::Service;
use crate::shared::{ListenerSet, TableSet, Units};
use crate::sidecar::Sidecar;
use crate::tcp::Proxies;
use crate::virtual_host::{Frame, Inputs};
use crate::world::World;

/// What a class is made from.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) world: &'a World,
    pub(crate) base: &'a Base,
    pub(crate) class: &'a Class,
    pub(crate) visible: &'a Piece<Visible>,
    pub(crate) round: u64,
}

/// What a class of sidecars had.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    frames: Option<Piece<Vec<TableFrame>>>,
    listeners: Option<Piece<ListenerSet>>,
    tables: Option<Piece<TableSet>>,
}

impl Slots {
    /// Outbound listeners; none without capture.
    pub(crate) fn listeners(&mut self, seen: Seen<'_>, units: &mut Units) -> Piece<ListenerSet> {
        let Seen { world, base, class, visible, round } = seen;
        let pods = match class.captured {
            true => outbound::headless_pods(&visible.value, world),
            false => Default::default(),
        };
        let policy = class.policy(world);
        // Labels decide which DestinationRule bounds the silence of TCP connections.
        let rules = (base.rules.print, &class.labels);
        let sidecar = class.sidecar.as_ref().map(|sidecar| sidecar.print);
        let routings = (base.connections.print, sidecar);
        let inputs = Fingerprint::of(&(
            visible.print,
            &pods,
            class.captured,
            class.v6,
            policy,
            base.prints.mesh,
            rules,
            routings,
        ));
        refresh(&mut self.listeners, inputs, |_| {
            if !class.captured {
                return (ListenerSet::default(), Fingerprint::default());
            }
            let imported = |routing: &Routing| class.sidecar.as_ref().is_none_or(|sidecar| imports(sidecar, routing));
            let inputs = outbound::Inputs {
                visible: &visible.value,
                pods: &pods,
                routings: &MeshRoutings::new(&base.connections.value, &class.namespace, imported),
                proxies: Proxies {
                    visible: &visible.value,
                    rules: &base.rules.value,
                    namespace: &class.namespace,
                    labels: &class.labels,
                    mesh: world.mesh(),
                },
                class,
                policy,
            };
            let (made, diagnostics) = inputs.compute();
            listener_set(made, diagnostics, round, units)
        })
    }

    /// Route tables.
    pub(crate) fn tables(&mut self, seen: Seen<'_>, units: &mut Units) -> Piece<TableSet> {
        let Seen { world, base, class, visible, round } = seen;
        let frames = refresh(&mut self.frames, Fingerprint::of(&(visible.print, class.explicit)), |_| {
            let domain = &world.mesh().domain;
            let made = route_table::frames(&visible.value, &class.namespace, domain, class.explicit);
            let print = Fingerprint::of(&(visible.print, class.explicit));
            (made, print)
        });
        let policy = class.policy(world);
        let sidecar = class.sidecar.as_ref().map(|sidecar| sidecar.print);
        let rules = &base.rules.value;
        let default_retries = world.mesh().default_retries;
        let of_class = (sidecar, policy, &class.labels);
        let of_mesh = (default_retries, rules.hash_print());
        let of_objects = (base.routings.print, base.limits.print);
        let inputs = Fingerprint::of(&(frames.print, of_objects, of_class, of_mesh));
        refresh(&mut self.tables, inputs, |_| {
            let imported = |routing: &Routing| class.sidecar.as_ref().is_none_or(|sidecar| imports(sidecar, routing));
            let routings = MeshRoutings::new(&base.routings.value, &class.namespace, imported);
            let known = Known { rules, class, visible: &visible.value };
            let limits = Limits { all: &base.limits.value, mesh: world.mesh() };
            let maker = Maker { known, routings: &routings, limits, default_retries, round };
            let mut tables = TableSet::new();
            let mut prints = Vec::with_capacity(frames.value.len());
            for frame in &*frames.value {
                let table = maker.table(frame, policy, units);
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
        // The domains of the explicit listener's table have ports, which decide (X15).
        let ignore_port = name.as_ref() != crate::route_table::EXPLICIT;
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
    routings: &'a MeshRoutings,
    default_retries: DefaultRetries,
    limits: Limits<'a>,
    round: u64,
}

impl Maker<'_> {
    fn table(
        &self,
        frame: &TableFrame,
        policy: crate::mesh::OutboundTrafficPolicy,
        units: &mut Units,
    ) -> Unit<RouteTable> {
        let mut hosts = Vec::with_capacity(frame.hosts.len() + 1);
        for host in &frame.hosts {
            let asker = self.asker(host.port);
            let routing = self.routings.of_host(&host.host, &asker);
            hosts.push(self.host(host, routing, &asker, units));
        }
        let mut everything = false;
        if frame.open {
            let named = self.routings.all.iter().enumerate();
            let named = named.flat_map(|(index, routing)| routing.hosts.iter().map(move |host| (index, host.clone())));
            let asker = self.asker(80);
            let applying = named.filter(|(index, _)| crate::route::applies(&self.routings.all[*index], &asker));
            for (index, foreign) in frame.foreign(applying, self.known.visible) {
                everything |= foreign.domains.iter().any(|domain| domain == "*");
                hosts.push(self.host(&foreign, Some(&self.routings.all[index]), &asker, units));
            }
        }
        if !everything {
            let unknown = route_table::unknown(policy, frame.port.is_none());
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
fn imports(sidecar: &Sidecar, routing: &Routing) -> bool {
    routing.hosts.iter().any(|host| sidecar.imports(&routing.origin.namespace, host))
}

/// The destinations of the VirtualServices that a Sidecar takes in (SC08).
pub(crate) fn destinations(sorted: &[Arc<Routing>], namespace: &str, sidecar: &Sidecar) -> BTreeSet<Arc<str>> {
    let taken = selection::ordered(sorted, MESH, namespace).filter(|routing| imports(sidecar, routing));
    let mut hosts = BTreeSet::new();
    for routing in taken {
        for rule in &routing.http {
            if let RuleAction::Forward(forward) = &rule.action {
                hosts.extend(forward.hosts().cloned());
            }
        }
        for rule in routing.tls.iter().chain(&routing.tcp) {
            hosts.extend(rule.destinations.iter().map(|destination| destination.host.clone()));
        }
    }
    hosts
}
