//! What a client wants to hear of one type.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::TypeUrl;
use crate::limits::{NAME_BYTES_MAX, SUBSCRIPTIONS_MAX};

/// A subscription; starts empty.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    pub(crate) wildcard: bool,
    names: BTreeSet<Arc<str>>,
}

impl Subscription {
    /// True when the client wants this resource. A VHDS subscription to a table's name means all its virtual hosts
    /// (Envoy's namespace matching: resource `<table>/<host>`).
    pub(crate) fn wants(&self, kind: TypeUrl, name: &str) -> bool {
        if self.wildcard || self.names.contains(name) {
            return true;
        }
        kind == TypeUrl::VirtualHost && name.split_once('/').is_some_and(|(table, _)| self.names.contains(table))
    }

    /// Adds a name; false when there is no room for it.
    pub(crate) fn add(&mut self, name: &str) -> bool {
        if name == "*" {
            self.wildcard = true;
            return true;
        }
        if self.names.len() >= SUBSCRIPTIONS_MAX || name.len() > NAME_BYTES_MAX {
            return false;
        }
        self.names.insert(name.into());
        true
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if name == "*" {
            self.wildcard = false;
        }
        self.names.remove(name);
    }

    /// Replaces the names, as each state-of-the-world request does; true when anything changed.
    pub(crate) fn replace(&mut self, names: &[String]) -> bool {
        let names: BTreeSet<Arc<str>> = names.iter().take(SUBSCRIPTIONS_MAX).map(|name| name.as_str().into()).collect();
        let changed = names != self.names;
        self.names = names;
        changed
    }
}
