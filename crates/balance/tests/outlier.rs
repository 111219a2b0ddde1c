//! Outlier detection, rule by rule, with a clock that is a number.

use std::sync::Arc;
use std::time::Duration;

use balance::{Ask, Balancer, Detector, HostSet, Report, Shape};
use config::{Endpoint, EndpointAddress, Endpoints, Health, Lb, Locality, LocalityEndpoints, Outlier};

fn set(count: u16) -> Arc<HostSet> {
    let endpoint = |n: u16| Endpoint {
        address: EndpointAddress::Socket(([10, 0, 0, 1], n).into()),
        weight: 1,
        health: Health::Healthy,
        workload: None,
        mtls: false,
    };
    let endpoints = (1..=count).map(endpoint).collect();
    let group = LocalityEndpoints { locality: Locality::default(), priority: 0, weight: None, endpoints };
    Arc::new(HostSet::new(&Endpoints { cluster: "c".into(), localities: vec![group] }, shape(0)))
}

fn shape(panic_percent: u32) -> Shape {
    Shape { lb: Lb::RoundRobin, panic_percent, ..Shape::default() }
}

fn config() -> Outlier {
    Outlier { max_ejection_percent: 100, ..Outlier::default() }
}

fn detector(config: Outlier, hosts: u16) -> Detector {
    Detector::new(config, set(hosts), None)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn report(detector: &Detector, times: u32, report: Report) {
    for _ in 0..times {
        detector.report(0, report, Duration::ZERO);
    }
}

fn usable(detector: &Detector) -> Vec<u32> {
    let mut balancer = Balancer::new(detector.hosts(), 0, 0);
    let mut seen: Vec<u32> = (0..20).filter_map(|_| balancer.pick(&Ask::default(), || 0)).map(|id| id.0).collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[test]
fn dr50_five_errors_in_a_row_eject_and_the_others_stay() {
    let detector = detector(config(), 3);
    report(&detector, 4, Report::Status(500));
    assert_eq!(usable(&detector), [0, 1, 2]);
    let before = detector.generation();
    assert!(detector.report(0, Report::Status(500), Duration::ZERO), "the first ejection begins the sweeps");
    assert_eq!(usable(&detector), [1, 2]);
    assert!(detector.generation() != before && detector.is_out(0) && detector.events().active == 1);
}

#[test]
fn dr50_a_success_ends_the_row_and_zero_is_never() {
    let detector = detector(config(), 2);
    report(&detector, 4, Report::Status(500));
    report(&detector, 1, Report::Status(404));
    report(&detector, 4, Report::Status(500));
    assert!(!detector.is_out(0));
    let never = self::detector(Outlier { consecutive_5xx: 0, ..config() }, 2);
    report(&never, 100, Report::Status(500));
    assert!(!never.is_out(0));
}

#[test]
fn dr51_gateway_errors_are_502_to_504_and_another_error_ends_their_row() {
    let config = || Outlier { consecutive_5xx: 0, consecutive_gateway: 3, ..config() };
    let detector = detector(config(), 2);
    for status in [502, 503, 500, 504, 502] {
        report(&detector, 1, Report::Status(status));
    }
    assert!(!detector.is_out(0));
    report(&detector, 1, Report::Status(503));
    assert!(detector.is_out(0));
    assert_eq!((detector.events().gateway, detector.events().errors), (1, 0));
}

#[test]
fn dr54_local_failures_count_as_503_and_504_unless_they_are_split() {
    let whole = detector(Outlier { consecutive_5xx: 2, consecutive_gateway: 0, ..config() }, 2);
    report(&whole, 1, Report::Broken);
    report(&whole, 1, Report::Timeout);
    assert!(whole.is_out(0));
    let split = detector(Outlier { consecutive_5xx: 1, consecutive_local: Some(3), ..config() }, 2);
    report(&split, 2, Report::Broken);
    // Whoever answers was connected to.
    report(&split, 1, Report::Status(200));
    report(&split, 2, Report::Timeout);
    assert!(!split.is_out(0));
    report(&split, 1, Report::Broken);
    assert!(split.is_out(0) && split.events().local == 1);
}

#[test]
fn dr54_a_connection_that_is_not_http_is_a_success_when_it_is_made() {
    let detector = detector(Outlier { consecutive_5xx: 2, ..config() }, 2);
    for one in [Report::Broken, Report::Connected, Report::Broken] {
        report(&detector, 1, one);
    }
    assert!(!detector.is_out(0));
}

#[test]
fn dr56_status_codes_replace_5xx() {
    let detector = detector(Outlier { consecutive_5xx: 2, error_codes: vec![429, 503], ..config() }, 2);
    report(&detector, 5, Report::Status(500));
    assert!(!detector.is_out(0));
    report(&detector, 1, Report::Status(429));
    report(&detector, 1, Report::Status(503));
    assert!(detector.is_out(0));
}

#[test]
fn dr53_no_more_than_the_share_is_out() {
    // A tenth of nine is less than one; a third of three is one.
    for (percent, hosts, out) in [(10, 9, 0), (10, 10, 1), (34, 3, 1), (50, 3, 1), (67, 3, 2), (100, 3, 3), (0, 3, 0)] {
        let config = Outlier { consecutive_5xx: 1, max_ejection_percent: percent, ..config() };
        let detector = detector(config, hosts);
        for place in 0..u32::from(hosts) {
            detector.report(place, Report::Status(500), Duration::ZERO);
        }
        let events = detector.events();
        assert_eq!((events.active, events.overflow), (out, u64::from(hosts) - out), "{percent} % of {hosts}");
    }
}

#[test]
fn dr53_the_time_out_grows_with_ejections_and_shrinks_with_quiet_sweeps() {
    let detector = detector(Outlier { consecutive_5xx: 1, ..config() }, 2);
    let mut now = 0;
    let out_for = |now: &mut u64| {
        detector.report(0, Report::Status(500), seconds(*now));
        let began = *now;
        while detector.is_out(0) {
            *now += 10;
            detector.sweep(seconds(*now));
        }
        *now - began
    };
    assert_eq!([out_for(&mut now), out_for(&mut now), out_for(&mut now)], [30, 60, 90]);
    // Two sweeps that find it in service.
    assert!(detector.sweep(seconds(now)) && detector.sweep(seconds(now)));
    assert_eq!(out_for(&mut now), 60);
    for _ in 0..2 {
        detector.sweep(seconds(now));
    }
    assert!(!detector.sweep(seconds(now)), "nothing is left to forgive");
    assert!(detector.report(0, Report::Status(500), seconds(now)), "and the next ejection begins the sweeps anew");
}

#[test]
fn the_time_out_has_a_bound_unless_the_base_is_longer() {
    for (base, times, longest) in [(100, 5, 300), (600, 3, 600)] {
        let config = Outlier { consecutive_5xx: 1, base_ejection_time: seconds(base), ..config() };
        let detector = detector(config, 2);
        let mut now = 0;
        let mut last = 0;
        for _ in 0..times {
            detector.report(0, Report::Status(500), seconds(now));
            let began = now;
            while detector.is_out(0) {
                now += 1;
                detector.sweep(seconds(now));
            }
            last = now - began;
        }
        assert_eq!(last, longest);
    }
}

#[test]
fn a_host_that_comes_back_begins_anew() {
    let detector = detector(Outlier { consecutive_5xx: 2, ..config() }, 2);
    report(&detector, 2, Report::Status(500));
    // Of requests that were under way.
    report(&detector, 5, Report::Status(500));
    detector.sweep(seconds(30));
    assert!(!detector.is_out(0));
    report(&detector, 1, Report::Status(500));
    assert!(!detector.is_out(0));
}

#[test]
fn ejections_outlive_changes_of_hosts_and_bounds() {
    let before = detector(Outlier { consecutive_5xx: 1, ..config() }, 2);
    report(&before, 1, Report::Status(500));
    let after = Detector::new(Outlier { consecutive_5xx: 3, ..config() }, set(3), Some(&before));
    assert!(after.is_out(0) && usable(&after) == [1, 2] && after.generation() != 0);
    let gone = Detector::new(Outlier::default(), set(0), Some(&after));
    assert_eq!(gone.events().active, 0);
}

#[test]
fn dr57_panic_uses_everybody_when_too_few_are_left() {
    let panicky = |out: u32| {
        let hosts = Arc::new(set(4).reshaped(shape(50)));
        let detector = Detector::new(Outlier { consecutive_5xx: 1, ..config() }, hosts, None);
        (0..out).for_each(|place| _ = detector.report(place, Report::Status(500), Duration::ZERO));
        usable(&detector)
    };
    assert_eq!(panicky(2), [2, 3]);
    assert_eq!(panicky(3), [0, 1, 2, 3]);
    assert_eq!(panicky(4), [0, 1, 2, 3]);
}

#[test]
fn workers_together_eject_once() {
    let detector = detector(Outlier { consecutive_5xx: 100, ..config() }, 2);
    let begun = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    if detector.report(0, Report::Status(500), Duration::ZERO) {
                        begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!((detector.events().ejected, begun.into_inner()), (1, 1));
}
