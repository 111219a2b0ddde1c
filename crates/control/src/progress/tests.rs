use api::Kind;

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::VirtualService, "default", name)
}

/// Some proxies that have been there for long.
fn settled(proxies: u64) -> (Progress, Instant) {
    let (mut all, start) = (Progress::default(), Instant::now());
    all.nothing_to_publish(start);
    let now = start + GRACE;
    all.tick(now);
    for id in 0..proxies {
        all.connect(id, &format!("p{id}.default"), "0".into(), now);
    }
    (all, now)
}

fn touched(ids: &[StreamId], version: &str) -> Vec<(StreamId, String)> {
    ids.iter().map(|id| (*id, version.to_owned())).collect()
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_generation_is_done_when_the_last_touched_proxy_has_answered() {
    let (mut all, now) = settled(3);
    all.introduce(key("a"), 1);
    all.publish(&touched(&[0, 1], "7"), &[], now, now);
    assert_eq!(all.stand(&key("a"), 1).waiting, ["p0.default", "p1.default"]);
    all.settle(0, "7", now + MS * 10);
    all.settle(2, "7", now + MS * 11);
    assert!(!all.stand(&key("a"), 1).is_done);
    all.settle(1, "7", now + MS * 38);
    let stand = all.stand(&key("a"), 1);
    assert_eq!((stand.is_done, stand.proxies, stand.answered, stand.took_ms), (true, 2, 2, 38));
    assert_eq!(all.take_changed(), [key("a")]);
    assert!(!all.stand(&key("a"), 2).is_done, "of the next generation nothing is known");
}

#[test]
fn an_object_that_touches_nobody_is_done_at_once() {
    let (mut all, now) = settled(3);
    all.introduce(key("a"), 1);
    all.publish(&[], &[], now, now);
    let stand = all.stand(&key("a"), 1);
    assert_eq!((stand.is_done, stand.proxies), (true, 0));
    all.introduce(key("a"), 2);
    assert!(!all.stand(&key("a"), 2).is_done);
    all.nothing_to_publish(now);
    assert!(all.stand(&key("a"), 2).is_done, "only its generation moved");
}

#[test]
fn a_generation_that_changes_nothing_waits_for_the_one_before() {
    let (mut all, now) = settled(1);
    all.introduce(key("a"), 1);
    all.publish(&touched(&[0], "7"), &[], now, now);
    all.introduce(key("a"), 2);
    all.nothing_to_publish(now);
    assert!(!all.stand(&key("a"), 2).is_done);
    all.settle(0, "7", now);
    assert!(all.stand(&key("a"), 2).is_done);
}

#[test]
fn a_newer_target_answers_for_those_it_replaced() {
    let (mut all, now) = settled(1);
    all.introduce(key("a"), 1);
    all.publish(&touched(&[0], "7"), &[], now, now);
    // Endpoints moved: no object, but what was not sent yet will never be.
    all.publish(&touched(&[0], "8"), &[], now, now);
    all.settle(0, "6", now);
    assert!(!all.stand(&key("a"), 1).is_done);
    all.settle(0, "8", now);
    assert!(all.stand(&key("a"), 1).is_done);
}

#[test]
fn a_slow_proxy_costs_a_bounded_queue() {
    let (mut all, now) = settled(1);
    for version in 0..100 {
        all.introduce(key("a"), version + 1);
        all.publish(&touched(&[0], &version.to_string()), &[], now, now);
    }
    assert_eq!(all.ways[&0].targets.len(), TARGETS_MAX);
    all.settle(0, "50", now);
    assert!(!all.stand(&key("a"), 100).is_done);
    all.settle(0, "99", now);
    assert!(all.stand(&key("a"), 100).is_done);
    assert!(all.publications.is_empty());
}

#[test]
fn a_refusal_is_said_and_blames_only_what_was_open() {
    let (mut all, now) = settled(2);
    all.introduce(key("a"), 1);
    all.publish(&touched(&[0, 1], "7"), &[], now, now);
    assert_eq!(all.refuse(0, "no such port"), [key("a")]);
    all.settle(0, "7", now);
    all.settle(1, "7", now);
    let stand = all.stand(&key("a"), 1);
    assert_eq!((stand.is_done, stand.answered, stand.refused), (true, 2, 1));
    assert_eq!(stand.refusals, ["p0.default: no such port"]);
    all.introduce(key("b"), 1);
    all.publish(&touched(&[0], "8"), &[], now, now);
    all.settle(0, "8", now);
    assert_eq!(all.stand(&key("b"), 1).refused, 0);
}

#[test]
fn what_the_check_holds_back_counts_as_refused() {
    let (mut all, now) = settled(1);
    all.introduce(key("a"), 1);
    all.publish(&[], &[("p0.default".into(), "two listeners".into())], now, now);
    let stand = all.stand(&key("a"), 1);
    assert_eq!((stand.is_done, stand.proxies, stand.refused), (true, 1, 1));
}

#[test]
fn a_proxy_that_goes_is_not_waited_for() {
    let (mut all, now) = settled(2);
    all.introduce(key("a"), 1);
    all.publish(&touched(&[0, 1], "7"), &[], now, now);
    all.settle(0, "7", now);
    all.disconnect(1, now);
    let stand = all.stand(&key("a"), 1);
    assert_eq!((stand.is_done, stand.proxies, stand.answered), (true, 1, 1));
}

// A control plane that has just started says nothing of proxies that are on their way back.
#[test]
fn after_a_start_proxies_are_expected() {
    let (mut all, now) = (Progress::default(), Instant::now());
    all.introduce(key("a"), 5);
    all.publish(&[], &[], now, now);
    assert!(!all.stand(&key("a"), 5).is_done);
    all.connect(0, "p0.default", "1".into(), now + MS);
    all.tick(now + GRACE);
    assert!(!all.stand(&key("a"), 5).is_done, "it has not answered");
    all.settle(0, "1", now + GRACE);
    let stand = all.stand(&key("a"), 5);
    assert_eq!((stand.is_done, stand.proxies, stand.answered), (true, 1, 1));
    // Who connects later waits for itself alone.
    all.connect(1, "p1.default", "1".into(), now + GRACE * 2);
    assert!(all.stand(&key("a"), 5).is_done);
}
