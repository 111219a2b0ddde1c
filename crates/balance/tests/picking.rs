//! Who is picked, with a seeded generator: bounds are wide enough never to flake.

use std::collections::BTreeMap;
use std::sync::Arc;

use balance::{Ask, Balancer, HostSet};
use config::{Endpoint, EndpointAddress, Endpoints, Health, Lb, LocalityEndpoints};
use proptest::prelude::*;

fn draws(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(2) + 1;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 32) as u32
    }
}

fn address(number: u16) -> EndpointAddress {
    EndpointAddress::Socket(([127, 0, 0, 1], number).into())
}

fn set(hosts: &[(u16, u32, Health, u32)]) -> Arc<HostSet> {
    let locality = |(number, weight, health, priority): &(u16, u32, Health, u32)| LocalityEndpoints {
        locality: Default::default(),
        priority: *priority,
        weight: None,
        endpoints: vec![Endpoint { address: address(*number), weight: *weight, health: *health, workload: None }],
    };
    Arc::new(HostSet::new(&Endpoints { cluster: "c".into(), localities: hosts.iter().map(locality).collect() }))
}

fn healthy(weights: &[u32]) -> Arc<HostSet> {
    let hosts: Vec<_> = (1..).zip(weights).map(|(number, weight)| (number, *weight, Health::Healthy, 0)).collect();
    set(&hosts)
}

fn counts(balancer: &mut Balancer, picks: u32, seed: u64) -> BTreeMap<u32, u32> {
    let mut draw = draws(seed);
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        *counts.entry(balancer.pick(&Ask::default(), &mut draw).unwrap().0).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_takes_turns() {
    let mut balancer = Balancer::new(Lb::RoundRobin, healthy(&[1, 1, 1]), 1);
    let picks: Vec<u32> = (0..6).map(|_| balancer.pick(&Ask::default(), || 0).unwrap().0).collect();
    assert_eq!(picks, [1, 2, 0, 1, 2, 0]);
}

#[test]
fn round_robin_with_weights_is_exact_and_smooth() {
    let mut balancer = Balancer::new(Lb::RoundRobin, healthy(&[3, 1]), 0);
    let picks: Vec<u32> = (0..8).map(|_| balancer.pick(&Ask::default(), || 0).unwrap().0).collect();
    assert_eq!(picks.iter().filter(|pick| **pick == 0).count(), 6);
    assert!(!picks.windows(4).any(|window| window.iter().all(|pick| *pick == 0)), "{picks:?}");
}

#[test]
fn random_follows_weights() {
    let counts = counts(&mut Balancer::new(Lb::Random, healthy(&[1, 3]), 0), 4000, 1);
    assert!((850..1150).contains(&counts[&0]), "{counts:?}");
}

#[test]
fn least_request_prefers_the_idle_host() {
    let mut balancer = Balancer::new(Lb::LeastRequest, healthy(&[1, 1]), 0);
    let first = balancer.pick(&Ask::default(), draws(1)).unwrap();
    balancer.counters(first).active.set(5);
    // Two hosts: both are always compared.
    let counts = counts(&mut balancer, 100, 2);
    assert_eq!(counts.get(&first.0), None, "{counts:?}");
}

#[test]
fn least_request_spreads_when_idle() {
    let counts = counts(&mut Balancer::new(Lb::LeastRequest, healthy(&[1, 1, 1]), 0), 3000, 3);
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn unhealthy_and_draining_hosts_are_never_picked() {
    let set = set(&[(1, 1, Health::Unhealthy, 0), (2, 1, Health::Healthy, 0), (3, 1, Health::Draining, 0)]);
    assert_eq!(counts(&mut Balancer::new(Lb::LeastRequest, set, 0), 50, 4).into_keys().collect::<Vec<_>>(), [1]);
}

#[test]
fn no_healthy_host_is_no_host() {
    let set = set(&[(1, 1, Health::Unhealthy, 0)]);
    assert_eq!(Balancer::new(Lb::Random, set, 0).pick(&Ask::default(), || 0), None);
}

#[test]
fn the_best_priority_with_a_healthy_host_is_used() {
    let set = set(&[(1, 1, Health::Unhealthy, 0), (2, 1, Health::Healthy, 2), (3, 1, Health::Healthy, 1)]);
    assert_eq!(counts(&mut Balancer::new(Lb::RoundRobin, set, 0), 10, 5).into_keys().collect::<Vec<_>>(), [2]);
}

#[test]
fn hosts_tried_before_are_avoided_while_attempts_last() {
    let mut balancer = Balancer::new(Lb::RoundRobin, healthy(&[1, 1]), 0);
    let tried = [address(1)];
    for _ in 0..4 {
        assert_eq!(balancer.pick(&Ask { tried: &tried, attempts: 5 }, || 0).unwrap().0, 1);
    }
    let both = [address(1), address(2)];
    assert!(balancer.pick(&Ask { tried: &both, attempts: 5 }, || 0).is_some(), "then one is accepted");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_update_keeps_the_counts_of_hosts_that_stay(
        before in proptest::collection::btree_set(1_u16..30, 1..10),
        after in proptest::collection::btree_set(1_u16..30, 1..10),
    ) {
        let make = |numbers: &std::collections::BTreeSet<u16>| {
            set(&numbers.iter().map(|number| (*number, 1, Health::Healthy, 0)).collect::<Vec<_>>())
        };
        let mut balancer = Balancer::new(Lb::LeastRequest, make(&before), 0);
        for (index, number) in before.iter().enumerate() {
            balancer.counters(balance::HostId(index as u32)).active.set(u32::from(*number));
        }
        balancer.update(Lb::LeastRequest, make(&after));
        for (index, number) in after.iter().enumerate() {
            let wanted = if before.contains(number) { u32::from(*number) } else { 0 };
            prop_assert_eq!(balancer.counters(balance::HostId(index as u32)).active.get(), wanted);
        }
    }
}

#[test]
fn a_bound_refuses_and_gives_back() {
    let limit = balance::limits::Limit::new(1);
    let permit = limit.take().unwrap();
    assert!(limit.take().is_none());
    drop(permit);
    assert!(limit.take().is_some());
    let none = balance::limits::Limit::new(u32::MAX);
    assert!((0..10).map(|_| none.take()).collect::<Vec<_>>().iter().all(Option::is_some));
}
