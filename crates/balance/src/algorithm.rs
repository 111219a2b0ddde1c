//! The algorithms: each takes the usable hosts of one priority and gives one of them.
//!
//! With equal weights a pick is a few instructions whatever the number of hosts; with unequal ones it costs log n.

use std::rc::Rc;

use crate::balancer::Counters;
use crate::turns::{Turns, pause, stretched};
use crate::view::Level;
use crate::{Host, HostSet};

// A draw scaled to `bound` (at least 1), without division.
fn below(draw: u32, bound: usize) -> usize {
    ((u64::from(draw) * bound as u64) >> 32) as usize
}

/// Any usable host, by weight.
pub(crate) fn random(level: &Level, draw: &mut impl FnMut() -> u32) -> u32 {
    let Some(total) = level.sums.last() else { return level.usable[below(draw(), level.usable.len())] };
    let point = ((u128::from(draw()) * u128::from(*total)) >> 32) as u64;
    level.usable[level.sums.partition_point(|sum| *sum <= point)]
}

/// The better of two *distinct* random hosts by active requests; of two that are as busy, the first.
pub(crate) fn least_request(level: &Level, counters: &[Rc<Counters>], draw: &mut impl FnMut() -> u32) -> u32 {
    let count = level.usable.len();
    if count == 1 {
        return level.usable[0];
    }
    let first = below(draw(), count);
    // Of the others: a pick with replacement would compare a host with itself once in `count` times.
    let second = (first + 1 + below(draw(), count - 1)) % count;
    let (first, second) = (level.usable[first], level.usable[second]);
    let active = |host: u32| counters[host as usize].active.get();
    if active(second) < active(first) { second } else { first }
}

/// One after the other.
pub(crate) fn round_robin(level: &Level, cursor: &mut u32) -> u32 {
    let host = level.usable[*cursor as usize % level.usable.len()];
    *cursor = cursor.wrapping_add(1);
    host
}

/// By weight in turns; `busy` when requests under way shall count against a host. `factor` is what a host's weight is
/// multiplied by.
pub(crate) fn in_turn(
    set: &HostSet,
    counters: &[Rc<Counters>],
    turns: &mut Turns,
    busy: bool,
    factor: impl Fn(u32) -> f64,
) -> Option<u32> {
    turns.next(|host| {
        let Host { weight, .. } = *set.hosts()[host as usize];
        let active = if busy { counters[host as usize].active.get() } else { 0 };
        stretched(pause(weight, active), factor(host))
    })
}
