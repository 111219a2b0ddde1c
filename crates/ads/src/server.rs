//! The server's half of one stream, without IO.
//!
//! State is what the client holds (name to version, per type), what it wants, and which names may differ from the
//! target ("dirty"). It is never a queue of messages: however slow a client is, newer state replaces older.
//!
//! Order (make before break): additions and changes by type in [`TypeUrl::ALL`]'s order, then removals in the reverse
//! order. One response is under way at a time, and nothing is sent before the client has answered it; so every type
//! waits for the acknowledgement of the types it refers to. A refusal opens the gate as well: the client keeps what it
//! had, and the same version is not sent again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::limits::{ERROR_BYTES_MAX, PUSH_BYTES_MAX};
use crate::status::StreamStatus;
use crate::subscription::Subscription;
use crate::{Frame, Resource, Target, TypeUrl};

/// Which variant of the protocol a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Incremental.
    Delta,
    /// State of the world.
    Sotw,
}

/// A request of either variant, reduced to what matters.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The type.
    pub type_url: String,
    /// Delta: names to add. State of the world: all names.
    pub names: Vec<String>,
    /// Delta: names to drop.
    pub unsubscribe: Vec<String>,
    /// Delta, first request: what the client holds from before.
    pub initial_versions: Vec<(String, String)>,
    /// The response that is answered; empty for none.
    pub nonce: String,
    /// Why that response is refused; `None` when it is accepted.
    pub error: Option<String>,
}

/// What a request meant, for whoever counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A subscription, or nothing new.
    Subscribed,
    /// A response was accepted after so many microseconds.
    Acked {
        /// The type.
        kind: TypeUrl,
        /// From sending to answer.
        latency_us: u64,
    },
    /// A response was refused.
    Nacked {
        /// The type.
        kind: TypeUrl,
        /// The client's words.
        error: String,
    },
    /// A type that is not served.
    Unknown,
}

/// One stream.
#[derive(Debug)]
pub struct Session {
    mode: Mode,
    target: Target,
    types: [TypeState; TypeUrl::COUNT],
    in_flight: Option<InFlight>,
    nonce: u64,
    status: StreamStatus,
}

#[derive(Debug, Default)]
struct TypeState {
    subscription: Subscription,
    /// The client has asked for this type.
    asked: bool,
    /// A response is owed even when there is nothing to say, so that the client stops waiting.
    owes_first: bool,
    held: FxHashMap<Arc<str>, Arc<str>>,
    dirty: BTreeSet<Arc<str>>,
    /// Asked for by name and not there: to be said once (delta).
    absent: BTreeSet<Arc<str>>,
    last_nonce: String,
}

#[derive(Debug)]
struct InFlight {
    kind: TypeUrl,
    nonce: String,
    sent_at: Instant,
}

impl Session {
    /// A stream that has said nothing yet.
    pub fn new(mode: Mode, status: StreamStatus) -> Self {
        Self { mode, target: Target::default(), types: Default::default(), in_flight: None, nonce: 0, status }
    }

    /// What the client shall hold from now on. What was not sent yet of an older target is never sent.
    pub fn set_target(&mut self, target: Target) {
        let same_shape = self.target.layers.len() == target.layers.len();
        for (index, newer) in target.layers.iter().enumerate() {
            match self.target.layers.get(index).filter(|_| same_shape) {
                Some(older) if Arc::ptr_eq(older, newer) => {}
                Some(older) => {
                    let diff = older.diff(newer);
                    for (state, names) in self.types.iter_mut().zip(&diff.names) {
                        state.dirty.extend(names.iter().cloned());
                    }
                }
                None => {
                    for kind in TypeUrl::ALL {
                        let names = newer.of(kind).map(|resource| resource.name.clone());
                        self.types[kind.index()].dirty.extend(names);
                    }
                }
            }
        }
        if !same_shape {
            for state in &mut self.types {
                state.dirty.extend(state.held.keys().cloned());
            }
        }
        self.target = target;
    }

    /// Takes a request.
    pub fn on_request(&mut self, request: &Request, now: Instant) -> Outcome {
        let Some(kind) = TypeUrl::parse(&request.type_url) else { return Outcome::Unknown };
        let answered = self.in_flight.take_if(|sent| sent.kind == kind && sent.nonce == request.nonce);
        let is_stale = !request.nonce.is_empty() && self.types[kind.index()].last_nonce != request.nonce;
        match self.mode {
            Mode::Delta => self.subscribe_delta(kind, request),
            // The client has not seen our last response yet; it will say this again when it has.
            Mode::Sotw if is_stale => {}
            Mode::Sotw => self.subscribe_sotw(kind, request),
        }
        match answered {
            Some(sent) => self.answered(sent, request, now),
            None => Outcome::Subscribed,
        }
    }

    fn answered(&mut self, sent: InFlight, request: &Request, now: Instant) -> Outcome {
        let InFlight { kind, nonce, sent_at } = sent;
        let latency_us = now.duration_since(sent_at).as_micros() as u64;
        if let Some(error) = &request.error {
            let mut error = error.clone();
            error.truncate((0..=ERROR_BYTES_MAX.min(error.len())).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0));
            self.status.update(kind, |status| status.last_error = error.clone());
            return Outcome::Nacked { kind, error };
        }
        self.status.update(kind, |status| {
            (status.acked_nonce, status.acked_at) = (nonce, Some(now));
            status.latency_us = Some(latency_us);
            status.last_error.clear();
        });
        Outcome::Acked { kind, latency_us }
    }

    fn first_ask(&mut self, kind: TypeUrl) -> bool {
        let state = &mut self.types[kind.index()];
        let is_first = !state.asked;
        if is_first {
            (state.asked, state.owes_first) = (true, true);
            self.status.update(kind, |status| status.subscribed = true);
        }
        is_first
    }

    fn subscribe_delta(&mut self, kind: TypeUrl, request: &Request) {
        let is_first = self.first_ask(kind);
        let state = &mut self.types[kind.index()];
        if is_first {
            let held = request.initial_versions.iter().map(|(name, version)| (name.as_str().into(), version.as_str().into()));
            state.held.extend(held);
            // What vanished while the client was away must be taken from it.
            state.dirty.extend(state.held.keys().cloned());
            if request.names.is_empty() && kind.is_wildcard_by_default() {
                state.subscription.wildcard = true;
                mark_all(state, &self.target, kind);
            }
        }
        for name in &request.names {
            if !state.subscription.add(name) {
                tracing::warn!(kind = kind.short(), name, "subscription refused: too many names, or one too long");
                continue;
            }
            if name == "*" {
                mark_all(state, &self.target, kind);
                continue;
            }
            mark_named(state, &self.target, kind, name, !is_first);
        }
        for name in &request.unsubscribe {
            state.subscription.remove(name);
            // The client has dropped it; unless a wildcard still wants it, we forget it too.
            let dropped: Vec<Arc<str>> = state.held.keys().filter(|held| !state.subscription.wants(kind, held)).cloned().collect();
            for name in dropped {
                state.held.remove(&name);
                state.dirty.remove(&name);
            }
            state.absent.remove(name.as_str());
        }
    }

    fn subscribe_sotw(&mut self, kind: TypeUrl, request: &Request) {
        let is_first = self.first_ask(kind);
        let state = &mut self.types[kind.index()];
        let is_wildcard = kind.is_wildcard_by_default()
            && (request.names.is_empty() && (is_first || state.subscription.wildcard) || request.names.iter().any(|name| name == "*"));
        if is_wildcard {
            if !std::mem::replace(&mut state.subscription.wildcard, true) {
                mark_all(state, &self.target, kind);
            }
            return;
        }
        if state.subscription.replace(&request.names) {
            let names: Vec<String> = request.names.clone();
            for name in &names {
                if !state.held.contains_key(name.as_str()) {
                    mark_named(state, &self.target, kind, name, false);
                }
            }
            let subscription = &state.subscription;
            state.held.retain(|name, _| subscription.wants(kind, name));
        }
    }

    /// The next response to send, if any. Call it again after each request, each new target, and each response sent.
    pub fn poll(&mut self, now: Instant) -> Option<Frame> {
        if self.in_flight.is_some() {
            return None;
        }
        let additions = TypeUrl::ALL.into_iter().find_map(|kind| self.additions(kind));
        let frame = additions.or_else(|| TypeUrl::ALL.into_iter().rev().find_map(|kind| self.removals(kind)));
        let frame = frame.or_else(|| TypeUrl::ALL.into_iter().find_map(|kind| self.first(kind)))?;
        Some(self.send(frame, now))
    }

    fn additions(&mut self, kind: TypeUrl) -> Option<Frame> {
        let state = &mut self.types[kind.index()];
        if !state.asked || state.dirty.is_empty() {
            return None;
        }
        let (mut resources, mut bytes) = (Vec::new(), 0);
        let mut settled = Vec::new();
        for name in &state.dirty {
            let wanted = state.subscription.wants(kind, name).then(|| self.target.get(kind, name)).flatten();
            match wanted {
                // To be removed: in the second phase.
                None if state.held.contains_key(name) => {}
                None => settled.push(name.clone()),
                Some(resource) if state.held.get(name) == Some(&resource.version) => settled.push(name.clone()),
                Some(resource) => {
                    if self.mode == Mode::Delta && bytes > 0 && bytes + resource.size() > PUSH_BYTES_MAX {
                        break;
                    }
                    bytes += resource.size();
                    resources.push(resource.clone());
                }
            }
        }
        for name in &settled {
            state.dirty.remove(name);
        }
        if resources.is_empty() {
            return None;
        }
        for resource in &resources {
            state.dirty.remove(&resource.name);
            state.absent.remove(&resource.name);
            state.held.insert(resource.name.clone(), resource.version.clone());
        }
        if kind == TypeUrl::Cluster {
            self.warm_again(&resources);
        }
        Some(self.frame(kind, resources, Vec::new()))
    }

    // Envoy warms a changed cluster until it hears of its endpoints, even if they are the same as before.
    fn warm_again(&mut self, clusters: &[Arc<Resource>]) {
        let endpoints = &mut self.types[TypeUrl::Endpoints.index()];
        for cluster in clusters {
            if endpoints.held.remove(&cluster.name).is_some() {
                endpoints.dirty.insert(cluster.name.clone());
            }
        }
    }

    fn removals(&mut self, kind: TypeUrl) -> Option<Frame> {
        let state = &mut self.types[kind.index()];
        if !state.asked {
            return None;
        }
        let dirty = std::mem::take(&mut state.dirty);
        let mut removed: Vec<Arc<str>> = dirty.into_iter().filter(|name| state.held.remove(name).is_some()).collect();
        let had_any = !removed.is_empty();
        removed.extend(std::mem::take(&mut state.absent));
        // State of the world says what is gone only of the types that it always sends whole.
        let is_said = match self.mode {
            Mode::Delta => !removed.is_empty(),
            Mode::Sotw => had_any && kind.is_wildcard_by_default(),
        };
        is_said.then(|| self.frame(kind, Vec::new(), removed))
    }

    fn first(&mut self, kind: TypeUrl) -> Option<Frame> {
        let state = &self.types[kind.index()];
        // A state-of-the-world client that asked by name waits for the resource, not for an empty answer.
        let is_owed = state.owes_first && (self.mode == Mode::Delta || kind.is_wildcard_by_default());
        is_owed.then(|| self.frame(kind, Vec::new(), Vec::new()))
    }

    fn frame(&self, kind: TypeUrl, resources: Vec<Arc<Resource>>, removed: Vec<Arc<str>>) -> Frame {
        let resources = match self.mode {
            Mode::Sotw if kind.is_wildcard_by_default() => self.whole(kind),
            _ => resources,
        };
        Frame { kind, nonce: String::new(), resources, removed, mode: self.mode }
    }

    // All that the client holds of a type. What is held but no longer in the target is about to be removed; it can no
    // longer be sent, so state of the world removes it here, after everything that referred to it.
    fn whole(&self, kind: TypeUrl) -> Vec<Arc<Resource>> {
        let mut all: Vec<Arc<Resource>> =
            self.types[kind.index()].held.keys().filter_map(|name| self.target.get(kind, name).cloned()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn send(&mut self, mut frame: Frame, now: Instant) -> Frame {
        self.nonce += 1;
        frame.nonce = self.nonce.to_string();
        let state = &mut self.types[frame.kind.index()];
        state.owes_first = false;
        state.last_nonce.clone_from(&frame.nonce);
        let held = state.held.len();
        self.status.update(frame.kind, |status| {
            (status.sent_nonce, status.sent_at, status.held) = (frame.nonce.clone(), Some(now), held);
        });
        self.in_flight = Some(InFlight { kind: frame.kind, nonce: frame.nonce.clone(), sent_at: now });
        frame
    }

    /// True when the client has answered everything and nothing is left to say.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_none()
            && self.types.iter().all(|state| !state.asked || state.dirty.is_empty() && !state.owes_first)
    }

    /// What the client holds of a type, as far as we know.
    pub fn held(&self, kind: TypeUrl) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.types[kind.index()].held.iter()
    }
}

fn mark_all(state: &mut TypeState, target: &Target, kind: TypeUrl) {
    state.dirty.extend(target.of(kind).map(|resource| resource.name.clone()));
}

// `again`: the client asks for a name that it may hold already, and must get an answer (xDS, "subscribing to
// resources": a resubscription is answered with the resource).
fn mark_named(state: &mut TypeState, target: &Target, kind: TypeUrl, name: &str, again: bool) {
    let mut found = false;
    let all_of_table = kind == TypeUrl::VirtualHost && !name.contains('/');
    if all_of_table {
        let prefix = format!("{name}/");
        let hosts = target.of(kind).filter(|resource| resource.name.starts_with(&prefix));
        let before = state.dirty.len();
        state.dirty.extend(hosts.map(|resource| resource.name.clone()));
        found = state.dirty.len() > before;
    }
    if let Some(resource) = target.get(kind, name) {
        found = true;
        if again {
            state.held.remove(name);
        }
        state.dirty.insert(resource.name.clone());
    }
    if !found && !all_of_table {
        state.absent.insert(name.into());
    }
}
