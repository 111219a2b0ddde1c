//! A sidecar's own layer: the inbound side of its workload, and listeners at its own addresses.
//!
//! Looked at in two steps, so that hundreds of proxies cost nothing when the world changes elsewhere: a few facts about
//! the workload are gathered, and only when they are different is anything computed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Cluster, DnsCache, Name, ServiceMeta, Snapshot};
use words::{Diagnostic, Fingerprint, Labels, Origin};

use crate::class::Class;
use crate::compiler::{Base, Layer};
use crate::destination_rule::{Lookup, Rules};
use crate::endpoints;
use crate::explicit;
use crate::guards::Guards;
use crate::inbound::{self, InboundPort};
use crate::ingress::{App, Ingress};
use crate::mutual_tls;
use crate::notes::LISTENER_CONFLICT;
use crate::peer_authentication::Inbound;
use crate::piece::{Piece, refresh};
use crate::policy::effective;
use crate::registry::Registry;
use crate::scope::Scope;
use crate::secret;
use crate::service::{Known, Port};
use crate::sidecar::Sidecar;
use crate::telemetry::Effective;
use crate::world::World;

/// What a workload had.
#[derive(Debug, Default)]
pub(crate) struct Own {
    ports: Option<Piece<BTreeMap<u16, InboundPort>>>,
    guards: Option<Piece<Guards>>,
    layer: Option<Piece<Layer>>,
}

/// Ports by EndpointSlices: service, port name, number.
type SlicePorts = BTreeSet<(Arc<str>, String, u16)>;

impl Own {
    /// Somebody else has its layer.
    pub(crate) fn is_held(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| Arc::strong_count(&layer.value) > 1)
    }

    /// The layer, the one from before when nothing in it changed.
    pub(crate) fn layer(
        &mut self,
        world: &World,
        base: &Base,
        scope: &Scope,
        labels: &Labels,
        class: &Class,
        below: &Layer,
    ) -> Arc<Layer> {
        let sidecar = class.sidecar.as_deref();
        let at: SlicePorts = scope.ips.iter().flat_map(|ip| world.ports_at(&scope.namespace, *ip)).collect();
        let named = world.pod(&scope.namespace, &scope.name).map(|pod| &pod.ports);
        let said = sidecar.map(|sidecar| sidecar.print);
        let facts = Fingerprint::of(&(base.registry.print, base.rules.print, labels, &at, named, said));
        let ports = refresh(&mut self.ports, facts, |_| {
            let nothing = BTreeMap::new();
            let gathered = Gather {
                registry: &base.registry.value,
                rules: &base.rules.value,
                namespace: &scope.namespace,
                labels,
                at: &at,
                named: named.unwrap_or(&nothing),
                sidecar,
            };
            let made = gathered.ports();
            let print = Fingerprint::of(&made);
            (made, print)
        });
        // The scope itself is the key that this slot was found by.
        let cache = base.registry.value.any_dynamic.then(DnsCache::default);
        // Proxies without certificates of their own take plaintext only, whatever is said.
        let takes = scope.identity.then(|| base.policies.value.of_workload(&scope.namespace, labels));
        let looked_at = Fingerprint::of(&(base.prints.guards, base.prints.mesh, labels));
        let guards = refresh(&mut self.guards, looked_at, |_| {
            let made = Guards::of(scope, labels, world);
            let print = Fingerprint::of(&made);
            (made, print)
        });
        let secrets: Vec<&Name> = below.snapshot.secrets.keys().filter(|_| !guards.value.clusters.is_empty()).collect();
        let content = Fingerprint::of(&(
            ports.print,
            base.prints.mesh,
            &cache,
            &below.bound,
            &class.telemetry,
            guards.print,
            secrets,
            &takes,
        ));
        let layer = refresh(&mut self.layer, content, |_| {
            let told = Told { telemetry: &class.telemetry, guards: &guards.value, takes: takes.as_ref() };
            (compute((scope, class), told, &ports.value, cache.as_ref(), world, below), content)
        });
        layer.value
    }
}

/// What policies say of a workload.
struct Told<'a> {
    telemetry: &'a Effective,
    guards: &'a Guards,
    /// What it takes of mutual TLS.
    takes: Option<&'a Inbound>,
}

fn compute(
    (scope, class): (&Scope, &Class),
    Told { telemetry, guards, takes }: Told<'_>,
    ports: &BTreeMap<u16, InboundPort>,
    cache: Option<&DnsCache>,
    world: &World,
    below: &Layer,
) -> Layer {
    let inputs = inbound::Inputs { scope, ports, takes, mesh: world.mesh() };
    let (mut listeners, clusters) = inputs.compute();
    listeners.extend(scope.outbound_address.map(|address| explicit::listener(address, cache, world.mesh())));
    listeners.iter_mut().for_each(|one| telemetry.put(one));
    if scope.identity {
        listeners.iter_mut().for_each(mutual_tls::put);
    }
    listeners.iter_mut().for_each(|one| guards.put(one));
    // An address has one socket: a Sidecar's outbound listener there came first.
    let mut conflicts = Vec::new();
    listeners.retain(|one| {
        let free = !one.bind_to_port || !below.bound.contains(&one.address);
        if let (false, Some(origin)) = (free, &one.origin) {
            let message = format!("an outbound listener has {} already; nothing is taken in there", one.address);
            conflicts.push(Diagnostic::warning(LISTENER_CONFLICT, origin.clone(), "", message));
        }
        free
    });
    let fetching: Vec<Arc<Cluster>> = guards.clusters.iter().cloned().map(Arc::new).collect();
    let (mut secrets, _) = secret::gather(std::iter::empty(), fetching.iter(), class, world);
    // A name stands in one layer.
    secrets.by_name.retain(|name, _| !below.snapshot.secrets.contains_key(name));
    let clusters = clusters.into_iter().map(Arc::new).chain(fetching);
    let snapshot = Snapshot {
        listeners: listeners.into_iter().map(|one| (one.name.clone(), Arc::new(one))).collect(),
        clusters: clusters.map(|one| (one.name.clone(), one)).collect(),
        secrets: secrets.by_name,
        ..Snapshot::default()
    };
    Layer::new(snapshot, conflicts)
}

/// Which service ports stand for a workload.
struct Gather<'a> {
    registry: &'a Registry,
    rules: &'a Rules,
    namespace: &'a str,
    labels: &'a Labels,
    at: &'a SlicePorts,
    named: &'a BTreeMap<String, u16>,
    sidecar: Option<&'a Sidecar>,
}

impl Gather<'_> {
    /// By the application's port; of several services on one port the oldest counts (DR13).
    fn ports(&self) -> BTreeMap<u16, InboundPort> {
        let mut services: Vec<&Known> = self.registry.iter().filter(|known| self.stands_for(known)).collect();
        services.sort_by(|a, b| a.service.age.cmp(&b.service.age).then(a.service.host.cmp(&b.service.host)));
        let mut ports = BTreeMap::new();
        for known in services {
            for port in &known.service.ports {
                if let Some(number) = self.number(known, port) {
                    ports.entry(number).or_insert_with(|| self.port(known, port));
                }
            }
        }
        match self.sidecar.filter(|sidecar| !sidecar.ingress.is_empty()) {
            None => ports,
            // All of them are replaced (SC10, TR30).
            Some(sidecar) => sidecar
                .ingress
                .iter()
                .map(|one| (one.number, self.declared(sidecar, one, ports.get(&one.number))))
                .collect(),
        }
    }

    /// A port that the Sidecar declares; what a Service says of it is kept for metrics.
    fn declared(&self, sidecar: &Sidecar, one: &Ingress, of_service: Option<&InboundPort>) -> InboundPort {
        let Ingress { number, protocol, bind, bound, to, pool } = one;
        let Origin { name, namespace, .. } = &sidecar.origin;
        let service = of_service.map(|port| port.service.clone()).unwrap_or_else(|| ServiceMeta {
            host: format!("sidecar.{name}.{namespace}"),
            name: name.to_string(),
            namespace: namespace.to_string(),
            subset: String::new(),
            port: *number,
        });
        // The port's, else the Sidecar's, else the rule's; never merged (SC14).
        let of_rule = || of_service.and_then(|port| port.pool.clone());
        InboundPort {
            protocol: *protocol,
            service,
            origin: sidecar.origin.clone(),
            pool: pool.clone().or_else(|| sidecar.inbound_pool.clone()).or_else(of_rule),
            to: to.clone(),
            bind: *bind,
            bound: *bound,
        }
    }

    /// Its selector takes the workload, or its slices have the workload's address.
    fn stands_for(&self, known: &Known) -> bool {
        let service = &known.service;
        if &*service.namespace != self.namespace || service.is_alias() {
            return false;
        }
        let selects = !service.selector.is_empty() && words::labels_select(&service.selector, self.labels);
        selects || (service.is_kubernetes() && self.at.iter().any(|(name, _, _)| **name == *service.name))
    }

    /// The application's port: what the slices say, else the target port.
    fn number(&self, known: &Known, port: &Port) -> Option<u16> {
        let said = self.at.iter().find(|(service, name, _)| **service == *known.service.name && *name == port.name);
        match said {
            Some((_, _, number)) => Some(*number),
            None => endpoints::target_number(&port.target, self.named),
        }
    }

    fn port(&self, known: &Known, port: &Port) -> InboundPort {
        let service = &known.service;
        let rule = self.rules.lookup(Lookup {
            client: self.namespace,
            // Rules with a selector are about clients (DR06).
            labels: &Labels::new(),
            host: &service.host,
            namespace: &service.namespace,
        });
        let policy = rule.filter(|rule| rule.selector.is_none()).and_then(|rule| rule.policy.as_ref());
        InboundPort {
            protocol: port.protocol,
            service: ServiceMeta {
                host: service.host.to_string(),
                name: service.name.clone(),
                namespace: service.namespace.to_string(),
                subset: String::new(),
                port: port.number,
            },
            origin: service.origin.clone(),
            pool: self
                .sidecar
                .and_then(|sidecar| sidecar.inbound_pool.clone())
                .or_else(|| effective(policy, None, port.number).pool),
            to: App::Dialled,
            bind: None,
            bound: false,
        }
    }
}
