//! Spans: what an HTTP connection manager tells a collector of its requests (Envoy `HttpConnectionManager.Tracing` with
//! `config.trace.v3.OpenTelemetryConfig`).

use serde::Serialize;

use crate::{Name, Share};

/// How requests are traced.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Tracing {
    /// The cluster of the collector, which takes OTLP over gRPC.
    pub collector: Name,
    /// The authority of requests to the collector.
    pub authority: String,
    /// `service.name` of the spans' resource, `reviews.default`.
    pub service_name: String,
    /// How many requests are sampled for which nobody has decided yet (`random_sampling`); Envoy looks at hundredths of a
    /// percent.
    pub sampling: Share,
    /// The request's `x-request-id` decides what is sampled, and says so to those behind.
    pub by_request_id: bool,
    /// The proxy is a hop of its own: a server span, and a client span for each try (gateways in Istio).
    pub upstream_spans: bool,
    /// More attributes, by name.
    pub tags: Vec<SpanTag>,
}

/// An attribute of spans.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SpanTag {
    /// Its name; not empty.
    pub name: String,
    /// Where its value comes from. Without a value there is no attribute.
    pub source: TagSource,
}

/// Where an attribute's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum TagSource {
    /// Always this; not empty.
    Literal(String),
    /// A variable of the proxy's environment, and what stands for it when it is not there; may be empty.
    Environment(String, String),
    /// A request header, and what stands for it likewise.
    Header(String, String),
}
