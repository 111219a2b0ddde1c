//! The objects, sorted and indexed for the analyzers.
//!
//! In: inputs. Out: lists by kind, services by host, workloads with their labels. A Deployment stands for the pods it
//! would have.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kubernetes::{IntOrString, Secret};
use api::{
    DestinationRuleSpec, GatewaySpec, Kind, Meta, Object, ServiceEntrySpec, SidecarSpec, VirtualServiceSpec,
    WorkloadEntrySpec,
};
use words::{Diagnostic, Labels, Origin, Protocol, host};

use crate::inputs::{Inputs, Other};
use crate::visibility::Export;
use crate::{Options, selection};

/// An object of one kind.
pub(crate) struct Of<'a, S> {
    pub(crate) origin: Origin,
    pub(crate) meta: &'a Meta,
    pub(crate) spec: &'a S,
}

impl<S> Of<'_, S> {
    pub(crate) fn namespace(&self) -> &str {
        &self.meta.namespace
    }
}

/// A host and its ports, whoever declared it.
pub(crate) struct Service {
    pub(crate) origin: Origin,
    pub(crate) host: String,
    pub(crate) ports: Vec<Port>,
    pub(crate) export: Export,
    /// Labels of its pods; empty for none.
    pub(crate) selector: Labels,
    pub(crate) is_kubernetes: bool,
    pub(crate) is_external_name: bool,
}

/// A port of a service.
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) number: u32,
    /// What the declaration says; `None` when it has to be found out.
    pub(crate) protocol: Option<Protocol>,
    /// Where pods listen, as text: a number or a name.
    pub(crate) target: String,
    pub(crate) is_tcp: bool,
}

/// A pod, or what makes pods; equal ones are one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Workload {
    pub(crate) origin: Origin,
    pub(crate) labels: Labels,
    /// Port names of its containers.
    pub(crate) ports: BTreeMap<String, u32>,
}

/// An object that says something about workloads it selects, and routes no traffic.
pub(crate) struct Policy {
    pub(crate) origin: Origin,
    /// Empty for all.
    pub(crate) selector: Labels,
}

/// Everything.
pub(crate) struct World<'a> {
    pub(crate) options: &'a Options,
    pub(crate) found: &'a [Diagnostic],
    pub(crate) virtual_services: Vec<Of<'a, VirtualServiceSpec>>,
    pub(crate) rules: Vec<Of<'a, DestinationRuleSpec>>,
    pub(crate) gateways: Vec<Of<'a, GatewaySpec>>,
    pub(crate) entries: Vec<Of<'a, ServiceEntrySpec>>,
    pub(crate) workload_entries: Vec<Of<'a, WorkloadEntrySpec>>,
    pub(crate) sidecars: Vec<Of<'a, SidecarSpec>>,
    pub(crate) secrets: Vec<Of<'a, Secret>>,
    pub(crate) namespaces: BTreeMap<&'a str, &'a Meta>,
    pub(crate) services: Vec<Service>,
    by_host: BTreeMap<String, Vec<usize>>,
    wild: Vec<usize>,
    pub(crate) workloads: Vec<Workload>,
    workloads_in: BTreeMap<Arc<str>, Vec<usize>>,
    services_in: BTreeMap<Arc<str>, Vec<usize>>,
    pub(crate) others: Vec<&'a Other>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) knows_services: bool,
    pub(crate) knows_workloads: bool,
}

impl<'a> World<'a> {
    pub(crate) fn new(inputs: &'a Inputs, options: &'a Options) -> Self {
        let mut world = Self {
            options,
            found: inputs.found(),
            virtual_services: Vec::new(),
            rules: Vec::new(),
            gateways: Vec::new(),
            entries: Vec::new(),
            workload_entries: Vec::new(),
            sidecars: Vec::new(),
            secrets: Vec::new(),
            namespaces: BTreeMap::new(),
            services: Vec::new(),
            by_host: BTreeMap::new(),
            wild: Vec::new(),
            workloads: Vec::new(),
            workloads_in: BTreeMap::new(),
            services_in: BTreeMap::new(),
            others: inputs.others().collect(),
            policies: inputs.others().filter_map(policy).collect(),
            knows_services: inputs.knows("Service"),
            // Some Deployments among files are not all of them; whoever gives pods gives those that matter.
            knows_workloads: inputs.knows("Pod"),
        };
        for object in inputs.objects() {
            world.sort_in(object);
        }
        world.workloads.extend(inputs.others().filter_map(template));
        world.workloads.sort();
        world.workloads.dedup();
        world.index();
        world
    }

    fn index(&mut self) {
        let world = self;
        for (index, workload) in world.workloads.iter().enumerate() {
            world.workloads_in.entry(workload.origin.namespace.clone()).or_default().push(index);
        }
        for (index, service) in world.services.iter().enumerate() {
            world.services_in.entry(service.origin.namespace.clone()).or_default().push(index);
            match host::is_wildcard(&service.host) {
                true => world.wild.push(index),
                false => world.by_host.entry(service.host.clone()).or_default().push(index),
            }
        }
    }

    fn sort_in(&mut self, object: &'a Object) {
        let origin = object.origin();
        let meta = object.metadata();
        match object {
            Object::VirtualService(one) => self.virtual_services.push(Of { origin, meta, spec: &one.spec }),
            Object::DestinationRule(one) => self.rules.push(Of { origin, meta, spec: &one.spec }),
            Object::Gateway(one) => self.gateways.push(Of { origin, meta, spec: &one.spec }),
            Object::Sidecar(one) => self.sidecars.push(Of { origin, meta, spec: &one.spec }),
            Object::WorkloadEntry(one) => self.workload_entries.push(Of { origin, meta, spec: &one.spec }),
            Object::Secret(one) => self.secrets.push(Of { origin, meta, spec: &one.spec }),
            Object::Namespace(_) => _ = self.namespaces.insert(&meta.name, meta),
            Object::Service(one) => self.services.push(service(origin, meta, &one.spec, &self.options.domain)),
            Object::ServiceEntry(one) => {
                self.services.extend(entry_services(&origin, meta, &one.spec));
                self.entries.push(Of { origin, meta, spec: &one.spec });
            }
            Object::RequestAuthentication(one) => {
                let selector = one.spec.selector.as_ref().map(|one| one.match_labels.clone()).unwrap_or_default();
                self.policies.push(Policy { origin, selector });
            }
            Object::AuthorizationPolicy(one) => {
                let selector = one.spec.selector.as_ref().map(|one| one.match_labels.clone()).unwrap_or_default();
                self.policies.push(Policy { origin, selector });
            }
            Object::Telemetry(one) => {
                let selector = one.spec.selector.as_ref().map(|one| one.match_labels.clone()).unwrap_or_default();
                self.policies.push(Policy { origin, selector });
            }
            Object::Pod(one) => self.workloads.push(pod(meta, &one.spec)),
            // Nothing is said about the others beside their neighbours.
            _ => {}
        }
    }

    /// A host as an object of a namespace writes it, complete.
    pub(crate) fn host(&self, host: &str, namespace: &str) -> String {
        host::resolve_short(host, namespace, &self.options.domain)
    }

    /// The services that clients of a namespace mean by a complete host name.
    pub(crate) fn services_of(&self, name: &str, namespace: &str) -> Vec<&Service> {
        let exact = self.by_host.get(name).into_iter().flatten().copied();
        let wild = self.wild.iter().copied().filter(|index| host::is_subset(name, &self.services[*index].host));
        let all = exact.chain(wild).map(|index| &self.services[index]);
        all.filter(|service| service.export.includes(namespace)).collect()
    }

    /// Workloads of a namespace, or of all, that labels select; none for an empty selector.
    pub(crate) fn selected(&self, selector: &Labels, namespace: Option<&str>) -> Vec<&Workload> {
        let fits = |workload: &&Workload| selection::selects(selector, &workload.labels);
        match namespace {
            None => self.workloads.iter().filter(fits).collect(),
            Some(namespace) => {
                let here = self.workloads_in.get(namespace).into_iter().flatten();
                here.map(|index| &self.workloads[*index]).filter(fits).collect()
            }
        }
    }

    /// Services of a workload's namespace that select it.
    pub(crate) fn services_on(&self, workload: &Workload) -> Vec<&Service> {
        let on = |service: &&Service| service.is_kubernetes && selection::selects(&service.selector, &workload.labels);
        let here = self.services_in.get(&workload.origin.namespace).into_iter().flatten();
        here.map(|index| &self.services[*index]).filter(on).collect()
    }

    /// Objects of a kind that routes no traffic.
    pub(crate) fn others_of(&self, kinds: &'a [&'a str]) -> impl Iterator<Item = &'a Other> + use<'a, '_> {
        self.others.iter().copied().filter(move |other| kinds.contains(&&*other.origin.kind))
    }
}

// Kinds that nothing else is read of.
fn policy(other: &Other) -> Option<Policy> {
    let is_one = ["WasmPlugin", "TrafficExtension"].contains(&&*other.origin.kind);
    let selector = || selection::labels(&other.value["spec"]["selector"]["matchLabels"]);
    is_one.then(|| Policy { origin: other.origin.clone(), selector: selector() })
}

fn service(origin: Origin, meta: &Meta, service: &api::kubernetes::Service, domain: &str) -> Service {
    let spec = &service.spec;
    let port = |port: &api::kubernetes::ServicePort| {
        let number = u16::try_from(port.port).unwrap_or_default();
        let protocol = Protocol::of_port(port.app_protocol.as_deref(), &port.name, number);
        Port {
            name: port.name.clone(),
            number: port.port,
            protocol: Some(protocol).filter(|protocol| *protocol != Protocol::Auto),
            target: match &port.target_port {
                Some(IntOrString::Int(number)) => number.to_string(),
                Some(IntOrString::String(name)) => name.clone(),
                None => port.port.to_string(),
            },
            is_tcp: ["", "TCP"].contains(&port.protocol.as_str()),
        }
    };
    let export = meta.annotations.get("networking.istio.io/exportTo").map(String::as_str).unwrap_or_default();
    Service {
        host: host::resolve_short(&meta.name, &meta.namespace, domain),
        ports: spec.ports.iter().map(port).collect(),
        export: Export::of(export.split(','), &meta.namespace),
        selector: spec.selector.clone(),
        is_kubernetes: true,
        is_external_name: spec.service_type == "ExternalName",
        origin,
    }
}

fn entry_services(origin: &Origin, meta: &Meta, spec: &ServiceEntrySpec) -> Vec<Service> {
    let port = |port: &api::ServicePort| Port {
        name: port.name.clone(),
        number: port.number,
        protocol: port.protocol.as_deref().and_then(Protocol::parse),
        target: port.target_port.unwrap_or(port.number).to_string(),
        is_tcp: true,
    };
    let one = |host: &String| Service {
        origin: origin.clone(),
        host: host.to_ascii_lowercase(),
        ports: spec.ports.iter().map(port).collect(),
        export: Export::of(spec.export_to.iter().map(String::as_str), &meta.namespace),
        selector: Labels::new(),
        is_kubernetes: false,
        is_external_name: false,
    };
    spec.hosts.iter().map(one).collect()
}

// A pod speaks for its workload: of a hundred replicas one finding is enough.
fn pod(meta: &Meta, pod: &api::kubernetes::Pod) -> Workload {
    let kind = match &pod.owner {
        Some(owner) if owner.kind == "ReplicaSet" => "Deployment",
        Some(owner) => &owner.kind,
        None => Kind::Pod.name(),
    };
    let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
    Workload {
        origin: Origin::new(kind, &meta.namespace, &pod.workload_name(&meta.name)),
        labels: meta.labels.clone(),
        ports: ports.map(|port| (port.name.clone(), port.container_port)).collect(),
    }
}

// The pods that a Deployment or the like would have.
fn template(other: &Other) -> Option<Workload> {
    if !["Deployment", "StatefulSet", "DaemonSet"].contains(&&*other.origin.kind) {
        return None;
    }
    let template = &other.value["spec"]["template"];
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let port = |port: &serde_json::Value| {
        let number = u32::try_from(port["containerPort"].as_u64()?).ok()?;
        Some((port["name"].as_str().unwrap_or_default().to_owned(), number))
    };
    let origin = other.origin.clone();
    Some(Workload {
        origin,
        labels: selection::labels(&template["metadata"]["labels"]),
        ports: ports.filter_map(port).collect(),
    })
}
