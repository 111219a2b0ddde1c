//! Public keys of token issuers that are fetched: remembered by each worker for a while, asked for by one request at a time.
//!
//! Without keys nobody is believed. What was fetched is used for [`FRESH`]; after that it is fetched again on the side, and
//! while it cannot be, used for [`USABLE`] at most. A request waits only where there are no keys at all. No redirect is followed, and a host that resolves to this machine or to its link is not asked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use balance::Ask;
use bytes::Bytes;
use config::Discovery;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Limited};
use policy::Refused;
use policy::keys::{KEYS_BYTES_MAX, Keys};
use rustc_hash::FxHashMap;
use tokio::sync::Mutex;
use tokio::task::spawn_local;
use tokio::time::Instant;
use transport::body::RequestBody;
use transport::upstream::Http1;

use crate::cluster::socket;
use crate::forward;
use crate::tls::Load;
use crate::worker::Worker;

/// How long fetched keys are used without asking again (Istio's for keys that proxies fetch).
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long they are used at most, while they cannot be fetched again.
const USABLE: Duration = Duration::from_secs(60 * 60);
/// How often it is looked whether a host has been resolved.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// After a failure nobody asks again for so long.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
/// Sets of keys that are remembered; beyond, nothing more is fetched.
const SETS_MAX: usize = 256;

/// Where keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The cluster.
    pub slot: u32,
    /// Host and port, as a request names them.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// How long it may take.
    pub timeout: Duration,
}

impl Source {
    /// Reads a URI, as control planes write it.
    pub fn new(uri: &str, slot: u32, timeout: Duration) -> Self {
        let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Self { slot, authority: authority.to_owned(), path, timeout }
    }
}

/// The keys that a worker has.
#[derive(Default)]
pub struct Store {
    sets: RefCell<FxHashMap<Source, Rc<Set>>>,
    /// Hosts on this machine may be asked too; for tests.
    pub allows_local: Cell<bool>,
}

#[derive(Default)]
struct Set {
    keys: RefCell<Option<(Arc<Keys>, Instant)>>,
    failed: Cell<Option<Instant>>,
    // Who holds it asks; the others wait for the answer.
    turn: Mutex<()>,
}

impl Set {
    fn within(&self, age: Duration) -> Option<Arc<Keys>> {
        self.keys.borrow().as_ref().filter(|(_, at)| at.elapsed() < age).map(|(keys, _)| keys.clone())
    }

    fn has_just_failed(&self) -> bool {
        self.failed.get().is_some_and(|at| at.elapsed() < FAILURE_KEPT)
    }

    // Whatever is at hand, where asking would not help now.
    fn settled(&self) -> Option<Result<Arc<Keys>, Refused>> {
        if let Some(keys) = self.within(FRESH) {
            return Some(Ok(keys));
        }
        self.has_just_failed().then(|| self.within(USABLE).ok_or(Refused::Fetch))
    }
}

impl Store {
    /// Keys, as far as they are at hand; `None`: they must be fetched. Old ones are, on the side.
    pub fn known(&self, worker: &Rc<Worker>, source: &Source) -> Option<Result<Arc<Keys>, Refused>> {
        let set = self.sets.borrow().get(source)?.clone();
        let settled = set.settled();
        if settled.is_some() {
            return settled;
        }
        let old = set.within(USABLE)?;
        // Who has the turn is fetching them.
        if set.turn.try_lock().is_ok() {
            let (worker, source) = (worker.clone(), source.clone());
            spawn_local(async move {
                let _ = worker.keys.get(&worker, &source).await;
            });
        }
        Some(Ok(old))
    }

    /// Keys; waits for them if need be.
    pub async fn get(&self, worker: &Worker, source: &Source) -> Result<Arc<Keys>, Refused> {
        let set = self.set(source).ok_or(Refused::Fetch)?;
        let _turn = set.turn.lock().await;
        if let Some(settled) = set.settled() {
            return settled;
        }
        // Nobody has been resolved when a proxy has just begun; one that cannot be is waited for once.
        let is_first = set.failed.get().is_none();
        let fetched = async {
            while is_first && is_unresolved(worker, source) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            self.fetch(worker, source).await
        };
        let fetched = tokio::time::timeout(source.timeout, fetched).await;
        match fetched.unwrap_or_else(|_| Err("it took too long".into())) {
            Ok(keys) => {
                let keys = Arc::new(keys);
                set.keys.replace(Some((keys.clone(), Instant::now())));
                Ok(keys)
            }
            Err(reason) => {
                tracing::warn!(
                    from = source.authority,
                    path = source.path,
                    "keys of tokens cannot be fetched: {reason}"
                );
                set.failed.set(Some(Instant::now()));
                set.within(USABLE).ok_or(Refused::Fetch)
            }
        }
    }

    fn set(&self, source: &Source) -> Option<Rc<Set>> {
        let mut sets = self.sets.borrow_mut();
        if sets.len() >= SETS_MAX && !sets.contains_key(source) {
            // Of settings that are gone, most likely.
            sets.retain(|_, set| set.within(USABLE).is_some());
        }
        let has_room = sets.len() < SETS_MAX || sets.contains_key(source);
        has_room.then(|| sets.entry(source.clone()).or_default().clone())
    }

    async fn fetch(&self, worker: &Worker, source: &Source) -> Result<Keys, String> {
        let cluster = worker.cluster(source.slot).ok_or("there is no such cluster")?;
        let plan = cluster.plan.borrow().clone();
        let picked = cluster.balancer.borrow_mut().pick(&Ask::default(), || worker.draw()).ok_or("no host is known")?;
        let address = socket(&cluster.balancer.borrow().host(picked).address).ok_or("the host is no address")?;
        if words::host::is_of_the_machine(address.ip()) && !self.allows_local.get() {
            return Err(format!("{} is on this machine or its link", address.ip()));
        }
        let key = forward::key(&plan, address, &source.authority);
        let host = words::host::split_port(&source.authority).0;
        let load = Load::Requests { host: Some(host), is_http2: false };
        let io = forward::connect(&cluster, &plan, address, load).await;
        let (io, _) = io.map_err(|failure| format!("{failure:?}"))?;
        let connection = Http1::new(io, key, Instant::now(), Box::new(())).await.map_err(|error| error.to_string())?;
        let request = request(source).ok_or("the address is no request")?;
        let (response, mut connection) = connection.send(request).await.map_err(|error| error.to_string())?;
        if response.status() != 200 {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), KEYS_BYTES_MAX).collect();
        let driven = async {
            tokio::pin!(body);
            // Nobody but us moves the bytes.
            std::future::poll_fn(|cx| {
                let _ = connection.is_usable(cx);
                std::future::Future::poll(body.as_mut(), cx)
            })
            .await
        };
        let text = driven.await.map_err(|error| error.to_string())?.to_bytes();
        let text = std::str::from_utf8(&text).map_err(|_| "it is no text")?;
        Keys::parse(text).map_err(|refused| refused.message())
    }
}

// True while the host's name has no address yet.
fn is_unresolved(worker: &Worker, source: &Source) -> bool {
    let Some(cluster) = worker.cluster(source.slot) else { return false };
    let plan = cluster.plan.borrow();
    let is_name = matches!(plan.config.discovery, Discovery::StrictDns(_) | Discovery::LogicalDns(_));
    is_name && plan.hosts.hosts().is_empty()
}

fn request(source: &Source) -> Option<Request<RequestBody>> {
    let mut request = Request::new(RequestBody::Whole(Some(Bytes::new())));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = source.path.parse().ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&source.authority).ok()?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_taken_apart() {
        let of = |uri: &str| {
            let source = Source::new(uri, 1, FAILURE_KEPT);
            (source.authority, source.path)
        };
        assert_eq!(of("https://a.b:8443/keys?x=y#z"), ("a.b:8443".into(), "/keys?x=y".into()));
        assert_eq!(of("http://[::1]:80"), ("[::1]:80".into(), "/".into()));
        assert_eq!(of("http://a?x"), ("a".into(), "/?x".into()));
    }

    #[test]
    fn row_39_without_keys_nobody_is_believed() {
        let store = Store::default();
        let resolvers = crate::resolvers::Resolvers::known(Default::default());
        let worker = Worker::new(Arc::default(), resolvers, transport::network::Network::Sockets, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let source = Source::new("http://a/keys", 7, Duration::from_secs(1));
        assert_eq!(store.known(&worker, &source).map(|keys| keys.is_ok()), None);
        assert_eq!(runtime.block_on(store.get(&worker, &source)).err(), Some(Refused::Fetch));
        assert_eq!(
            store.known(&worker, &source).and_then(Result::err),
            Some(Refused::Fetch),
            "and is not asked for at once"
        );
    }
}
