//! The Kubernetes front end: Services, EndpointSlices, Pods and Nodes, each lowered by itself to what is read of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Meta;
use api::kubernetes::{self, EndpointConditions, IntOrString};
use api::proxy_config::{ANNOTATION, InFront, ProxyConfig};
use config::{Cidr, Health, Locality, Workload};
use words::{Fingerprint, Labels, Origin, Protocol, host};

use crate::locality;
use crate::mesh::MeshConfig;
use crate::service::{Distribution, Known, Port, Resolution, Service, Source, Target, age};
use crate::visibility::Export;

/// Who sees a Service (X21).
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Gateways keep their port numbers whatever this Service says (GW03).
const NO_PORT_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// Lowers a Service.
pub(crate) fn service(meta: &Meta, service: &kubernetes::Service, mesh: &MeshConfig) -> Known {
    let spec = &service.spec;
    let host = host::resolve_short(&meta.name, &meta.namespace, &mesh.domain);
    let alias = spec.service_type == "ExternalName";
    let export = meta.annotations.get(EXPORT_TO).map(|list| list.split(',').collect::<Vec<_>>()).unwrap_or_default();
    let made = Service {
        host: host.into(),
        name: meta.name.clone(),
        namespace: meta.namespace.as_str().into(),
        source: match alias {
            true => Source::Alias(spec.external_name.to_ascii_lowercase().trim_end_matches('.').into()),
            false => Source::Kubernetes,
        },
        origin: Origin::new("Service", &meta.namespace, &meta.name),
        age: age(meta),
        ports: spec.ports.iter().filter_map(port).collect(),
        addresses: service.addresses().filter_map(Cidr::parse).collect(),
        resolution: match service.is_headless() {
            true => Resolution::Headless,
            false => Resolution::Endpoints,
        },
        export: Export::parse(&export, &mesh.default_service_export_to, &meta.namespace),
        selector: spec.selector.clone(),
        inline: Vec::new(),
        tls_names: Vec::new(),
        gateway_ports: meta.labels.get(NO_PORT_TRANSLATION).is_none_or(|value| value != "true"),
        distribution: Distribution::parse(spec.traffic_distribution.as_deref(), &meta.annotations),
        auto_address: false,
        local_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
    };
    let print = Fingerprint::of(&made);
    Known { service: Arc::new(made), print, auto: None }
}

fn port(port: &kubernetes::ServicePort) -> Option<Port> {
    let number = u16::try_from(port.port).ok().filter(|number| *number != 0)?;
    // UDP and SCTP are not carried (X40).
    if !matches!(port.protocol.as_str(), "" | "TCP") {
        return None;
    }
    let protocol = Protocol::of_port(port.app_protocol.as_deref(), &port.name, number);
    let target = match &port.target_port {
        Some(IntOrString::String(name)) => match name.parse() {
            Ok(number) => Target::Number(number),
            Err(_) => Target::Name(name.clone()),
        },
        Some(IntOrString::Int(target)) => {
            Target::Number(u16::try_from(*target).ok().filter(|t| *t != 0).unwrap_or(number))
        }
        None => Target::Number(number),
    };
    (protocol != Protocol::Udp).then(|| Port { number, name: port.name.clone(), protocol, target })
}

/// An EndpointSlice.
#[derive(Debug, Hash)]
pub(crate) struct Slice {
    /// The Service's name.
    pub(crate) service: Arc<str>,
    /// Its endpoints.
    pub(crate) endpoints: Vec<SliceEndpoint>,
    /// Ports by the Service port's name.
    pub(crate) ports: Arc<BTreeMap<String, u16>>,
}

/// An endpoint of a slice.
#[derive(Debug, Hash)]
pub(crate) struct SliceEndpoint {
    /// Where.
    pub(crate) ip: IpAddr,
    /// How.
    pub(crate) health: Health,
    /// Namespace and name of the pod.
    pub(crate) pod: Option<(Arc<str>, Arc<str>)>,
    /// The node's name; may be empty.
    pub(crate) node: String,
    /// Its zone, when the slice says so.
    pub(crate) zone: Option<String>,
    /// The pod's own host name.
    pub(crate) hostname: Option<String>,
}

/// Lowers a slice; `None` when it belongs to no Service or has no addresses.
pub(crate) fn slice(meta: &Meta, slice: &kubernetes::EndpointSlice) -> Option<Slice> {
    let service = meta.labels.get(kubernetes::SERVICE_NAME_LABEL)?;
    let endpoints = slice.endpoints.iter().filter_map(|endpoint| {
        let target = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod");
        let namespace = |target: &kubernetes::TargetRef| match target.namespace.is_empty() {
            true => meta.namespace.as_str().into(),
            false => target.namespace.as_str().into(),
        };
        Some(SliceEndpoint {
            ip: endpoint.addresses.first()?.parse().ok()?,
            health: health(endpoint.conditions)?,
            pod: target.map(|target| (namespace(target), target.name.as_str().into())),
            node: endpoint.node_name.clone().unwrap_or_default(),
            zone: endpoint.zone.clone(),
            hostname: endpoint.hostname.clone(),
        })
    });
    let ports = slice.ports.iter().filter_map(|port| Some((port.name.clone(), u16::try_from(port.port?).ok()?)));
    Some(Slice {
        service: service.as_str().into(),
        endpoints: endpoints.collect(),
        ports: Arc::new(ports.filter(|(_, number)| *number != 0).collect()),
    })
}

/// Not ready is sent as unhealthy, terminating as draining while it still serves (DR57, TR85).
fn health(conditions: EndpointConditions) -> Option<Health> {
    let EndpointConditions { ready, serving, terminating } = conditions;
    let ready = ready.unwrap_or(true);
    match (terminating.unwrap_or(false), serving.unwrap_or(ready)) {
        (true, false) => None,
        (true, true) => Some(Health::Draining),
        (false, _) if ready => Some(Health::Healthy),
        (false, _) => Some(Health::Unhealthy),
    }
}

/// What is read of a Pod.
#[derive(Debug, Hash)]
pub(crate) struct Pod {
    /// Its labels.
    pub(crate) labels: Labels,
    /// Its addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// The node's name; may be empty.
    pub(crate) node: String,
    /// What it belongs to, for metrics.
    pub(crate) workload: Workload,
    /// Container ports by name.
    pub(crate) ports: BTreeMap<String, u16>,
    /// It runs and is ready.
    pub(crate) ready: bool,
    /// Its proxy is to expect PROXY protocol headers.
    pub(crate) front: InFront,
    /// Its identity without trust domain, `ns/a/sa/b`.
    pub(crate) account: Arc<str>,
    /// It has a proxy that takes mutual TLS.
    pub(crate) mtls: bool,
}

/// The label that says what a workload's proxy takes; `istio` is mutual TLS.
pub(crate) const TLS_MODE: &str = "security.istio.io/tlsMode";

/// The identity of a service account, without trust domain.
pub(crate) fn account(namespace: &str, service_account: &str) -> Arc<str> {
    let name = if service_account.is_empty() { "default" } else { service_account };
    format!("ns/{namespace}/sa/{name}").into()
}

/// Lowers a Pod.
pub(crate) fn pod(meta: &Meta, pod: &kubernetes::Pod, mesh: &MeshConfig) -> Pod {
    let named = pod.spec.containers.iter().flat_map(|container| &container.ports);
    let condition = pod.status.conditions.iter().find(|condition| condition.condition == "Ready");
    Pod {
        labels: meta.labels.clone(),
        ips: pod.addresses().filter_map(|address| address.parse().ok()).collect(),
        node: pod.spec.node_name.clone(),
        workload: workload(pod.workload_name(&meta.name), &meta.namespace, &meta.labels, mesh),
        ports: named
            .filter_map(|port| Some((port.name.clone(), u16::try_from(port.container_port).ok()?)))
            .filter(|(name, _)| !name.is_empty())
            .collect(),
        account: account(&meta.namespace, &pod.spec.service_account_name),
        mtls: meta.labels.get(TLS_MODE).is_some_and(|mode| mode == "istio"),
        front: meta
            .annotations
            .get(ANNOTATION)
            .and_then(|text| ProxyConfig::parse(text))
            .map(|read| read.in_front())
            .unwrap_or_default(),
        ready: pod.status.phase == "Running" && condition.is_none_or(|condition| condition.status == "True"),
    }
}

/// The metadata of a workload, with Istio's rules for its canonical name and revision.
pub(crate) fn workload(name: String, namespace: &str, labels: &Labels, mesh: &MeshConfig) -> Workload {
    let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).cloned();
    let canonical = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    Workload {
        canonical_name: canonical.unwrap_or_else(|| name.clone()),
        canonical_revision: revision.unwrap_or_else(|| "latest".to_owned()),
        name,
        namespace: namespace.to_owned(),
        cluster_id: mesh.cluster_id.clone(),
    }
}

/// A node's place (DR71).
pub(crate) fn node(meta: &Meta) -> Locality {
    let label = |key: &str| meta.labels.get(key).cloned().unwrap_or_default();
    Locality { region: label(locality::REGION), zone: label(locality::ZONE), subzone: label(locality::SUBZONE) }
}
