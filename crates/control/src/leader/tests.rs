//! The rule of the election, without sleeping: each candidate has a clock of its own.

use std::sync::{Arc, Mutex};

use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// A Lease in memory, with the API server's rule about versions.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn write(&mut self, lease: &Lease) -> Option<Lease> {
        let version = self.lease.as_ref().map(|lease| lease.version.clone()).unwrap_or_default();
        if lease.version != version {
            return None;
        }
        self.version += 1;
        self.lease = Some(Lease { version: self.version.to_string(), ..lease.clone() });
        self.lease.clone()
    }

    /// A round of a candidate at its own time.
    fn round(&mut self, one: &mut Election, now: Instant) {
        let mut has_read = false;
        for _ in 0..2 {
            match one.next(has_read, now, &format!("{now:?}")) {
                Move::Rest => return,
                Move::Read => {
                    has_read = true;
                    one.saw(self.lease.clone(), now);
                }
                Move::Write(lease) => {
                    match self.write(&lease) {
                        Some(lease) => one.wrote(lease, now),
                        None => one.was_refused(),
                    }
                    return;
                }
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn two() -> (Server, Election, Election, Instant) {
    (Server::default(), Election::new("a".into()), Election::new("b".into()), Instant::now())
}

#[test]
fn the_first_leads_and_renews_and_the_second_waits() {
    let (mut server, mut a, mut b, start) = two();
    for second in (0..60).step_by(2) {
        let now = start + SECOND * second;
        server.round(&mut a, now);
        server.round(&mut b, now);
        assert!(a.leads(now) && !b.leads(now), "{second}");
    }
    let lease = server.lease.unwrap();
    assert_eq!((lease.holder.as_str(), lease.transitions, lease.seconds), ("a", 0, 15));
}

#[test]
fn a_silent_leader_stops_before_another_begins() {
    let (mut server, mut a, mut b, start) = two();
    server.round(&mut a, start);
    let mut began = None;
    for second in 0..30 {
        let now = start + SECOND * second;
        server.round(&mut b, now);
        assert!(!(a.leads(now) && b.leads(now)), "two lead at {second}");
        if b.leads(now) && began.is_none() {
            began = Some(second);
        }
        assert_eq!(a.leads(now), second < 10);
    }
    assert_eq!(began, Some(15));
    assert_eq!(server.lease.unwrap().transitions, 1);
}

// Clock skew: what is written down is never compared with a clock.
#[test]
fn a_lease_written_by_a_clock_of_another_day_is_waited_for_as_long_as_any_other() {
    let (mut server, _, mut b, start) = two();
    for renewed in ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"] {
        let version = server.version.to_string();
        let holder = "gone".to_owned();
        let lease = Lease { holder, seconds: 15, renewed: renewed.into(), version, ..Lease::default() };
        server.lease = Some(lease);
        b = Election::new(b.me);
        server.round(&mut b, start);
        server.round(&mut b, start + SECOND * 14);
        assert!(!b.leads(start + SECOND * 14), "{renewed}");
        server.round(&mut b, start + SECOND * 15);
        assert!(b.leads(start + SECOND * 15), "{renewed}");
    }
}

#[test]
fn of_two_that_write_at_once_one_is_refused() {
    let (mut server, mut a, mut b, now) = two();
    a.saw(None, now);
    b.saw(None, now);
    let (Move::Write(of_a), Move::Write(of_b)) = (a.next(true, now, "x"), b.next(true, now, "x")) else {
        panic!("both try")
    };
    a.wrote(server.write(&of_a).unwrap(), now);
    assert!(server.write(&of_b).is_none());
    b.was_refused();
    assert!(a.leads(now) && !b.leads(now));
}

#[test]
fn a_leader_whose_lease_was_taken_leads_no_longer() {
    let (mut server, mut a, mut b, start) = two();
    server.round(&mut a, start);
    // Somebody deletes the Lease, and the other makes a new one.
    server.lease = None;
    server.round(&mut b, start + SECOND);
    assert!(b.leads(start + SECOND));
    server.round(&mut a, start + SECOND * 2);
    assert!(!a.leads(start + SECOND * 2), "its write names a version that is gone");
    server.round(&mut a, start + SECOND * 4);
    assert_eq!(server.lease.unwrap().holder, "b");
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let (mut server, mut a, mut b, start) = two();
    server.round(&mut a, start);
    server.round(&mut b, start);
    let lease = a.release(start + SECOND, "x").unwrap();
    assert!(!a.leads(start + SECOND));
    server.write(&lease).unwrap();
    server.round(&mut b, start + SECOND * 2);
    assert!(b.leads(start + SECOND * 2));
    assert_eq!(b.release(start + SECOND * 20, "x"), None, "who does not lead any more releases nothing");
}

#[test]
fn a_replica_that_comes_back_under_its_name_leads_at_once() {
    let (mut server, mut a, _, start) = two();
    server.round(&mut a, start);
    let mut again = Election::new("a".into());
    server.round(&mut again, start + SECOND);
    assert!(again.leads(start + SECOND));
    assert_eq!(server.lease.unwrap().transitions, 0);
}

/// An API server that holds one Lease, answers at once or not at all, and counts who asks.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    asked: usize,
    is_silent: bool,
}

impl Api {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    async fn answer(self, request: http::Request<Body>) -> Result<http::Response<Body>, kube::Error> {
        let is_read = request.method() == http::Method::GET;
        let body = request.into_body().collect_bytes().await?;
        let is_silent = self.with(|state| {
            state.asked += 1;
            state.is_silent
        });
        if is_silent {
            std::future::pending::<()>().await;
        }
        let lease = self.with(|state| {
            if !is_read {
                state.version += 1;
                let mut lease: Value = serde_json::from_slice(&body).unwrap();
                lease["metadata"]["resourceVersion"] = json!(state.version.to_string());
                state.lease = Some(lease);
            }
            state.lease.clone()
        });
        let gone =
            || json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"});
        let status = if lease.is_some() { 200 } else { 404 };
        let body = lease.unwrap_or_else(gone).to_string();
        Ok(http::Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap())
    }

    fn store(&self) -> LeaseStore {
        let api = self.clone();
        let service = tower::service_fn(move |request| api.clone().answer(request));
        LeaseStore::new(kube::Client::new(service, "default"), "istio-system", LEASE, None)
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_api_server_was_silent_asks_seldom_and_leads_again() {
    let api = Api::default();
    let (leadership, candidacy) = spawn(api.store(), "a".into());
    let mut changes = leadership.changes();
    changes.wait_for(|leads| *leads).await.unwrap();
    let before = api.with(|state| {
        state.is_silent = true;
        state.asked
    });
    let began = tokio::time::Instant::now();
    changes.wait_for(|leads| !leads).await.unwrap();
    assert!(began.elapsed() <= RENEW_WITHIN, "{:?}", began.elapsed());
    tokio::time::sleep(SECOND * 30).await;
    // A question waits for its answer for some seconds, then there is a pause.
    let asked = api.with(|state| {
        state.is_silent = false;
        state.asked - before
    });
    assert!((4..=10).contains(&asked), "{asked} questions in 40 s");
    tokio::time::timeout(SECOND * 10, changes.wait_for(|leads| *leads)).await.expect("it leads again").unwrap();
    candidacy.release().await;
}
