//! Aggregated xDS for both ends of the wire, sans-IO: state machines that take requests and give responses.
//!
//! In: named, versioned, already encoded resources and what the other side says. Out: what to send next, and events.
//! Never looks inside a resource, never reads a clock or makes a random number: both are arguments. `grpc` is the only
//! part that knows tonic, tasks and sockets. Delta is the internal form; state of the world is a rendering of it.
//! Spec: Envoy's "xDS REST and gRPC protocol", cited here by section.

pub mod client;
pub mod grpc;
mod kind;
mod layer;
pub mod limits;
mod resource;
mod response;
pub mod server;

pub use kind::TypeUrl;
pub use layer::{Layer, LayerDiff, Target};
pub use resource::Resource;
pub use response::Response;
pub use server::{Mode, Outcome, Request, Session, StreamStatus, TypeStatus};

/// Envoy's description of a client: id, cluster, metadata, locality, user agent.
pub use envoy_types::pb::envoy::config::core::v3::Node;
