//! Idle connections of one worker to the hosts of one cluster. Last in, first out: the warmest connection is used again.

use std::net::SocketAddr;
use std::task::Context;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::upstream::{Http1, Http2};

/// Idle connections kept per host.
pub const IDLE_PER_HOST_MAX: usize = 1024;

/// The idle HTTP/1.1 connections and the shared HTTP/2 connections of one cluster.
#[derive(Default)]
pub struct Pool {
    http1: FxHashMap<SocketAddr, Vec<Http1>>,
    http2: FxHashMap<SocketAddr, Http2>,
}

impl Pool {
    /// An idle connection that still works; those that do not are dropped on the way.
    pub fn take(&mut self, host: SocketAddr, idle_max: Duration, now: Instant, cx: &mut Context<'_>) -> Option<Http1> {
        let idle = self.http1.get_mut(&host)?;
        while let Some(mut connection) = idle.pop() {
            if now.saturating_duration_since(connection.idle_since) < idle_max && connection.is_usable(cx) {
                return Some(connection);
            }
        }
        None
    }

    /// Gives a connection back after its answer was read.
    pub fn give(&mut self, host: SocketAddr, mut connection: Http1, now: Instant) {
        let idle = self.http1.entry(host).or_default();
        if idle.len() < IDLE_PER_HOST_MAX {
            connection.idle_since = now;
            idle.push(connection);
        }
    }

    /// The shared connection to a host, while it takes requests.
    pub fn shared(&mut self, host: SocketAddr) -> Option<Http2> {
        let connection = self.http2.get(&host)?;
        if connection.is_usable() {
            return Some(connection.clone());
        }
        self.http2.remove(&host);
        None
    }

    /// Shares a connection.
    pub fn share(&mut self, host: SocketAddr, connection: Http2) {
        self.http2.insert(host, connection);
    }

    /// Drops what has been idle too long, or goes to hosts that are no longer there.
    pub fn sweep(&mut self, idle_max: Duration, now: Instant, is_there: impl Fn(&SocketAddr) -> bool) {
        self.http1.retain(|host, idle| {
            let fresh = |connection: &Http1| now.saturating_duration_since(connection.idle_since) < idle_max;
            idle.retain(fresh);
            is_there(host) && !idle.is_empty()
        });
        self.http2.retain(|host, connection| is_there(host) && connection.is_usable());
    }

    /// Idle HTTP/1.1 connections.
    pub fn idle(&self) -> usize {
        self.http1.values().map(Vec::len).sum()
    }
}
