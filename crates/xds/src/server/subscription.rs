//! What a client wants to hear of one type.
//!
//! In: names from requests. Out: whether a resource is meant by them. Bounded; names beyond the bound are refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::limits::SUBSCRIBED_NAMES_MAX;
use crate::{Resource, TypeUrl};

/// The subscription to one type. Empty at first.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub(super) wildcard: bool,
    names: BTreeSet<Arc<str>>,
}

impl Subscription {
    /// Adds a name; false if there is no room for it.
    pub(super) fn add(&mut self, name: &Arc<str>) -> bool {
        if self.names.len() >= SUBSCRIBED_NAMES_MAX && !self.names.contains(name) {
            return false;
        }
        self.names.insert(name.clone());
        true
    }

    /// Removes a name; `*` is the wildcard.
    pub(super) fn remove(&mut self, name: &str) {
        match name {
            "*" => self.wildcard = false,
            _ => _ = self.names.remove(name),
        }
    }

    /// Keeps only the names for which `keep` says so.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Arc<str>) -> bool) {
        self.names.retain(keep);
    }

    /// True if a name is covered: by the wildcard, by itself, or, for a virtual host, by its route table: Envoy's VHDS
    /// subscribes to a table's name and means every `<table>/<anything>` (namespace matching).
    pub(super) fn covers(&self, kind: TypeUrl, name: &str) -> bool {
        if self.wildcard || self.names.contains(name) {
            return true;
        }
        // Table names may hold slashes themselves (a unix socket's path), so every prefix is asked.
        kind == TypeUrl::VirtualHost && name.match_indices('/').any(|(at, _)| self.names.contains(&name[..at]))
    }

    /// True if a resource is meant, by its name or by one of its aliases.
    pub(super) fn wants(&self, resource: &Resource) -> bool {
        self.covers(resource.kind, &resource.name) || resource.aliases.iter().any(|alias| self.names.contains(alias))
    }

    /// How many names.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}
