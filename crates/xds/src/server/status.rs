//! What a stream was sent and what it said to that, for `/debug/syncz`.
//!
//! In: every response and answer of a session. Out: a copy for whoever shows it. Never decides anything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::TypeUrl;

/// The state of one type on one stream.
#[derive(Clone, Debug, Default)]
pub struct TypeStatus {
    /// True once the client asked for this type.
    pub subscribed: bool,
    /// What it subscribes to: all resources of its target with the wildcard, else the names it asked for.
    pub held: usize,
    /// Names that may still have to be sent or removed.
    pub pending: usize,
    /// Nonce of the last response.
    pub sent_nonce: String,
    /// Its version: the layers of the target.
    pub sent_version: String,
    /// When it was sent.
    pub sent_at: Option<Instant>,
    /// Nonce of the last response that was accepted.
    pub acked_nonce: String,
    /// Its version.
    pub acked_version: String,
    /// When that was said.
    pub acked_at: Option<Instant>,
    /// From sending to the last answer, in microseconds.
    pub latency_us: Option<u64>,
    /// Why the last response was refused; empty when it was not.
    pub last_error: String,
}

impl TypeStatus {
    /// True when nothing is left to send and the last response was accepted.
    pub fn is_synced(&self) -> bool {
        self.pending == 0 && self.sent_nonce == self.acked_nonce && self.last_error.is_empty()
    }
}

/// The state of one stream, shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct StreamStatus(Arc<Mutex<[TypeStatus; TypeUrl::COUNT]>>);

impl StreamStatus {
    /// A copy of the state, in the order of [`TypeUrl::ALL`].
    pub fn read(&self) -> [TypeStatus; TypeUrl::COUNT] {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update(&self, kind: TypeUrl, change: impl FnOnce(&mut TypeStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[kind.index()]);
    }
}
