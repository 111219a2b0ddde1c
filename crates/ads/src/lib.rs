//! ADS sessions for both ends (xDS transport protocol v3): a state machine per stream, and `grpc`, the only tonic edge.
//!
//! In: requests or responses, and what a client shall hold ([`Target`]). Out: responses or requests, events. A session
//! does no IO and reads no clock; it never looks inside a resource. Delta is the internal form; state of the world is
//! a rendering of it.

pub mod client;
mod frame;
pub mod grpc;
mod kind;
mod layer;
pub mod limits;
mod resource;
mod server;
mod status;
mod subscription;

pub use frame::Frame;
pub use kind::TypeUrl;
pub use layer::{Layer, LayerDiff, Target};
pub use resource::Resource;
pub use server::{Mode, Outcome, Request, Session};
pub use status::{StreamStatus, TypeStatus};
