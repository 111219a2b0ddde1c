//! Copies of requests (VS51, VS52, Envoy's request mirroring): sent, read and forgotten.
//!
//! In: a request that is about to be sent. Out: tasks of their own that the original never waits for; it neither slows
//! down nor fails for them. A copy goes with the first try only, has no retries, and is bounded like its original; how
//! many there may be at a time, and how many bytes they may hold back, is bounded too.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::{ClusterChoice, Forward, Mirror, Name};
use http::header::HOST;
use http::{HeaderValue, request};
use routing::Target;
use tokio::task::spawn_local;
use tokio::time::Instant;
use transport::body::RequestBody;
use transport::source::Source;

use crate::cluster::{ClusterState, bump};
use crate::connection::Client;
use crate::forward::{self, Mission};
use crate::headers;
use crate::internal::INTERNAL;
use crate::pipeline::new_record;
use crate::plan::HttpPlan;
use crate::timeout::Bounds;
use crate::worker::Worker;

/// Copies under way per worker; more are not made.
pub const COPIES_MAX: usize = 1024;
/// Bytes that wait in all copies of a worker.
pub const BYTES_MAX: usize = 32 << 20;
/// How long a copy may take whose original has no bound.
const SECONDS_MAX: u64 = 300;

/// The copies of one worker.
#[derive(Default)]
pub struct UnderWay {
    count: Cell<usize>,
    // Bytes that wait in all of them.
    waiting: Rc<Cell<usize>>,
}

/// Sends copies of a request to whom its route says.
pub fn send(
    mission: &Mission<'_>,
    plan: &Arc<HttpPlan>,
    parts: &request::Parts,
    body: &mut Option<Source>,
    bounds: &Bounds,
) {
    for (mirror, slot) in mission.forward.mirrors.iter().zip(mission.mirrors) {
        if !mirror.share.takes(mission.worker.draw()) {
            continue;
        }
        // A cluster that does not exist gets no copy; the original is none the worse.
        let Some(cluster) = mission.worker.cluster(*slot) else { continue };
        let UnderWay { count, waiting } = &mission.worker.mirrors;
        if count.get() >= COPIES_MAX {
            bump(&cluster.counts.mirrors_dropped);
            continue;
        }
        let copied = match body {
            None => RequestBody::Empty,
            Some(body) => RequestBody::Copy(body.copy(waiting.clone(), BYTES_MAX)),
        };
        bump(&cluster.counts.mirrored);
        count.set(count.get() + 1);
        let copy = Copy::new(mission, plan, parts, mirror, *slot, bounds);
        spawn_local(copy.run(cluster, copied));
    }
}

struct Copy {
    counted: Counted,
    client: Rc<Client>,
    plan: Arc<HttpPlan>,
    parts: request::Parts,
    authority: String,
    // A route of its own: to one cluster, with nothing besides.
    forward: Forward,
    cluster: Name,
    slot: u32,
    limit: Duration,
}

impl Copy {
    fn new(
        mission: &Mission<'_>,
        plan: &Arc<HttpPlan>,
        parts: &request::Parts,
        mirror: &Mirror,
        slot: u32,
        bounds: &Bounds,
    ) -> Self {
        let mut parts = parts.clone();
        let authority = match mirror.shadow_host {
            true => shadow(mission.authority),
            false => mission.authority.to_owned(),
        };
        if let Ok(host) = HeaderValue::from_str(&authority) {
            parts.headers.insert(HOST, host);
        }
        parts.headers.insert(INTERNAL, HeaderValue::from_static("true"));
        if mission.counts_attempts {
            parts.headers.insert(headers::ATTEMPT_COUNT, headers::number(1));
        }
        bounds.announce(&mut parts.headers, Duration::ZERO);
        let cluster = ClusterChoice::One(mirror.cluster.clone());
        let forward = Forward { cluster, retry: None, fault: None, mirrors: Vec::new(), ..mission.forward.clone() };
        Self {
            counted: Counted(mission.worker.clone()),
            client: mission.client.clone(),
            plan: plan.clone(),
            parts,
            authority,
            forward,
            cluster: mirror.cluster.clone(),
            slot,
            limit: bounds.whole.unwrap_or(Duration::from_secs(SECONDS_MAX)),
        }
    }

    async fn run(self, cluster: Rc<ClusterState>, body: RequestBody) {
        let worker = &self.counted.0;
        let mission = Mission {
            worker,
            client: &self.client,
            forward: &self.forward,
            cluster: Target { name: &self.cluster, slot: self.slot, actions: None },
            mirrors: &[],
            authority: &self.authority,
            counts_attempts: false,
            back: None,
        };
        let mut record = Box::new(new_record(worker, &self.plan, Instant::now()));
        record.is_over = true;
        let sent = forward::send_copy(&mission, &cluster, record, self.parts, body);
        if !matches!(tokio::time::timeout(self.limit, sent).await, Ok(true)) {
            bump(&cluster.counts.mirrors_failed);
        }
    }
}

// One of the copies under way, until dropped.
struct Counted(Rc<Worker>);

impl Drop for Counted {
    fn drop(&mut self) {
        let count = &self.0.mirrors.count;
        count.set(count.get().saturating_sub(1));
    }
}

/// `reviews:9080` becomes `reviews-shadow:9080`; what has no one port gets the suffix at its end, as in Envoy.
fn shadow(authority: &str) -> String {
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => format!("{host}-shadow:{port}"),
        _ => format!("{authority}-shadow"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s56_the_suffix_stands_before_the_port() {
        assert_eq!(shadow("reviews:9080"), "reviews-shadow:9080");
        assert_eq!(shadow("reviews"), "reviews-shadow");
        assert_eq!(shadow("[::1]:80"), "[::1]:80-shadow");
    }
}
