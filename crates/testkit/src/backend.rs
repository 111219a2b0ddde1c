//! What a case's pod answers: its own name and what it saw, so that the caller can tell who was asked for what.
//!
//! Pure but for a counter: the same function serves in memory and on loopback.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::case::Behaviour;

/// What a pod saw of a request; the body of its answer, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The pod that answers.
    pub pod: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header names in lower case; several values joined with `,`. The authority stands under `host`.
    pub headers: BTreeMap<String, String>,
    /// The request's body, when it is text.
    pub body: String,
    /// How many requests this pod has seen, this one included.
    pub count: u32,
}

/// A pod's answer to one request.
pub enum Answer {
    /// Answer after a while.
    Respond {
        /// Status code.
        status: u16,
        /// Extra headers.
        headers: BTreeMap<String, String>,
        /// How long to wait first.
        delay: Duration,
        /// The JSON of [`Seen`].
        body: String,
        /// Trailers.
        trailers: BTreeMap<String, String>,
        /// How long the second half of the body comes after the first.
        stall: Duration,
    },
    /// Refuse the stream.
    Refuse,
    /// Close the connection.
    Reset,
}

/// A pod that counts what it saw.
#[derive(Debug, Default)]
pub struct Backend {
    /// Its name, `reviews-v1`.
    pub name: String,
    /// How it answers.
    pub behaviour: Behaviour,
    count: AtomicU32,
    last: Mutex<Option<Seen>>,
}

impl Backend {
    /// A pod that has seen nothing yet.
    pub fn new(name: &str, behaviour: Behaviour) -> Self {
        Self { name: name.into(), behaviour, count: AtomicU32::new(0), last: Mutex::default() }
    }

    /// How many requests it has seen.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// What it saw of the last request.
    pub fn last(&self) -> Option<Seen> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers one request.
    pub fn answer(&self, head: &Parts, body: &[u8]) -> Answer {
        let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        self.see(head.method.as_str(), path, headers(head), body)
    }

    /// Answers a line, or a TLS hello; `facts` stand where a request has headers.
    pub fn answer_bytes(&self, kind: &str, facts: BTreeMap<String, String>, line: &[u8]) -> Answer {
        self.see(kind, String::new(), facts, line)
    }

    fn see(&self, method: &str, path: String, headers: BTreeMap<String, String>, body: &[u8]) -> Answer {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let misbehaves = self.behaviour.times.is_none_or(|times| count <= times);
        if self.behaviour.resets && misbehaves {
            return Answer::Reset;
        }
        if self.behaviour.refuses_streams && misbehaves {
            return Answer::Refuse;
        }
        let seen = Seen {
            pod: self.name.clone(),
            method: method.to_owned(),
            path,
            headers,
            body: String::from_utf8_lossy(body).into_owned(),
            count,
        };
        let said =
            self.behaviour.says.as_deref().map(|text| crate::pki::fill_in(text, std::path::Path::new("/nonexistent")));
        let body = match said {
            Some(text) => text.unwrap_or_default(),
            None => serde_json::to_string(&seen).unwrap_or_default(),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        let Behaviour { status, delay_ms, stall_ms, headers, trailers, .. } = &self.behaviour;
        let ms = |ms: u64| Duration::from_millis(if misbehaves { ms } else { 0 });
        Answer::Respond {
            status: status.filter(|_| misbehaves).unwrap_or(200),
            headers: if misbehaves { headers.clone() } else { BTreeMap::new() },
            delay: ms(*delay_ms),
            body,
            trailers: trailers.clone(),
            stall: ms(*stall_ms),
        }
    }
}

fn headers(head: &Parts) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    if let Some(authority) = head.uri.authority() {
        out.insert("host".into(), authority.to_string());
    }
    out.extend(
        head.extensions
            .get::<crate::secured::Agreed>()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        out.entry(name.as_str().into()).and_modify(|all| *all = format!("{all},{value}")).or_insert(value.into_owned());
    }
    out
}
