//! The client's half of a delta stream, without IO: what we hold, what we want, and the requests that say so.
//!
//! In: names we want, responses, our verdict on each. Out: requests, and responses taken apart. Clusters and listeners are
//! wanted wholly (`*`), the other types by name. Never decodes a resource. What was refused is not held: the next stream
//! says so, and the server sends it again only if it still means it.

mod backoff;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc::Status;

pub use backoff::Backoff;

use crate::TypeUrl;
use crate::limits::ERROR_CHARS_MAX;

/// A response, taken apart. Every update must be answered, in order, by [`ClientSession::answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The type.
    pub kind: TypeUrl,
    /// The response's nonce, for the answer.
    pub nonce: String,
    /// Resources that are new or changed.
    pub upserts: Vec<Upsert>,
    /// Names that are gone, or never were although we want them.
    pub removed: Vec<String>,
}

/// One resource of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upsert {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The encoded message.
    pub body: Bytes,
}

/// What a response is to us.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Look at it and answer.
    Update(Update),
    /// Refused without looking; send this.
    Refused(Box<DeltaDiscoveryRequest>),
    /// A type we never asked for.
    Ignored,
}

#[derive(Debug, Default)]
struct TypeState {
    wildcard: bool,
    wanted: BTreeSet<String>,
    held: BTreeMap<String, String>,
    asked: bool,
}

/// What was heard and not answered.
#[derive(Debug)]
struct Open {
    kind: TypeUrl,
    nonce: String,
    /// A stream that has ended cannot take the answer any more, but what we hold changes all the same.
    stream: u64,
    upserts: Vec<(String, String)>,
    removed: Vec<String>,
}

/// What a delta client remembers across streams.
#[derive(Debug)]
pub struct ClientSession {
    node: Node,
    node_sent: bool,
    stream: u64,
    types: [TypeState; TypeUrl::COUNT],
    open: Vec<Open>,
}

impl ClientSession {
    /// A client that holds nothing and wants all clusters and listeners.
    pub fn new(node: Node) -> Self {
        let mut types: [TypeState; TypeUrl::COUNT] = Default::default();
        for kind in [TypeUrl::Cluster, TypeUrl::Listener] {
            types[kind.index()].wildcard = true;
        }
        Self { node, node_sent: false, stream: 0, types, open: Vec::new() }
    }

    /// The first requests of a new stream, one per type: what we want, and what we hold from before, so that only the
    /// difference comes. Not before every update was answered ([`ClientSession::is_answered`]): an update that is taken
    /// after we said what we hold would be unknown to the server for ever.
    pub fn reconnect(&mut self) -> Vec<DeltaDiscoveryRequest> {
        debug_assert!(self.is_answered(), "an update of the last stream is not answered");
        self.open.clear();
        self.node_sent = false;
        self.stream += 1;
        self.types.iter_mut().for_each(|state| state.asked = false);
        TypeUrl::ALL.into_iter().filter_map(|kind| self.first_request(kind)).collect()
    }

    fn first_request(&mut self, kind: TypeUrl) -> Option<DeltaDiscoveryRequest> {
        let state = &mut self.types[kind.index()];
        if !state.wildcard && state.wanted.is_empty() {
            return None;
        }
        state.asked = true;
        let wildcard = state.wildcard.then(|| "*".to_owned());
        let names = wildcard.into_iter().chain(state.wanted.iter().cloned()).collect();
        let held = state.held.clone().into_iter().collect();
        let request = self.request(kind);
        Some(DeltaDiscoveryRequest { resource_names_subscribe: names, initial_resource_versions: held, ..request })
    }

    fn request(&mut self, kind: TypeUrl) -> DeltaDiscoveryRequest {
        // Only the first request of a stream must carry the node (DeltaDiscoveryRequest.node).
        let node = (!std::mem::replace(&mut self.node_sent, true)).then(|| self.node.clone());
        DeltaDiscoveryRequest { node, type_url: kind.url().into(), ..Default::default() }
    }

    /// Wants exactly these names of a type from now on; the request that says so, if there is a stream and anything
    /// changed. What is no longer wanted is no longer held.
    pub fn want(&mut self, kind: TypeUrl, names: BTreeSet<String>) -> Option<DeltaDiscoveryRequest> {
        let state = &mut self.types[kind.index()];
        let subscribe: Vec<String> = names.difference(&state.wanted).cloned().collect();
        let unsubscribe: Vec<String> = state.wanted.difference(&names).cloned().collect();
        state.wanted = names;
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return None;
        }
        let TypeState { wildcard, wanted, held, asked } = state;
        held.retain(|name, _| *wildcard || covers(kind, wanted, name));
        if self.stream == 0 {
            return None;
        }
        if !*asked {
            return self.first_request(kind);
        }
        let request = self.request(kind);
        Some(DeltaDiscoveryRequest {
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..request
        })
    }

    /// Takes a response apart.
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Heard {
        let Some(kind) = TypeUrl::parse(&response.type_url).filter(|kind| self.types[kind.index()].asked) else {
            return Heard::Ignored;
        };
        let (mut upserts, mut removed) = (Vec::with_capacity(response.resources.len()), response.removed_resources);
        for resource in response.resources {
            match resource.resource {
                Some(any) if any.type_url == kind.url() => {
                    let (name, version) = (resource.name, resource.version);
                    upserts.push(Upsert { name, version, body: any.value.into() });
                }
                Some(any) => {
                    let message = format!("{}: resource of type {} in a {kind} response", resource.name, any.type_url);
                    return Heard::Refused(Box::new(self.answer_request(kind, response.nonce, Some(message))));
                }
                // VHDS: an on-demand name that is nowhere.
                None => removed.push(resource.name),
            }
        }
        let named = upserts.iter().map(|upsert| (upsert.name.clone(), upsert.version.clone())).collect();
        let nonce = response.nonce;
        let (open_nonce, open_removed) = (nonce.clone(), removed.clone());
        self.open.push(Open { kind, nonce: open_nonce, stream: self.stream, upserts: named, removed: open_removed });
        Heard::Update(Update { kind, nonce, upserts, removed })
    }

    /// Answers an update: taken, or refused with a reason that a person can act on. The request to send, unless the
    /// stream it came on has ended. Call [`ClientSession::want`] first, for what the update makes us want.
    pub fn answer(&mut self, kind: TypeUrl, nonce: &str, refusal: Option<String>) -> Option<DeltaDiscoveryRequest> {
        let place = self.open.iter().position(|open| open.kind == kind && open.nonce == nonce)?;
        let open = self.open.remove(place);
        if refusal.is_none() {
            let TypeState { wildcard, wanted, held, .. } = &mut self.types[kind.index()];
            let still_wanted = open.upserts.into_iter().filter(|(name, _)| *wildcard || covers(kind, wanted, name));
            held.extend(still_wanted);
            open.removed.iter().for_each(|name| _ = held.remove(name));
        }
        (open.stream == self.stream).then(|| self.answer_request(kind, open.nonce, refusal))
    }

    fn answer_request(&mut self, kind: TypeUrl, nonce: String, refusal: Option<String>) -> DeltaDiscoveryRequest {
        let message = |text: String| text.chars().take(ERROR_CHARS_MAX).collect();
        let error_detail =
            refusal.map(|text| Status { code: INVALID_ARGUMENT, message: message(text), details: Vec::new() });
        DeltaDiscoveryRequest { response_nonce: nonce, error_detail, ..self.request(kind) }
    }

    /// True if no update waits for its answer.
    pub fn is_answered(&self) -> bool {
        self.open.is_empty()
    }

    /// Name and version of what we hold of a type.
    pub fn held(&self, kind: TypeUrl) -> &BTreeMap<String, String> {
        &self.types[kind.index()].held
    }
}

// A wanted route table means all of its virtual hosts, which are named `<table>/<host>`.
fn covers(kind: TypeUrl, wanted: &BTreeSet<String>, name: &str) -> bool {
    wanted.contains(name)
        || kind == TypeUrl::VirtualHost && name.match_indices('/').any(|(at, _)| wanted.contains(&name[..at]))
}

// google.rpc.Code
const INVALID_ARGUMENT: i32 = 3;
