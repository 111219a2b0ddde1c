//! What a stream was sent and what it said to that: the control plane's `/debug/syncz`.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::TypeUrl;

/// The state of one type on one stream.
#[derive(Clone, Debug, Default)]
pub struct TypeStatus {
    /// True once the client asked for this type.
    pub subscribed: bool,
    /// Resources the client holds, as far as we know.
    pub held: usize,
    /// Nonce of the last response.
    pub sent_nonce: String,
    /// When it was sent.
    pub sent_at: Option<Instant>,
    /// Nonce of the last response that was accepted.
    pub acked_nonce: String,
    /// When that was said.
    pub acked_at: Option<Instant>,
    /// From sending to accepting, of the last response, in microseconds.
    pub latency_us: Option<u64>,
    /// Why the last response was refused; empty when it was not.
    pub last_error: String,
}

impl TypeStatus {
    /// True when the last response was accepted.
    pub fn is_synced(&self) -> bool {
        self.sent_nonce == self.acked_nonce && self.last_error.is_empty()
    }
}

/// The state of one stream, shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct StreamStatus(Arc<Mutex<[TypeStatus; TypeUrl::COUNT]>>);

impl StreamStatus {
    /// A copy of the state.
    pub fn read(&self) -> [TypeStatus; TypeUrl::COUNT] {
        match self.0.lock() {
            Ok(state) => state.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    pub(crate) fn update(&self, kind: TypeUrl, change: impl FnOnce(&mut TypeStatus)) {
        let mut state = match self.0.lock() {
            Ok(state) => state,
            Err(poisoned) => poisoned.into_inner(),
        };
        change(&mut state[kind.index()]);
    }
}
