//! Endpoints of services, joined: slices with the labels of their pods and the places of their nodes, and
//! WorkloadEntries.
//!
//! Joined when something of it changes, and only then, so that a compile finds a fingerprint per service. The result
//! depends on the world's state only, never on the order of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use config::{Health, Locality, Workload};
use words::{Fingerprint, Labels};

use super::{Dirty, World};
use crate::kubernetes::{Pod, Slice, SliceEndpoint};
use crate::locality::{self, Needs, Place};
use crate::scope::Scope;
use crate::service::{InlineAddress, Port, Resolution, Target};
use crate::service_entry;

/// The endpoints of a service, all ports together, in a fixed order.
#[derive(Debug, Hash)]
pub(crate) struct Joined {
    pub(crate) endpoints: Vec<JoinedEndpoint>,
}

/// An endpoint with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JoinedEndpoint {
    /// Where, without a port.
    pub(crate) address: InlineAddress,
    /// Ports by the service port's name.
    pub(crate) ports: Arc<BTreeMap<String, u16>>,
    /// True: a port that is not in `ports` is not served here. False: it is at the service's target port.
    pub(crate) ports_complete: bool,
    /// For subsets: the pod's, with its place (DR11).
    pub(crate) labels: Labels,
    /// How it is.
    pub(crate) health: Health,
    /// Share, at least 1.
    pub(crate) weight: u32,
    /// Where it runs.
    pub(crate) locality: Locality,
    /// The node's name; may be empty.
    pub(crate) node: String,
    /// The pod's own host name.
    pub(crate) hostname: Option<String>,
    /// For metrics.
    pub(crate) workload: Option<Workload>,
    /// Its identity without trust domain, when it is known.
    pub(crate) account: Option<Arc<str>>,
    /// It has a proxy that takes mutual TLS.
    pub(crate) mtls: bool,
}

/// Who may answer for a service: what its clusters are made of, where endpoints are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    /// The identities of its endpoints.
    pub(crate) accounts: BTreeSet<Arc<str>>,
    /// There are endpoints, and all of them take mutual TLS.
    pub(crate) all_mtls: bool,
}

impl Standing {
    /// Of endpoints that are joined.
    pub(crate) fn of(endpoints: &[JoinedEndpoint]) -> Self {
        Self {
            accounts: endpoints.iter().filter_map(|endpoint| endpoint.account.clone()).collect(),
            all_mtls: !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.mtls),
        }
    }
}

impl Joined {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.endpoints.iter().filter_map(JoinedEndpoint::ip)
    }
}

impl JoinedEndpoint {
    /// The number behind a service port; `None` when it is not served here (SE12).
    pub(crate) fn port(&self, port: &Port) -> Option<u16> {
        if let Some(number) = self.ports.get(&port.name) {
            return Some(*number);
        }
        match &port.target {
            _ if self.ports_complete => None,
            Target::Number(number) => Some(*number),
            Target::Name(name) => Some(self.ports.get(name).copied().unwrap_or(port.number)),
        }
    }

    /// Its IP address, when it has one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self.address {
            InlineAddress::Ip(ip) => Some(ip),
            InlineAddress::Name(_) | InlineAddress::Pipe(_) => None,
        }
    }

    /// True when it is at this address.
    pub(crate) fn is_at(&self, ip: IpAddr) -> bool {
        self.address == InlineAddress::Ip(ip)
    }
}

impl World {
    pub(super) fn slice_changed(&mut self, ns: &Arc<str>, name: &Arc<str>, made: Option<Slice>) -> Dirty {
        let before = self.slices.value(ns, name).map(|slice| slice.service.clone());
        let after = made.as_ref().map(|slice| slice.service.clone());
        let changed = match made {
            Some(made) => self.slices.set(ns, name, Fingerprint::of(&made), made),
            None => self.slices.remove(ns, name).is_some(),
        };
        if !changed {
            return Dirty::None;
        }
        let services: BTreeSet<Arc<str>> = before.into_iter().chain(after).collect();
        let keys = services.into_iter().map(|service| (ns.clone(), service)).collect();
        self.join_services(keys)
    }

    pub(super) fn pod_changed(&mut self, changed: bool, ns: &Arc<str>, name: &Arc<str>) -> Dirty {
        if !changed {
            return Dirty::None;
        }
        let is_it = |pod: &(Arc<str>, Arc<str>)| pod.0 == *ns && pod.1 == *name;
        let holds = |slice: &Slice| slice.endpoints.iter().filter_map(|one| one.pod.as_ref()).any(is_it);
        let slices = self.slices.of_namespace(ns).filter(|(_, slice)| holds(slice));
        let keys = slices.map(|(key, slice)| (key.0.clone(), slice.service.clone())).collect();
        let services = self.join_services(keys);
        // Also a pod of no service: where its proxy is may be looked at (DR71).
        both(both(services, self.join_entries(ns)), elsewhere())
    }

    pub(super) fn node_changed(&mut self, changed: bool) -> Dirty {
        if !changed {
            return Dirty::None;
        }
        let keys = self.services.keys().cloned().collect();
        let services = both(self.join_services(keys), elsewhere());
        let namespaces: BTreeSet<Arc<str>> = self.entries.keys().map(|(ns, _)| ns.clone()).collect();
        namespaces.iter().fold(services, |dirty, ns| both(dirty, self.join_entries(ns)))
    }

    pub(super) fn workloads_changed(&mut self, changed: bool, ns: &Arc<str>) -> Dirty {
        if !changed {
            return Dirty::None;
        }
        let keys = self.services.of_namespace(ns).map(|(key, _)| key.clone()).collect();
        let services = self.join_services(keys);
        both(services, self.join_entries(ns))
    }

    fn join_services(&mut self, keys: BTreeSet<(Arc<str>, Arc<str>)>) -> Dirty {
        let mut dirty = Dirty::None;
        for (ns, name) in keys {
            if !self.join_service(&ns, &name) {
                continue;
            }
            // Listeners of headless services are made of endpoints (SE31).
            let touched = match self.services.value(&ns, &name) {
                None => Dirty::None,
                Some(known) if known.service.resolution == Resolution::Headless => Dirty::Config,
                Some(known) => Dirty::Endpoints { hosts: BTreeSet::from([known.service.host.clone()]) },
            };
            dirty = both(dirty, touched);
        }
        dirty
    }

    fn join_entries(&mut self, ns: &Arc<str>) -> Dirty {
        let selecting = self.entries.of_namespace(ns).filter(|(_, entry)| entry.selector.is_some());
        let keys: Vec<_> = selecting.map(|(key, entry)| (key.clone(), entry.clone())).collect();
        let mut dirty = Dirty::None;
        for ((ns, name), entry) in keys {
            if self.join_entry(&ns, &name) {
                let hosts = entry.services.iter().map(|known| known.service.host.clone()).collect();
                dirty = both(dirty, Dirty::Endpoints { hosts });
            }
        }
        dirty
    }

    /// Joins the endpoints of a Service again; true when they are different now.
    pub(super) fn join_service(&mut self, ns: &Arc<str>, name: &Arc<str>) -> bool {
        let mut endpoints = Vec::new();
        for (_, slice) in self.slices.of_namespace(ns).filter(|(_, slice)| slice.service == *name) {
            endpoints.extend(slice.endpoints.iter().filter_map(|endpoint| self.of_slice(slice, endpoint)));
        }
        let selector = self.services.value(ns, name).map(|known| known.service.selector.clone());
        if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
            endpoints.extend(self.of_workload_entries(ns, &selector));
        }
        let before = self.of_services.value(ns, name).cloned();
        stand(&mut self.standings[0], ns, name, &endpoints);
        let changed = set(&mut self.of_services, ns, name, endpoints);
        if changed {
            let key = (ns.clone(), name.clone());
            for ip in before.iter().flat_map(|joined| joined.addresses()) {
                if let Some(services) = self.at.get_mut(&ip) {
                    services.remove(&key);
                    if services.is_empty() {
                        self.at.remove(&ip);
                    }
                }
            }
            let now = self.of_services.value(ns, name).cloned();
            for ip in now.iter().flat_map(|joined| joined.addresses()) {
                self.at.entry(ip).or_default().insert(key.clone());
            }
        }
        changed
    }

    /// Joins the endpoints of a ServiceEntry with a selector again; true when they are different now (SE11).
    pub(super) fn join_entry(&mut self, ns: &Arc<str>, name: &Arc<str>) -> bool {
        let Some(selector) = self.entries.value(ns, name).and_then(|entry| entry.selector.clone()) else {
            self.standings[1].remove(ns, name);
            return self.of_entries.remove(ns, name).is_some();
        };
        let mut endpoints: Vec<_> = self.of_workload_entries(ns, &selector).collect();
        for (_, pod) in self.pods.of_namespace(ns).filter(|(_, pod)| words::labels_select(&selector, &pod.labels)) {
            endpoints.extend(self.of_pod(pod));
        }
        stand(&mut self.standings[1], ns, name, &endpoints);
        set(&mut self.of_entries, ns, name, endpoints)
    }

    /// `None` until its pod is known: whether it takes mutual TLS, and who it must be, is written there only. Istio holds it
    /// back, too.
    fn of_slice(&self, slice: &Slice, endpoint: &SliceEndpoint) -> Option<JoinedEndpoint> {
        let pod = match &endpoint.pod {
            Some((ns, name)) => Some(self.pods.value(ns, name)?),
            None => None,
        };
        let labels = pod.map(|pod| pod.labels.clone()).unwrap_or_default();
        let mut locality = self.place(&endpoint.node, &labels);
        if let (true, Some(zone)) = (locality.zone.is_empty(), &endpoint.zone) {
            locality.zone.clone_from(zone);
        }
        Some(JoinedEndpoint {
            address: InlineAddress::Ip(endpoint.ip),
            ports: slice.ports.clone(),
            ports_complete: true,
            labels: self.placed(labels, &locality, &endpoint.node),
            health: endpoint.health,
            weight: 1,
            locality,
            node: endpoint.node.clone(),
            hostname: endpoint.hostname.clone(),
            workload: pod.map(|pod| pod.workload.clone()),
            account: pod.map(|pod| pod.account.clone()),
            mtls: pod.is_some_and(|pod| pod.mtls),
        })
    }

    fn of_pod(&self, pod: &Pod) -> Option<JoinedEndpoint> {
        let locality = self.place(&pod.node, &pod.labels);
        Some(JoinedEndpoint {
            address: InlineAddress::Ip(*pod.ips.first()?),
            ports: Arc::new(pod.ports.clone()),
            ports_complete: false,
            labels: self.placed(pod.labels.clone(), &locality, &pod.node),
            health: if pod.ready { Health::Healthy } else { Health::Unhealthy },
            weight: 1,
            locality,
            node: pod.node.clone(),
            hostname: None,
            workload: Some(pod.workload.clone()),
            account: Some(pod.account.clone()),
            mtls: pod.mtls,
        })
    }

    fn of_workload_entries<'a>(
        &'a self,
        ns: &'a str,
        selector: &'a Labels,
    ) -> impl Iterator<Item = JoinedEndpoint> + 'a {
        let entries = self.workload_entries.of_namespace(ns).map(|(_, one)| one);
        entries.filter(|one| words::labels_select(selector, &one.endpoint.labels)).map(|one| JoinedEndpoint {
            address: one.endpoint.address.clone(),
            ports: Arc::new(one.endpoint.ports.clone()),
            ports_complete: false,
            labels: self.placed(one.endpoint.labels.clone(), &one.endpoint.locality, ""),
            health: Health::Healthy,
            weight: one.endpoint.weight,
            locality: one.endpoint.locality.clone(),
            node: String::new(),
            hostname: None,
            workload: Some(one.workload.clone()),
            account: one.endpoint.account.clone(),
            mtls: one.endpoint.mtls,
        })
    }

    /// The node of a proxy: as it says, else its pod's.
    pub(crate) fn node_of<'a>(&'a self, scope: &'a Scope) -> &'a str {
        match (scope.node_name.as_str(), self.pod(&scope.namespace, &scope.name)) {
            ("", Some(pod)) => &pod.node,
            (said, _) => said,
        }
    }

    /// Where a proxy is (DR71), with the labels that endpoints are compared by.
    pub(crate) fn place_of(&self, scope: &Scope, labels: &Labels, needs: &Needs) -> Place {
        let node = self.node_of(scope);
        let mut locality = self.place(node, labels);
        if locality.region.is_empty() && !scope.locality.region.is_empty() {
            locality.clone_from(&scope.locality);
        }
        let mut labels = self.placed(labels.clone(), &locality, node);
        labels.retain(|key, _| needs.labels.contains(key));
        Place { locality, labels }
    }

    /// Labels of an endpoint with those of its place, which subsets may name too (DR11).
    fn placed(&self, mut labels: Labels, locality: &Locality, node: &str) -> Labels {
        for (key, value) in [
            (locality::REGION, locality.region.as_str()),
            (locality::ZONE, &locality.zone),
            (locality::SUBZONE, &locality.subzone),
            (locality::HOSTNAME, node),
            (locality::CLUSTER, &self.mesh.cluster_id),
        ] {
            if !value.is_empty() {
                labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        labels
    }

    /// The pod's label beats its node (DR71).
    fn place(&self, node: &str, labels: &Labels) -> Locality {
        let labelled = service_entry::locality(None, labels);
        match labelled.region.is_empty() {
            false => labelled,
            true => self.nodes.value("", node).map(|locality| (**locality).clone()).unwrap_or_default(),
        }
    }
}

fn stand(table: &mut super::Table<Standing>, ns: &Arc<str>, name: &Arc<str>, endpoints: &[JoinedEndpoint]) {
    let standing = Standing::of(endpoints);
    if standing == Standing::default() {
        table.remove(ns, name);
    } else {
        table.set(ns, name, Fingerprint::of(&standing), standing);
    }
}

fn set(table: &mut super::Table<Joined>, ns: &Arc<str>, name: &Arc<str>, mut endpoints: Vec<JoinedEndpoint>) -> bool {
    if endpoints.is_empty() {
        return table.remove(ns, name).is_some();
    }
    endpoints.sort_by(|a, b| order(a).cmp(&order(b)));
    let joined = Joined { endpoints };
    table.set(ns, name, Fingerprint::of(&joined), joined)
}

fn order(endpoint: &JoinedEndpoint) -> (&Locality, config::EndpointAddress, &BTreeMap<String, u16>, u8) {
    let health = match endpoint.health {
        Health::Healthy => 0,
        Health::Unhealthy => 1,
        Health::Draining => 2,
    };
    (&endpoint.locality, endpoint.address.at(0), &endpoint.ports, health)
}

/// A change that no service's endpoints show, but perhaps a client's place.
fn elsewhere() -> Dirty {
    Dirty::Endpoints { hosts: BTreeSet::new() }
}

fn both(a: Dirty, b: Dirty) -> Dirty {
    match (a, b) {
        (Dirty::Config, _) | (_, Dirty::Config) => Dirty::Config,
        (Dirty::None, other) | (other, Dirty::None) => other,
        (Dirty::Endpoints { mut hosts }, Dirty::Endpoints { hosts: more }) => {
            hosts.extend(more);
            Dirty::Endpoints { hosts }
        }
    }
}
