//! `sluice-proxy`: connections in, requests out, as a snapshot says.
//!
//! A config thread follows the control plane, decodes, checks and builds a [`plan::Plan`]; workers, one thread each with
//! a runtime of its own, accept connections and obey the plan that they were last given. A request sees one plan, taken
//! once. Workers share nothing on the way of a request.

pub mod access_log;
pub mod actions;
pub mod admin;
pub mod agent;
pub mod application;
pub mod args;
pub mod capture;
pub mod certs;
pub mod chain;
pub mod cluster;
pub mod commands;
pub mod connection;
pub mod dial;
pub mod dns;
pub mod dns_server;
mod drain;
pub mod dynamic;
pub mod failure;
pub mod fault;
pub mod follow;
pub mod forward;
pub mod grpc;
pub mod guard;
pub mod hash;
pub mod headers;
pub mod identity;
pub mod internal;
pub mod jwks;
pub mod leaving;
pub mod local_reply;
pub mod log_filter;
pub mod metric_labels;
pub mod metrics;
pub mod mirror;
pub mod names;
pub mod normalize;
pub mod otlp;
pub mod outlier;
pub mod own;
pub mod pipeline;
pub mod plan;
pub mod principals;
pub mod probe;
pub mod rate_limit;
pub mod record;
pub mod resolvers;
pub mod retry;
pub mod run;
pub mod spans;
pub mod stats;
pub mod tcp;
pub mod timeout;
pub mod tls;
pub mod trace;
pub mod trace_context;
pub mod upgrade;
pub mod upstream;
pub mod worker;

/// `grpc-status` of headers or trailers.
pub(crate) fn headers_grpc_status(headers: &http::HeaderMap) -> Option<u16> {
    headers.get(grpc::STATUS)?.to_str().ok()?.parse().ok()
}
