//! Faults that a proxy injects before it sends a request on (Istio VS100 to VS106, Envoy `fault.v3.HTTPFault`).

use std::time::Duration;

use serde::Serialize;

use crate::Share;

/// What may go wrong on purpose. Both parts are drawn independently of each other, the delay first (VS104).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Fault {
    /// Wait before anything else is done.
    pub delay: Option<Delay>,
    /// Answer instead of asking an upstream.
    pub abort: Option<Abort>,
}

/// A wait. It counts into no timeout and into no retry (VS106).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Delay {
    /// How long; above 0.
    pub fixed: Duration,
    /// Of how many requests.
    pub share: Share,
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Abort {
    /// With what.
    pub status: AbortStatus,
    /// Of how many requests.
    pub share: Share,
}

/// What an aborted request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum AbortStatus {
    /// A status code, 200 to 599. A gRPC client is told the gRPC code that stands for it.
    Http(u16),
    /// A gRPC code, 0 to 16. A client that does not speak gRPC gets a plain 200 (measured with Envoy 1.40).
    Grpc(u16),
}
