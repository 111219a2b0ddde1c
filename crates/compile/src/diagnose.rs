//! What is to be said about the objects of a world: what each says by itself, and what only shows beside the others.
//!
//! In: a world. Out: findings in the order of the objects. Knows no proxy: a finding must hold wherever the object
//! acts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use words::{Diagnostic, Severity, host};

use crate::delegate::{self, Delegates};
use crate::destination_rule::Rule;
use crate::intent::{Destination, MESH, Routing, RuleAction};
use crate::notes::{CONFLICTING_MESH_HOSTS, HOST_NOT_IN_GATEWAY, HOST_TAKEN, NOT_FOUND, Notes, UNKNOWN_RULE_HOST};
use crate::registry::{Registry, Visible};
use crate::server::Gateway;
use crate::shadow;
use crate::visibility::Export;
use crate::world::World;

/// Every finding.
pub(crate) fn all(world: &World) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    found.extend(world.routings().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.rules().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.gateways().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.entries().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.limits().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.telemetries().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.peers().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.authentications().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.authorizations().flat_map(|one| one.diagnostics.iter().cloned()));
    found.extend(world.sidecars().flat_map(|one| one.diagnostics.iter().cloned()));
    let mut across = Across::new(world);
    for routing in world.routings() {
        found.extend(across.routing(routing));
    }
    for rule in world.rules() {
        found.extend(across.rule(rule));
    }
    found.extend(shadow::find(&sorted(world), &across.gateways));
    found.extend(taken_hosts(world));
    found.sort_by(|a, b| (&a.object, &a.field, &a.code).cmp(&(&b.object, &b.field, &b.code)));
    found
}

// All rules as proxies get them: oldest first, with those of delegates.
fn sorted(world: &World) -> Vec<Arc<Routing>> {
    let mut sorted: Vec<_> = world.routings().cloned().collect();
    sorted.sort_by(|a, b| a.age.cmp(&b.age));
    delegate::resolve(sorted, world.mesh())
}

struct Across<'a> {
    registry: Registry,
    visible: BTreeMap<Arc<str>, Visible>,
    gateways: BTreeMap<&'a str, &'a Arc<Gateway>>,
    rules: Vec<&'a Arc<Rule>>,
    delegates: Delegates<'a>,
    mesh_hosts: BTreeMap<&'a str, Vec<&'a Arc<Routing>>>,
}

impl<'a> Across<'a> {
    fn new(world: &'a World) -> Self {
        let mut mesh_hosts: BTreeMap<&str, Vec<&Arc<Routing>>> = BTreeMap::new();
        for routing in world.routings().filter(|routing| routing.gateways.contains(MESH)) {
            for host in &routing.hosts {
                mesh_hosts.entry(host).or_default().push(routing);
            }
        }
        Self {
            registry: Registry::new(world.services()),
            visible: BTreeMap::new(),
            gateways: world.gateways().map(|gateway| (gateway.name.as_str(), gateway)).collect(),
            rules: world.rules().collect(),
            delegates: Delegates::new(world.routings(), world.mesh()),
            mesh_hosts,
        }
    }

    fn seen_from(&mut self, namespace: &Arc<str>) -> &Visible {
        let Self { registry, visible, .. } = self;
        visible.entry(namespace.clone()).or_insert_with(|| registry.visible(namespace, |_| true))
    }

    fn routing(&mut self, routing: &Routing) -> Vec<Diagnostic> {
        let mut notes = Notes::about(&routing.origin);
        for rule in &routing.http {
            let RuleAction::Forward(forward) = &rule.action else { continue };
            for destination in &forward.destinations {
                let field = format!("spec.http[{}].route[{}].destination", rule.index, destination.index);
                self.destination(routing, destination, &field, &mut notes);
            }
            for mirror in &forward.mirrors {
                self.destination(routing, &mirror.destination, &mirror.field, &mut notes);
            }
        }
        for (list, rules) in [("tls", &routing.tls), ("tcp", &routing.tcp)] {
            for rule in rules {
                for destination in &rule.destinations {
                    let field = format!("spec.{list}[{}].route[{}].destination", rule.index, destination.index);
                    self.destination(routing, destination, &field, &mut notes);
                }
            }
        }
        for name in routing.gateways.iter().filter(|name| *name != MESH) {
            self.gateway(routing, name, &mut notes);
        }
        for delegation in &routing.delegations {
            self.delegates.rules(routing, delegation, &mut notes);
        }
        self.conflicts(routing, &mut notes);
        notes.into_found()
    }

    fn destination(&mut self, routing: &Routing, destination: &Destination, field: &str, notes: &mut Notes) {
        let host = &destination.host;
        let Some(seen) = self.seen_from(&routing.origin.namespace).find(host) else {
            let message = format!("host {host:?} is no service that namespace {} sees", routing.origin.namespace);
            return notes.add(NOT_FOUND, Severity::Error, format!("{field}.host"), message);
        };
        let service = seen.service().clone();
        if let Some(port) = destination.port.filter(|port| service.port(*port).is_none()) {
            let message = format!("{host} has no port {port}");
            notes.add(NOT_FOUND, Severity::Error, format!("{field}.port.number"), message);
        }
        let of_host = |rule: &&&Arc<Rule>| {
            let own = rule.origin.namespace == routing.origin.namespace;
            host::is_subset(&service.host, &rule.host) && (own || rule.export.includes(&routing.origin.namespace))
        };
        let mut subsets = self.rules.iter().filter(of_host).flat_map(|rule| &rule.subsets);
        if !destination.subset.is_empty() && !subsets.any(|subset| subset.name == destination.subset) {
            let message = format!("subset {:?} is in no DestinationRule for {}", destination.subset, service.host);
            notes.add(NOT_FOUND, Severity::Error, format!("{field}.subset"), message);
        }
    }

    fn gateway(&self, routing: &Routing, name: &str, notes: &mut Notes) {
        let Some(gateway) = self.gateways.get(name) else {
            return notes.add(NOT_FOUND, Severity::Error, "spec.gateways", format!("there is no Gateway {name}"));
        };
        let mut taken = gateway.servers.iter().flat_map(|server| &server.hosts);
        if !taken.any(|taken| routing.hosts.iter().any(|host| host::overlaps(host, &taken.host))) {
            let message = format!("no host of Gateway {name} takes one of these hosts");
            notes.add(HOST_NOT_IN_GATEWAY, Severity::Warning, "spec.hosts", message);
        }
    }

    /// The same host in two objects that some sidecar sees both: only one of them acts there (TR21).
    fn conflicts(&self, routing: &Routing, notes: &mut Notes) {
        if !routing.gateways.contains(MESH) {
            return;
        }
        for name in &routing.hosts {
            let named = self.mesh_hosts.get(&**name).map(Vec::as_slice).unwrap_or_default();
            let rivals: BTreeSet<String> = named
                .iter()
                .filter(|other| other.origin != routing.origin && meet(&other.export, &routing.export))
                .map(|other| format!("{}/{}", other.origin.namespace, other.origin.name))
                .collect();
            if !rivals.is_empty() {
                let rivals = rivals.into_iter().collect::<Vec<_>>().join(", ");
                let message =
                    format!("host {name} is also in VirtualService {rivals}; in sidecars the oldest acts alone");
                notes.add(CONFLICTING_MESH_HOSTS, Severity::Error, "spec.hosts", message);
            }
        }
    }

    fn rule(&mut self, rule: &Rule) -> Vec<Diagnostic> {
        let mut notes = Notes::about(&rule.origin);
        let visible = self.seen_from(&rule.origin.namespace);
        let known = match host::is_wildcard(&rule.host) {
            false => visible.find(&rule.host).is_some(),
            true => visible.services.iter().any(|seen| host::is_subset(&seen.service().host, &rule.host)),
        };
        if !known {
            let message = format!("host {:?} is no service that namespace {} sees", rule.host, rule.origin.namespace);
            notes.add(UNKNOWN_RULE_HOST, Severity::Warning, "spec.host", message);
        }
        notes.into_found()
    }
}

fn meet(a: &Export, b: &Export) -> bool {
    match (a, b) {
        (Export::Public, Export::Public) => true,
        (Export::Public, Export::To(names)) | (Export::To(names), Export::Public) => !names.is_empty(),
        (Export::To(a), Export::To(b)) => a.intersection(b).next().is_some(),
    }
}

/// Of two objects that declare one host in one namespace, only the older acts, and a Kubernetes Service before others
/// (X31).
fn taken_hosts(world: &World) -> Vec<Diagnostic> {
    let registry = Registry::new(world.services());
    let mut found = Vec::new();
    for known in world.services() {
        let service = &known.service;
        let of_host = registry.of_host(&service.host);
        let Some(holder) = of_host.iter().find(|other| other.service.namespace == service.namespace) else { continue };
        if holder.service.origin != service.origin {
            let mut notes = Notes::about(&service.origin);
            let message = format!("host {} is taken by {}", service.host, holder.service.origin);
            notes.add(HOST_TAKEN, Severity::Warning, "spec.hosts", message);
            found.extend(notes.into_found());
        }
    }
    found
}
