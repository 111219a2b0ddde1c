//! A request of either variant, reduced to what a session looks at.
//!
//! In: the protobuf messages. Out: one form. Resource locators (xdstp) are not read: no client of ours sends them.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The type URL.
    pub type_url: String,
    /// Delta: names to add. State of the world: all names.
    pub names: Vec<String>,
    /// Delta: names to drop.
    pub unsubscribe: Vec<String>,
    /// Delta, first request of a type: what the client holds from an earlier stream, name and version.
    pub initial_versions: Vec<(String, String)>,
    /// The response that this answers; empty for none.
    pub nonce: String,
    /// Why that response is refused; none when it is accepted.
    pub error: Option<String>,
}

impl Request {
    /// From the delta variant; the node stands in the first request of a stream.
    pub fn delta(request: DeltaDiscoveryRequest) -> (Self, Option<Node>) {
        let reduced = Self {
            type_url: request.type_url,
            names: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            initial_versions: request.initial_resource_versions.into_iter().collect(),
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
        };
        (reduced, request.node)
    }

    /// From the state-of-the-world variant.
    pub fn sotw(request: DiscoveryRequest) -> (Self, Option<Node>) {
        let reduced = Self {
            type_url: request.type_url,
            names: request.resource_names,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            ..Self::default()
        };
        (reduced, request.node)
    }
}
