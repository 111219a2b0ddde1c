//! A case's services, written out as the Kubernetes objects that a cluster would hold.
//!
//! Each pod gets an address of its own in 127/8, so that the same objects serve in memory and through real processes
//! on loopback, several cases at a time (`block` keeps them apart).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::case::{Behaviour, Case, PodPlace, Port, PortTls, Service, Stranger};

/// A pod that answers.
#[derive(Clone, Debug)]
pub struct Pod {
    /// `reviews-v2`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Where it is.
    pub ip: IpAddr,
    /// The ports it answers on, with the protocol name of the Service port.
    pub ports: Vec<(u16, String)>,
    /// The ports on which it speaks TLS.
    pub tls: std::collections::BTreeMap<u16, crate::case::PortTls>,
    /// How it answers.
    pub behaviour: Behaviour,
}

/// The objects and the pods of a case.
#[derive(Clone, Debug)]
pub struct World {
    /// Kubernetes objects.
    pub objects: Vec<Value>,
    /// Who answers.
    pub pods: Vec<Pod>,
    /// The caller's address.
    pub client_ip: IpAddr,
    /// Where Services are dialled, by name and namespace: the cluster IP, or the first pod of a headless one.
    pub dialled: BTreeMap<(String, String), IpAddr>,
    /// Servers that no object knows.
    pub strangers: Vec<Stranger>,
}

/// Lays out a case; `block` (1 to 250) chooses the addresses `127.<block>.0.0/16`.
pub fn lay_out(case: &Case, block: u8) -> World {
    let mut world = World {
        objects: Vec::new(),
        pods: Vec::new(),
        client_ip: address(block, 0, 1),
        dialled: BTreeMap::new(),
        strangers: case.strangers.clone(),
    };
    for (index, service) in case.services.iter().enumerate() {
        add_service(&mut world, service, block, index as u8 + 1);
    }
    add_client(&mut world, case);
    world
}

/// The objects as one multi-document YAML text (JSON documents are YAML).
pub fn to_yaml(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object:#}\n")).collect()
}

fn address(block: u8, service: u8, pod: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, block, service, pod))
}

fn target(port: &Port) -> u16 {
    port.target_port.unwrap_or(port.number)
}

// Of the port itself, or of the pod's proxy.
fn tls(port: &Port, place: Option<&PodPlace>) -> Option<PortTls> {
    let of_mesh = |identity: &String| PortTls {
        cert: identity.clone(),
        client_ca: Some(crate::pki::authority_of(identity).to_owned()),
        permissive: true,
    };
    port.tls.clone().or_else(|| place?.identity.as_ref().map(of_mesh))
}

fn add_service(world: &mut World, service: &Service, block: u8, index: u8) {
    let Service { name, namespace, ports, versions, headless, annotations, pods, spec, behaviour } = service;
    let vip = Ipv4Addr::new(10, 96, block, index);
    let first: IpAddr = if *headless { address(block, index, 1) } else { vip.into() };
    world.dialled.insert((name.clone(), namespace.clone()), first);
    let cluster_ip = if *headless { "None".to_owned() } else { vip.to_string() };
    let service_ports: Vec<Value> = ports
        .iter()
        .map(|port| {
            let mut value =
                json!({"name": port.name, "port": port.number, "targetPort": target(port), "protocol": "TCP"});
            if let Some(app) = &port.app_protocol {
                value["appProtocol"] = json!(app);
            }
            value
        })
        .collect();
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations, "labels": {"app": name}},
        "spec": {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "selector": {"app": name}, "ports": service_ports}
    });
    for (field, value) in spec {
        object["spec"][field] = value.clone();
    }
    world.objects.push(object);
    let mut endpoints = Vec::new();
    for (pod_index, version) in versions.iter().enumerate() {
        let pod = Pod {
            name: format!("{name}-{version}"),
            namespace: namespace.clone(),
            ip: address(block, index, pod_index as u8 + 1),
            ports: ports.iter().map(|port| (target(port), port.name.clone())).collect(),
            tls: ports.iter().filter_map(|port| Some((target(port), tls(port, pods.get(version))?))).collect(),
            behaviour: behaviour.get(version).cloned().unwrap_or_default(),
        };
        let place = pods.get(version).cloned().unwrap_or_default();
        let node = add_node(world, &place);
        world.objects.push(pod_object(&pod, name, version, &place, &node));
        endpoints.push(json!({
            "addresses": [pod.ip], "conditions": {"ready": !pod.behaviour.not_ready},
            "targetRef": {"kind": "Pod", "name": pod.name, "namespace": namespace}, "nodeName": node
        }));
        world.pods.push(pod);
    }
    let slice_ports: Vec<Value> =
        ports.iter().map(|port| json!({"name": port.name, "port": target(port), "protocol": "TCP"})).collect();
    world.objects.push(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{name}-1"), "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": endpoints, "ports": slice_ports
    }));
}

/// The node of a place, made when it is the first one there; empty for nowhere.
fn add_node(world: &mut World, place: &PodPlace) -> String {
    let PodPlace { locality, node, .. } = place;
    let locality = locality.as_deref().unwrap_or_default();
    let name = node.clone().unwrap_or_else(|| locality.replace('/', "-"));
    let is_known = |object: &Value| object["kind"] == "Node" && object["metadata"]["name"] == name.as_str();
    if name.is_empty() || world.objects.iter().any(is_known) {
        return name;
    }
    let keys = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
    let labels: serde_json::Map<String, Value> = keys
        .iter()
        .zip(locality.split('/').filter(|part| !part.is_empty()))
        .map(|(key, part)| ((*key).to_owned(), json!(part)))
        .collect();
    world.objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}));
    name
}

fn pod_object(pod: &Pod, app: &str, version: &str, place: &PodPlace, node: &str) -> Value {
    let mut labels = place.labels.clone();
    labels.extend([("app".to_owned(), app.to_owned()), ("version".to_owned(), version.to_owned())]);
    if place.identity.is_some() {
        labels.entry("security.istio.io/tlsMode".into()).or_insert_with(|| "istio".into());
    }
    let account = place.account.as_deref().unwrap_or(app);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "labels": labels},
        "spec": {"serviceAccountName": account, "nodeName": node},
        "status": {"phase": "Running", "podIP": pod.ip, "podIPs": [{"ip": pod.ip}]}
    })
}

fn add_client(world: &mut World, case: &Case) {
    let client = &case.client;
    let node = add_node(world, &client.place);
    world.objects.push(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "client", "namespace": client.namespace, "labels": client.labels,
            "annotations": client.annotations},
        "spec": {"serviceAccountName": "client", "nodeName": node},
        "status": {"phase": "Running", "podIP": world.client_ip, "podIPs": [{"ip": world.client_ip}]}
    }));
}

impl World {
    /// One without objects and pods.
    pub fn of_strangers(strangers: Vec<Stranger>) -> Self {
        let client_ip = Ipv4Addr::LOCALHOST.into();
        Self { objects: Vec::new(), pods: Vec::new(), client_ip, dialled: BTreeMap::new(), strangers }
    }

    /// Where a client of `namespace` dials a host: an address, or a Service by any of its names.
    pub fn dial(&self, host: &str, namespace: &str) -> Option<IpAddr> {
        if let Ok(ip) = host.parse() {
            return Some(ip);
        }
        let mut labels = host.split('.');
        let name = labels.next()?.to_owned();
        let namespace = labels.next().unwrap_or(namespace).to_owned();
        self.dialled.get(&(name, namespace)).copied()
    }

    /// The pod that listens at an address.
    pub fn pod_at(&self, address: SocketAddr) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.ip == address.ip() && pod.ports.iter().any(|(port, _)| *port == address.port()))
    }
}
