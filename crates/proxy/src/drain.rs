//! The end of a proxy: who may still come is served, then sockets are closed, and what is under way may finish.
//!
//! In: what is obeyed, who is there, the time. Out: when each step is. Peers learn of a pod's end by its endpoints: within
//! seconds in the mesh, later at load balancers in front of a gateway. That nobody has come for a moment says nothing about
//! who comes next, so only a proxy that no Service leads to, as that of a Job, may end before its time.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::run::App;

/// Istio's shortest drain (MINIMUM_DRAIN_DURATION).
const AT_LEAST: Duration = Duration::from_secs(5);
/// After that, a sidecar's drain is over when nobody has been there for so long.
const QUIET: Duration = Duration::from_secs(2);
/// How often a drain looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callers {
    /// A load balancer in front of a gateway, which may be slow to learn.
    World,
    /// The mesh: a Service leads here.
    Mesh,
    /// Nobody who asks for a Service.
    Nobody,
}

impl Callers {
    fn of<'a>(node_id: &str, mut clusters: impl Iterator<Item = &'a str>) -> Self {
        // `inbound|9080||`: a port of a Service that leads here.
        let is_called = |name: &str| name.starts_with("inbound|") && name.ends_with("||");
        match node_id.starts_with("router~") {
            true => Self::World,
            false if clusters.any(is_called) => Self::Mesh,
            false => Self::Nobody,
        }
    }

    /// True when a drain that may last `lingers` and has lasted for some time is over.
    fn have_come(self, lingers: Duration, lasted: Duration, quiet: Duration) -> bool {
        let at_least = match self {
            Self::World => lingers,
            Self::Mesh => AT_LEAST,
            Self::Nobody => Duration::ZERO,
        };
        lasted >= lingers || (lasted >= at_least && quiet >= QUIET)
    }
}

/// Readiness is off and clients are asked to go elsewhere, but those that do not know yet are served, for `lingers` from the
/// beginning of the drain. Then sockets are closed, and what is under way may finish within the limit.
pub(crate) async fn finish(app: &App, lingers: Duration, limit: Duration) {
    app.drain().await;
    let (stopped, began) = (Instant::now(), app.draining_since().unwrap_or_else(Instant::now));
    let callers = Callers::of(&app.identity.node_id, app.snapshot.borrow().clusters.keys().map(|name| &**name));
    let (mut seen, mut quiet_since) = (app.busy().await, Instant::now());
    while !callers.have_come(lingers, began.elapsed(), quiet_since.elapsed()) {
        tokio::time::sleep(LOOK_EVERY).await;
        let busy = app.busy().await;
        if busy.open > 0 || busy.total != seen.total {
            quiet_since = Instant::now();
        }
        seen = busy;
    }
    app.close(false).await;
    let closed = Instant::now();
    while closed.elapsed() < limit && app.busy().await.open > 0 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tracing::info!(after_ms = stopped.elapsed().as_millis() as u64, left = app.busy().await.open, "drained");
    // Logs wait at most this long in their buffers.
    tokio::time::sleep(Duration::from_millis(60)).await;
}

/// `/drain_listeners?graceful`: whoever comes is served for a drain's time.
pub(crate) async fn close_later(app: Rc<App>, lingers: Duration) {
    let Some(mut asked) = app.take_closing_later() else { return };
    while let Some(inbound_only) = asked.recv().await {
        tokio::time::sleep(lingers).await;
        app.close(inbound_only).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_may_come_is_read_from_what_is_obeyed() {
        let of = |id: &str, clusters: &[&str]| Callers::of(id, clusters.iter().copied());
        let outbound = "outbound|80||a.b.svc.cluster.local";
        assert_eq!(of("router~10.0.0.1~a.b~c", &[]), Callers::World);
        assert_eq!(of("sidecar~10.0.0.1~a.b~c", &["inbound|9080||", outbound]), Callers::Mesh);
        assert_eq!(of("sidecar~10.0.0.1~a.b~c", &["InboundPassthroughClusterIpv4", outbound]), Callers::Nobody);
    }

    // A load balancer that looks every ten seconds sends requests to the last.
    #[test]
    fn a_gateway_waits_its_time_however_quiet_it_is() {
        let over = |lasted| Callers::World.have_come(SECOND * 30, SECOND * lasted, SECOND * lasted);
        assert!(!over(29) && over(30));
    }

    #[test]
    fn a_sidecar_that_a_service_leads_to_waits_five_seconds() {
        let over = |limit, lasted, quiet| Callers::Mesh.have_come(SECOND * limit, SECOND * lasted, SECOND * quiet);
        assert!(!over(5, 4, 4) && over(5, 5, 0), "the time that was said");
        assert!(!over(60, 30, 1) && over(60, 30, 2), "while somebody is there");
        assert!(over(0, 0, 0), "who wants no drain has none");
    }

    #[test]
    fn a_job_ends_when_it_is_quiet() {
        let over = |lasted, quiet| Callers::Nobody.have_come(SECOND * 5, SECOND * lasted, SECOND * quiet);
        assert!(!over(2, 1) && over(2, 2) && over(5, 0));
    }
}
