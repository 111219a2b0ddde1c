//! What people write: Istio's networking kinds and the Kubernetes objects that a mesh reads, narrowed to what it needs.
//!
//! In: JSON or YAML. Out: typed objects, or errors that name object, field, file and line. Pure: knows no API server.
//! The CustomResourceDefinitions of the kinds are made here too (`crd`), so that types and schemas cannot disagree.

pub mod authorization_policy;
pub mod change;
pub mod closing;
pub mod crd;
pub mod destination_rule;
pub mod gateway;
pub mod http_actions;
pub mod http_route;
pub mod kubernetes;
pub mod lenient;
pub mod load_balancer;
pub mod node;
pub mod object;
pub mod parse;
pub mod peer_authentication;
pub mod proxy_config;
pub mod rate_limit;
pub mod request_authentication;
pub mod scalar;
pub mod schema;
pub mod service_entry;
pub mod sidecar;
pub mod telemetry;
pub mod traffic_policy;
pub mod validate;
pub mod virtual_service;
pub mod workload;

pub use authorization_policy::AuthorizationPolicySpec;
pub use change::Change;
pub use closing::Acting;
pub use destination_rule::{DestinationRuleSpec, Subset};
pub use gateway::{GatewaySpec, Port, Server, ServerTls};
pub use http_route::{
    Destination, HttpMatchRequest, HttpRetry, HttpRoute, HttpRouteDestination, PortSelector, StringMatch,
};
pub use load_balancer::LoadBalancer;
pub use object::{Kind, Meta, Object, ObjectKey, Resource};
pub use parse::{Inspected, ParseError, Parsed, Places, inspect_yaml, inspect_yaml_in, parse_yaml};
pub use peer_authentication::PeerAuthenticationSpec;
pub use proxy_config::ProxyConfigSpec;
pub use rate_limit::RateLimitPolicySpec;
pub use request_authentication::RequestAuthenticationSpec;
pub use scalar::{Duration, LooseDuration};
pub use service_entry::{ServiceEntrySpec, ServicePort};
pub use sidecar::SidecarSpec;
pub use telemetry::TelemetrySpec;
pub use traffic_policy::{ConnectionPool, OutlierDetection, TrafficPolicy};
pub use virtual_service::VirtualServiceSpec;
pub use workload::{WorkloadEntrySpec, WorkloadGroupSpec, WorkloadSelector};
