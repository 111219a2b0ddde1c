//! Turns by weight: each host is due again after a time that is the longer the smaller its weight, and whoever is due
//! first is next (earliest deadline first, as Envoy's weighted balancers). A pick costs log n.
//!
//! In as many picks in a row as the weights add up to, each host gets exactly its weight, spread evenly.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Who is due when. Time here is not a clock's: it advances with the picks.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    now: u128,
    queue: BinaryHeap<Reverse<Turn>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    due: u128,
    host: u32,
}

/// How long after a turn a host is due again. With requests under way its weight counts as
/// `weight / (active + 1)` (Envoy `LeastRequestLbConfig.active_request_bias` 1.0); round robin gives 0.
pub(crate) fn pause(weight: u32, active: u32) -> u128 {
    ((u128::from(active) + 1) << 64) / u128::from(weight.max(1))
}

/// The pause of a host whose weight counts only in part (slow start).
pub(crate) fn stretched(pause: u128, factor: f64) -> u128 {
    // A cast saturates.
    if factor < 1.0 { (pause as f64 / factor) as u128 } else { pause }
}

impl Turns {
    /// Turns of hosts with their pauses, and how long those that had turns before were still to wait. The others
    /// begin anywhere in their first pause, by `seed`: many proxies shall not begin with one host.
    pub(crate) fn new(hosts: impl Iterator<Item = (u32, u128, Option<u128>)>, seed: u32) -> Self {
        let turn = |(host, pause, waiting): (u32, u128, Option<u128>)| {
            let due = waiting.unwrap_or_else(|| (pause >> 32) * u128::from(scatter(seed, host)));
            // A host whose weight grew does not wait as long as it would have.
            Reverse(Turn { due: due.min(pause), host })
        };
        Self { now: 0, queue: hosts.map(turn).collect() }
    }

    /// Whose turn it is; it is due again after `pause` of it.
    pub(crate) fn next(&mut self, pause: impl FnOnce(u32) -> u128) -> Option<u32> {
        let mut first = self.queue.peek_mut()?;
        let Reverse(turn) = &mut *first;
        self.now = turn.due;
        turn.due += pause(turn.host);
        Some(turn.host)
    }

    /// How long each host is still to wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u32, u128)> {
        self.queue.iter().map(|Reverse(turn)| (turn.host, turn.due.saturating_sub(self.now)))
    }
}

// A number without pattern of two that may be small.
fn scatter(seed: u32, host: u32) -> u32 {
    let both = u64::from(seed) << 32 | u64::from(host);
    (xxhash_rust::xxh64::xxh64(&both.to_le_bytes(), 0) >> 32) as u32
}
