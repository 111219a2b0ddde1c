//! The registry: all services, and which one clients of a namespace mean by a host name (X30, X31, SE15, SE30).
//!
//! In: services lowered one by one, in any order. Out: per namespace, one service per host with its other names. Knows
//! no endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use words::Fingerprint;

use crate::service::{Age, Known, Service, Source};

/// ExternalName chains longer than this are taken for loops.
const ALIAS_HOPS_MAX: usize = 16;

/// All services of the mesh.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By host, oldest first, Kubernetes before others of the same namespace; one per namespace.
    by_host: BTreeMap<Arc<str>, Vec<Known>>,
    /// The content of all of them.
    pub(crate) print: Fingerprint,
    /// Some service sends only to endpoints of the client's node.
    pub(crate) any_local: bool,
}

impl Registry {
    /// Sorts services in, in any order.
    pub(crate) fn new(services: impl Iterator<Item = Known>) -> Self {
        let mut all: Vec<Known> = services.collect();
        all.sort_by(|a, b| rank(&a.service).cmp(&rank(&b.service)));
        let print = Fingerprint::of(&all.iter().map(|known| known.print).collect::<Vec<_>>());
        let mut made = Self { print, ..Self::default() };
        for known in all {
            made.any_local |= known.service.local_only;
            let list = made.by_host.entry(known.service.host.clone()).or_default();
            // Kubernetes beats others of its namespace, else the oldest wins; the sort put them in that order (X31).
            if !list.iter().any(|other| other.service.namespace == known.service.namespace) {
                list.push(known);
            }
        }
        made
    }

    /// Every service, by host.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.by_host.values().flatten()
    }

    /// The services of a host, whoever sees them.
    pub(crate) fn of_host(&self, host: &str) -> &[Known] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// What clients of a namespace see: one service per host, those that `wanted` takes.
    pub(crate) fn visible(&self, namespace: &str, wanted: impl Fn(&Service) -> bool) -> Visible {
        let mut made = Visible::default();
        let mut aliases: Vec<&Known> = Vec::new();
        for list in self.by_host.values() {
            let mut seen =
                list.iter().filter(|known| known.service.export.includes(namespace) && wanted(&known.service));
            // Own namespace, else Kubernetes over ServiceEntry, else the oldest (X31).
            let Some(chosen) = seen
                .clone()
                .find(|known| &*known.service.namespace == namespace)
                .or_else(|| seen.clone().find(|known| known.service.is_kubernetes()).or_else(|| seen.next()))
            else {
                continue;
            };
            match chosen.service.is_alias() {
                true => aliases.push(chosen),
                false => made.add(chosen.clone()),
            }
        }
        made.add_aliases(&aliases);
        let content: Vec<_> = made
            .services
            .iter()
            .map(|seen| (seen.known.print, seen.aliases.iter().map(|a| a.print).collect::<Vec<_>>()))
            .collect();
        made.print = Fingerprint::of(&content);
        made
    }
}

fn rank(service: &Service) -> (bool, &Age, &Arc<str>) {
    (!service.is_kubernetes(), &service.age, &service.host)
}

/// What clients of one namespace see.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// By host.
    pub(crate) services: Vec<Seen>,
    by_host: FxHashMap<Arc<str>, usize>,
    /// The content of all of them.
    pub(crate) print: Fingerprint,
}

/// A service and its other names.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The service.
    pub(crate) known: Known,
    /// ExternalName Services that stand for it.
    pub(crate) aliases: Vec<Known>,
}

impl Seen {
    /// The service itself.
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.known.service
    }
}

impl Visible {
    fn add(&mut self, known: Known) {
        self.by_host.insert(known.service.host.clone(), self.services.len());
        self.services.push(Seen { known, aliases: Vec::new() });
    }

    fn add_aliases(&mut self, aliases: &[&Known]) {
        let targets: FxHashMap<&str, &Arc<str>> = aliases
            .iter()
            .filter_map(|known| match &known.service.source {
                Source::Alias(target) => Some((&*known.service.host, target)),
                _ => None,
            })
            .collect();
        for alias in aliases {
            let mut host: &str = &alias.service.host;
            for _ in 0..ALIAS_HOPS_MAX {
                let Some(target) = targets.get(host) else { break };
                host = target;
                if let Some(index) = self.by_host.get(host).copied() {
                    // Destinations may name the alias too (SE30).
                    self.by_host.insert(alias.service.host.clone(), index);
                    self.services[index].aliases.push((*alias).clone());
                    break;
                }
            }
        }
    }

    /// The service that a host names; aliases lead to their target.
    pub(crate) fn find(&self, host: &str) -> Option<&Seen> {
        self.by_host.get(host).and_then(|index| self.services.get(*index))
    }
}
