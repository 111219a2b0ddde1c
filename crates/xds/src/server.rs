//! The server's half of one stream, without IO.
//!
//! In: requests, targets, the time. Out: the next response to send, or none yet; what a request meant. State is the
//! difference between client and target ([`state`]), never a queue of messages: a slow client costs its subscription.
//!
//! Order ([`push`]): additions and changes by type, each waiting for the ACKs of the types before it; then removals
//! in the reverse order (xDS protocol, "Eventual consistency considerations"). A NACK opens a gate as an ACK does: the
//! client keeps what it had, and the same version is not sent again on this stream.

mod push;
mod request;
mod state;
mod status;
mod subscribe;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

pub use request::Request;
pub use status::{StreamStatus, TypeStatus};

use crate::limits::{
    ENDPOINTS_AWAITED_MAX, ERROR_CHARS_MAX, NACKED_NAMES_MAX, RETURNED_REMOVALS_AFTER, UNKNOWN_TYPES_MAX,
};
use crate::{Target, TypeUrl};
use state::{Outstanding, TypeState};

/// Which variant of the protocol a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Incremental.
    Delta,
    /// State of the world.
    Sotw,
}

/// What a request meant, for whoever counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A subscription, or nothing new.
    Subscribed,
    /// A response was accepted.
    Acked {
        /// The type.
        kind: TypeUrl,
        /// From sending to answer, in microseconds.
        latency_us: u64,
    },
    /// A response was refused.
    Nacked {
        /// The type.
        kind: TypeUrl,
        /// The resources the client names; if it names none, those it was sent (the first of them).
        names: Vec<Arc<str>>,
        /// The client's words.
        error: String,
    },
    /// A type that is not served, asked for the first time; it is answered with nothing.
    Unknown,
}

/// One stream.
#[derive(Debug)]
pub struct Session {
    mode: Mode,
    /// None until it is known: before that nothing is answered, since everything would look removed.
    target: Option<Target>,
    types: [TypeState; TypeUrl::COUNT],
    awaited: Awaited,
    /// Set by the first request that says what the client holds from an earlier stream; no removal before.
    removals_after: Option<Instant>,
    unknown: Vec<String>,
    unknown_due: Vec<String>,
    nonce: u64,
    targets: u64,
    /// This target was not reported as settled yet.
    is_unsaid: bool,
    status: StreamStatus,
}

/// Clusters the client has just taken and whose endpoints exist, but which it has not asked for yet. Envoy asks right
/// after the ACK; a listener or route sent before the answer would meet a cluster that is still warming.
#[derive(Debug, Default)]
struct Awaited {
    names: BTreeSet<Arc<str>>,
    until: Option<Instant>,
    /// The client never asked for endpoints when it could: it does not do so, and is not waited for again.
    gave_up: bool,
}

impl Session {
    /// A stream that has said nothing yet.
    pub fn new(mode: Mode, status: StreamStatus) -> Self {
        Self {
            mode,
            target: None,
            types: Default::default(),
            awaited: Awaited::default(),
            removals_after: None,
            unknown: Vec::new(),
            unknown_due: Vec::new(),
            nonce: 0,
            targets: 0,
            is_unsaid: true,
            status,
        }
    }

    /// What the client shall hold from now on. What was not sent yet of older targets is never sent.
    pub fn set_target(&mut self, target: Target) {
        self.replace_target(target, Target::changed);
    }

    /// As [`Session::set_target`], comparing every name instead of trusting layers; the oracle of the property test.
    pub fn set_target_from_scratch(&mut self, target: Target) {
        self.replace_target(target, Target::changed_from_scratch);
    }

    fn replace_target(&mut self, target: Target, changed: fn(&Target, &Target) -> [Vec<Arc<str>>; TypeUrl::COUNT]) {
        self.targets += 1;
        self.is_unsaid = true;
        let old = self.target.take().unwrap_or_default();
        let types = TypeUrl::ALL.into_iter().zip(&mut self.types).zip(changed(&old, &target));
        for ((kind, state), names) in types.filter(|((_, state), _)| state.asked) {
            names.iter().for_each(|name| state.touch(kind, name, &old, &target, self.targets));
        }
        self.awaited.names.retain(|name| target.get(TypeUrl::Endpoints, name).is_some());
        self.target = Some(target);
        for kind in TypeUrl::ALL.into_iter().filter(|kind| self.types[kind.index()].asked) {
            self.show_pending(kind);
        }
    }

    /// Takes a request.
    pub fn on_request(&mut self, request: &Request, now: Instant) -> Outcome {
        let Some(kind) = TypeUrl::parse(&request.type_url) else { return self.unknown_type(&request.type_url) };
        let state = &mut self.types[kind.index()];
        if !state.asked && !request.initial_versions.is_empty() {
            self.removals_after.get_or_insert(now + RETURNED_REMOVALS_AFTER);
        }
        let answered = state.outstanding.take_if(|sent| sent.nonce == request.nonce);
        match self.mode {
            Mode::Delta => self.subscribe_delta(kind, request),
            // xDS protocol, "ACK/NACK and resource type instance version": a request with a stale nonce is ignored; the
            // client says the same again when it answers the response that crossed it.
            Mode::Sotw if !request.nonce.is_empty() && state.last_nonce != request.nonce => {}
            Mode::Sotw => self.subscribe_sotw(kind, request),
        }
        let outcome = answered.map_or(Outcome::Subscribed, |sent| self.answered(kind, sent, request, now));
        self.show_pending(kind);
        outcome
    }

    fn unknown_type(&mut self, url: &str) -> Outcome {
        if self.unknown.iter().any(|known| known == url) || self.unknown.len() == UNKNOWN_TYPES_MAX {
            return Outcome::Subscribed;
        }
        self.unknown.push(url.to_owned());
        self.unknown_due.push(url.to_owned());
        Outcome::Unknown
    }

    fn answered(&mut self, kind: TypeUrl, sent: Outstanding, request: &Request, now: Instant) -> Outcome {
        let latency_us = u64::try_from(now.saturating_duration_since(sent.sent_at).as_micros()).unwrap_or(u64::MAX);
        if kind == TypeUrl::Cluster {
            // A refused cluster may never ask for its endpoints.
            match request.error {
                Some(_) => self.awaited.names.clear(),
                None => self.awaited.until = Some(now + ENDPOINTS_AWAITED_MAX),
            }
        }
        let Some(error) = &request.error else {
            self.status.update(kind, |status| {
                (status.acked_nonce, status.acked_version, status.acked_at) = (sent.nonce, sent.version, Some(now));
                status.latency_us = Some(latency_us);
                status.last_error.clear();
            });
            return Outcome::Acked { kind, latency_us };
        };
        let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
        self.status.update(kind, |status| {
            status.latency_us = Some(latency_us);
            status.last_error.clone_from(&error);
        });
        let mut names: Vec<_> = sent.names.iter().filter(|name| error.contains(&***name)).cloned().collect();
        if names.is_empty() {
            names = sent.names;
        }
        names.truncate(NACKED_NAMES_MAX);
        Outcome::Nacked { kind, names, error }
    }

    /// When [`Session::poll`] may have something to say although nothing happened.
    pub fn deadline(&self) -> Option<Instant> {
        let awaited = self.awaited.until.filter(|_| !self.awaited.names.is_empty());
        awaited.into_iter().chain(self.removals_after).min()
    }

    /// True when the client has answered everything and nothing is left to say.
    pub fn is_settled(&self) -> bool {
        self.target.is_some()
            && self.unknown_due.is_empty()
            && self
                .types
                .iter()
                .all(|state| state.stale.is_empty() && state.outstanding.is_none() && !state.owes_answer)
    }

    /// The target that the client has answered wholly since the last call; `None` while something is open, and when
    /// this was said already. A client that has not asked for anything yet has answered nothing.
    pub fn newly_settled(&mut self) -> Option<String> {
        if !self.is_unsaid || !self.is_settled() || !self.awaited.names.is_empty() {
            return None;
        }
        // Clusters are asked for first, listeners when they are taken.
        let asked = |kind: TypeUrl| self.types[kind.index()].asked;
        if !asked(TypeUrl::Cluster) || !asked(TypeUrl::Listener) {
            return None;
        }
        self.is_unsaid = false;
        self.target.as_ref().map(Target::version)
    }

    /// Bytes that are left to send, about.
    pub fn backlog(&self) -> usize {
        let Some(target) = &self.target else { return 0 };
        let of_type = |kind: TypeUrl| {
            let names = self.types[kind.index()].stale.keys();
            names.filter_map(|name| target.get(kind, name)).map(|resource| resource.size()).sum::<usize>()
        };
        TypeUrl::ALL.into_iter().map(of_type).sum()
    }

    fn show_pending(&self, kind: TypeUrl) {
        let state = &self.types[kind.index()];
        let all = || self.target.iter().flat_map(|target| &target.layers).map(|layer| layer.len(kind)).sum();
        let held = if state.subscription.wildcard { all() } else { state.subscription.len() };
        self.status.update(kind, |status| {
            (status.subscribed, status.held, status.pending) = (state.asked, held, state.stale.len());
        });
    }
}
