//! Injection: what a pod becomes in the mesh.
//!
//! In: a pod as JSON, the labels of its namespace, ProxyConfigs, [`Settings`]. Out: whether it gets a sidecar, or why
//! not; the pod with it; and the difference as a JSON Patch (RFC 6902). The webhook and `sluicectl inject` call the same
//! [`run`], so both give the same pod. Pure: asks no API server.
//!
//! Names, labels, annotations and ports are Istio's (its injection template), so that what is written for Istio works.

mod annotations;
mod capture;
mod configs;
mod container;
mod decide;
mod metadata;
mod patch;
mod pod;
mod probe;
mod proxy;
mod settings;
mod template;
mod workload;

use api::proxy_config::ProxyConfigSpec;
use serde_json::Value;
use words::Labels;

pub use annotations::{INJECT, STATUS};
pub use configs::configs;
pub use decide::{NOT_INJECTED, Reason, Verdict, decide};
pub use patch::diff;
pub use settings::{NativeSidecar, Settings};
pub use template::{Templated, pod_of};

/// The sidecar's container.
pub const PROXY_CONTAINER: &str = "istio-proxy";
/// The init container that makes the capture rules.
pub const INIT_CONTAINER: &str = "istio-init";

/// A pod that may be injected, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The pod, or a pod template: `metadata` and `spec`.
    pub pod: &'a Value,
    /// Its namespace.
    pub namespace: &'a str,
    /// The namespace's labels; `None` when a person asks for this pod by hand.
    pub labels: Option<&'a Labels>,
    /// The workload that it belongs to, when the pod does not say so itself: templates do not.
    pub workload: Option<&'a str>,
    /// ProxyConfigs for it, the weakest first (PC01).
    pub configs: &'a [&'a ProxyConfigSpec],
    /// How pods are injected.
    pub settings: &'a Settings,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is in the mesh.
    Injected {
        /// The pod with its sidecar.
        pod: Value,
        /// What its owner should know.
        warnings: Vec<String>,
    },
    /// It stays as it is.
    Left(Reason),
    /// It must not run as it is: in the mesh it would not work.
    Refused(String),
}

/// Decides, and injects.
pub fn run(request: Request<'_>) -> Outcome {
    match decide(request) {
        Verdict::Leave(reason) => Outcome::Left(reason),
        Verdict::Refuse(reason) => Outcome::Refused(reason),
        Verdict::Inject => match pod::inject(request) {
            Ok((pod, warnings)) => Outcome::Injected { pod, warnings },
            Err(reason) => Outcome::Refused(reason),
        },
    }
}
