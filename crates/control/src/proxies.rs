//! The proxies that are connected: who each is, what it shall hold, and what it said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use codec::Options;
use compile::Scope;
use tokio::sync::watch;
use xds::grpc::{StreamId, Wish};
use xds::{Mode, StreamStatus};

use crate::authenticate::Caller;

/// One connected proxy.
pub(crate) struct Proxy {
    /// The node id, as it introduced itself.
    pub(crate) node_id: String,
    /// `pod.namespace`.
    pub(crate) name: String,
    /// Its own version, from its metadata.
    pub(crate) version: String,
    pub(crate) scope: Scope,
    pub(crate) mode: Mode,
    pub(crate) options: Options,
    pub(crate) wish: watch::Sender<Wish>,
    pub(crate) status: StreamStatus,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) connected_at: Instant,
    /// What it was last told to hold.
    pub(crate) compiled: Vec<Arc<compile::Layer>>,
    pub(crate) layers: Vec<Arc<xds::Layer>>,
    /// Since when it has not acknowledged everything.
    pub(crate) waiting_since: Option<Instant>,
    /// Responses sent and not answered.
    pub(crate) unanswered: u32,
}

/// The stream of a proxy.
pub(crate) struct Line {
    pub(crate) mode: Mode,
    pub(crate) wish: watch::Sender<Wish>,
    pub(crate) status: StreamStatus,
    /// Who it is by its certificate or token; nobody without.
    pub(crate) caller: Option<Arc<Caller>>,
}

impl Proxy {
    /// One that was told nothing yet.
    pub(crate) fn new(scope: Scope, node_id: String, version: String, line: Line, now: Instant) -> Self {
        let Line { mode, wish, status, caller } = line;
        Self {
            node_id,
            name: format!("{}.{}", scope.name, scope.namespace),
            version,
            // Virtual hosts on their own exist only in the incremental variant.
            options: Options { vhds: scope.vhds && mode == Mode::Delta },
            scope,
            mode,
            wish,
            status,
            caller,
            connected_at: now,
            compiled: Vec::new(),
            layers: Vec::new(),
            waiting_since: None,
            unanswered: 0,
        }
    }
}

/// All connected proxies.
pub(crate) type Proxies = BTreeMap<StreamId, Proxy>;

/// The proxy of a name: `pod.namespace`, or the whole node id. Of several streams of one proxy the newest counts.
pub(crate) fn find<'a>(proxies: &'a Proxies, name: &str) -> Option<&'a Proxy> {
    proxies.values().rev().find(|proxy| proxy.name == name || proxy.node_id == name)
}
