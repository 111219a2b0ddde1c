//! The world: every object that matters, lowered once when it comes, with a fingerprint of what is read of it.
//!
//! In: changes, in any order. Out: tables that `compile` gathers from, and how much a change touched. Knows no proxy. A
//! change that alters nothing we read (status, resource version, unread labels and annotations) leaves no trace.

mod join;
mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::{Change, Kind, Object, ObjectKey};
use config::Locality;
use rustc_hash::FxHashMap;
use words::{Fingerprint, Origin};

pub(crate) use join::{Joined, JoinedEndpoint, Standing};
use table::Table;

use crate::authentication::{self, RequestAuthentication};
use crate::authorization::{self, AuthorizationPolicy};
use crate::destination_rule::Rule;
use crate::intent::Routing;
use crate::kubernetes::{self, Pod, Slice};
use crate::mesh::MeshConfig;
use crate::rate_limit::{self, Policy};
use crate::secret::{self, Credential};
use crate::server::Gateway;
use crate::service::{Distribution, Known, age};
use crate::service_entry::{self, Entry, Workloaded};
use crate::sidecar::{self, Sidecar};
use crate::telemetry::{self, Telemetry};
use crate::{peer_authentication, server, traffic_policy, virtual_service};

/// Everything that was applied.
#[derive(Debug)]
pub struct World {
    mesh: Arc<MeshConfig>,
    mesh_print: Fingerprint,
    routings: Table<Routing>,
    rules: Table<Rule>,
    gateways: Table<Gateway>,
    sidecars: Table<Sidecar>,
    limits: Table<Policy>,
    telemetries: Table<Telemetry>,
    peers: Table<peer_authentication::Policy>,
    authentications: Table<RequestAuthentication>,
    authorizations: Table<AuthorizationPolicy>,
    services: Table<Known>,
    entries: Table<Entry>,
    workload_entries: Table<Workloaded>,
    slices: Table<Slice>,
    pods: Table<Pod>,
    nodes: Table<Locality>,
    /// What namespaces say of their services' traffic (DR70).
    namespaces: Table<Distribution>,
    credentials: Table<Credential>,
    /// Endpoints of Kubernetes Services, joined from slices, pods, nodes and WorkloadEntries.
    of_services: Table<Joined>,
    /// Endpoints of ServiceEntries with a selector.
    of_entries: Table<Joined>,
    /// Who may answer for Services, and for ServiceEntries with a selector.
    standings: [Table<Standing>; 2],
    /// The Services that have an endpoint at an address.
    at: FxHashMap<IpAddr, BTreeSet<table::Key>>,
}

/// What a change touched: a hint for scheduling. Whether anything is different for a proxy only `compile` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// Nothing that is read.
    None,
    /// Only endpoints of these hosts.
    Endpoints {
        /// Complete service hosts.
        hosts: BTreeSet<Arc<str>>,
    },
    /// Routes, clusters or listeners.
    Config,
}

/// The content of each part of the world, for memo keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prints {
    pub(crate) mesh: Fingerprint,
    pub(crate) routings: Fingerprint,
    pub(crate) rules: Fingerprint,
    pub(crate) gateways: Fingerprint,
    pub(crate) sidecars: Fingerprint,
    pub(crate) limits: Fingerprint,
    pub(crate) telemetries: Fingerprint,
    pub(crate) peers: Fingerprint,
    pub(crate) standings: Fingerprint,
    pub(crate) guards: Fingerprint,
    pub(crate) services: Fingerprint,
    pub(crate) endpoints: Fingerprint,
    pub(crate) pods: Fingerprint,
    pub(crate) secrets: Fingerprint,
}

impl World {
    /// An empty world.
    pub fn new(mesh: MeshConfig) -> Self {
        Self {
            mesh_print: mesh.print(),
            mesh: Arc::new(mesh),
            routings: Table::default(),
            rules: Table::default(),
            gateways: Table::default(),
            sidecars: Table::default(),
            limits: Table::default(),
            telemetries: Table::default(),
            peers: Table::default(),
            authentications: Table::default(),
            authorizations: Table::default(),
            services: Table::default(),
            entries: Table::default(),
            workload_entries: Table::default(),
            slices: Table::default(),
            pods: Table::default(),
            nodes: Table::default(),
            namespaces: Table::default(),
            credentials: Table::default(),
            of_services: Table::default(),
            of_entries: Table::default(),
            standings: Default::default(),
            at: FxHashMap::default(),
        }
    }

    /// Takes a change in.
    pub fn apply(&mut self, change: Change) -> Dirty {
        match change {
            Change::Upsert(object) => self.upsert(&object),
            Change::Delete(key) => self.delete(&key),
        }
    }

    /// Mesh-wide settings.
    pub fn mesh(&self) -> &MeshConfig {
        &self.mesh
    }

    /// A pod runs as this service account.
    pub fn runs_as(&self, namespace: &str, pod: &str, service_account: &str) -> bool {
        self.pod(namespace, pod).is_some_and(|pod| pod.account == kubernetes::account(namespace, service_account))
    }

    /// A pod of the namespace, or a WorkloadEntry, runs as this service account.
    pub fn has_workload_of(&self, namespace: &str, service_account: &str) -> bool {
        let account = kubernetes::account(namespace, service_account);
        self.pods.of_namespace(namespace).any(|(_, pod)| pod.account == account)
            || self
                .workload_entries
                .of_namespace(namespace)
                .any(|(_, entry)| entry.endpoint.account.as_ref() == Some(&account))
    }

    fn upsert(&mut self, object: &Object) -> Dirty {
        let key = object.key();
        let (ns, name) = (&key.namespace, &key.name);
        let origin = || Origin { kind: key.kind.name().into(), namespace: ns.clone(), name: name.clone() };
        let mesh = self.mesh.clone();
        match object {
            Object::VirtualService(one) => {
                let made = virtual_service::lower(origin(), age(&one.metadata), &one.spec, &mesh);
                config_if(self.routings.set(ns, name, made.print, made))
            }
            Object::DestinationRule(one) => {
                let made = traffic_policy::lower(origin(), age(&one.metadata), &one.spec, &mesh);
                config_if(self.rules.set(ns, name, made.print, made))
            }
            Object::Gateway(one) => {
                let made = server::lower(origin(), age(&one.metadata), &one.spec, &mesh);
                config_if(self.gateways.set(ns, name, made.print, made))
            }
            Object::Sidecar(one) => {
                let made = sidecar::lower(origin(), age(&one.metadata), &one.spec, &mesh);
                config_if(self.sidecars.set(ns, name, made.print, made))
            }
            Object::Telemetry(one) => {
                let made = telemetry::lower(origin(), age(&one.metadata), &one.spec, &mesh);
                config_if(self.telemetries.set(ns, name, made.print, made))
            }
            Object::PeerAuthentication(one) => {
                let made = peer_authentication::lower(origin(), age(&one.metadata), &one.spec, &mesh.root_namespace);
                config_if(self.peers.set(ns, name, made.print, made))
            }
            Object::RateLimitPolicy(one) => {
                let made = rate_limit::lower(origin(), age(&one.metadata), &one.spec, &mesh);
                config_if(self.limits.set(ns, name, made.print, made))
            }
            Object::Service(one) => {
                let made = kubernetes::service(&one.metadata, &one.spec, &mesh);
                let changed = self.services.set(ns, name, made.print, made);
                if changed {
                    self.join_service(ns, name);
                }
                config_if(changed)
            }
            Object::ServiceEntry(one) => {
                let made = service_entry::lower(origin(), &one.metadata, &one.spec, &mesh);
                let changed = self.entries.set(ns, name, made.print, made);
                if changed {
                    self.join_entry(ns, name);
                }
                config_if(changed)
            }
            Object::WorkloadEntry(one) => {
                let changed = match service_entry::workload_entry(&one.metadata, &one.spec, &mesh) {
                    Some(made) => self.workload_entries.set(ns, name, Fingerprint::of(&made), made),
                    None => self.workload_entries.remove(ns, name).is_some(),
                };
                self.workloads_changed(changed, ns)
            }
            Object::EndpointSlice(one) => {
                let made = kubernetes::slice(&one.metadata, &one.spec);
                self.slice_changed(ns, name, made)
            }
            Object::Pod(one) => {
                let made = kubernetes::pod(&one.metadata, &one.spec, &mesh);
                let changed = self.pods.set(ns, name, Fingerprint::of(&made), made);
                self.pod_changed(changed, ns, name)
            }
            Object::Node(one) => {
                let made = kubernetes::node(&one.metadata);
                let changed = self.nodes.set(ns, name, Fingerprint::of(&made), made);
                self.node_changed(changed)
            }
            Object::Secret(one) => {
                let made = secret::lower(&one.spec);
                let made = match self.credentials.value(ns, name) {
                    Some(before) => made.keeping(before),
                    None => made,
                };
                config_if(self.credentials.set(ns, name, Fingerprint::of(&made), made))
            }
            Object::Namespace(one) => config_if(match Distribution::parse(None, &one.metadata.annotations) {
                Some(made) => self.namespaces.set(ns, name, Fingerprint::of(&made), made),
                None => self.namespaces.remove(ns, name).is_some(),
            }),
            Object::RequestAuthentication(one) => {
                let made = authentication::lower(origin(), age(&one.metadata), &one.spec, &mesh);
                config_if(self.authentications.set(ns, name, made.print, made))
            }
            Object::AuthorizationPolicy(one) => {
                let meta = &one.metadata;
                let made = authorization::lower(origin(), age(meta), &meta.annotations, &one.spec, &mesh);
                config_if(self.authorizations.set(ns, name, made.print, made))
            }
            Object::WorkloadGroup(_) | Object::ProxyConfig(_) => Dirty::None,
        }
    }

    fn delete(&mut self, key: &ObjectKey) -> Dirty {
        let (ns, name) = (&key.namespace, &key.name);
        match key.kind {
            Kind::VirtualService => config_if(self.routings.remove(ns, name).is_some()),
            Kind::DestinationRule => config_if(self.rules.remove(ns, name).is_some()),
            Kind::Gateway => config_if(self.gateways.remove(ns, name).is_some()),
            Kind::Sidecar => config_if(self.sidecars.remove(ns, name).is_some()),
            Kind::Telemetry => config_if(self.telemetries.remove(ns, name).is_some()),
            Kind::PeerAuthentication => config_if(self.peers.remove(ns, name).is_some()),
            Kind::RateLimitPolicy => config_if(self.limits.remove(ns, name).is_some()),
            Kind::Service => {
                let changed = self.services.remove(ns, name).is_some();
                self.join_service(ns, name);
                config_if(changed)
            }
            Kind::ServiceEntry => {
                let changed = self.entries.remove(ns, name).is_some();
                self.join_entry(ns, name);
                config_if(changed)
            }
            Kind::WorkloadEntry => {
                let changed = self.workload_entries.remove(ns, name).is_some();
                self.workloads_changed(changed, ns)
            }
            Kind::EndpointSlice => self.slice_changed(ns, name, None),
            Kind::Pod => {
                let changed = self.pods.remove(ns, name).is_some();
                self.pod_changed(changed, ns, name)
            }
            Kind::Node => {
                let changed = self.nodes.remove(ns, name).is_some();
                self.node_changed(changed)
            }
            Kind::Secret => config_if(self.credentials.remove(ns, name).is_some()),
            Kind::Namespace => config_if(self.namespaces.remove(ns, name).is_some()),
            Kind::RequestAuthentication => config_if(self.authentications.remove(ns, name).is_some()),
            Kind::AuthorizationPolicy => config_if(self.authorizations.remove(ns, name).is_some()),
            Kind::WorkloadGroup | Kind::ProxyConfig => Dirty::None,
        }
    }

    /// The content of every part.
    pub(crate) fn prints(&self) -> Prints {
        Prints {
            mesh: self.mesh_print,
            routings: self.routings.print(),
            rules: self.rules.print(),
            gateways: self.gateways.print(),
            sidecars: self.sidecars.print(),
            limits: self.limits.print(),
            telemetries: self.telemetries.print(),
            peers: self.peers.print(),
            standings: Fingerprint::of(&(self.standings[0].print(), self.standings[1].print())),
            guards: Fingerprint::of(&(self.authentications.print(), self.authorizations.print())),
            services: Fingerprint::of(&(self.services.print(), self.entries.print(), self.namespaces.print())),
            endpoints: Fingerprint::of(&(self.of_services.print(), self.of_entries.print())),
            pods: self.pods.print(),
            secrets: self.credentials.print(),
        }
    }

    /// VirtualServices by namespace and name.
    pub(crate) fn routings(&self) -> impl Iterator<Item = &Arc<Routing>> {
        self.routings.values()
    }

    /// DestinationRules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.values()
    }

    /// Gateways.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = &Arc<Gateway>> {
        self.gateways.values()
    }

    /// Sidecars.
    pub(crate) fn sidecars(&self) -> impl Iterator<Item = &Arc<Sidecar>> {
        self.sidecars.values()
    }

    /// Telemetries.
    pub(crate) fn telemetries(&self) -> impl Iterator<Item = &Arc<Telemetry>> {
        self.telemetries.values()
    }

    /// PeerAuthentications.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Arc<peer_authentication::Policy>> {
        self.peers.values()
    }

    /// RequestAuthentications.
    pub(crate) fn authentications(&self) -> impl Iterator<Item = &Arc<RequestAuthentication>> {
        self.authentications.values()
    }

    /// AuthorizationPolicies.
    pub(crate) fn authorizations(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        self.authorizations.values()
    }

    /// RateLimitPolicies.
    pub(crate) fn limits(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.limits.values()
    }

    /// ServiceEntries.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// Services of every source.
    pub(crate) fn services(&self) -> impl Iterator<Item = Known> {
        let entries = self.entries.values().flat_map(|entry| entry.services.iter().cloned());
        self.services.values().map(|known| self.distributed(known)).chain(entries)
    }

    /// A Service with what its namespace says where it says nothing itself (DR70).
    fn distributed(&self, known: &Known) -> Known {
        match self.namespaces.value("", &known.service.namespace) {
            Some(distribution) if known.service.distribution.is_none() => known.distributed(**distribution),
            _ => known.clone(),
        }
    }

    /// A Secret.
    pub(crate) fn credential(&self, namespace: &str, name: &str) -> Option<&Arc<Credential>> {
        self.credentials.value(namespace, name)
    }

    /// A pod.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.value(namespace, name)
    }

    /// The endpoints of a service.
    pub(crate) fn joined(&self, origin: &Origin) -> Option<(&Arc<Joined>, Fingerprint)> {
        let table = match &*origin.kind {
            "Service" => &self.of_services,
            _ => &self.of_entries,
        };
        table.find(&origin.namespace, &origin.name)
    }

    /// Who may answer for a service, without the endpoints that stand in the service itself.
    pub(crate) fn standing(&self, origin: &Origin) -> Option<(&Arc<Standing>, Fingerprint)> {
        let of_entries = usize::from(&*origin.kind != "Service");
        self.standings[of_entries].find(&origin.namespace, &origin.name)
    }

    /// The ports that an address has by EndpointSlices: service (namespace, name), port name, number.
    pub(crate) fn ports_at(&self, namespace: &str, ip: IpAddr) -> BTreeSet<(Arc<str>, String, u16)> {
        let mut found = BTreeSet::new();
        for (ns, name) in self.at.get(&ip).into_iter().flatten().filter(|(ns, _)| &**ns == namespace) {
            let Some(joined) = self.of_services.value(ns, name) else { continue };
            for endpoint in joined.endpoints.iter().filter(|endpoint| endpoint.is_at(ip)) {
                found.extend(endpoint.ports.iter().map(|(port, number)| (name.clone(), port.clone(), *number)));
            }
        }
        found
    }
}

fn config_if(changed: bool) -> Dirty {
    match changed {
        true => Dirty::Config,
        false => Dirty::None,
    }
}
