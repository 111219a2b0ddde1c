//! An API server of a few lines, in memory, under a paused clock: it lists, streams lists, watches, and misbehaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{Change, Kind};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{FORBIDDEN_KIND, MISSING_KIND, Options};
use crate::{Event, Scope, Source, spawn};

// Far beyond any pause; the clock is paused, so it costs nothing.
const DEADLINE: Duration = Duration::from_secs(3600);

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;
type Lines = mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>;

#[derive(Default)]
struct Server {
    /// `plural` to names to objects.
    objects: BTreeMap<&'static str, BTreeMap<String, Value>>,
    version: u64,
    watches: Vec<(String, Lines)>,
    /// What was asked, `plural?query`.
    asked: Vec<String>,
    refuses_streaming: bool,
    is_unreachable: bool,
    /// `plural` or `version/plural` to the status that it is answered with.
    refused: BTreeMap<&'static str, (u16, &'static str)>,
    /// Watches that resume are answered with 410.
    forgets: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Server>>);

impl Fake {
    fn with<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = fake.with(|server| server.answer(request.uri()));
            async move { answer }
        });
        Client::new(service, "default")
    }

    fn put(&self, plural: &'static str, name: &str, spec: Value) {
        self.with(|server| {
            let object = server.store(plural, name, spec);
            server.tell(plural, "MODIFIED", &object);
        });
    }

    fn remove(&self, plural: &'static str, name: &str) {
        self.with(|server| {
            let object = server.objects.get_mut(plural).and_then(|objects| objects.remove(name)).unwrap();
            server.version += 1;
            server.tell(plural, "DELETED", &object);
        });
    }

    fn end_watches(&self) {
        self.with(|server| server.watches.clear());
    }
}

impl Server {
    fn store(&mut self, plural: &'static str, name: &str, spec: Value) -> Value {
        self.version += 1;
        let version = self.version.to_string();
        let object = json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version}, "spec": spec});
        self.objects.entry(plural).or_default().insert(name.into(), object.clone());
        object
    }

    fn tell(&mut self, plural: &str, event: &str, object: &Value) {
        let line = line(event, object);
        self.watches.retain(|(watched, lines)| watched != plural || lines.send(Ok(frame(&line))).is_ok());
    }

    fn answer(&mut self, uri: &http::Uri) -> Result<Answer, std::io::Error> {
        if self.is_unreachable {
            return Err(std::io::Error::other("connection refused"));
        }
        let mut path = uri.path().rsplit('/');
        let (plural, version) = (path.next().unwrap().to_owned(), path.next().unwrap());
        let query = uri.query().unwrap_or_default().to_owned();
        self.asked.push(format!("{plural}?{query}"));
        let versioned = format!("{version}/{plural}");
        if let Some((code, message)) = self.refused.get(plural.as_str()).or(self.refused.get(versioned.as_str())) {
            return Ok(status(*code, message));
        }
        if query.contains("sendInitialEvents") {
            return Ok(if self.refuses_streaming {
                status(422, "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
            } else {
                self.watch(plural, true)
            });
        }
        if query.contains("watch=true") {
            return Ok(if self.forgets { status(410, "too old resource version") } else { self.watch(plural, false) });
        }
        let items: Vec<&Value> = self.objects.get(plural.as_str()).into_iter().flat_map(|all| all.values()).collect();
        // Pages of two.
        let from: usize = query.split("continue=").nth(1).map_or(0, |next| next.parse().unwrap());
        let next = if from + 2 < items.len() { (from + 2).to_string() } else { String::new() };
        let page: Vec<_> = items.into_iter().skip(from).take(2).collect();
        let text = json!({"metadata": {"resourceVersion": self.version.to_string(), "continue": next}, "items": page});
        Ok(Response::new(full(text.to_string())))
    }

    fn watch(&mut self, plural: String, is_list: bool) -> Answer {
        let (lines, receiver) = mpsc::unbounded_channel();
        if is_list {
            for object in self.objects.get(plural.as_str()).into_iter().flat_map(|objects| objects.values()) {
                lines.send(Ok(frame(&line("ADDED", object)))).unwrap();
            }
            let metadata = json!({"resourceVersion": self.version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"}});
            lines.send(Ok(frame(&line("BOOKMARK", &json!({ "metadata": metadata }))))).unwrap();
        }
        self.watches.push((plural, lines));
        let stream = futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|line| (line, receiver))
        });
        Response::new(StreamBody::new(stream.boxed()).boxed_unsync())
    }
}

fn line(event: &str, object: &Value) -> String {
    json!({"type": event, "object": object}).to_string() + "\n"
}

fn frame(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text.as_bytes()))
}

fn full(text: String) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

fn status(code: u16, message: &str) -> Answer {
    let body = json!({"kind": "Status", "status": "Failure", "code": code, "message": message});
    let mut answer = Response::new(full(body.to_string()));
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
    answer
}

/// What the events add up to.
struct Follower {
    events: mpsc::Receiver<Event>,
    objects: BTreeSet<String>,
    log: Vec<String>,
    findings: BTreeMap<Scope, Vec<String>>,
    /// How often findings came.
    told: u32,
    is_synced: bool,
    states: Vec<(bool, String)>,
}

impl Follower {
    fn start(fake: &Fake, kinds: &[Kind]) -> Self {
        let options = Options { kinds: kinds.iter().copied().collect(), ..Options::default() };
        let events = spawn(Source::Kubernetes(fake.client(), options)).unwrap();
        let (objects, log, findings, states) = (BTreeSet::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Self { events, objects, log, findings, told: 0, is_synced: false, states }
    }

    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(DEADLINE, async {
            while !condition(self) {
                let event = self.events.recv().await.unwrap();
                self.take(event);
            }
        });
        if waited.await.is_err() {
            panic!("not reached; log {:?}, findings {:?}, states {:?}", self.log, self.findings, self.states);
        }
    }

    fn take(&mut self, event: Event) {
        self.told += u32::from(matches!(event, Event::Diagnostics { .. }));
        match event {
            Event::Batch(changes) => {
                for change in changes {
                    let name = change.key().name.to_string();
                    let is_upsert = matches!(change, Change::Upsert(_));
                    self.log.push(format!("{}{name}", if is_upsert { '+' } else { '-' }));
                    if is_upsert {
                        self.objects.insert(name)
                    } else {
                        self.objects.remove(&name)
                    };
                }
            }
            Event::Diagnostics { scope, list } if list.is_empty() => _ = self.findings.remove(&scope),
            Event::Diagnostics { scope, list } => {
                self.findings.insert(scope, list.iter().map(ToString::to_string).collect());
            }
            Event::Seen(..) => {}
            Event::Synced => self.is_synced = true,
            Event::SourceState { connected, message } => self.states.push((connected, message)),
        }
    }

    fn has(&self, names: &[&str]) -> bool {
        self.objects.iter().map(String::as_str).eq(names.iter().copied())
    }

    fn connected(&self) -> Option<bool> {
        self.states.last().map(|(connected, _)| *connected)
    }
}

fn rule(host: &str) -> Value {
    json!({ "host": host })
}

const RULES: &str = "destinationrules";

async fn synced(fake: &Fake) -> Follower {
    let mut follower = Follower::start(fake, &[Kind::DestinationRule]);
    follower.until(|world| world.is_synced).await;
    follower
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_then_changes_on_the_same_connection() {
    let fake = Fake::default();
    fake.put(RULES, "a", rule("one"));
    let mut follower = synced(&fake).await;
    assert!(follower.has(&["a"]));
    fake.put(RULES, "b", rule("one"));
    follower.until(|world| world.has(&["a", "b"])).await;
    fake.remove(RULES, "a");
    follower.until(|world| world.has(&["b"])).await;
    assert_eq!(follower.states, [(true, String::new())]);
    assert_eq!(fake.with(|server| server.asked.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_stream_lists_is_read_by_pages() {
    let fake = Fake::default();
    fake.with(|server| server.refuses_streaming = true);
    for name in ["a", "b", "c", "d", "e"] {
        fake.put(RULES, name, rule("one"));
    }
    let mut follower = synced(&fake).await;
    assert!(follower.has(&["a", "b", "c", "d", "e"]));
    fake.with(|server| {
        assert!(server.asked.iter().any(|asked| asked.contains("continue=4")), "{:?}", server.asked);
    });
    fake.put(RULES, "f", rule("one"));
    follower.until(|world| world.objects.contains("f")).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_never_ends_falls_back_to_pages() {
    let fake = Fake::default();
    fake.put(RULES, "a", rule("one"));
    // It knows no streamed lists, and does not say so.
    let old = fake.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = old.with(|server| match request.uri().query().unwrap_or_default().contains("sendInitialEvents") {
            true => Ok(server.watch("destinationrules".into(), false)),
            false => server.answer(request.uri()),
        });
        async move { answer }
    });
    let options = Options { kinds: [Kind::DestinationRule].into(), ..Options::default() };
    let events = spawn(Source::Kubernetes(Client::new(service, "default"), options)).unwrap();
    let mut follower = Follower { events, ..Follower::start(&fake, &[]) };
    follower.until(|world| world.is_synced && world.has(&["a"])).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_resumes_where_it_was() {
    let fake = Fake::default();
    fake.put(RULES, "a", rule("one"));
    let mut follower = synced(&fake).await;
    fake.put(RULES, "b", rule("one"));
    follower.until(|world| world.has(&["a", "b"])).await;
    fake.end_watches();
    let resumed = |server: &mut Server| !server.watches.is_empty();
    while !fake.with(resumed) {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let last = fake.with(|server| server.asked.last().cloned()).unwrap();
    assert!(last.ends_with("&resourceVersion=2") && !last.contains("sendInitialEvents"), "{last}");
    fake.put(RULES, "c", rule("one"));
    follower.until(|world| world.has(&["a", "b", "c"])).await;
    assert_eq!(follower.log, ["+a", "+b", "+c"]);
    assert_eq!(follower.connected(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn what_vanished_during_a_gap_is_deleted_after_410() {
    for inside_the_watch in [true, false] {
        let fake = Fake::default();
        fake.put(RULES, "a", rule("one"));
        fake.put(RULES, "b", rule("one"));
        let mut follower = synced(&fake).await;
        fake.with(|server| {
            server.objects.get_mut(RULES).unwrap().remove("a");
            server.store(RULES, "c", rule("one"));
            let gone = json!({"kind": "Status", "code": 410, "message": "too old resource version"});
            if inside_the_watch {
                server.tell(RULES, "ERROR", &gone);
            }
            server.forgets = true;
            server.watches.clear();
        });
        follower.until(|world| world.has(&["b", "c"])).await;
        assert_eq!(follower.log, ["+a", "+b", "-a", "+c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_object_stops_no_other() {
    let fake = Fake::default();
    fake.put(RULES, "a", json!({"host": "one", "trafficPolicy": {"loadBalancer": 7}}));
    fake.put(RULES, "b", rule("one"));
    let mut follower = synced(&fake).await;
    assert!(follower.has(&["b"]));
    follower.until(|world| !world.findings.is_empty()).await;
    let said = &follower.findings.values().next().unwrap()[0];
    assert!(said.contains("DestinationRule ns/a") && said.contains("spec.trafficPolicy.loadBalancer"), "{said}");
    fake.put(RULES, "b", json!({"host": 5}));
    fake.put(RULES, "c", rule("one"));
    follower.until(|world| world.has(&["b", "c"]) && world.findings.len() == 2).await;
    fake.put(RULES, "a", rule("one"));
    fake.put(RULES, "b", rule("two"));
    follower.until(|world| world.has(&["a", "b", "c"]) && world.findings.is_empty()).await;
    assert_eq!(follower.log, ["+b", "+c", "+a", "+b"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_counts_as_empty_and_is_found_later() {
    let fake = Fake::default();
    fake.with(|server| server.refused.insert(RULES, (404, "404 page not found")));
    fake.put("gateways", "g", json!({"servers": []}));
    let mut follower = Follower::start(&fake, &[Kind::DestinationRule, Kind::Gateway]);
    follower.until(|world| world.is_synced).await;
    let said = follower.findings[&Scope::Kind(Kind::DestinationRule)][0].clone();
    assert!(said.contains(MISSING_KIND) && said.contains("destinationrules.networking.istio.io"), "{said}");
    assert_eq!(follower.connected(), Some(true));
    let asked = |server: &mut Server| server.asked.iter().filter(|asked| asked.starts_with(RULES)).count();
    while fake.with(asked) < 30 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    fake.with(|server| server.refused.clear());
    fake.put(RULES, "a", rule("one"));
    follower
        .until(|world| world.objects.contains("a") && !world.findings.contains_key(&Scope::Kind(Kind::DestinationRule)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_older_version_of_a_kind_is_read_where_the_preferred_one_is_not_served() {
    let fake = Fake::default();
    fake.with(|server| server.refused.insert("v1/destinationrules", (404, "404 page not found")));
    fake.put(RULES, "a", rule("one"));
    let follower = synced(&fake).await;
    assert!(follower.has(&["a"]) && follower.findings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn missing_permission_is_named_and_holds_the_world_back() {
    let fake = Fake::default();
    let message = "destinationrules is forbidden: User \"x\" cannot list resource";
    fake.with(|server| server.refused.insert(RULES, (403, message)));
    let mut follower = Follower::start(&fake, &[Kind::DestinationRule]);
    follower.until(|world| world.findings.contains_key(&Scope::Kind(Kind::DestinationRule))).await;
    let said = &follower.findings[&Scope::Kind(Kind::DestinationRule)][0];
    assert!(said.contains(FORBIDDEN_KIND) && said.contains("get, list and watch on destinationrules"), "{said}");
    follower.until(|world| world.connected() == Some(false)).await;
    assert!(!follower.is_synced);
    fake.with(|server| server.refused.clear());
    follower.until(|world| world.is_synced && world.findings.is_empty() && world.connected() == Some(true)).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_may_be_forbidden_because_they_only_give_locality() {
    let fake = Fake::default();
    fake.with(|server| server.refused.insert("nodes", (403, "nodes is forbidden")));
    let mut follower = Follower::start(&fake, &[Kind::DestinationRule, Kind::Node]);
    follower.until(|world| world.is_synced).await;
    assert!(follower.findings.contains_key(&Scope::Kind(Kind::Node)));
    assert_eq!(follower.connected(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_leaves_the_last_state_and_is_found_again() {
    let fake = Fake::default();
    fake.put(RULES, "a", rule("one"));
    let mut follower = synced(&fake).await;
    fake.with(|server| server.is_unreachable = true);
    fake.end_watches();
    follower.until(|world| world.connected() == Some(false)).await;
    let message = follower.states.last().unwrap().1.clone();
    assert!(message.contains("connection refused"), "{message}");
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(follower.has(&["a"]));
    fake.with(|server| server.is_unreachable = false);
    follower.until(|world| world.connected() == Some(true)).await;
    fake.put(RULES, "b", rule("one"));
    follower.until(|world| world.has(&["a", "b"])).await;
    assert_eq!(follower.log, ["+a", "+b"]);
    assert_eq!(follower.states.len(), 3, "{:?}", follower.states);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_no_json_makes_a_new_list() {
    let fake = Fake::default();
    fake.put(RULES, "a", rule("one"));
    let mut follower = synced(&fake).await;
    fake.with(|server| {
        server.store(RULES, "b", rule("one"));
        for (_, lines) in &server.watches {
            lines.send(Ok(frame("{torn\n"))).unwrap();
        }
    });
    follower.until(|world| world.has(&["a", "b"])).await;
    follower.until(|world| world.connected() == Some(true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_given_up_and_resumed() {
    let fake = Fake::default();
    fake.put(RULES, "a", rule("one"));
    let mut follower = synced(&fake).await;
    // The connection is dead: nothing that happens arrives on it.
    let dead = fake.with(|server| {
        server.store(RULES, "b", rule("one"));
        server.forgets = true;
        std::mem::take(&mut server.watches)
    });
    follower.until(|world| world.has(&["a", "b"])).await;
    drop(dead);
}

#[tokio::test(start_paused = true)]
async fn synced_waits_for_every_kind() {
    let fake = Fake::default();
    fake.with(|server| server.refused.insert("gateways", (503, "starting")));
    fake.put(RULES, "a", rule("one"));
    let mut follower = Follower::start(&fake, &[Kind::DestinationRule, Kind::Gateway]);
    follower.until(|world| world.has(&["a"]) && world.connected() == Some(false)).await;
    assert!(!follower.is_synced);
    fake.with(|server| server.refused.clear());
    follower.until(|world| world.is_synced).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_receiver_ends_every_watch() {
    let fake = Fake::default();
    let (sender, receiver) = mpsc::channel(16);
    let options = Options { kinds: [Kind::DestinationRule, Kind::Gateway].into(), ..Options::default() };
    let running = tokio::spawn(super::run(fake.client(), options, sender));
    drop(receiver);
    tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap();
}
