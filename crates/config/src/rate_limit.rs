//! Local rate limits: token buckets that a proxy keeps for itself (Envoy `local_ratelimit.v3`).

use std::time::Duration;

use serde::Serialize;

use crate::Name;

/// A limit; requests that find no token are answered 429, flag RL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RateLimit {
    /// Which bucket: limits of one name share it, `default/reviews/0`.
    pub name: Name,
    /// What tells clients apart; `None`: all share one bucket.
    pub key: Option<RateKey>,
    /// Tokens per interval; at least 1.
    pub requests: u32,
    /// The interval; at least 50 ms.
    pub interval: Duration,
    /// Most tokens in the bucket; at least 1.
    pub burst: u32,
}

/// What tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RateKey {
    /// The value of a header; requests without it need no token.
    Header(String),
    /// The client's address.
    SourceAddress,
}
