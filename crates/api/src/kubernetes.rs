//! Kubernetes objects, narrowed to what a mesh reads, so that a large cluster stays small in memory.
//!
//! The types mirror the API's nesting where it is read and forget the rest; unknown fields are let through.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use words::Labels;

use crate::lenient;

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its spec.
    pub spec: ServiceSpec,
}

/// What of a Service's spec is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `None` for headless, empty when not assigned.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// All virtual addresses.
    #[serde(rename = "clusterIPs", deserialize_with = "lenient::list")]
    pub cluster_ips: Vec<String>,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`.
    #[serde(rename = "type")]
    pub service_type: String,
    /// The name that an ExternalName stands for.
    pub external_name: String,
    /// Labels of its pods.
    #[serde(deserialize_with = "nullable")]
    pub selector: Labels,
    /// Ports.
    #[serde(deserialize_with = "lenient::list")]
    pub ports: Vec<ServicePort>,
    /// `Local`: only endpoints on the caller's node.
    pub internal_traffic_policy: Option<String>,
    /// `PreferClose`, `PreferSameZone`, `PreferSameNode`.
    pub traffic_distribution: Option<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name; may be empty for a single port.
    pub name: String,
    /// The service port.
    #[serde(deserialize_with = "lenient::number")]
    pub port: u32,
    /// `TCP`, `UDP`, `SCTP`; TCP when empty.
    pub protocol: String,
    /// Beats the name (X40).
    pub app_protocol: Option<String>,
    /// The pods' port, by number or name; the service port when absent.
    pub target_port: Option<IntOrString>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// By number.
    Int(u32),
    /// By the name of a container port.
    String(String),
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Endpoints.
    #[serde(deserialize_with = "lenient::list")]
    pub endpoints: Vec<SliceEndpoint>,
    /// Ports, by the Service port's name.
    #[serde(deserialize_with = "lenient::list")]
    pub ports: Vec<SlicePort>,
}

/// The label that names a slice's Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// An endpoint of a slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceEndpoint {
    /// Addresses; the first one counts.
    pub addresses: Vec<String>,
    /// Conditions.
    pub conditions: EndpointConditions,
    /// The node it runs on.
    pub node_name: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// The pod's own host name, of StatefulSets.
    pub hostname: Option<String>,
    /// The pod.
    pub target_ref: Option<TargetRef>,
}

/// Conditions of an endpoint; an absent `ready` means ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Should get requests.
    pub ready: Option<bool>,
    /// Answers requests, terminating or not.
    pub serving: Option<bool>,
    /// Is going away.
    pub terminating: Option<bool>,
}

/// What an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// `Pod`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// A port of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlicePort {
    /// The Service port's name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// The pods' port.
    #[serde(deserialize_with = "lenient::u32")]
    pub port: Option<u32>,
    /// As [`ServicePort::app_protocol`].
    pub app_protocol: Option<String>,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// What owns it, from its metadata.
    #[serde(skip)]
    pub owner: Option<Owner>,
    /// Its spec.
    pub spec: PodSpec,
    /// Its status.
    pub status: PodStatus,
}

/// What owns a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// `ReplicaSet`, `StatefulSet`, `Job` …
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What of a pod's spec is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it runs on.
    pub node_name: String,
    /// Its identity.
    pub service_account_name: String,
    /// On the node's own network.
    pub host_network: bool,
    /// Containers, for their ports' names.
    #[serde(deserialize_with = "lenient::list")]
    pub containers: Vec<Container>,
}

/// What of a container is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its ports.
    #[serde(deserialize_with = "lenient::list")]
    pub ports: Vec<ContainerPort>,
}

/// A named port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name.
    pub name: String,
    /// Its number.
    #[serde(deserialize_with = "lenient::number")]
    pub container_port: u32,
}

/// What of a pod's status is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Running`, `Pending`, `Succeeded`, `Failed`.
    pub phase: String,
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// All its addresses.
    #[serde(rename = "podIPs", deserialize_with = "lenient::list")]
    pub pod_ips: Vec<PodIp>,
    /// Conditions, for `Ready`.
    #[serde(deserialize_with = "lenient::list")]
    pub conditions: Vec<PodCondition>,
}

/// An address of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    /// `Ready` and others.
    #[serde(rename = "type")]
    pub condition: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
}

/// A Namespace; its labels and annotations are in its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {}

/// A Node; its topology labels are in its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {}

/// A Secret; `Debug` and `Serialize` never show what it holds.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Secret {
    /// `kubernetes.io/tls`, `Opaque` …
    #[serde(rename = "type")]
    pub secret_type: String,
    /// Values in base64, by key.
    #[serde(skip_serializing, deserialize_with = "nullable")]
    pub data: BTreeMap<String, String>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("Secret").field("type", &self.secret_type).field("keys", &keys).finish()
    }
}

impl Service {
    /// `clusterIP: None`.
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }

    /// Its virtual addresses, without `None`.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let only = self.spec.cluster_ips.is_empty().then_some(&self.spec.cluster_ip);
        let all = self.spec.cluster_ips.iter().chain(only);
        all.map(String::as_str).filter(|address| !address.is_empty() && *address != "None")
    }
}

impl Pod {
    /// The workload's name as Istio derives it: the Deployment behind a ReplicaSet, else the owner, else the pod.
    pub fn workload_name(&self, pod_name: &str) -> String {
        match &self.owner {
            // A Deployment's ReplicaSet is named `<deployment>-<pod-template-hash>`.
            Some(owner) if owner.kind == "ReplicaSet" => match owner.name.rsplit_once('-') {
                Some((deployment, _)) => deployment.to_owned(),
                None => owner.name.clone(),
            },
            Some(owner) => owner.name.clone(),
            None => pod_name.to_owned(),
        }
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let only = self.status.pod_ips.is_empty().then_some(self.status.pod_ip.as_str());
        let all = self.status.pod_ips.iter().map(|one| one.ip.as_str()).chain(only);
        all.filter(|address| !address.is_empty())
    }

    /// A container port by its name.
    pub fn named_port(&self, name: &str) -> Option<u32> {
        let mut ports = self.spec.containers.iter().flat_map(|container| &container.ports);
        ports.find(|port| port.name == name).map(|port| port.container_port)
    }
}

fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
