//! Local rate limits: a request takes a token of each limit of its virtual host and rule, or is answered 429, flag RL.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use balance::token_bucket::{Buckets, Rate, Taken};
use config::{Name, RateKey, RateLimit, Snapshot};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::cluster::uptime;
use crate::connection::Client;
use crate::headers;

/// `x-ratelimit-limit`.
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// `x-ratelimit-remaining`.
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// `x-ratelimit-reset`, in seconds.
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// The body of a refusal, as Envoy's.
pub const REFUSED: &str = "local_rate_limited";

/// The buckets of all limits by name; they outlive the plan.
pub type ByName = BTreeMap<Name, Arc<Buckets>>;

/// The buckets that a snapshot needs; those of `before` keep what is in them.
pub fn buckets(snapshot: &Snapshot, before: &ByName) -> ByName {
    let hosts = snapshot.routes.values().flat_map(|table| &table.virtual_hosts);
    let limits = hosts.flat_map(|host| host.limits.iter().chain(host.routes.iter().flat_map(|route| &route.limits)));
    limits.map(|limit| (limit.name.clone(), before.get(&limit.name).cloned().unwrap_or_default())).collect()
}

/// What the limits said of a request: the scarcest of them.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    taken: Taken,
    burst: u32,
}

impl Verdict {
    /// True when the request may go on.
    pub fn is_allowed(self) -> bool {
        self.taken.allowed
    }

    /// Tells the client.
    pub fn mark(self, headers: &mut HeaderMap<HeaderValue>) {
        headers.insert(LIMIT, headers::number(self.burst.into()));
        headers.insert(REMAINING, headers::number(self.taken.remaining.into()));
        headers.insert(RESET, headers::number(self.taken.wait.as_millis().div_ceil(1000) as u64));
    }
}

/// Takes the tokens; `None` when no limit concerns the request.
pub fn take<'a>(
    limits: impl Iterator<Item = &'a RateLimit>,
    buckets: &ByName,
    request: &HeaderMap<HeaderValue>,
    client: &Client,
) -> Option<Verdict> {
    let now = nanos(uptime());
    let mut scarcest: Option<Verdict> = None;
    for limit in limits {
        let Some(buckets) = buckets.get(&limit.name) else { continue };
        let rate = Rate::new(limit.requests, limit.interval, limit.burst);
        let taken = match &limit.key {
            None => buckets.take(rate, now),
            Some(RateKey::Header(name)) => {
                let Some(value) = request.get(name.as_str()) else { continue };
                buckets.take_for(value.as_bytes(), rate, now)
            }
            Some(RateKey::SourceAddress) => {
                let Some(peer) = client.peer else { continue };
                buckets.take_for(peer.ip().to_string().as_bytes(), rate, now)
            }
        };
        let verdict = Verdict { taken, burst: limit.burst };
        if !taken.allowed {
            return Some(verdict);
        }
        if scarcest.is_none_or(|other| taken.remaining < other.taken.remaining) {
            scarcest = Some(verdict);
        }
    }
    scarcest
}

// From a moment before any request, so that a new bucket is full.
fn nanos(now: Duration) -> u64 {
    u64::try_from((now + Duration::from_secs(1)).as_nanos()).unwrap_or(u64::MAX)
}
