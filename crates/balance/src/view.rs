//! Which hosts may be picked, and what share of the requests each priority gets (Envoy, "Priority levels").
//!
//! A priority is as good as full while at least 100/140 of its hosts are usable; below that, what it lacks spills over
//! to the next ones. When all together have too little, they share in proportion to what they have.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Lb, Locality};

use crate::hosts::{Host, Shape};
use crate::locality::{self, ONE, Part};
use crate::maglev::Maglev;
use crate::ring::{Ring, Share};

/// Envoy's overprovisioning factor, in percent.
const OVERPROVISIONING_PERCENT: u64 = 140;

/// The priorities that get requests, in order, each perhaps by locality; none when no host is usable.
#[derive(Debug, Default)]
pub(crate) struct View {
    levels: Vec<Level>,
}

/// Usable hosts that are chosen from together: those of one priority, or of one locality in it.
#[derive(Debug)]
pub(crate) struct Level {
    /// Places in the host set; never empty.
    pub(crate) usable: Vec<u32>,
    /// Sums of the weights up to and with each of them; empty when all weights are equal.
    pub(crate) sums: Vec<u64>,
    /// Where keys belong, for algorithms that keep them at a host.
    pub(crate) table: Option<Table>,
    // This level gets the draws below this and not below the one before; 100 times ONE is all of them.
    below: u64,
}

/// Where keys belong.
#[derive(Debug)]
pub(crate) enum Table {
    /// By points.
    Ring(Ring),
    /// By entries.
    Maglev(Maglev),
}

/// One priority before it is known what it gets.
#[derive(Default)]
struct Priority {
    all: Vec<u32>,
    usable: Vec<u32>,
    // Then all of them are usable, wherever they are.
    panics: bool,
}

impl Priority {
    // In percent of full, before it counts as less.
    fn health(&self) -> u64 {
        (OVERPROVISIONING_PERCENT * self.usable.len() as u64 / self.all.len().max(1) as u64).min(100)
    }

    fn is_in_panic(&self, percent: u32) -> bool {
        100 * (self.usable.len() as u64) < u64::from(percent) * self.all.len() as u64
    }
}

impl View {
    /// The view in which exactly the hosts that `is_usable` says are usable, as long as they are enough.
    pub(crate) fn new(hosts: &[Arc<Host>], shape: Shape, is_usable: impl Fn(&Host) -> bool) -> Self {
        let mut priorities: BTreeMap<u32, Priority> = BTreeMap::new();
        for (place, host) in (0..).zip(hosts) {
            let priority = priorities.entry(host.priority).or_default();
            priority.all.push(place);
            if is_usable(host) {
                priority.usable.push(place);
            }
        }
        let mut priorities: Vec<Priority> = priorities.into_values().collect();
        let loads = panicking(&mut priorities, shape.panic_percent);
        let mut below = 0;
        let mut levels = Vec::new();
        for (load, Priority { all, usable, panics }) in loads.into_iter().zip(priorities) {
            if load == 0 || usable.is_empty() {
                continue;
            }
            let mut table = table(hosts, &all, &usable, shape);
            let parts = match shape.by_locality && !panics && table.is_none() {
                true => locality::split(hosts, &all, &usable),
                false => None,
            };
            for Part { usable, share } in parts.unwrap_or_else(|| vec![Part { usable, share: ONE }]) {
                below += load * share;
                levels.push(Level { sums: sums(hosts, &usable), table: table.take(), usable, below });
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
                let point = u64::from(draw()) * 100;
                Some(self.levels.partition_point(|level| level.below <= point).min(count - 1))
            }
        }
    }

    /// The host of a key: the same one as long as the hosts are the same.
    pub(crate) fn of_key(&self, key: u64, attempt: u32) -> Option<u32> {
        let point = (key % 100) * ONE;
        let at = self.levels.partition_point(|level| level.below <= point).min(self.levels.len().checked_sub(1)?);
        match self.levels[at].table.as_ref()? {
            Table::Ring(ring) => ring.host(key, attempt),
            Table::Maglev(table) => table.host(key, attempt),
        }
    }
}

// The percent of the requests that each priority gets. With too few usable hosts in all, those of a priority that has
// less than `percent` count as usable, whatever they are (Envoy, "Panic threshold").
fn panicking(priorities: &mut [Priority], percent: u32) -> Vec<u64> {
    let healths: Vec<u64> = priorities.iter().map(Priority::health).collect();
    let is_enough = healths.iter().sum::<u64>() >= 100;
    if percent == 0 || is_enough {
        return loads(&healths);
    }
    let loads = match priorities.iter().all(|priority| priority.is_in_panic(percent)) {
        false => loads(&healths),
        // Nowhere is enough: hosts count, not their health.
        true => loads(&by_size(priorities)),
    };
    for priority in priorities.iter_mut().filter(|priority| priority.is_in_panic(percent)) {
        priority.usable.clone_from(&priority.all);
        priority.panics = true;
    }
    loads
}

fn by_size(priorities: &[Priority]) -> Vec<u64> {
    let total: u64 = priorities.iter().map(|priority| priority.all.len() as u64).sum();
    priorities.iter().map(|priority| 100 * priority.all.len() as u64 / total.max(1)).collect()
}

fn table(hosts: &[Arc<Host>], all: &[u32], usable: &[u32], shape: Shape) -> Option<Table> {
    if !shape.lb.is_by_hash() {
        return None;
    }
    let shares = shares(hosts, all, usable, shape.by_locality);
    match shape.lb {
        Lb::RingHash { minimum_size } => Some(Table::Ring(Ring::new(&shares, minimum_size))),
        Lb::Maglev { table_size } => Some(Table::Maglev(Maglev::new(&shares, table_size))),
        _ => None,
    }
}

// Weights as shares of 1; by locality where localities have weights. As in Envoy a locality without a usable host keeps
// its share, which nobody gets.
fn shares<'a>(hosts: &'a [Arc<Host>], all: &[u32], usable: &[u32], by_locality: bool) -> Vec<Share<'a>> {
    let host_at = |place: &u32| &*hosts[*place as usize];
    let by_locality = by_locality && all.iter().any(|place| host_at(place).locality_weight > 0);
    let group = |host: &'a Host| by_locality.then_some(&host.locality);
    let mut localities: BTreeMap<Option<&Locality>, u32> = BTreeMap::new();
    for host in all.iter().map(host_at) {
        localities.insert(group(host), if by_locality { host.locality_weight } else { 1 });
    }
    let mut weights: BTreeMap<Option<&Locality>, u64> = BTreeMap::new();
    for host in usable.iter().map(host_at) {
        *weights.entry(group(host)).or_default() += u64::from(host.weight);
    }
    let total: u64 = localities.values().map(|weight| u64::from(*weight)).sum();
    let share = |place: &u32| {
        let host = host_at(place);
        let (of_locality, of_hosts) = (localities.get(&group(host))?, weights.get(&group(host))?);
        // In this order Envoy rounds.
        let share = f64::from(host.weight) * (f64::from(*of_locality) / total as f64) / *of_hosts as f64;
        (share > 0.0).then_some(Share { host: *place, address: &host.address, share })
    };
    usable.iter().filter_map(share).collect()
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
