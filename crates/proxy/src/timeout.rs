//! Bounds in time of one request: the whole of it, one try, and how long nothing may move (VS48, VS82, DP07).
//!
//! The whole bound begins when the request has arrived to its last byte and ends with the last byte of the answer, so a
//! slow upload or a stream that the client keeps open does not count (Envoy's route timeout). A gRPC client's deadline
//! counts in place of the route's, but never for longer than it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use config::Forward;
use http::HeaderMap;
use tokio::time::Instant;
use transport::source::Arrival;

use crate::failure::Failure;
use crate::{grpc, headers, internal};

/// The bounds of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// On all of it; `None`: none.
    pub whole: Option<Duration>,
    /// On one try; `None`: as `whole`.
    pub per_try: Option<Duration>,
    is_grpc: bool,
}

impl Bounds {
    /// The bounds of a request for a route; with `may_ask`, what the request asks for itself is read and taken out.
    pub fn of(forward: &Forward, headers: &mut HeaderMap, is_grpc: bool, may_ask: bool) -> Self {
        let mut whole = forward.timeout;
        if is_grpc {
            let asked = grpc::deadline(headers).filter(|asked| !asked.is_zero());
            whole = match (asked, whole) {
                (Some(asked), Some(most)) => Some(asked.min(most)),
                (asked, most) => asked.or(most),
            };
        }
        let mut per_try = forward.retry.as_ref().and_then(|policy| policy.per_try_timeout);
        if may_ask {
            // Only internal requests still have these (`internal.rs`); 0 is no bound.
            let mut asked = |name, route: Option<Duration>| match take(headers, &name) {
                None => route,
                Some(asked) => Some(asked).filter(|asked| !asked.is_zero()),
            };
            whole = asked(internal::TIMEOUT, whole);
            per_try = asked(internal::TRY_TIMEOUT, per_try);
        }
        let per_try = per_try.filter(|one| whole.is_none_or(|whole| *one < whole));
        Self { whole, per_try, is_grpc }
    }

    /// Tells the upstream how long it has, `elapsed` after the request began.
    pub fn announce(&self, headers: &mut HeaderMap, elapsed: Duration) {
        let Some(limit) = self.per_try.or(self.whole) else { return };
        // 0 would mean no bound at all.
        let left = self.whole.map_or(limit, |whole| whole.saturating_sub(elapsed).max(Duration::from_millis(1)));
        let limit = limit.min(left);
        headers.insert(internal::EXPECTED, headers::number(limit.as_millis() as u64));
        if let Some(value) = self.is_grpc.then(|| grpc::write_deadline(limit)).flatten() {
            headers.insert(grpc::TIMEOUT, value);
        }
    }
}

fn take(headers: &mut HeaderMap, name: &http::HeaderName) -> Option<Duration> {
    headers.remove(name)?.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// Why a request was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It took too long.
    Timeout,
    /// Nothing moved for too long.
    Idle {
        /// The request had arrived whole: the upstream is to blame, not the client.
        arrived: bool,
    },
}

impl From<Cut> for Failure {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Timeout => Failure::Timeout,
            Cut::Idle { arrived } => Failure::Idle { arrived },
        }
    }
}

/// Cuts a request off, sooner or later.
pub struct Watch(Pin<Box<dyn Future<Output = Cut>>>);

impl Watch {
    /// A watch over a request; without any bound it never ends.
    pub fn new(whole: Option<Duration>, idle: Option<Duration>, arrival: Rc<Arrival>) -> Self {
        let due = {
            let arrival = arrival.clone();
            async move {
                match whole {
                    None => std::future::pending().await,
                    Some(limit) => {
                        arrival.wait().await;
                        tokio::time::sleep(limit).await;
                    }
                }
            }
        };
        let watch = async move {
            tokio::select! {
                () = due => Cut::Timeout,
                () = until_idle(arrival.moved(), idle) => Cut::Idle { arrived: arrival.is_over() },
            }
        };
        Self(Box::pin(watch))
    }
}

async fn until_idle(moved: &Cell<Instant>, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        let due = moved.get() + idle;
        if Instant::now() >= due {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

impl Future for Watch {
    type Output = Cut;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Cut> {
        self.0.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use config::ClusterChoice;
    use http::{HeaderName, HeaderValue};

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn forward(timeout: Option<u64>) -> Forward {
        Forward { timeout: timeout.map(MS), ..Forward::to(ClusterChoice::One("c".into())) }
    }

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let each = all.iter();
        each.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn vs48_a_grpc_deadline_counts_but_never_for_longer_than_the_route() {
        let whole = |route, deadline: &'static str| {
            let mut asked = headers(&[("grpc-timeout", deadline)]);
            Bounds::of(&forward(route), &mut asked, true, false).whole
        };
        assert_eq!(whole(None, "200m"), Some(MS(200)));
        assert_eq!(whole(Some(500), "200m"), Some(MS(200)));
        assert_eq!(whole(Some(500), "2S"), Some(MS(500)));
        assert_eq!(whole(Some(500), "0m"), Some(MS(500)));
        assert_eq!(whole(None, "soon"), None);
        let plain = Bounds::of(&forward(None), &mut headers(&[("grpc-timeout", "1S")]), false, false);
        assert_eq!(plain.whole, None, "not a gRPC request");
    }

    #[test]
    fn only_who_may_ask_is_heard() {
        let ask = || headers(&[("x-envoy-upstream-rq-timeout-ms", "70")]);
        let mut asked = ask();
        assert_eq!(Bounds::of(&forward(Some(500)), &mut asked, false, true).whole, Some(MS(70)));
        assert!(asked.is_empty());
        assert_eq!(Bounds::of(&forward(Some(500)), &mut ask(), false, false).whole, Some(MS(500)));
    }

    #[test]
    fn the_upstream_is_told_how_long_it_has_left() {
        let bounds = Bounds { whole: Some(MS(300)), per_try: Some(MS(200)), is_grpc: true };
        let told = |elapsed| {
            let mut headers = HeaderMap::new();
            bounds.announce(&mut headers, MS(elapsed));
            [internal::EXPECTED, grpc::TIMEOUT].map(|name| headers[name].to_str().unwrap().to_owned())
        };
        assert_eq!(told(0), ["200", "200m"]);
        assert_eq!(told(250), ["50", "50m"]);
        assert_eq!(told(400), ["1", "1m"]);
    }
}
