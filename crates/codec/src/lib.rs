//! `config` to Envoy's xDS v3 protobuf and back; a feature's two directions stand side by side.
//!
//! In: a value of `config`, or a resource's bytes from any control plane. Out: bytes that stock Envoy accepts, or the
//! value, with notes about what was not understood and changes nothing, or a [`Rejected`] that names resource and path.
//! Pure; knows no session and no version.

mod access_log;
mod alpn;
mod authentication;
mod authorization;
mod balancing;
mod budget;
mod cluster;
mod common;
mod cors;
mod dynamic;
mod encoder;
mod endpoint;
mod fault;
mod hash;
mod header_changes;
mod http;
pub mod json;
mod kind;
mod listener;
mod log_filter;
mod metadata;
mod metrics;
mod mirror;
mod name_table;
pub mod node;
mod outlier;
mod rate_limit;
mod redirect;
mod retry;
mod rewrite;
mod route;
mod route_match;
mod secret;
mod share;
mod tcp;
mod tls;
mod tracing;

pub use encoder::{Encoded, Encoder};
pub use kind::{Decoded, Rejected, ResourceKind, decode};

/// What the client can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Options {
    /// Virtual hosts as resources of their own (VHDS), named `<table>/<virtual host>`.
    pub vhds: bool,
}
