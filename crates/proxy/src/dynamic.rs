//! Hosts that requests name (resolution DYNAMIC_DNS, SE09): resolved when they are asked for, remembered for as long as
//! their records say.
//!
//! Of each worker its own, so nothing is shared on the way of a request. Bounded: names, and how long a resolver may take.

use std::cell::{OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::resolvers::{Resolver, Resolvers};

/// How long a resolver may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Shortest and longest time for which an answer is remembered; a failure is, for a moment, so that a name that does not
/// exist is not asked for with every request.
const KEPT_MIN: Duration = Duration::from_secs(5);
const KEPT_MAX: Duration = Duration::from_secs(300);
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// Names that were resolved.
#[derive(Default)]
pub struct Hosts {
    resolvers: Resolvers,
    resolver: OnceCell<Option<Resolver>>,
    held: RefCell<FxHashMap<Box<str>, Entry>>,
}

// Empty as long as the question is open: who comes meanwhile waits for the same answer.
type Entry = Rc<tokio::sync::OnceCell<Held>>;

struct Held {
    // The first one is dialled; `None`: there is none.
    address: Option<IpAddr>,
    until: Instant,
}

impl Hosts {
    /// No name yet.
    pub fn new(resolvers: Resolvers) -> Self {
        Self { resolvers, ..Self::default() }
    }

    /// The address of a host; an IP address is its own. `hosts_max` bounds the names that are remembered.
    pub async fn find(&self, host: &str, port: u16, hosts_max: u32) -> Result<SocketAddr, Failure> {
        if let Some(ip) = words::host::ip(host) {
            return Ok(SocketAddr::new(ip, port));
        }
        let entry = self.entry(host, hosts_max as usize).ok_or(Failure::Overflow)?;
        let held = entry.get_or_init(|| self.ask(host)).await;
        let address = held.address.ok_or_else(|| Failure::Name(host.to_owned()))?;
        Ok(SocketAddr::new(address, port))
    }

    fn entry(&self, host: &str, hosts_max: usize) -> Option<Entry> {
        let mut held = self.held.borrow_mut();
        let now = Instant::now();
        let is_good = |entry: &Entry| entry.get().is_none_or(|held| held.until > now);
        if let Some(entry) = held.get(host).filter(|entry| is_good(entry)) {
            return Some(entry.clone());
        }
        if held.len() >= hosts_max {
            held.retain(|_, entry| is_good(entry));
        }
        if held.len() >= hosts_max && !held.contains_key(host) {
            return None;
        }
        let entry = Entry::default();
        held.insert(host.into(), entry.clone());
        Some(entry)
    }

    async fn ask(&self, host: &str) -> Held {
        let resolver = self.resolver.get_or_init(|| self.resolvers.resolver());
        let answer = match resolver {
            None => Err("there is no resolver".to_owned()),
            Some(resolver) => match tokio::time::timeout(ANSWER_MAX, resolver.lookup(host)).await {
                Ok(answer) => answer,
                Err(_) => Err("the resolver says nothing".to_owned()),
            },
        };
        let now = Instant::now();
        match answer {
            Ok((addresses, ttl)) => {
                Held { address: addresses.first().copied(), until: now + ttl.clamp(KEPT_MIN, KEPT_MAX) }
            }
            Err(error) => {
                tracing::debug!(host, "does not resolve: {error}");
                Held { address: None, until: now + FAILURE_KEPT }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_their_own_and_unknown_names_are_bounded() {
        let hosts = Hosts::default();
        let found = hosts.find("127.0.0.9", 80, 0).await.unwrap();
        assert_eq!(found, "127.0.0.9:80".parse().unwrap());
        assert_eq!(hosts.find("a.example", 80, 0).await, Err(Failure::Overflow));
        assert_eq!(hosts.find("a.example", 80, 1).await, Err(Failure::Name("a.example".into())));
        assert_eq!(hosts.find("b.example", 80, 1).await, Err(Failure::Overflow));
    }
}
