//! Localities (DR70 to DR79): what a rule, a service and the mesh say about them, and what it comes to for one client:
//! priorities and weights of endpoints.
//!
//! In: settings as lowered, the client's place, endpoints by locality. Out: the same endpoints, arranged. Makes no
//! clusters.

use std::collections::{BTreeMap, BTreeSet};

use api::load_balancer::{LocalitySetting, ZoneAwareSetting};
use config::{Endpoints, Locality, LocalityEndpoints, LocalityMode};
use words::Labels;

use crate::mesh::MeshConfig;
use crate::notes::{NOT_OBEYED, Notes};
use crate::policy::Blocks;
use crate::service::Distribution;

/// Label of the network that a pod is in.
const NETWORK: &str = "topology.istio.io/network";
/// Label of a node's region.
pub(crate) const REGION: &str = "topology.kubernetes.io/region";
/// Label of a node's zone.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of a part of a zone.
pub(crate) const SUBZONE: &str = "topology.istio.io/subzone";
/// Label of a node's name.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
/// Label of the cluster that a pod is in.
pub(crate) const CLUSTER: &str = "topology.istio.io/cluster";

/// Endpoints from which a cluster must have zone-aware balancing when nothing is said (DR79).
const MIN_CLUSTER_SIZE: u32 = 6;
/// Tiers that localities are told apart by: the client's own, its zone, its region, elsewhere, elsewhere than where a
/// failover leads (DR72, DR73).
const TIERS: u32 = 5;

/// `localityLbSetting` or `zoneAwareLbSetting` of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Settings {
    /// Switched off.
    Off,
    /// By locality.
    Localities(Spread),
    /// By zone; the percent of requests, and from which number of endpoints on.
    ZoneAware(Spread, u8, u32),
}

/// What decides over the localities of a cluster's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Spread {
    /// Shares by the client's locality; when there are any, nothing else counts (DR74).
    distribute: Vec<Distribute>,
    /// Where to when a region fails, first match first (DR73).
    failover: Vec<Failover>,
    /// Labels whose match orders endpoints (DR75).
    priority: Vec<PriorityLabel>,
    /// Only regions are told apart, not zones (DR79).
    regions_only: bool,
    /// Priorities count though nothing ever ejects a host (DR76).
    forced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Distribute {
    from: String,
    to: Vec<(String, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Failover {
    from: String,
    to: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PriorityLabel {
    key: String,
    /// `None`: the client's own value.
    value: Option<String>,
}

/// Where a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// Region, zone, subzone.
    pub(crate) locality: Locality,
    /// The labels that endpoints are compared by; a label that it has not got is not here.
    pub(crate) labels: Labels,
}

/// What of clients' places anything in the world looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Needs {
    /// Anything at all.
    pub(crate) any: bool,
    /// Labels.
    pub(crate) labels: BTreeSet<String>,
}

/// Lowers `localityLbSetting`.
pub(crate) fn lower(written: &LocalitySetting, field: &str, notes: &mut Notes) -> Settings {
    let LocalitySetting { distribute, failover, failover_priority, enabled } = written;
    if *enabled == Some(false) {
        return Settings::Off;
    }
    let mut taken = Vec::with_capacity(distribute.len());
    for (index, one) in distribute.iter().enumerate() {
        let sum: u64 = one.to.values().map(|weight| u64::from(*weight)).sum();
        if sum == 0 || sum > u64::from(u32::MAX) {
            notes
                .ignored(format!("{field}.distribute[{index}].to"), format!("the weights add up to {sum}, not to 100"));
            continue;
        }
        let mut to: Vec<(String, u32)> = one.to.iter().map(|(place, weight)| (place.clone(), *weight)).collect();
        // A place that names more of a locality goes first; they should not overlap.
        to.sort_by_key(|(place, _)| std::cmp::Reverse(place.split('/').filter(|part| *part != "*").count()));
        taken.push(Distribute { from: one.from.clone().unwrap_or_default(), to });
    }
    Settings::Localities(Spread {
        distribute: taken,
        failover: lower_failover(failover),
        priority: lower_priority(failover_priority),
        ..Spread::default()
    })
}

/// Lowers `zoneAwareLbSetting`.
pub(crate) fn lower_zone_aware(written: &ZoneAwareSetting, field: &str, notes: &mut Notes) -> Settings {
    let ZoneAwareSetting { enabled, min_cluster_size, failover, failover_priority } = written;
    let is_on = *enabled != Some(false);
    if is_on {
        let message = "requests stay in the client's region; its zones are not told apart yet";
        notes.add(NOT_OBEYED, words::Severity::Warning, field, message);
    }
    let spread = Spread {
        failover: lower_failover(failover),
        priority: lower_priority(failover_priority),
        regions_only: true,
        forced: true,
        ..Spread::default()
    };
    let size = min_cluster_size.map_or(MIN_CLUSTER_SIZE, |size| u32::try_from(size).unwrap_or(u32::MAX));
    Settings::ZoneAware(spread, if is_on { 100 } else { 0 }, size)
}

fn lower_failover(written: &[api::load_balancer::Failover]) -> Vec<Failover> {
    let one = |written: &api::load_balancer::Failover| Failover {
        from: written.from.clone().unwrap_or_default(),
        to: written.to.clone().unwrap_or_default(),
    };
    written.iter().map(one).collect()
}

fn lower_priority(written: &[String]) -> Vec<PriorityLabel> {
    let one = |text: &String| match text.split_once('=') {
        Some((key, value)) => PriorityLabel { key: key.to_owned(), value: Some(value.to_owned()) },
        None => PriorityLabel { key: text.clone(), value: None },
    };
    written.iter().map(one).collect()
}

/// What holds for one cluster (DR70, no level adds to another): the rule, else the service, else the mesh. Priorities
/// need something that takes hosts out (DR76).
pub(crate) fn effective(
    blocks: &Blocks,
    distribution: Option<Distribution>,
    mesh: &MeshConfig,
) -> (LocalityMode, Option<Spread>) {
    let said = blocks.balance.as_ref().and_then(|balance| balance.locality.as_ref());
    let mut mode = LocalityMode::Flat;
    let spread = match (said, distribution) {
        (Some(Settings::Off), _) => None,
        (Some(Settings::Localities(spread)), _) => Some(spread.clone()),
        (Some(Settings::ZoneAware(spread, routing_percent, min_cluster_size)), _) => {
            let (routing_percent, min_cluster_size) = (*routing_percent, *min_cluster_size);
            mode = LocalityMode::ZoneAware { routing_percent, min_cluster_size };
            Some(spread.clone())
        }
        (None, Some(distribution)) => Some(Spread::of_service(distribution)),
        (None, None) => mesh.locality_lb.then(Spread::default),
    };
    let fails_over = blocks.outlier.is_some();
    let spread = spread.filter(|spread| !spread.distribute.is_empty() || spread.forced || fails_over);
    let is_explicit =
        |spread: &Spread| !spread.distribute.is_empty() || !spread.failover.is_empty() || !spread.priority.is_empty();
    if mode == LocalityMode::Flat && spread.as_ref().is_some_and(is_explicit) {
        // DR77.
        mode = LocalityMode::Weighted;
    }
    (mode, spread)
}

impl Settings {
    /// The labels that it looks at.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &String> {
        let spread = match self {
            Self::Off => None,
            Self::Localities(spread) | Self::ZoneAware(spread, ..) => Some(spread),
        };
        spread.into_iter().flat_map(|spread| &spread.priority).map(|label| &label.key)
    }
}

impl Distribution {
    /// The labels that it looks at, the most important one first (DR78).
    pub(crate) fn labels(self) -> &'static [&'static str] {
        match self {
            Self::SameZone => &[NETWORK, REGION, ZONE],
            Self::SameNode => &[NETWORK, REGION, ZONE, SUBZONE, HOSTNAME],
        }
    }
}

impl Spread {
    fn of_service(distribution: Distribution) -> Self {
        let label = |key: &&str| PriorityLabel { key: (*key).to_owned(), value: None };
        Self { priority: distribution.labels().iter().map(label).collect(), forced: true, ..Self::default() }
    }

    /// The priority of an endpoint by its labels: 0 when all match, the more the earlier one does not (DR75).
    pub(crate) fn rank(&self, labels: &Labels, place: &Place) -> u32 {
        if !self.distribute.is_empty() {
            return 0;
        }
        let differs = |label: &PriorityLabel| {
            let wanted = label.value.as_deref().or_else(|| place.labels.get(&label.key).map(String::as_str));
            wanted.unwrap_or_default() != labels.get(&label.key).map(String::as_str).unwrap_or_default()
        };
        self.priority.iter().position(differs).map_or(0, |first| (self.priority.len() - first) as u32)
    }

    /// Arranges endpoints whose groups have their ranks as priorities.
    pub(crate) fn arrange(&self, endpoints: &mut Endpoints, place: &Place, mode: LocalityMode) {
        if mode == LocalityMode::Weighted {
            for group in &mut endpoints.localities {
                group.weight = Some(total(group).max(1));
            }
        }
        if !self.distribute.is_empty() {
            return self.distribute(endpoints, place);
        }
        // Labels alone order, unless failover is asked for too.
        if self.priority.is_empty() || !self.failover.is_empty() || self.regions_only {
            for group in &mut endpoints.localities {
                group.priority = group.priority * TIERS + self.tier(&group.locality, &place.locality);
            }
        }
        compact(endpoints);
    }

    /// How far a locality is.
    fn tier(&self, there: &Locality, here: &Locality) -> u32 {
        if there.region == here.region {
            return match (there.zone == here.zone, there.subzone == here.subzone) {
                _ if self.regions_only => 0,
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => 2,
            };
        }
        let leads = self.failover.iter().find(|failover| failover.from == here.region);
        if leads.is_some_and(|failover| failover.to != there.region) { 4 } else { 3 }
    }

    /// Weights instead of priorities; a locality that is not named gets nothing (TR86).
    fn distribute(&self, endpoints: &mut Endpoints, place: &Place) {
        let Some(shares) = self.distribute.iter().find(|one| covers(&one.from, &place.locality)) else { return };
        let mut weights: Vec<Option<u32>> = vec![None; endpoints.localities.len()];
        for (name, share) in &shares.to {
            let covered = |(index, group): (usize, &LocalityEndpoints)| {
                (weights[index].is_none() && covers(name, &group.locality)).then(|| (index, total(group)))
            };
            let covered: Vec<(usize, u32)> = endpoints.localities.iter().enumerate().filter_map(covered).collect();
            let sum: u64 = covered.iter().map(|(_, weight)| u64::from(*weight)).sum();
            for (index, weight) in covered {
                // Rounded up, so that a small locality keeps a share.
                let part = (u64::from(weight) * u64::from(*share)).div_ceil(sum.max(1));
                weights[index] = Some(u32::try_from(part).unwrap_or(u32::MAX));
            }
        }
        let mut weights = weights.into_iter();
        endpoints.localities.retain_mut(|group| {
            group.weight = weights.next().flatten().filter(|weight| *weight > 0);
            group.weight.is_some()
        });
    }
}

fn total(group: &LocalityEndpoints) -> u32 {
    group.endpoints.iter().fold(0, |sum, endpoint| sum.saturating_add(endpoint.weight))
}

/// True when a pattern, `region/zone/*` or shorter, covers a locality (DR74).
fn covers(pattern: &str, locality: &Locality) -> bool {
    let mut parts = pattern.splitn(3, '/');
    let region = parts.next().unwrap_or_default();
    let mut fits = |part: &str| parts.next().is_none_or(|wanted| matches!(wanted, "" | "*") || wanted == part);
    (region == "*" || region == locality.region) && fits(&locality.zone) && fits(&locality.subzone)
}

/// Priorities without gaps, which Envoy asks for; groups in their order.
fn compact(endpoints: &mut Endpoints) {
    let used: BTreeSet<u32> = endpoints.localities.iter().map(|group| group.priority).collect();
    let places: BTreeMap<u32, u32> = used.into_iter().zip(0..).collect();
    for group in &mut endpoints.localities {
        group.priority = places.get(&group.priority).copied().unwrap_or(group.priority);
    }
    endpoints.localities.sort_by(|a, b| (a.priority, &a.locality).cmp(&(b.priority, &b.locality)));
}

#[cfg(test)]
mod tests {
    use config::{Endpoint, EndpointAddress, Health};

    use super::*;

    fn at(text: &str) -> Locality {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality { region: next(), zone: next(), subzone: next() }
    }

    fn endpoints(groups: &[(&str, u32)]) -> Endpoints {
        let group = |(locality, weight): &(&str, u32)| LocalityEndpoints {
            locality: at(locality),
            priority: 0,
            weight: None,
            endpoints: vec![Endpoint {
                address: EndpointAddress::Socket(([10, 0, 0, 1], 80).into()),
                weight: *weight,
                health: Health::Healthy,
                workload: None,
                mtls: false,
            }],
        };
        Endpoints { cluster: "c".into(), localities: groups.iter().map(group).collect() }
    }

    fn place(locality: &str) -> Place {
        Place { locality: at(locality), labels: Labels::new() }
    }

    fn priorities(spread: &Spread, here: &str, groups: &[(&str, u32)]) -> Vec<(u32, String)> {
        let mut made = endpoints(groups);
        spread.arrange(&mut made, &place(here), LocalityMode::Flat);
        let text = |Locality { region, zone, subzone }: &Locality| format!("{region}/{zone}/{subzone}");
        made.localities.iter().map(|group| (group.priority, text(&group.locality))).collect()
    }

    fn numbers(priorities: &[(u32, String)]) -> Vec<u32> {
        priorities.iter().map(|(priority, _)| *priority).collect()
    }

    const ALL: [(&str, u32); 5] = [("a/1/x", 1), ("a/1/y", 1), ("a/2/x", 1), ("b/1/x", 1), ("c/1/x", 1)];

    #[test]
    fn dr72_the_nearest_come_first_and_no_number_is_left_out() {
        assert_eq!(numbers(&priorities(&Spread::default(), "a/1/x", &ALL)), [0, 1, 2, 3, 3]);
        assert_eq!(numbers(&priorities(&Spread::default(), "a/2/x", &ALL[..2])), [0, 0]);
        assert_eq!(numbers(&priorities(&Spread::default(), "d/1/x", &ALL)), [0; 5]);
        assert_eq!(numbers(&priorities(&Spread::default(), "", &ALL)), [0; 5]);
    }

    #[test]
    fn dr73_a_failover_puts_other_regions_behind_and_counts_for_its_own_only() {
        let to = |from: &str, to: &str| Failover { from: from.into(), to: to.into() };
        let spread = Spread { failover: vec![to("a", "c"), to("a", "b")], ..Spread::default() };
        let found = priorities(&spread, "a/1/x", &ALL);
        assert_eq!(found[3..], [(3, "c/1/x".to_owned()), (4, "b/1/x".to_owned())]);
        assert_eq!(numbers(&priorities(&spread, "b/1/x", &ALL)), [0, 1, 1, 1, 1]);
    }

    #[test]
    fn dr79_zone_aware_tells_regions_apart_only() {
        let spread = Spread { regions_only: true, ..Spread::default() };
        assert_eq!(numbers(&priorities(&spread, "a/1/x", &ALL)), [0, 0, 0, 1, 1]);
    }

    fn weights(to: &[(&str, u32)], groups: &[(&str, u32)]) -> Vec<(String, u32)> {
        let to = to.iter().map(|(place, weight)| ((*place).to_owned(), *weight)).collect();
        let spread = Spread { distribute: vec![Distribute { from: "a/*".into(), to }], ..Spread::default() };
        let mut made = endpoints(groups);
        spread.arrange(&mut made, &place("a/1/x"), LocalityMode::Weighted);
        made.localities.iter().map(|group| (group.locality.zone.clone(), group.weight.unwrap_or(0))).collect()
    }

    #[test]
    fn dr74_named_localities_get_their_weights_and_tr86_others_get_nothing() {
        let groups = [("a/1", 1), ("a/2", 3), ("a/3", 1), ("b/4", 1)];
        let wanted = |pairs: &[(&str, u32)]| -> Vec<(String, u32)> {
            pairs.iter().map(|(zone, weight)| ((*zone).to_owned(), *weight)).collect()
        };
        assert_eq!(weights(&[("a/1", 80), ("b/*", 20)], &groups), wanted(&[("1", 80), ("4", 20)]));
        // A wildcard's share is split by weight, rounded up; a place that is named is not part of it.
        assert_eq!(weights(&[("a/1", 10), ("a/*", 90)], &groups), wanted(&[("1", 10), ("2", 68), ("3", 23)]));
        assert_eq!(weights(&[("a/1", 100), ("a/2", 0)], &groups), wanted(&[("1", 100)]));
    }

    #[test]
    fn dr74_a_client_from_elsewhere_is_not_touched() {
        let spread = Spread {
            distribute: vec![Distribute { from: "b".into(), to: vec![("b".into(), 100)] }],
            ..Spread::default()
        };
        let mut made = endpoints(&[("a/1", 4), ("b/4", 1)]);
        spread.arrange(&mut made, &place("a/1/x"), LocalityMode::Weighted);
        let weights: Vec<_> = made.localities.iter().map(|group| group.weight).collect();
        assert_eq!(weights, [Some(4), Some(1)]);
    }

    #[test]
    fn dr75_labels_match_from_the_left() {
        let label = |text: &str| lower_priority(&[text.to_owned()]).remove(0);
        let spread = Spread { priority: vec![label("a"), label("b=2"), label("c")], ..Spread::default() };
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let here = Place { labels: labels(&[("a", "1"), ("b", "9")]), ..Place::default() };
        for (there, wanted) in [
            (labels(&[("a", "1"), ("b", "2")]), 0),
            (labels(&[("a", "1"), ("b", "2"), ("c", "3")]), 1),
            (labels(&[("a", "1"), ("b", "9")]), 2),
            (labels(&[("b", "2")]), 3),
        ] {
            assert_eq!(spread.rank(&there, &here), wanted, "{there:?}");
        }
    }
}
