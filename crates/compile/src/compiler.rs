//! The compiler: for a world and a proxy, layers of configuration, made once and shared.
//!
//! In: [`World`] and [`Scope`]. Out: [`Compiled`]. Total: never fails, never panics on any object. What it keeps
//! between calls (pieces per class, units in memos) is found by fingerprints of inputs, so it can only be what
//! computing anew would give.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use config::Snapshot;
use rustc_hash::FxHashMap;
use words::{Diagnostic, Fingerprint, Labels};

use crate::class::{self, Class};
use crate::delegate;
use crate::destination_rule::Rules;
use crate::intent::Routing;
use crate::locality::Needs;
use crate::memo::ROUNDS_KEPT;
use crate::peer_authentication::Policies;
use crate::piece::{Piece, refresh};
use crate::rate_limit::Policy;
use crate::registry::Registry;
use crate::scope::{Role, Scope};
use crate::shared::{Shared, Units};
use crate::workload::Own;
use crate::world::{Prints, World};

/// What a proxy obeys, in layers; names never stand in two of them.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The class's layer first, then the workload's own. The same `Arc` as long as nothing in it changes.
    pub layers: Vec<Arc<Layer>>,
}

/// A part of a proxy's configuration.
#[derive(Debug, Default)]
pub struct Layer {
    /// Listeners, tables, clusters and endpoints.
    pub snapshot: Snapshot,
    /// What only shows when objects meet in one proxy (two services on one address and port).
    pub diagnostics: Vec<Diagnostic>,
    /// Addresses that its listeners have sockets at.
    pub(crate) bound: BTreeSet<SocketAddr>,
}

impl Layer {
    /// A layer of a snapshot.
    pub(crate) fn new(snapshot: Snapshot, diagnostics: Vec<Diagnostic>) -> Self {
        let bound = snapshot.listeners.values().filter(|listener| listener.bind_to_port);
        let bound = bound.map(|listener| listener.address).collect();
        Self { snapshot, diagnostics, bound }
    }
}

impl Compiled {
    /// All layers as one.
    pub fn snapshot(&self) -> Snapshot {
        let mut whole = Snapshot::default();
        for layer in &self.layers {
            whole.extend(&layer.snapshot);
        }
        whole
    }
}

/// What was compiled, to be found again.
#[derive(Debug, Default)]
pub struct Compiler {
    round: u64,
    prints: Option<Prints>,
    base: BaseSlots,
    classes: FxHashMap<Fingerprint, Kept<Shared>>,
    workloads: FxHashMap<Fingerprint, Kept<Own>>,
    /// How many of each there may be before it is looked which are held.
    room: [usize; 2],
    units: Units,
}

/// So many classes, and workloads, are kept without looking who holds them.
const KEPT_MIN: usize = 512;

#[derive(Debug, Default)]
struct Kept<T> {
    used: u64,
    value: T,
}

impl<T> Kept<T> {
    // Proxies come with any labels, and each combination is a class: what no proxy holds goes, though the world stays.
    fn make_room(all: &mut FxHashMap<Fingerprint, Self>, room: &mut usize, is_held: impl Fn(&T) -> bool) -> bool {
        if all.len() < (*room).max(KEPT_MIN) {
            return false;
        }
        all.retain(|_, kept| is_held(&kept.value));
        *room = all.len() * 2;
        true
    }
}

#[derive(Debug, Default)]
struct BaseSlots {
    registry: Option<Piece<Registry>>,
    rules: Option<Piece<Rules>>,
    routings: Option<Piece<Vec<Arc<Routing>>>>,
    limits: Option<Piece<Vec<Arc<Policy>>>>,
    connections: Option<Piece<Vec<Arc<Routing>>>>,
    looked_at: Option<Piece<BTreeSet<String>>>,
    needs: Option<Piece<Needs>>,
    policies: Option<Piece<Policies>>,
}

/// What every class is made of.
#[derive(Debug)]
pub(crate) struct Base {
    /// All services.
    pub(crate) registry: Piece<Registry>,
    /// All DestinationRules.
    pub(crate) rules: Piece<Rules>,
    /// All VirtualServices, oldest first.
    pub(crate) routings: Piece<Vec<Arc<Routing>>>,
    /// All RateLimitPolicies, oldest first.
    pub(crate) limits: Piece<Vec<Arc<Policy>>>,
    /// Those of them that speak about connections: listeners look at no others.
    pub(crate) connections: Piece<Vec<Arc<Routing>>>,
    /// Label keys that objects look at.
    pub(crate) looked_at: Piece<BTreeSet<String>>,
    /// What of clients' places anything looks at.
    pub(crate) needs: Piece<Needs>,
    /// What workloads take of mutual TLS.
    pub(crate) policies: Piece<Policies>,
    /// The content of each part of the world.
    pub(crate) prints: Prints,
}

impl BaseSlots {
    fn refresh(&mut self, world: &World, prints: Prints) -> Base {
        let registry = refresh(&mut self.registry, prints.services, |_| {
            let made = Registry::new(world.services());
            let print = made.print;
            (made, print)
        });
        let rules = refresh(&mut self.rules, Fingerprint::of(&(prints.rules, prints.mesh)), |_| {
            let mut sorted: Vec<_> = world.rules().cloned().collect();
            sorted.sort_by(|a, b| a.age.cmp(&b.age));
            let made = Rules::new(&sorted, &world.mesh().root_namespace);
            let print = Fingerprint::of(&(made.print, &world.mesh().root_namespace));
            (made, print)
        });
        let key = Fingerprint::of(&(prints.routings, prints.mesh));
        let routings = refresh(&mut self.routings, key, |_| {
            let mut sorted: Vec<_> = world.routings().cloned().collect();
            sorted.sort_by(|a, b| a.age.cmp(&b.age));
            (delegate::resolve(sorted, world.mesh()), key)
        });
        let limits = refresh(&mut self.limits, prints.limits, |_| {
            let mut sorted: Vec<_> = world.limits().cloned().collect();
            sorted.sort_by(|a, b| a.age.cmp(&b.age));
            (sorted, prints.limits)
        });
        let connections = refresh(&mut self.connections, routings.print, |_| {
            let speaks = |routing: &&Arc<Routing>| !routing.tls.is_empty() || !routing.tcp.is_empty();
            let some: Vec<_> = routings.value.iter().filter(speaks).cloned().collect();
            let print = Fingerprint::of(&some.iter().map(|routing| routing.print).collect::<Vec<_>>());
            (some, print)
        });
        let keys = Fingerprint::of(&(prints.routings, prints.rules, prints.sidecars));
        let looked_at = refresh(&mut self.looked_at, keys, |_| {
            let made = class::looked_at(world);
            let print = Fingerprint::of(&made);
            (made, print)
        });
        let needs = refresh(&mut self.needs, Fingerprint::of(&(prints.rules, prints.services)), |_| {
            let made = class::needs(world);
            let print = Fingerprint::of(&made);
            (made, print)
        });
        let key = Fingerprint::of(&(prints.peers, prints.mesh));
        let policies =
            refresh(&mut self.policies, key, |_| (Policies::new(world.peers(), &world.mesh().root_namespace), key));
        Base { registry, rules, routings, limits, connections, looked_at, needs, policies, prints }
    }
}

impl Compiler {
    /// What a proxy obeys in a world.
    pub fn compile(&mut self, world: &World, scope: &Scope) -> Compiled {
        let base = self.begin(world);
        self.make_room();
        // What its proxy said when it started may be old, and is its own word; its clients go by the pod's.
        let of_pod = world.pod(&scope.namespace, &scope.name).cloned();
        let labels: &Labels = of_pod.as_ref().map_or(&scope.labels, |pod| &pod.labels);
        let class =
            Class::of(scope, labels, world, &base.looked_at.value, base.registry.value.any_local, &base.needs.value);
        let kept = self.classes.entry(class.print()).or_default();
        kept.used = self.round;
        let shared = kept.value.layer(world, &base, &class, self.round, &mut self.units);
        let mut layers = vec![shared.clone()];
        if scope.role == Role::Sidecar {
            let kept = self.workloads.entry(scope.print()).or_default();
            kept.used = self.round;
            layers.push(kept.value.layer(world, &base, scope, labels, &class, &shared));
        }
        Compiled { layers }
    }

    /// What is to be said about the objects of a world, in the order of the objects.
    pub fn diagnostics(&self, world: &World) -> Vec<Diagnostic> {
        crate::diagnose::all(world)
    }

    fn make_room(&mut self) {
        let [classes, workloads] = &mut self.room;
        let dropped = [
            Kept::make_room(&mut self.classes, classes, Shared::is_held),
            Kept::make_room(&mut self.workloads, workloads, Own::is_held),
        ];
        if dropped.contains(&true) {
            self.round += 1;
            self.units.prune(self.round);
        }
    }

    /// Starts a round when the world is different from the last call's, and drops what nobody needs any more.
    fn begin(&mut self, world: &World) -> Base {
        let prints = world.prints();
        if self.prints != Some(prints) {
            self.prints = Some(prints);
            self.round += 1;
            let round = self.round;
            self.classes.retain(|_, kept| kept.used + ROUNDS_KEPT >= round);
            self.workloads.retain(|_, kept| kept.used + ROUNDS_KEPT >= round);
            self.units.prune(round);
        }
        self.base.refresh(world, prints)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::MeshConfig;

    #[test]
    fn classes_that_no_proxy_holds_are_dropped_though_the_world_stays() {
        let (world, mut compiler) = (World::new(MeshConfig::default()), Compiler::default());
        let scope = |number: usize| {
            let labels = json!({"LABELS": {"app": format!("a{number}")}});
            Scope::parse(&format!("router~10.0.0.1~gw-{number}.edge~x"), &labels).unwrap()
        };
        let held: Vec<_> = (0..KEPT_MIN).map(|number| compiler.compile(&world, &scope(number))).collect();
        for number in 0..KEPT_MIN * 8 {
            compiler.compile(&world, &scope(number));
        }
        assert!(compiler.classes.len() <= KEPT_MIN * 2, "{}", compiler.classes.len());
        let again = compiler.compile(&world, &scope(7));
        assert!(Arc::ptr_eq(&again.layers[0], &held[7].layers[0]), "what is held stays");
    }
}
