//! A Kubernetes API server as a source: one watch per kind, each on its own, one stream of events out.
//!
//! In: a client. Out: [`Event`]s, a change as soon as its line has arrived. Watching never writes to the server; what
//! else is asked of it, and what is written, has a file per thing beside the watches.
//!
//! Kinds do not wait for each other, with one exception: [`Event::Synced`] comes when every kind has been listed once,
//! so that nothing is compiled from services without their endpoints. A kind that the server does not know counts as
//! listed; one that we may not read does not, except nodes, which only give locality, and Secrets, without which only
//! gateways' TLS is missing: a mesh without its services would be worse than one that keeps what it has.
//!
//! Secrets are read in named namespaces only, each by a watch of its own.

mod access_review;
mod backoff;
mod ca_secret;
mod config_map;
mod connect;
mod event;
mod failure;
mod follow;
mod health;
mod lease;
mod namespace;
mod owner;
mod replica;
mod request;
mod status;
mod token_review;
mod version;
mod webhook_configuration;
mod wire;
mod write;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Kind;
use kube::Client;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use self::follow::{Follower, Outlets};
use self::health::Health;
use crate::event::Event;

pub use self::access_review::may_list_secrets;
pub use self::backoff::PAUSE_MAX;
pub use self::ca_secret::SecretStore;
pub use self::config_map::ConfigMaps;
pub use self::connect::{Access, AccessError, connect};
pub use self::event::{Event as ObjectEvent, Reference, record};
pub use self::follow::RETRY;
pub use self::health::{FORBIDDEN_KIND, MISSING_KIND};
pub use self::lease::{Lease, LeaseStore};
pub use self::namespace::namespace_labels;
pub use self::request::{LINE_BYTES_MAX, PAGE_BYTES_MAX, PAGE_OBJECTS};
pub use self::status::{Condition, Message, Seen, Status, api_version, apply};
pub use self::token_review::{Review, review};
pub use self::version::server_minor;
pub use self::webhook_configuration::{Said, WebhookConfiguration};
pub use self::write::{Body, FIELD_MANAGER, WRITE_MAX, WriteError, send};

/// What is read from the API server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kinds; every kind except Secret by default.
    pub kinds: BTreeSet<Kind>,
    /// Where Secrets are read, if they are; in every namespace when this is empty.
    pub secret_namespaces: BTreeSet<String>,
    /// Say what the objects of our kinds have beside their specs ([`Event::Seen`]).
    pub status: bool,
}

impl Default for Options {
    fn default() -> Self {
        let kinds = Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Secret).collect();
        Self { kinds, secret_namespaces: BTreeSet::new(), status: false }
    }
}

impl Options {
    /// Secrets of these namespaces too, of all when there are none: for gateways that serve TLS with them.
    pub fn with_secrets(mut self, namespaces: impl IntoIterator<Item = String>) -> Self {
        self.kinds.insert(Kind::Secret);
        self.secret_namespaces = namespaces.into_iter().collect();
        self
    }

    fn parts(&self) -> BTreeSet<Part> {
        let whole = |kind| Part { kind, namespace: None };
        let of = |kind: &Kind| match kind {
            Kind::Secret if !self.secret_namespaces.is_empty() => {
                let named = |name: &String| Part { kind: Kind::Secret, namespace: Some(name.as_str().into()) };
                self.secret_namespaces.iter().map(named).collect()
            }
            kind => vec![whole(*kind)],
        };
        self.kinds.iter().flat_map(of).collect()
    }
}

/// What one watch follows: the objects of a kind, in all namespaces or in one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<Arc<str>>,
}

impl Part {
    /// `Secret` or `Secret in istio-system`.
    pub(crate) fn words(&self) -> String {
        match &self.namespace {
            None => self.kind.to_string(),
            Some(namespace) => format!("{} in {namespace}", self.kind),
        }
    }
}

/// Follows every kind until the receiver is dropped.
pub async fn run(client: Client, options: Options, events: mpsc::Sender<Event>) {
    let (sender, mut healths) = mpsc::channel(Kind::ALL.len() * 2);
    let mut kinds = JoinSet::new();
    let is_back = Arc::new(Notify::new());
    let parts = options.parts();
    for part in &parts {
        let outlets = Outlets { events: events.clone(), health: sender.clone(), is_back: is_back.clone() };
        kinds.spawn(Follower::new(client.clone(), part.clone(), outlets, options.status).run());
    }
    drop(sender);
    let mut overview = Overview::new(parts);
    loop {
        let said = tokio::select! {
            health = healths.recv() => match health {
                Some((part, health)) => overview.note(part, health),
                None => return,
            },
            // The last state stays, but it will not follow this kind any more: better said than guessed.
            Some(Err(_)) = kinds.join_next() => {
                let message = "a watch has stopped through a fault of the program; restart it".to_owned();
                vec![Event::SourceState { connected: false, message }]
            }
        };
        for event in said {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// How the kinds are, together.
struct Overview {
    waiting: BTreeSet<Part>,
    is_synced: bool,
    down: BTreeMap<Part, String>,
    said: Option<(bool, String)>,
}

impl Overview {
    fn new(waiting: BTreeSet<Part>) -> Self {
        Self { waiting, is_synced: false, down: BTreeMap::new(), said: None }
    }

    fn note(&mut self, part: Part, health: Health) -> Vec<Event> {
        let counts = match &health {
            Health::Live | Health::Missing => true,
            Health::Forbidden(_) => matches!(part.kind, Kind::Node | Kind::Secret),
            Health::Down(_) => false,
        };
        match health {
            Health::Live | Health::Missing => _ = self.down.remove(&part),
            Health::Forbidden(_) if counts => _ = self.down.remove(&part),
            Health::Forbidden(message) => {
                let words = format!("{} may not be read: {message}", part.words());
                self.down.insert(part.clone(), words);
            }
            Health::Down(message) => _ = self.down.insert(part.clone(), message),
        }
        if counts {
            self.waiting.remove(&part);
        }
        let mut events: Vec<Event> = self.state().into_iter().collect();
        if self.waiting.is_empty() && !self.is_synced {
            self.is_synced = true;
            events.push(Event::Synced);
        }
        events
    }

    // Said when it changes between connected and not, or when the reason does; not once for each kind.
    fn state(&mut self) -> Option<Event> {
        let connected = self.down.is_empty();
        let message = self.down.values().next().cloned().unwrap_or_default();
        // Not before every kind has answered: one that has not may be the first that does not work.
        let is_early = connected && !self.waiting.is_empty();
        let is_old = self.said.as_ref().is_some_and(|(was, said)| {
            *was == connected && (connected || self.down.values().any(|message| message == said))
        });
        if is_old || is_early {
            return None;
        }
        self.said = Some((connected, message.clone()));
        Some(Event::SourceState { connected, message })
    }
}
