//! The registry: all services, and which one clients of a namespace mean by a host name (X30, X31, SE15, SE30).
//!
//! In: services lowered one by one, in any order. Out: per namespace, one service per host with its other names. Knows
//! no endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::Cidr;
use rustc_hash::FxHashMap;
use words::Fingerprint;

use crate::auto_address;
use crate::service::{Age, Known, Port, Resolution, Service, Source};

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
    /// Some service has its hosts named by requests (SE09).
    pub(crate) any_dynamic: bool,
    /// Some service resolves the names of workloads that it selects (SE11).
    pub(crate) any_selected_names: bool,
}

impl Registry {
    /// Sorts services in, in any order.
    pub(crate) fn new(services: impl Iterator<Item = Known>) -> Self {
        let mut all: Vec<Known> = services.collect();
        all.sort_by(|a, b| rank(&a.service).cmp(&rank(&b.service)));
        auto_address::allocate(&mut all);
        let print = Fingerprint::of(&all.iter().map(|known| (known.print, known.auto)).collect::<Vec<_>>());
        let mut made = Self { print, ..Self::default() };
        for known in all {
            made.any_local |= known.service.local_only;
            made.any_dynamic |= known.service.resolution == Resolution::Dynamic;
            made.any_selected_names |= known.service.selects_names();
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
        made.take_print();
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
    /// Its virtual addresses; those that it got for want of any count where DNS questions are answered (SE16).
    pub(crate) fn addresses(&self, dns: bool) -> Vec<Cidr> {
        match self.known.auto {
            Some(auto) if dns => auto.both().map(Cidr::host).to_vec(),
            _ => self.known.service.addresses.clone(),
        }
    }

    /// True when [`Seen::addresses`] has any.
    pub(crate) fn has_addresses(&self, dns: bool) -> bool {
        !self.known.service.addresses.is_empty() || (dns && self.known.auto.is_some())
    }

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

    /// The same with fewer ports.
    pub(crate) fn with_ports(mut self, wanted: impl Fn(&Service, &Port) -> bool) -> Self {
        for seen in &mut self.services {
            let service = seen.known.service.clone();
            seen.known = seen.known.with_ports(|port| wanted(&service, port));
        }
        self.take_print();
        self
    }

    /// A part of the services and of their other names.
    pub(crate) fn narrowed(&self, wanted: impl Fn(&Service) -> bool) -> Self {
        let mut made = Self::default();
        for seen in self.services.iter().filter(|seen| wanted(seen.service())) {
            let index = made.services.len();
            let aliases: Vec<Known> = seen.aliases.iter().filter(|alias| wanted(&alias.service)).cloned().collect();
            made.by_host.extend(aliases.iter().map(|alias| (alias.service.host.clone(), index)));
            made.add(seen.known.clone());
            made.services[index].aliases = aliases;
        }
        made.take_print();
        made
    }

    fn take_print(&mut self) {
        let services = self.services.iter();
        let of = |known: &Known| (known.print, known.auto);
        let content: Vec<_> = services
            .map(|seen| (of(&seen.known), seen.aliases.iter().map(|alias| alias.print).collect::<Vec<_>>()))
            .collect();
        self.print = Fingerprint::of(&content);
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
