//! Which response goes next.
//!
//! In: the stale names of every type, the answers still open. Out: one response, or none. xDS protocol, "Eventual consistency
//! considerations": CDS, then EDS, LDS, RDS, VHDS; what is removed goes last and the other way round, but that virtual hosts
//! are swapped: a domain may be in one of a table only. Each type waits until
//! the client has answered the types before it. Nothing waits for a type the client did not ask for, and a name is only
//! ever stale if the client wants it, so the first type with something open can always go on: no gate locks.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::state::{Held, Outstanding};
use super::subscribe::meant_by;
use super::{Mode, Session};
use crate::limits::CHUNK_BYTES_MAX;
use crate::{Resource, Response, Target, TypeUrl};

/// What a response will hold.
#[derive(Default)]
struct Content {
    resources: Vec<Arc<Resource>>,
    removed: Vec<Arc<str>>,
    absent: Vec<Arc<str>>,
}

impl Session {
    /// The next response to send. Ask again after each request, target, response sent, and at [`Session::deadline`].
    pub fn poll(&mut self, now: Instant) -> Option<Response> {
        if let Some(url) = self.unknown_due.pop() {
            return Some(self.empty_answer(url));
        }
        let target = self.target.take()?;
        let next = self.next(&target, now);
        self.target = Some(target);
        next.map(|(kind, content)| self.send(kind, content, now))
    }

    fn next(&mut self, target: &Target, now: Instant) -> Option<(TypeUrl, Content)> {
        for kind in [TypeUrl::Secret, TypeUrl::ExtensionConfig, TypeUrl::NameTable] {
            if self.types[kind.index()].outstanding.is_none() {
                let content = self.additions(kind, target).or_else(|| self.removals(kind, target, u64::MAX));
                if let Some(content) = content {
                    return Some((kind, content));
                }
            }
        }
        // Removals first, if everything their target adds has been taken: else a stream of newer additions could hold
        // them back for ever.
        self.stop_awaiting(now);
        self.next_removal(target).or_else(|| self.next_addition(target))
    }

    fn next_addition(&mut self, target: &Target) -> Option<(TypeUrl, Content)> {
        for kind in TypeUrl::ORDERED {
            if kind == TypeUrl::Listener && self.awaits_endpoints() {
                return None;
            }
            if self.types[kind.index()].outstanding.is_some() {
                return None;
            }
            if let Some(content) = self.additions(kind, target) {
                return Some((kind, content));
            }
        }
        None
    }

    fn next_removal(&mut self, target: &Target) -> Option<(TypeUrl, Content)> {
        let mut states = TypeUrl::ORDERED.iter().map(|kind| &self.types[kind.index()]);
        if states.any(|state| state.outstanding.is_some()) || self.awaits_endpoints() || self.removals_after.is_some() {
            return None;
        }
        let added_since = TypeUrl::ORDERED.into_iter().flat_map(|kind| {
            let stale = self.types[kind.index()].stale.iter();
            // An answer that is owed counts: it may be what takes the last reference from the client.
            let is_added =
                move |name: &str, held: &Held| matches!(held, Held::Asked) || target.get(kind, name).is_some();
            stale.filter(move |(name, stale)| is_added(name, &stale.held)).map(|(_, stale)| stale.since)
        });
        let before = added_since.min().unwrap_or(u64::MAX);
        let mut kinds = TypeUrl::ORDERED.into_iter().rev();
        kinds.find_map(|kind| self.removals(kind, target, before).map(|content| (kind, content)))
    }

    fn awaits_endpoints(&self) -> bool {
        !self.awaited.names.is_empty()
    }

    fn stop_awaiting(&mut self, now: Instant) {
        self.removals_after = self.removals_after.filter(|after| now < *after);
        // No deadline: the clusters themselves are not answered yet.
        if !self.awaits_endpoints() || self.awaited.until.is_none_or(|until| now < until) {
            return;
        }
        self.awaited.names.clear();
        self.awaited.gave_up |= !self.types[TypeUrl::Endpoints.index()].asked;
    }

    fn additions(&mut self, kind: TypeUrl, target: &Target) -> Option<Content> {
        let mode = self.mode;
        let state = &mut self.types[kind.index()];
        // State of the world sends these types whole, so they cannot be cut in chunks.
        let is_whole = mode == Mode::Sotw && kind.is_wildcard_by_default();
        let (mut content, mut settled, mut bytes) = (Content::default(), Vec::new(), 0);
        for (name, stale) in &state.stale {
            if let Some(resource) = target.get(kind, name) {
                if bytes > 0 && bytes + resource.size() > CHUNK_BYTES_MAX && !is_whole {
                    break;
                }
                bytes += resource.size();
                content.resources.push(resource.clone());
                continue;
            }
            if matches!(stale.held, Held::Asked) {
                settled.push(name.clone());
                // A table or alias is answered by the virtual hosts it means.
                if mode == Mode::Delta && meant_by(target, kind, name).is_empty() {
                    let on_demand = kind == TypeUrl::VirtualHost && name.contains('/');
                    if on_demand { &mut content.absent } else { &mut content.removed }.push(name.clone());
                }
            }
        }
        settled.iter().for_each(|name| _ = state.stale.remove(name));
        if content.is_empty() && !state.owes_answer {
            // State of the world has no word for a name that does not exist, and nothing more is owed.
            let pending = state.stale.len();
            self.status.update(kind, |status| status.pending = pending);
            return None;
        }
        let sent: Vec<_> = content.resources.iter().map(|r| (r.clone(), state.stale.remove(&r.name))).collect();
        if is_whole {
            content.resources = self.whole(kind, target);
        }
        if kind == TypeUrl::Cluster {
            for (cluster, stale) in &sent {
                self.ask_endpoints_again(
                    &cluster.name,
                    target,
                    stale.as_ref().map_or(self.targets, |stale| stale.since),
                );
            }
        }
        if kind == TypeUrl::VirtualHost && mode == Mode::Delta {
            self.swap_virtual_hosts(&mut content, target);
        }
        Some(content)
    }

    // A domain may move from one virtual host of a table to another (from "blackhole:80" to "*:80"), and a table with both
    // would be refused: what goes leaves in the response that brings what comes. Nothing that goes is waited for, since
    // virtual hosts are the last to come and the first to go.
    fn swap_virtual_hosts(&mut self, content: &mut Content, target: &Target) {
        if let Some(gone) = self.removals(TypeUrl::VirtualHost, target, u64::MAX) {
            content.removed.extend(gone.removed);
        }
    }

    // Envoy warms a cluster that it is sent again until it hears of its endpoints, even if they did not change
    // ("cluster warming"); a new cluster's endpoints it will ask for.
    fn ask_endpoints_again(&mut self, name: &Arc<str>, target: &Target, since: u64) {
        let Some(endpoints) = target.get(TypeUrl::Endpoints, name) else { return };
        let state = &mut self.types[TypeUrl::Endpoints.index()];
        if state.asked && state.subscription.wants(endpoints) {
            state.note(name, Held::Asked, Some(endpoints), since);
        } else if !self.awaited.gave_up {
            self.awaited.names.insert(name.clone());
            self.awaited.until = None;
        }
    }

    fn removals(&mut self, kind: TypeUrl, target: &Target, before: u64) -> Option<Content> {
        let state = &mut self.types[kind.index()];
        let is_due = |name: &str, stale: &super::state::Stale| {
            stale.since < before && stale.held.is_something() && target.get(kind, name).is_none()
        };
        let names = state.stale.iter().filter(|(name, stale)| is_due(name, stale)).map(|(name, _)| name.clone());
        let (mut removed, mut bytes) = (Vec::new(), 0);
        for name in names {
            bytes += name.len();
            if bytes > CHUNK_BYTES_MAX && !removed.is_empty() {
                break;
            }
            removed.push(name);
        }
        removed.iter().for_each(|name| _ = state.stale.remove(name));
        match self.mode {
            _ if removed.is_empty() => None,
            Mode::Delta => Some(Content { removed, ..Content::default() }),
            // Only the types sent whole can say what is gone; of the others the client learns from what names them.
            Mode::Sotw if kind.is_wildcard_by_default() => {
                Some(Content { resources: self.whole(kind, target), ..Content::default() })
            }
            Mode::Sotw => None,
        }
    }

    // Everything the client shall hold of a type, and what it still holds because its removal is not due.
    fn whole(&self, kind: TypeUrl, target: &Target) -> Vec<Arc<Resource>> {
        let state = &self.types[kind.index()];
        let kept = state.stale.iter().filter_map(|(name, stale)| match &stale.held {
            Held::Resource(held) if target.get(kind, name).is_none() => Some(held.clone()),
            _ => None,
        });
        let wanted = target.of(kind).filter(|resource| state.subscription.wants(resource)).cloned();
        let mut all: Vec<_> = wanted.chain(kept).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn send(&mut self, kind: TypeUrl, content: Content, now: Instant) -> Response {
        let Content { resources, removed, absent } = content;
        let version = self.target.as_ref().map(Target::version).unwrap_or_default();
        let nonce = self.next_nonce();
        let state = &mut self.types[kind.index()];
        state.owes_answer = false;
        state.last_nonce.clone_from(&nonce);
        let names = resources.iter().map(|resource| &resource.name).chain(&removed).chain(&absent).cloned().collect();
        state.outstanding = Some(Outstanding { nonce: nonce.clone(), version: version.clone(), names, sent_at: now });
        self.status.update(kind, |status| {
            (status.sent_nonce, status.sent_version, status.sent_at) = (nonce.clone(), version.clone(), Some(now));
        });
        self.show_pending(kind);
        let type_url = Cow::Borrowed(kind.url());
        Response { mode: self.mode, kind: Some(kind), type_url, version, nonce, resources, removed, absent }
    }

    fn empty_answer(&mut self, url: String) -> Response {
        Response {
            mode: self.mode,
            kind: None,
            type_url: Cow::Owned(url),
            version: String::new(),
            nonce: self.next_nonce(),
            resources: Vec::new(),
            removed: Vec::new(),
            absent: Vec::new(),
        }
    }

    fn next_nonce(&mut self) -> String {
        self.nonce += 1;
        self.nonce.to_string()
    }
}

impl Content {
    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty() && self.absent.is_empty()
    }
}
