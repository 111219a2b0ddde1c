//! Which hosts may be picked, and what share of the requests each priority gets (Envoy, "Priority levels").
//!
//! A priority is as good as full while at least 100/140 of its hosts are usable; below that, what it lacks spills over
//! to the next ones. When all together have too little, they share in proportion to what they have.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hosts::Host;

/// Envoy's overprovisioning factor, in percent.
const OVERPROVISIONING_PERCENT: u64 = 140;

/// The priorities that get requests, in order; none when no host is usable.
#[derive(Debug, Default)]
pub(crate) struct View {
    levels: Vec<Level>,
}

/// The usable hosts of one priority.
#[derive(Debug)]
pub(crate) struct Level {
    /// Places in the host set; never empty.
    pub(crate) usable: Vec<u32>,
    /// Sums of the weights up to and with each of them; empty when all weights are equal.
    pub(crate) sums: Vec<u64>,
    // This level gets the draws, of a hundred, below this and not below the one before.
    below_percent: u64,
}

impl View {
    /// The view in which exactly the hosts that `is_usable` says are usable.
    pub(crate) fn new(hosts: &[Arc<Host>], is_usable: impl Fn(&Host) -> bool) -> Self {
        let mut priorities: BTreeMap<u32, (u64, Vec<u32>)> = BTreeMap::new();
        for (place, host) in (0..).zip(hosts) {
            let (all, usable) = priorities.entry(host.priority).or_default();
            *all += 1;
            if is_usable(host) {
                usable.push(place);
            }
        }
        let healths: Vec<u64> = priorities
            .values()
            .map(|(all, usable)| (OVERPROVISIONING_PERCENT * usable.len() as u64 / all).min(100))
            .collect();
        let mut below_percent = 0;
        let mut levels = Vec::new();
        for (load, (_, usable)) in loads(&healths).into_iter().zip(priorities.into_values()) {
            if load > 0 {
                below_percent += load;
                levels.push(Level { sums: sums(hosts, &usable), usable, below_percent });
            }
        }
        Self { levels }
    }

    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The place of the level for one request; draws only when there is more than one.
    pub(crate) fn level(&self, draw: &mut impl FnMut() -> u32) -> Option<usize> {
        match self.levels.len() {
            0 => None,
            1 => Some(0),
            count => {
                let point = (u64::from(draw()) * 100) >> 32;
                Some(self.levels.partition_point(|level| level.below_percent <= point).min(count - 1))
            }
        }
    }
}

// The percent of the requests that each priority gets; they add up to 100, or to nothing when no host is usable.
fn loads(healths: &[u64]) -> Vec<u64> {
    let total = healths.iter().sum::<u64>().min(100);
    if total == 0 {
        return vec![0; healths.len()];
    }
    let mut left = 100;
    let mut loads: Vec<u64> = healths
        .iter()
        .map(|health| {
            let load = (health * 100 / total).min(left);
            left -= load;
            load
        })
        .collect();
    // What rounding left over goes to the first that gets any.
    if let Some(first) = loads.iter_mut().find(|load| **load > 0) {
        *first += left;
    }
    loads
}

fn sums(hosts: &[Arc<Host>], usable: &[u32]) -> Vec<u64> {
    let weights = || usable.iter().map(|place| hosts[*place as usize].weight);
    let first = weights().next();
    if weights().all(|weight| Some(weight) == first) {
        return Vec::new();
    }
    weights()
        .scan(0, |sum, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_priority_lacks_spills_over() {
        for (healths, wanted) in [
            (vec![100], vec![100]),
            (vec![100, 100], vec![100, 0]),
            (vec![70, 100], vec![70, 30]),
            (vec![0, 100], vec![0, 100]),
            (vec![35, 35, 100], vec![35, 35, 30]),
            // Too little in all: in proportion, and the rounding to the first.
            (vec![20, 20], vec![50, 50]),
            (vec![10, 10, 10], vec![34, 33, 33]),
            (vec![0, 7], vec![0, 100]),
            (vec![0, 0], vec![0, 0]),
            (vec![], vec![]),
        ] {
            assert_eq!(loads(&healths), wanted, "{healths:?}");
        }
    }
}
