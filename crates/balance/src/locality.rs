//! What share of a priority's requests each locality gets when localities have weights (Envoy
//! `LocalityWeightedLbConfig`, Istio DR77).

use std::collections::BTreeMap;
use std::sync::Arc;

use config::Locality;

use crate::hosts::Host;

/// One, in the unit of shares.
pub(crate) const ONE: u64 = 1 << 32;
/// A locality counts fully while at least 100/140 of its hosts are usable.
const OVERPROVISIONING: f64 = 1.4;

/// The hosts of one locality, and its part of the priority's requests.
#[derive(Debug)]
pub(crate) struct Part {
    /// Places of usable hosts; never empty.
    pub(crate) usable: Vec<u32>,
    /// Of [`ONE`]; all parts add up to it.
    pub(crate) share: u64,
}

/// Splits the hosts of a priority by locality; `None` when no locality with a usable host has a weight.
pub(crate) fn split(hosts: &[Arc<Host>], all: &[u32], usable: &[u32]) -> Option<Vec<Part>> {
    let place_of = |place: &u32| &hosts[*place as usize].locality;
    let mut counts: BTreeMap<&Locality, f64> = BTreeMap::new();
    for place in all {
        *counts.entry(place_of(place)).or_default() += 1.0;
    }
    let mut by_locality: BTreeMap<&Locality, Vec<u32>> = BTreeMap::new();
    for place in usable {
        by_locality.entry(place_of(place)).or_default().push(*place);
    }
    let weighted: Vec<(Vec<u32>, f64)> = by_locality
        .into_iter()
        .filter_map(|(locality, usable)| {
            let weight = f64::from(hosts[*usable.first()? as usize].locality_weight);
            let health = (OVERPROVISIONING * usable.len() as f64 / counts.get(locality)?).min(1.0);
            (weight > 0.0).then_some((usable, weight * health))
        })
        .collect();
    let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    let last = weighted.len().checked_sub(1)?;
    let mut left = ONE;
    let part = |(index, (usable, weight)): (usize, (Vec<u32>, f64))| {
        // What rounding leaves goes to the last.
        let share = if index == last { left } else { ((weight / total * ONE as f64) as u64).min(left) };
        left -= share;
        Part { usable, share }
    };
    Some(weighted.into_iter().enumerate().map(part).collect())
}
