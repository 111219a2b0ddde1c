//! What shapes the choice besides the algorithm: panic, localities with weights, hosts that are new.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use balance::{Ask, Balancer, HostId, HostSet, Shape};
use config::{Endpoint, EndpointAddress, Endpoints, Health, Lb, Locality, LocalityEndpoints, SlowStart};

fn draws() -> impl FnMut() -> u32 {
    let mut state = 1_u64;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 32) as u32
    }
}

/// Zone, its weight, priority, and the health of each host in it. Hosts are numbered from 1.
type Group<'a> = (&'a str, Option<u32>, u32, &'a [Health]);

fn set(shape: Shape, groups: &[Group<'_>]) -> Arc<HostSet> {
    let mut number = 0;
    let mut localities = Vec::new();
    for (zone, weight, priority, healths) in groups {
        let mut endpoints = Vec::new();
        for health in *healths {
            number += 1;
            let address = EndpointAddress::Socket(([10, 0, 0, 1], number).into());
            endpoints.push(Endpoint { address, weight: 1, health: *health, workload: None, mtls: false });
        }
        let locality = Locality { zone: (*zone).into(), ..Locality::default() };
        localities.push(LocalityEndpoints { locality, priority: *priority, weight: *weight, endpoints });
    }
    Arc::new(HostSet::new(&Endpoints { cluster: "c".into(), localities }, shape))
}

fn counts(balancer: &mut Balancer, picks: u32, now: u64) -> BTreeMap<u32, u32> {
    let mut draw = draws();
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        let id = balancer.pick(&Ask { now, ..Ask::default() }, &mut draw).expect("a host is usable");
        *counts.entry(id.0 + 1).or_default() += 1;
    }
    counts
}

fn shares(shape: Shape, groups: &[Group<'_>]) -> BTreeMap<u32, u32> {
    counts(&mut Balancer::new(set(shape, groups), 0, 0), 4000, 0)
}

const UP: Health = Health::Healthy;
const DOWN: Health = Health::Unhealthy;

fn panics_below(panic_percent: u32) -> Shape {
    Shape { panic_percent, ..Lb::Random.into() }
}

#[test]
fn dr53_without_a_threshold_unhealthy_hosts_are_never_used() {
    assert_eq!(shares(panics_below(0), &[("", None, 0, &[UP, DOWN, DOWN, DOWN])]), BTreeMap::from([(1, 4000)]));
    let mut none = Balancer::new(set(panics_below(0), &[("", None, 0, &[DOWN])]), 0, 0);
    assert_eq!(none.pick(&Ask::default(), || 0), None);
}

#[test]
fn dr53_below_the_threshold_all_hosts_are_used() {
    let groups: [Group<'_>; 1] = [("", None, 0, &[UP, DOWN, DOWN, DOWN])];
    let all = shares(panics_below(50), &groups);
    assert!(all.len() == 4 && all.values().all(|count| (850..1150).contains(count)), "{all:?}");
    assert_eq!(shares(panics_below(25), &groups).len(), 1, "a quarter is not below 25 %");
    assert_eq!(shares(panics_below(50), &[("", None, 0, &[DOWN, DOWN])]).len(), 2, "also when none is healthy");
}

#[test]
fn dr53_no_panic_while_all_priorities_together_are_enough() {
    let groups: [Group<'_>; 2] = [("", None, 0, &[UP, DOWN, DOWN, DOWN]), ("", None, 1, &[UP, UP])];
    let found = shares(panics_below(50), &groups);
    assert!(!found.contains_key(&2) && (1250..1550).contains(&found[&1]), "{found:?}");
}

#[test]
fn dr53_when_all_priorities_panic_their_sizes_count() {
    let groups: [Group<'_>; 2] = [("", None, 0, &[UP, DOWN, DOWN]), ("", None, 1, &[DOWN])];
    let found = shares(panics_below(90), &groups);
    assert!(found.len() == 4 && found.values().all(|count| (850..1150).contains(count)), "{found:?}");
}

#[test]
fn dr77_localities_share_by_weight_and_hosts_share_what_their_locality_gets() {
    let shape = Shape { by_locality: true, ..Lb::Random.into() };
    let groups: [Group<'_>; 2] = [("a", Some(80), 0, &[UP]), ("b", Some(20), 0, &[UP, UP])];
    let found = shares(shape, &groups);
    assert!((3050..3350).contains(&found[&1]) && (300..500).contains(&found[&2]), "{found:?}");
    let flat = shares(Lb::Random.into(), &groups);
    assert!((1150..1500).contains(&flat[&1]), "weights without the mode say nothing: {flat:?}");
}

#[test]
fn dr77_a_locality_that_lacks_hosts_gets_less() {
    let shape = Shape { by_locality: true, ..Lb::RoundRobin.into() };
    // Half of a's hosts: 140 % of a half is 70 %, against all of b.
    let groups: [Group<'_>; 2] = [("a", Some(50), 0, &[UP, DOWN]), ("b", Some(50), 0, &[UP])];
    let found = shares(shape, &groups);
    assert!((1500..1800).contains(&found[&1]), "{found:?}");
    let none: [Group<'_>; 2] = [("a", Some(99), 0, &[DOWN]), ("b", Some(1), 0, &[UP])];
    assert_eq!(shares(shape, &none), BTreeMap::from([(2, 4000)]));
}

#[test]
fn dr77_weights_count_within_a_priority() {
    let shape = Shape { by_locality: true, ..Lb::Random.into() };
    let groups: [Group<'_>; 3] = [("a", Some(1), 0, &[UP, DOWN]), ("b", Some(3), 1, &[UP]), ("c", Some(1), 1, &[UP])];
    // 70 % stay in priority 0; the rest is shared 3 to 1.
    let found = shares(shape, &groups);
    let near = |host, wanted: u32| found[&host].abs_diff(wanted) < 200;
    assert!(near(1, 2800) && near(3, 900) && near(4, 300), "{found:?}");
}

fn slow(lb: Lb) -> Shape {
    let slow_start =
        SlowStart { window: Duration::from_secs(10), aggression_millionths: 1_000_000, minimum_millionths: 100_000 };
    Shape { slow_start: Some(slow_start), ..lb.into() }
}

#[test]
fn dr25_a_new_host_gets_its_share_little_by_little() {
    for lb in [Lb::RoundRobin, Lb::LeastRequest] {
        let mut balancer = Balancer::new(set(slow(lb), &[("", None, 0, &[UP])]), 0, 0);
        balancer.update(set(slow(lb), &[("", None, 0, &[UP, UP])]), 60_000);
        // One part in eleven, a third, a half.
        for (now, wanted) in [(60_000, 100), (65_000, 367), (70_001, 550)] {
            let found = counts(&mut balancer, 1100, now);
            assert!(found[&2].abs_diff(wanted) <= 60, "{lb:?} at {now}: {found:?}");
        }
    }
}

#[test]
fn dr25_hosts_of_one_age_share_alike() {
    let mut balancer = Balancer::new(set(slow(Lb::RoundRobin), &[("", None, 0, &[UP, UP])]), 0, 0);
    let found = counts(&mut balancer, 100, 1);
    assert_eq!(found, BTreeMap::from([(1, 50), (2, 50)]));
}

#[test]
fn dr25_an_update_does_not_make_a_host_young_again() {
    let hosts: [Group<'_>; 1] = [("", None, 0, &[UP, UP])];
    let mut balancer = Balancer::new(set(slow(Lb::RoundRobin), &[("", None, 0, &[UP])]), 0, 0);
    balancer.update(set(slow(Lb::RoundRobin), &hosts), 50_000);
    balancer.update(set(slow(Lb::RoundRobin), &hosts), 59_000);
    assert!(counts(&mut balancer, 1000, 59_000)[&2] > 420);
    // It counts from when it was healthy.
    let mut balancer = Balancer::new(set(slow(Lb::RoundRobin), &[("", None, 0, &[UP, DOWN])]), 0, 0);
    balancer.update(set(slow(Lb::RoundRobin), &hosts), 50_000);
    assert!(counts(&mut balancer, 1100, 50_000)[&2] < 150);
}

#[test]
fn dr25_requests_under_way_still_count() {
    let mut balancer = Balancer::new(set(slow(Lb::LeastRequest), &[("", None, 0, &[UP, UP])]), 0, 0);
    let _busy: Vec<_> = (0..9).map(|_| balancer.begin(HostId(0))).collect();
    let found = counts(&mut balancer, 1100, 1);
    assert!((70..=130).contains(&found[&1]), "{found:?}");
}
