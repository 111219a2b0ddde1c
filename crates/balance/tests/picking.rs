//! Who is picked, with a seeded generator: bounds are wide enough never to flake.

use std::collections::BTreeMap;
use std::sync::Arc;

use balance::{Ask, Balancer, HostId, HostSet, Shape};
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
        endpoints: vec![Endpoint {
            address: address(*number),
            weight: *weight,
            health: *health,
            workload: None,
            mtls: false,
        }],
    };
    let endpoints = Endpoints { cluster: "c".into(), localities: hosts.iter().map(locality).collect() };
    Arc::new(HostSet::new(&endpoints, Shape::default()))
}

fn healthy(weights: &[u32]) -> Arc<HostSet> {
    let hosts: Vec<_> = (1..).zip(weights).map(|(number, weight)| (number, *weight, Health::Healthy, 0)).collect();
    set(&hosts)
}

fn of(lb: Lb, set: Arc<HostSet>, seed: u32) -> Balancer {
    Balancer::new(Arc::new(set.reshaped(lb.into())), seed, 0)
}

fn update(balancer: &mut Balancer, lb: Lb, set: Arc<HostSet>) {
    balancer.update(Arc::new(set.reshaped(lb.into())), 0);
}

fn counts(balancer: &mut Balancer, picks: u32, seed: u64) -> BTreeMap<u32, u32> {
    let mut draw = draws(seed);
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        *counts.entry(balancer.pick(&Ask::default(), &mut draw).expect("a host is usable").0).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_takes_turns() {
    let mut balancer = of(Lb::RoundRobin, healthy(&[1, 1, 1]), 1);
    let picks: Vec<u32> = (0..6).map(|_| balancer.pick(&Ask::default(), || 0).unwrap().0).collect();
    assert_eq!(picks, [1, 2, 0, 1, 2, 0]);
}

#[test]
fn round_robin_with_weights_is_exact_in_every_round() {
    for (seed, weights) in [(0, vec![3, 1]), (1, vec![5, 1, 1]), (2, vec![7, 3, 2, 1]), (3, vec![1, 1000])] {
        let mut balancer = of(Lb::RoundRobin, healthy(&weights), seed);
        let round = weights.iter().sum::<u32>() as usize;
        let picks: Vec<u32> =
            (0..3 * round).map(|_| balancer.pick(&Ask::default(), || panic!("no draw")).unwrap().0).collect();
        for window in picks.windows(round) {
            for (host, weight) in (0..).zip(&weights) {
                let count = window.iter().filter(|pick| **pick == host).count();
                assert_eq!(count, *weight as usize, "host {host} of {weights:?}");
            }
        }
    }
}

#[test]
fn weighted_turns_are_spread() {
    let mut balancer = of(Lb::RoundRobin, healthy(&[2, 1, 1]), 0);
    let picks: Vec<u32> = (0..40).map(|_| balancer.pick(&Ask::default(), || 0).unwrap().0).collect();
    // The heavy host never has to wait for both others twice.
    assert!(picks.windows(4).all(|window| window.iter().filter(|pick| **pick == 0).count() == 2), "{picks:?}");
}

#[test]
fn proxies_do_not_all_begin_at_one_host() {
    for weights in [[1, 1, 1, 1], [1, 2, 1, 1]] {
        let first = |seed| of(Lb::RoundRobin, healthy(&weights), seed).pick(&Ask::default(), || 0).unwrap();
        let firsts: std::collections::BTreeSet<_> = (0..64).map(first).collect();
        assert_eq!(firsts.len(), 4, "{weights:?}");
    }
}

#[test]
fn an_update_does_not_begin_the_turns_again() {
    // Endpoints change between any two picks: a host of weight 1 among 9 still gets its share, and no more.
    let mut balancer = of(Lb::RoundRobin, healthy(&[9, 1]), 0);
    let mut light = 0;
    for _ in 0..100 {
        light += balancer.pick(&Ask::default(), || 0).unwrap().0;
        update(&mut balancer, Lb::RoundRobin, healthy(&[9, 1]));
    }
    assert!((9..=11).contains(&light), "{light}");
}

#[test]
fn a_host_whose_weight_grew_is_not_kept_waiting() {
    let mut balancer = of(Lb::RoundRobin, healthy(&[1000, 1]), 0);
    counts(&mut balancer, 100, 0);
    update(&mut balancer, Lb::RoundRobin, healthy(&[1, 999]));
    assert!(counts(&mut balancer, 100, 0)[&1] >= 98);
}

#[test]
fn least_request_follows_weights_when_idle() {
    let mut balancer = of(Lb::LeastRequest, healthy(&[1, 3]), 0);
    assert_eq!(counts(&mut balancer, 400, 0), BTreeMap::from([(0, 100), (1, 300)]));
}

#[test]
fn least_request_with_weights_spares_the_busy_host() {
    let mut balancer = of(Lb::LeastRequest, healthy(&[2, 1]), 0);
    let busy: Vec<_> = (0..9).map(|_| balancer.begin(HostId(0))).collect();
    // Weight 2 with 9 under way counts as 0.2.
    let shares = counts(&mut balancer, 600, 0);
    assert!((90..=110).contains(&shares[&0]), "{shares:?}");
    drop(busy);
    let shares = counts(&mut balancer, 600, 0);
    assert!((380..=410).contains(&shares[&0]), "{shares:?}");
}

#[test]
fn least_request_never_compares_a_host_with_itself() {
    // Of three hosts two are busy: every pair has the idle one or two busy ones, so the idle one gets 2/3.
    let mut balancer = of(Lb::LeastRequest, healthy(&[1, 1, 1]), 0);
    let _busy: Vec<_> = [1, 2].map(|host| balancer.begin(HostId(host))).into();
    let shares = counts(&mut balancer, 3000, 7);
    assert!((1850..2150).contains(&shares[&0]), "{shares:?}");
}

#[test]
fn random_follows_weights() {
    let counts = counts(&mut of(Lb::Random, healthy(&[1, 3]), 0), 4000, 1);
    assert!((850..1150).contains(&counts[&0]), "{counts:?}");
}

#[test]
fn least_request_prefers_the_idle_host() {
    let mut balancer = of(Lb::LeastRequest, healthy(&[1, 1]), 0);
    let first = balancer.pick(&Ask::default(), draws(1)).unwrap();
    balancer.counters(first).active.set(5);
    // Two hosts: both are always compared.
    let counts = counts(&mut balancer, 100, 2);
    assert_eq!(counts.get(&first.0), None, "{counts:?}");
}

#[test]
fn least_request_spreads_when_idle() {
    let counts = counts(&mut of(Lb::LeastRequest, healthy(&[1, 1, 1]), 0), 3000, 3);
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn unhealthy_and_draining_hosts_are_never_picked() {
    let set = set(&[(1, 1, Health::Unhealthy, 0), (2, 1, Health::Healthy, 0), (3, 1, Health::Draining, 0)]);
    assert_eq!(counts(&mut of(Lb::LeastRequest, set, 0), 50, 4).into_keys().collect::<Vec<_>>(), [1]);
}

#[test]
fn no_healthy_host_is_no_host() {
    let set = set(&[(1, 1, Health::Unhealthy, 0)]);
    assert_eq!(of(Lb::Random, set, 0).pick(&Ask::default(), || 0), None);
}

#[test]
fn the_best_priority_with_a_healthy_host_is_used() {
    let set = set(&[(1, 1, Health::Unhealthy, 0), (2, 1, Health::Healthy, 2), (3, 1, Health::Healthy, 1)]);
    assert_eq!(counts(&mut of(Lb::RoundRobin, set, 0), 10, 5).into_keys().collect::<Vec<_>>(), [2]);
}

#[test]
fn hosts_tried_before_are_avoided_while_attempts_last() {
    let mut balancer = of(Lb::RoundRobin, healthy(&[1, 1]), 0);
    let tried = [address(1)];
    for _ in 0..4 {
        assert_eq!(balancer.pick(&Ask { tried: &tried, attempts: 5, ..Ask::default() }, || 0).unwrap().0, 1);
    }
    let both = [address(1), address(2)];
    assert!(
        balancer.pick(&Ask { tried: &both, attempts: 5, ..Ask::default() }, || 0).is_some(),
        "then one is accepted"
    );
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
        let mut balancer = of(Lb::LeastRequest, make(&before), 0);
        for (index, number) in before.iter().enumerate() {
            balancer.counters(HostId(index as u32)).active.set(u32::from(*number));
        }
        update(&mut balancer, Lb::LeastRequest, make(&after));
        for (index, number) in after.iter().enumerate() {
            let wanted = if before.contains(number) { u32::from(*number) } else { 0 };
            prop_assert_eq!(balancer.counters(HostId(index as u32)).active.get(), wanted);
        }
    }
}

#[test]
fn a_request_ends_where_it_began_though_the_host_has_left() {
    let numbers =
        |numbers: &[u16]| set(&numbers.iter().map(|number| (*number, 1, Health::Healthy, 0)).collect::<Vec<_>>());
    let mut balancer = of(Lb::LeastRequest, numbers(&[1, 2]), 0);
    let active = |balancer: &Balancer, id| balancer.counters(HostId(id)).active.get();
    let (leaves, stays) = (balancer.begin(HostId(0)), balancer.begin(HostId(1)));
    update(&mut balancer, Lb::LeastRequest, numbers(&[2, 3]));
    assert_eq!((active(&balancer, 0), active(&balancer, 1)), (1, 0));
    // It comes back as a new host: what the old one still does is not its doing.
    update(&mut balancer, Lb::LeastRequest, numbers(&[1, 2, 3]));
    let again = balancer.begin(HostId(0));
    drop(leaves);
    assert_eq!((active(&balancer, 0), active(&balancer, 1)), (1, 1));
    drop((again, stays));
    assert_eq!([0, 1, 2].map(|id| active(&balancer, id)), [0, 0, 0]);
    assert_eq!(balancer.counters(HostId(0)).total.get(), 1);
}

#[test]
fn a_priority_with_too_few_healthy_hosts_spills_over() {
    // 1 of 2 is healthy: 140 % of a half is 70 %.
    let hosts = [(1, 1, Health::Healthy, 0), (2, 1, Health::Unhealthy, 0), (3, 1, Health::Healthy, 1)];
    for lb in [Lb::LeastRequest, Lb::RoundRobin, Lb::Random] {
        let shares = counts(&mut of(lb, set(&hosts), 0), 3000, 11);
        assert!((2000..2200).contains(&shares[&0]) && !shares.contains_key(&1), "{lb:?} {shares:?}");
    }
}

#[test]
fn a_priority_that_is_good_enough_keeps_all_requests() {
    // 3 of 4: 140 % of that is more than all.
    let mut hosts: Vec<_> = (1..=3).map(|number| (number, 1, Health::Healthy, 0)).collect();
    hosts.extend([(4, 1, Health::Draining, 0), (5, 1, Health::Healthy, 1)]);
    let shares = counts(&mut of(Lb::Random, set(&hosts), 0), 500, 12);
    assert_eq!(shares.into_keys().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn random_follows_weights_of_any_size() {
    let shares = counts(&mut of(Lb::Random, healthy(&[u32::MAX, u32::MAX, 1]), 0), 2000, 13);
    assert!((850..1150).contains(&shares[&0]) && shares[&0] + shares[&1] >= 1999, "{shares:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pick_is_always_a_healthy_host_and_there_is_one_if_any_is(
        hosts in proptest::collection::vec((1_u32..5, 0_u8..3, 0_u32..3), 0..12),
        updates in proptest::collection::vec((0_usize..12, 0_u8..3), 0..4),
        seed in any::<u32>(),
    ) {
        let health = |code| [Health::Healthy, Health::Unhealthy, Health::Draining][usize::from(code)];
        let mut hosts: Vec<(u16, u32, Health, u32)> = (1..)
            .zip(hosts)
            .map(|(number, (weight, code, priority))| (number, weight, health(code), priority))
            .collect();
        for lb in [Lb::LeastRequest, Lb::RoundRobin, Lb::Random] {
            let mut draw = draws(u64::from(seed));
            let mut balancer = of(lb, set(&hosts), seed);
            for change in std::iter::once(None).chain(updates.iter().map(Some)) {
                if let Some((place, code)) = change
                    && let Some(host) = hosts.get_mut(*place)
                {
                    host.2 = health(*code);
                    update(&mut balancer, lb, set(&hosts));
                }
                for _ in 0..5 {
                    let picked = balancer.pick(&Ask::default(), &mut draw);
                    let is_any = hosts.iter().any(|host| host.2 == Health::Healthy);
                    prop_assert_eq!(picked.is_some(), is_any);
                    if let Some(id) = picked {
                        prop_assert_eq!(balancer.host(id).health, Health::Healthy);
                    }
                }
            }
        }
    }
}

#[test]
fn vs84_another_priority_is_the_first_that_was_not_tried() {
    let hosts = [
        (1, 1, Health::Healthy, 0),
        (2, 1, Health::Unhealthy, 1),
        (3, 1, Health::Healthy, 2),
        (4, 3, Health::Healthy, 2),
    ];
    let balancer = of(Lb::Random, set(&hosts), 1);
    assert_eq!(balancer.elsewhere(&[address(1)], || 0), Some(HostId(2)));
    assert_eq!(balancer.elsewhere(&[address(1)], || u32::MAX), Some(HostId(3)));
    assert_eq!(balancer.elsewhere(&[address(3)], || 0), Some(HostId(0)));
    assert_eq!(balancer.elsewhere(&[address(1), address(4)], || 0), None);
}
