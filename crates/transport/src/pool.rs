//! Connections of one worker to the hosts of one cluster that can take a request. Last in, first out: the warmest
//! connection is used again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::upstream::{Http1, Http2, Stream};

/// Idle connections kept per host.
pub const IDLE_PER_HOST_MAX: usize = 1024;

/// How long a connection is kept, and for how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Unused, it is kept this long.
    pub idle_max: Duration,
    /// When it is as old as this, it takes no further request.
    pub age_max: Duration,
    /// Requests that it carries.
    pub requests_max: u32,
    /// Streams at a time, with HTTP/2.
    pub streams_max: u32,
}

impl Bounds {
    /// True when a connection, idle, may take one more request.
    pub fn allow(&self, connection: &Http1, now: Instant) -> bool {
        connection.carried < self.requests_max
            && now.saturating_duration_since(connection.idle_since) < self.idle_max
            && self.is_young(connection.born, now)
    }

    fn is_young(&self, born: Instant, now: Instant) -> bool {
        // Most clusters do not bound the age, and need not look at the clock for it.
        self.age_max == Duration::MAX || now.saturating_duration_since(born) < self.age_max
    }

    // A shared connection that may take a further stream, now or when another one ends.
    fn allow_streams(&self, connection: &Http2, now: Instant) -> bool {
        let life = &connection.life;
        let idle = || now.saturating_duration_since(life.idle_since.get());
        connection.is_usable()
            && life.carried.get() < self.requests_max
            && (life.active.get() > 0 || idle() < self.idle_max)
            && self.is_young(life.born, now)
    }
}

/// Whom a connection serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The host.
    pub host: SocketAddr,
    /// The name that TLS was made for, where that follows the request.
    pub name: Option<Arc<str>>,
    /// What TLS was made with; 0 for plaintext. Connections of another era are not used again.
    pub era: u64,
}

/// The idle HTTP/1.1 connections and the shared HTTP/2 connections of one cluster.
#[derive(Default)]
pub struct Pool {
    #[expect(clippy::vec_box, reason = "connections come and go with every request: a pointer is what moves")]
    http1: FxHashMap<Key, Vec<Box<Http1>>>,
    http2: FxHashMap<Key, Vec<Http2>>,
}

impl Pool {
    /// An idle connection that still works; those that do not are dropped on the way.
    pub fn take(&mut self, host: &Key, bounds: &Bounds, now: Instant, cx: &mut Context<'_>) -> Option<Box<Http1>> {
        let idle = self.http1.get_mut(host)?;
        while let Some(mut connection) = idle.pop() {
            if bounds.allow(&connection, now) && connection.is_usable(cx) {
                return Some(connection);
            }
        }
        None
    }

    /// Gives a connection back after its answer was read.
    pub fn give(&mut self, mut connection: Box<Http1>, now: Instant) {
        let idle = self.http1.entry(connection.key.clone()).or_default();
        if idle.len() < IDLE_PER_HOST_MAX {
            connection.idle_since = now;
            idle.push(connection);
        }
    }

    /// A stream of a shared connection to a host. Connections that take no more are left to those that use them.
    pub fn shared(&mut self, host: &Key, bounds: &Bounds, now: Instant) -> Option<(Http2, Stream)> {
        let all = self.http2.get_mut(host)?;
        all.retain(|connection| bounds.allow_streams(connection, now));
        let free = all.iter().find(|connection| connection.life.active.get() < bounds.streams_max)?;
        Some((free.clone(), free.begin()))
    }

    /// Shares a connection.
    pub fn share(&mut self, host: Key, connection: Http2) {
        self.http2.entry(host).or_default().push(connection);
    }

    /// Drops what may carry no more, was closed by the other side, or goes to hosts that are no longer there.
    pub fn sweep(&mut self, bounds: &Bounds, now: Instant, cx: &mut Context<'_>, is_there: impl Fn(&Key) -> bool) {
        self.http1.retain(|host, idle| {
            idle.retain_mut(|connection| bounds.allow(connection, now) && connection.is_usable(cx));
            is_there(host) && !idle.is_empty()
        });
        self.http2.retain(|host, all| {
            all.retain(|connection| bounds.allow_streams(connection, now));
            is_there(host) && !all.is_empty()
        });
    }

    /// True when there is nothing to sweep.
    pub fn is_empty(&self) -> bool {
        self.http1.is_empty() && self.http2.is_empty()
    }

    /// Idle HTTP/1.1 connections.
    pub fn idle(&self) -> usize {
        self.http1.values().map(Vec::len).sum()
    }
}
