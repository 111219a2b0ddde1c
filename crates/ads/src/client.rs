//! The client's half of a delta stream, without IO: what we hold, what we want, and the requests that say so.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc::Status;

use crate::TypeUrl;

/// A response, taken apart.
#[derive(Clone, Debug)]
pub struct Update {
    /// The type.
    pub kind: TypeUrl,
    /// The response's nonce, for the answer.
    pub nonce: String,
    /// Name, version and body of each resource that is new or changed.
    pub upserts: Vec<(String, String, Vec<u8>)>,
    /// Names that are gone.
    pub removed: Vec<String>,
}

#[derive(Debug, Default)]
struct TypeState {
    wanted: BTreeSet<String>,
    versions: BTreeMap<String, String>,
    asked: bool,
}

/// What a delta client remembers across streams.
#[derive(Debug)]
pub struct ClientSession {
    node: Node,
    node_sent: bool,
    types: [TypeState; TypeUrl::COUNT],
}

impl ClientSession {
    /// A client that holds nothing and wants all clusters and listeners.
    pub fn new(node: Node) -> Self {
        Self { node, node_sent: false, types: Default::default() }
    }

    /// The first requests of a new stream: what we want, and what we hold from before, so that only the difference
    /// comes.
    pub fn start(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.node_sent = false;
        TypeUrl::ALL.into_iter().filter_map(|kind| self.first_request(kind)).collect()
    }

    fn first_request(&mut self, kind: TypeUrl) -> Option<DeltaDiscoveryRequest> {
        let state = &mut self.types[kind.index()];
        let is_wanted = kind.is_wildcard_by_default() || !state.wanted.is_empty();
        state.asked = is_wanted;
        if !is_wanted {
            return None;
        }
        let names = if kind.is_wildcard_by_default() { vec!["*".to_owned()] } else { state.wanted.iter().cloned().collect() };
        let versions = state.versions.clone().into_iter().collect();
        Some(DeltaDiscoveryRequest {
            resource_names_subscribe: names,
            initial_resource_versions: versions,
            ..self.request(kind)
        })
    }

    fn request(&mut self, kind: TypeUrl) -> DeltaDiscoveryRequest {
        // The node goes with the first request of a stream (xDS protocol).
        let node = (!std::mem::replace(&mut self.node_sent, true)).then(|| self.node.clone());
        DeltaDiscoveryRequest { node, type_url: kind.url().into(), ..Default::default() }
    }

    /// Wants exactly these names of a type from now on; the request that says so, when anything changed.
    pub fn want(&mut self, kind: TypeUrl, names: BTreeSet<String>) -> Option<DeltaDiscoveryRequest> {
        let state = &mut self.types[kind.index()];
        let subscribe: Vec<String> = names.difference(&state.wanted).cloned().collect();
        let unsubscribe: Vec<String> = state.wanted.difference(&names).cloned().collect();
        for name in &unsubscribe {
            state.versions.remove(name);
        }
        state.wanted = names;
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return None;
        }
        if !state.asked {
            return self.first_request(kind);
        }
        Some(DeltaDiscoveryRequest {
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..self.request(kind)
        })
    }

    /// Takes a response apart; `None` for a type that we never asked for. The caller answers with [`Self::ack`] or
    /// [`Self::nack`].
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Option<Update> {
        let kind = TypeUrl::parse(&response.type_url)?;
        let named = |resource: envoy_types::pb::envoy::service::discovery::v3::Resource| {
            Some((resource.name, resource.version, resource.resource?.value))
        };
        Some(Update {
            kind,
            nonce: response.nonce,
            upserts: response.resources.into_iter().filter_map(named).collect(),
            removed: response.removed_resources,
        })
    }

    /// Notes what we hold now. What was refused is not among `upserts`.
    pub fn holds(&mut self, kind: TypeUrl, upserts: impl IntoIterator<Item = (String, String)>, removed: &[String]) {
        let versions = &mut self.types[kind.index()].versions;
        versions.extend(upserts);
        for name in removed {
            versions.remove(name);
        }
    }

    /// Accepts a response.
    pub fn ack(&mut self, kind: TypeUrl, nonce: String) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest { response_nonce: nonce, ..self.request(kind) }
    }

    /// Refuses a response, saying why.
    pub fn nack(&mut self, kind: TypeUrl, nonce: String, message: String) -> DeltaDiscoveryRequest {
        // 3: INVALID_ARGUMENT.
        let error_detail = Some(Status { code: 3, message, details: Vec::new() });
        DeltaDiscoveryRequest { response_nonce: nonce, error_detail, ..self.request(kind) }
    }

    /// The version held of each resource of a type.
    pub fn versions(&self, kind: TypeUrl) -> &BTreeMap<String, String> {
        &self.types[kind.index()].versions
    }
}

/// How long to wait before connecting again: doubling from 100 ms to 10 s, each wait drawn from its upper half, so that
/// proxies that lost one control plane do not come back in step.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait; `draw` is uniform.
    pub fn next(&mut self, draw: u32) -> std::time::Duration {
        let most = 100_u64.saturating_mul(1 << self.failures.min(7)).min(10_000);
        self.failures += 1;
        let half = most / 2;
        std::time::Duration::from_millis(half + (u64::from(draw) * (most - half) >> 32))
    }

    /// A stream worked: the next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
