//! The rules of a server session, one test per rule.

mod order;
mod sotw;
mod subscriptions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Mode, Outcome, Request, Session, StreamStatus};
use crate::TypeUrl::{Cluster, Endpoints, Listener, Route, VirtualHost};
use crate::{Layer, Resource, Response, Target, TypeUrl};

/// A session under a hand-moved clock, and the client's last words.
struct Bench {
    session: Session,
    status: StreamStatus,
    now: Instant,
}

impl Bench {
    fn new(mode: Mode) -> Self {
        let status = StreamStatus::default();
        Self { session: Session::new(mode, status.clone()), status, now: Instant::now() }
    }

    fn delta(resources: &[(TypeUrl, &str, &str)]) -> Self {
        let mut bench = Self::new(Mode::Delta);
        bench.session.set_target(target(resources));
        bench
    }

    fn sotw(resources: &[(TypeUrl, &str, &str)]) -> Self {
        let mut bench = Self::new(Mode::Sotw);
        bench.session.set_target(target(resources));
        bench
    }

    fn set(&mut self, resources: &[(TypeUrl, &str, &str)]) {
        self.session.set_target(target(resources));
    }

    fn ask(&mut self, kind: TypeUrl, names: &[&str]) -> Outcome {
        self.request(kind, |request| request.names = owned(names))
    }

    fn request(&mut self, kind: TypeUrl, fill: impl FnOnce(&mut Request)) -> Outcome {
        let mut request = Request { type_url: kind.url().into(), ..Request::default() };
        fill(&mut request);
        self.now += Duration::from_millis(1);
        self.session.on_request(&request, self.now)
    }

    fn poll(&mut self) -> Option<Response> {
        self.session.poll(self.now)
    }

    #[track_caller]
    fn next(&mut self) -> Response {
        self.poll().expect("a response")
    }

    fn ack(&mut self, response: &Response) -> Outcome {
        self.request(response.kind.unwrap(), |request| request.nonce.clone_from(&response.nonce))
    }

    fn nack(&mut self, response: &Response, why: &str) -> Outcome {
        self.request(response.kind.unwrap(), |request| {
            request.nonce.clone_from(&response.nonce);
            request.error = Some(why.into());
        })
    }

    /// Takes and accepts responses until there is none; what each said.
    fn drain(&mut self) -> Vec<String> {
        std::iter::from_fn(|| {
            let response = self.poll()?;
            self.ack(&response);
            Some(said(&response))
        })
        .collect()
    }
}

/// A client that holds everything of a usual mesh, settled.
fn settled(resources: &[(TypeUrl, &str, &str)]) -> Bench {
    let mut bench = Bench::delta(resources);
    bench.ask(Cluster, &["*"]);
    bench.drain();
    for kind in [Endpoints, Listener, Route, VirtualHost] {
        let mut names: BTreeSet<&str> =
            resources.iter().filter(|(of, ..)| *of == kind).map(|(_, name, _)| *name).collect();
        if kind == VirtualHost {
            names = names.iter().filter_map(|name| name.split('/').next()).collect();
        }
        let names: Vec<&str> = names.into_iter().collect();
        bench.ask(kind, if kind == Listener { &["*"] } else { &names });
        bench.drain();
    }
    assert!(bench.session.is_settled());
    bench
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn target(resources: &[(TypeUrl, &str, &str)]) -> Target {
    let resource = |(kind, name, version): &(TypeUrl, &str, &str)| Resource::new(*kind, *name, version, b"");
    Target { layers: vec![Layer::new(resources.iter().map(resource))] }
}

/// `CDS +a@1 -b ?c` in short.
fn said(response: &Response) -> String {
    let mut text = response.kind.map_or_else(|| response.type_url.to_string(), |kind| kind.short().to_owned());
    response.resources.iter().for_each(|one| text += &format!(" +{}@{}", one.name, one.version));
    response.removed.iter().for_each(|name| text += &format!(" -{name}"));
    response.absent.iter().for_each(|name| text += &format!(" ?{name}"));
    text
}

#[test]
fn nothing_is_answered_before_the_target_is_known() {
    let mut bench = Bench::new(Mode::Delta);
    bench.ask(Cluster, &["*"]);
    bench.ask(Endpoints, &["a"]);
    assert!(bench.poll().is_none());
    bench.set(&[(Cluster, "a", "1"), (Endpoints, "a", "1")]);
    assert_eq!(bench.drain(), ["CDS +a@1", "EDS +a@1"]);
}

#[test]
fn an_ack_and_a_nack_are_told_apart_and_shown() {
    let mut bench = Bench::delta(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    bench.ask(Cluster, &[]);
    let first = bench.next();
    assert!(!bench.status.read()[Cluster.index()].is_synced());
    assert_eq!(bench.ack(&first), Outcome::Acked { kind: Cluster, latency_us: 1_000 });
    assert!(bench.status.read()[Cluster.index()].is_synced());
    bench.set(&[(Cluster, "a", "2"), (Cluster, "b", "2")]);
    let second = bench.next();
    let Outcome::Nacked { kind: Cluster, names, error } = bench.nack(&second, "cluster b: no") else { panic!() };
    assert_eq!((names.as_slice(), error.as_str()), ([Arc::from("b")].as_slice(), "cluster b: no"));
    let status = bench.status.read()[Cluster.index()].clone();
    assert_eq!((status.sent_nonce.as_str(), status.acked_nonce.as_str(), status.held), ("2", "1", 2));
    assert_eq!(status.last_error, "cluster b: no");
}

#[test]
fn a_refused_version_is_not_sent_again_until_it_changes() {
    let mut bench = settled(&[(Cluster, "a", "1")]);
    bench.set(&[(Cluster, "a", "bad")]);
    let bad = bench.next();
    bench.nack(&bad, "no");
    assert!(bench.poll().is_none());
    bench.set(&[(Cluster, "a", "bad"), (Cluster, "b", "1")]);
    assert_eq!(bench.drain(), ["CDS +b@1"]);
    bench.set(&[(Cluster, "a", "good"), (Cluster, "b", "1")]);
    assert_eq!(bench.drain(), ["CDS +a@good"]);
}

#[test]
fn a_name_that_does_not_exist_is_not_owed_in_state_of_the_world() {
    let mut bench = Bench::sotw(&[(TypeUrl::Secret, "there", "1")]);
    bench.ask(TypeUrl::Secret, &["missing"]);
    assert!(bench.poll().is_none());
    assert!(bench.status.read()[TypeUrl::Secret.index()].is_synced());
    bench.ask(TypeUrl::Secret, &["missing", "there"]);
    assert_eq!(said(&bench.next()), "SDS +there@1");
    let request = |request: &mut Request| {
        (request.names, request.nonce) = (owned(&["missing", "there"]), "1".into());
    };
    bench.request(TypeUrl::Secret, request);
    bench.set(&[(TypeUrl::Secret, "missing", "1"), (TypeUrl::Secret, "there", "1")]);
    assert_eq!(bench.drain(), ["SDS +missing@1"]);
}

#[test]
fn newer_targets_replace_what_a_slow_client_was_not_sent() {
    let mut bench = settled(&[(Cluster, "a", "0")]);
    bench.set(&[(Cluster, "a", "1")]);
    let slow = bench.next();
    for version in 2..100 {
        bench.set(&[(Cluster, "a", &version.to_string()), (Cluster, "b", &version.to_string())]);
        assert!(bench.poll().is_none(), "at most one response of a type is open");
    }
    assert_eq!(bench.session.types[Cluster.index()].stale.len(), 2);
    bench.ack(&slow);
    assert_eq!(bench.drain(), ["CDS +a@99 +b@99"]);
}

#[test]
fn what_changes_back_before_it_was_sent_is_not_sent() {
    let mut bench = settled(&[(Cluster, "a", "1")]);
    bench.set(&[(Cluster, "a", "2")]);
    bench.set(&[(Cluster, "a", "1")]);
    assert!(bench.poll().is_none());
    assert!(bench.session.is_settled());
}

#[test]
fn large_pushes_go_in_chunks_each_acknowledged() {
    let body = vec![0; 1 << 20];
    let clusters = (0..10).map(|at| Resource::new(Cluster, format!("c{at}"), "1", &body));
    let mut bench = Bench::new(Mode::Delta);
    bench.session.set_target(Target { layers: vec![Layer::new(clusters)] });
    bench.ask(Cluster, &["*"]);
    let mut sizes = Vec::new();
    while let Some(chunk) = bench.poll() {
        assert!(chunk.encoded_len() <= crate::limits::CHUNK_BYTES_MAX);
        assert!(bench.poll().is_none(), "the next chunk waits for the answer to this one");
        sizes.push(chunk.resources.len());
        bench.ack(&chunk);
    }
    assert_eq!(sizes, [3, 3, 3, 1]);
}

#[test]
fn an_unknown_type_is_answered_with_nothing_once() {
    let mut bench = Bench::delta(&[]);
    let request = Request { type_url: "type.googleapis.com/other".into(), ..Request::default() };
    assert_eq!(bench.session.on_request(&request, bench.now), Outcome::Unknown);
    let answer = bench.next();
    assert_eq!((said(&answer).as_str(), answer.kind), ("type.googleapis.com/other", None));
    let ack = Request { nonce: answer.nonce, ..request };
    assert_eq!(bench.session.on_request(&ack, bench.now), Outcome::Subscribed);
    assert!(bench.poll().is_none());
}

#[test]
fn the_difference_of_two_layers_is_computed_once() {
    let (old, new) = (target(&[(Cluster, "a", "1")]), target(&[(Cluster, "a", "2")]));
    let first = old.layers[0].diff(&new.layers[0]);
    assert!(Arc::ptr_eq(&first, &old.layers[0].diff(&new.layers[0])));
    assert_eq!(first.names(Cluster), [Arc::from("a")]);
}
