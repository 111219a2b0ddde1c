//! The algorithms: each takes the usable hosts and gives one of them.

use crate::balancer::State;
use crate::hosts::HostSet;

// A draw scaled to `bound` (at least 1), without division.
fn below(draw: u32, bound: usize) -> usize {
    ((u64::from(draw) * bound as u64) >> 32) as usize
}

/// Any usable host, by weight.
pub(crate) fn random(set: &HostSet, draw: &mut impl FnMut() -> u32) -> u32 {
    if set.equal_weights {
        return set.usable[below(draw(), set.usable.len())];
    }
    let mut point = (u128::from(draw()) * u128::from(set.total_weight)) >> 32;
    for index in &set.usable {
        let weight = u128::from(set.hosts()[*index as usize].weight);
        if point < weight {
            return *index;
        }
        point -= weight;
    }
    set.usable[0]
}

/// The better of two *distinct* random hosts by active requests; with unequal weights, by weight per active request
/// (Envoy's active request bias 1.0).
pub(crate) fn least_request(set: &HostSet, states: &[State], draw: &mut impl FnMut() -> u32) -> u32 {
    let count = set.usable.len();
    if count == 1 {
        return set.usable[0];
    }
    let first = below(draw(), count);
    // Of the others: a pick with replacement would compare a host with itself once in `count` times.
    let second = (first + 1 + below(draw(), count - 1)) % count;
    let (a, b) = (set.usable[first], set.usable[second]);
    let load = |index: u32| {
        let active = u64::from(states[index as usize].active()) + 1;
        let weight = if set.equal_weights { 1 } else { u64::from(set.hosts()[index as usize].weight) };
        (active, weight)
    };
    let ((active_a, weight_a), (active_b, weight_b)) = (load(a), load(b));
    // active/weight compared without division.
    if active_a * weight_b <= active_b * weight_a { a } else { b }
}

/// One after the other; unequal weights by smooth weighted round robin, so that heavy hosts do not get bursts.
pub(crate) fn round_robin(set: &HostSet, states: &mut [State], cursor: &mut u32) -> u32 {
    if set.equal_weights {
        let index = set.usable[*cursor as usize % set.usable.len()];
        *cursor = cursor.wrapping_add(1);
        return index;
    }
    let (mut best, mut best_credit) = (set.usable[0], i64::MIN);
    for index in &set.usable {
        let state = &mut states[*index as usize];
        state.credit += i64::from(set.hosts()[*index as usize].weight);
        if state.credit > best_credit {
            (best, best_credit) = (*index, state.credit);
        }
    }
    states[best as usize].credit -= set.total_weight as i64;
    best
}
