//! Compile: Istio objects and Kubernetes objects in, what each proxy obeys out. Pure: no clock, no socket, no
//! randomness.
//!
//! The way of an object: a front end (`virtual_service`, `traffic_policy`, `service_entry`, `kubernetes`, `server`,
//! `sidecar`) lowers it by itself when it is applied; `world` keeps the result with a fingerprint. For a proxy,
//! `compiler` finds its class and gathers what that class sees; the back ends (`cluster`, `endpoints`, `route`,
//! `virtual_host`, `route_table`, `outbound`, `inbound`, `gateway`) compute from gathered inputs and nothing else,
//! behind memos keyed by those inputs.

mod authentication;
mod authorization;
mod auto_address;
mod budget;
mod chains;
mod class;
mod client_tls;
mod cluster;
mod compiler;
mod connection_rule;
mod cors;
mod delegate;
mod destination_rule;
mod diagnose;
mod direct_response;
mod endpoints;
mod explicit;
mod expression;
mod fault;
mod gateway;
mod gateway_name;
mod gateway_tcp;
mod guards;
mod hashing;
mod header_changes;
mod host_name;
mod inbound;
mod ingress;
mod intent;
mod kubernetes;
mod listener;
mod load_balancer;
mod locality;
mod matches;
mod memo;
pub mod mesh;
mod mirror;
mod mutual_tls;
mod name_table;
mod notes;
mod outbound;
mod outlier;
mod outlook;
mod passthrough;
mod peer_authentication;
mod piece;
mod policy;
mod rate_limit;
mod redirect;
mod registry;
mod retry;
mod rewrite;
mod route;
mod route_table;
pub mod scope;
mod secret;
mod selection;
mod server;
mod server_name;
mod server_tls;
mod service;
mod service_entry;
mod shadow;
mod shared;
mod sidecar;
mod sidecar_routes;
mod tcp;
mod telemetry;
mod text;
mod timeout;
mod traffic_policy;
mod virtual_host;
mod virtual_service;
mod visibility;
mod weight;
mod workload;
pub mod world;

pub use compiler::{Compiled, Compiler, Layer};
pub use mesh::{Collector, DefaultRetries, MeshConfig, OutboundTrafficPolicy};
pub use scope::{Interception, Role, Scope, ScopeError, SecretsRight};
pub use world::{Dirty, World};
