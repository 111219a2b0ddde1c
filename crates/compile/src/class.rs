//! Classes: proxies that get the same shared layer. What tells proxies apart beyond their class is in their own layer.
//!
//! In: a proxy and the world. Out: a small key. A label counts only when some object of the world looks at it, so that
//! pods of different Deployments share a class.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::proxy_config::InFront;
use words::{Fingerprint, Labels};

use crate::guards::Guards;
use crate::locality::{Needs, Place, Settings};
use crate::passthrough::Unknown;
use crate::policy::{Blocks, Policy};
use crate::scope::{Interception, Role, Scope, SecretsRight};
use crate::sidecar::Sidecar;
use crate::telemetry::Effective;
use crate::world::World;

/// What tells classes of proxies apart.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    /// Sidecar or gateway.
    pub(crate) role: Role,
    /// The proxies' namespace.
    pub(crate) namespace: Arc<str>,
    /// Labels that something looks at; all of them for gateways.
    pub(crate) labels: Labels,
    /// The Sidecar that counts for them.
    pub(crate) sidecar: Option<Arc<Sidecar>>,
    /// Traffic is captured, so the dialled address is known.
    pub(crate) captured: bool,
    /// They offer an explicit proxy.
    pub(crate) explicit: bool,
    /// Nothing is captured and nothing else is arranged: outbound listeners have sockets on the loopback address (SC18).
    pub(crate) binds: bool,
    /// They answer their applications' DNS questions (SE33).
    pub(crate) dns: bool,
    /// They have IPv6 addresses only.
    pub(crate) v6: bool,
    /// They have addresses of both families.
    pub(crate) dual: bool,
    /// Their node, when some service is local to nodes.
    pub(crate) node: Option<String>,
    /// Where they are, when anything looks at it.
    pub(crate) place: Option<Place>,
    /// Where gateway listeners are bound, when not at every address.
    pub(crate) bind_ip: Option<IpAddr>,
    /// What stands in front of gateways.
    pub(crate) front: InFront,
    /// Secrets of their namespace may go to them.
    pub(crate) secrets: SecretsRight,
    /// They have certificates of their own.
    pub(crate) identity: bool,
    /// What they tell of their traffic.
    pub(crate) telemetry: Effective,
    /// What gateways look at before they serve; that of sidecars is in their own layers.
    pub(crate) guards: Guards,
}

impl Class {
    /// The class of a proxy. `labels` are those of its pod, `looked_at` the keys that objects look at.
    pub(crate) fn of(
        scope: &Scope,
        labels: &Labels,
        world: &World,
        looked_at: &BTreeSet<String>,
        any_local: bool,
        needs: &Needs,
    ) -> Self {
        let gateway = scope.role == Role::Gateway;
        let counted = labels.iter().filter(|(key, _)| gateway || looked_at.contains(*key));
        let explicit = !gateway && scope.outbound_address.is_some();
        let captured = !gateway && scope.interception != Interception::None;
        let arranged = explicit || scope.app_ip.is_some() || scope.bind_ip.is_some();
        Self {
            role: scope.role,
            namespace: scope.namespace.as_str().into(),
            labels: counted.map(|(key, value)| (key.clone(), value.clone())).collect(),
            // Gateways ignore Sidecars (SC17).
            sidecar: (!gateway).then(|| sidecar_of(world, &scope.namespace, labels)).flatten(),
            captured,
            explicit,
            binds: !gateway && !captured && !arranged,
            dns: !gateway && scope.dns,
            v6: scope.ips.iter().all(IpAddr::is_ipv6),
            dual: scope.is_dual(),
            node: any_local.then(|| world.node_of(scope).to_owned()),
            place: needs.any.then(|| world.place_of(scope, labels, needs)),
            bind_ip: scope.bind_ip.filter(|_| gateway),
            front: if gateway { scope.front.or(annotated(scope, world)) } else { InFront::default() },
            secrets: scope.secrets,
            identity: scope.identity,
            telemetry: Effective::of(scope, labels, world),
            guards: if gateway { Guards::of(scope, labels, world) } else { Guards::default() },
        }
    }

    /// The key.
    pub(crate) fn print(&self) -> Fingerprint {
        let Self { role, namespace, labels, sidecar, captured, explicit, binds, dns, v6, node, place, .. } = self;
        let Self { dual, bind_ip, front, secrets, identity, telemetry, guards, .. } = self;
        let sidecar = sidecar.as_ref().map(|sidecar| &sidecar.origin);
        let reached = (captured, explicit, binds, dns, dual);
        let gateway = (bind_ip, front, secrets, identity);
        Fingerprint::of(&(role, namespace, labels, sidecar, reached, v6, node, place, gateway, telemetry, guards))
    }

    /// What becomes of unknown destinations.
    pub(crate) fn unknown(&self, world: &World) -> Unknown {
        let own = self.sidecar.as_ref().and_then(|sidecar| sidecar.unknown.clone());
        own.unwrap_or_else(|| Unknown::of(world.mesh().outbound_traffic_policy))
    }

    /// The proxy sees the addresses that clients dial and nothing reaches it otherwise, so it may follow them (SE31).
    pub(crate) fn dialled(&self) -> bool {
        self.captured && !self.explicit
    }
}

/// By the annotation of its pod: what an injector would put into its metadata.
fn annotated(scope: &Scope, world: &World) -> InFront {
    world.pod(&scope.namespace, &scope.name).map(|pod| pod.front).unwrap_or_default()
}

/// One with a selector beats one without, each the oldest; then the root namespace's default (X35, SC01).
pub(crate) fn sidecar_of(world: &World, namespace: &str, labels: &Labels) -> Option<Arc<Sidecar>> {
    let mut best: Option<&Arc<Sidecar>> = None;
    let root = world.mesh().root_namespace.as_str();
    for sidecar in world.sidecars() {
        let fits = match (&sidecar.selector, &*sidecar.origin.namespace == namespace) {
            (Some(selector), own) => own && words::labels_select(selector, labels),
            (None, own) => own || &*sidecar.origin.namespace == root,
        };
        let rank = |one: &Sidecar| (one.selector.is_none(), &*one.origin.namespace != namespace, one.age.clone());
        if fits && best.is_none_or(|best| rank(sidecar) < rank(best)) {
            best = Some(sidecar);
        }
    }
    best.cloned()
}

/// The label keys that any object looks at on a sidecar (VS21, DR06, SC01).
pub(crate) fn looked_at(world: &World) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for routing in world.routings() {
        let blocks = routing.http.iter().flat_map(|rule| &rule.matches);
        keys.extend(blocks.flat_map(|block| block.filter.source_labels.keys().cloned()));
        let blocks = routing.tls.iter().chain(&routing.tcp).flat_map(|rule| &rule.matches);
        keys.extend(blocks.flat_map(|block| block.filter.source_labels.keys().cloned()));
    }
    let rules = world.rules().filter_map(|rule| rule.selector.as_ref());
    let sidecars = world.sidecars().filter_map(|sidecar| sidecar.selector.as_ref());
    keys.extend(rules.chain(sidecars).flat_map(|selector| selector.keys().cloned()));
    keys
}

/// What rules and services look at of where a client is (DR70 to DR78).
pub(crate) fn needs(world: &World) -> Needs {
    let mut needs = Needs::default();
    for rule in world.rules() {
        let policies = rule.policy.iter().chain(rule.subsets.iter().filter_map(|subset| subset.policy.as_ref()));
        for blocks in policies.flat_map(all_blocks) {
            let settings = blocks.balance.as_ref().and_then(|balance| balance.locality.as_ref());
            needs.any |= blocks.outlier.is_some() || settings.is_some();
            needs.labels.extend(settings.into_iter().flat_map(Settings::labels).cloned());
        }
    }
    for distribution in world.services().filter_map(|known| known.service.distribution) {
        needs.any = true;
        needs.labels.extend(distribution.labels().iter().map(|label| (*label).to_owned()));
    }
    needs
}

fn all_blocks(policy: &Policy) -> impl Iterator<Item = &Blocks> {
    std::iter::once(&policy.blocks).chain(policy.ports.values())
}
