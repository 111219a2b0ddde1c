//! What a client asks for, and what it is told.

use super::*;

#[test]
fn a_name_that_does_not_exist_is_answered_and_followed() {
    let mut bench = Bench::delta(&[]);
    bench.ask(Route, &["r"]);
    assert_eq!(bench.drain(), ["RDS -r"]);
    bench.set(&[(Route, "r", "1"), (Route, "other", "1")]);
    assert_eq!(bench.drain(), ["RDS +r@1"]);
}

#[test]
fn asking_again_is_answered_again() {
    let mut bench = settled(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    bench.ask(Endpoints, &["b"]);
    assert_eq!(bench.drain(), ["EDS +b@1"]);
}

#[test]
fn a_wildcard_over_nothing_is_answered() {
    let mut bench = Bench::delta(&[]);
    bench.ask(Cluster, &[]);
    assert_eq!(bench.drain(), ["CDS"]);
}

#[test]
fn names_without_a_wildcard_are_all_that_is_sent() {
    let mut bench = Bench::delta(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    bench.ask(Cluster, &["a"]);
    assert_eq!(bench.drain(), ["CDS +a@1"]);
    // A later request without names adds nothing (xDS protocol: only the first one means everything).
    bench.ask(Cluster, &[]);
    assert_eq!(bench.drain(), [""; 0]);
    bench.ask(Cluster, &["*"]);
    assert_eq!(bench.drain(), ["CDS +b@1"]);
}

#[test]
fn what_is_unsubscribed_is_not_sent() {
    let mut bench = settled(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    bench.request(Endpoints, |request| request.unsubscribe = owned(&["a"]));
    bench.set(&[(Endpoints, "a", "2"), (Endpoints, "b", "2")]);
    assert_eq!(bench.drain(), ["EDS +b@2"]);
    bench.set(&[(Endpoints, "b", "2")]);
    assert_eq!(bench.drain(), [""; 0]);
}

#[test]
fn a_name_given_up_under_a_wildcard_is_sent_again() {
    let mut bench = Bench::delta(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    bench.ask(Cluster, &["*", "a"]);
    bench.drain();
    bench.request(Cluster, |request| request.unsubscribe = owned(&["a"]));
    assert_eq!(bench.drain(), ["CDS +a@1"]);
    bench.request(Cluster, |request| request.unsubscribe = owned(&["*"]));
    bench.set(&[]);
    assert_eq!(bench.drain(), [""; 0]);
}

#[test]
fn who_says_what_it_holds_gets_the_difference() {
    for target_first in [true, false] {
        let mesh = [(Cluster, "new", "1"), (Cluster, "same", "1"), (Cluster, "changed", "2")];
        let mut bench = Bench::new(Mode::Delta);
        let claim = |request: &mut Request| {
            let held = [("same", "1"), ("changed", "1"), ("gone", "1")];
            request.names = owned(&["*"]);
            request.initial_versions = held.map(|(name, version)| (name.into(), version.into())).to_vec();
        };
        if target_first {
            bench.set(&mesh);
            bench.request(Cluster, claim);
        } else {
            bench.request(Cluster, claim);
            bench.set(&mesh);
        }
        assert_eq!(bench.drain(), ["CDS +changed@2 +new@1"], "target first: {target_first}");
        // What else it holds we know when it has asked for everything.
        bench.now = bench.session.deadline().expect("a moment");
        assert_eq!(bench.drain(), ["CDS -gone"]);
    }
}

#[test]
fn names_that_are_held_are_not_sent_again_after_a_reconnect() {
    let mut bench = Bench::delta(&[(Endpoints, "a", "1"), (Endpoints, "b", "2")]);
    bench.request(Endpoints, |request| {
        request.names = owned(&["a", "b", "gone", "never"]);
        request.initial_versions =
            vec![("a".into(), "1".into()), ("b".into(), "1".into()), ("gone".into(), "1".into())];
    });
    assert_eq!(bench.drain(), ["EDS +b@2 -never"]);
    bench.now = bench.session.deadline().expect("a moment");
    assert_eq!(bench.drain(), ["EDS -gone"]);
}

#[test]
fn a_table_means_all_its_virtual_hosts() {
    let mut bench =
        Bench::delta(&[(VirtualHost, "80/a", "1"), (VirtualHost, "80/b", "1"), (VirtualHost, "8080/a", "1")]);
    bench.ask(VirtualHost, &["80"]);
    assert_eq!(bench.drain(), ["VHDS +80/a@1 +80/b@1"]);
    bench.set(&[(VirtualHost, "80/b", "2"), (VirtualHost, "80/c", "1"), (VirtualHost, "8080/a", "2")]);
    assert_eq!(bench.drain(), ["VHDS +80/b@2 +80/c@1 -80/a"]);
    bench.request(VirtualHost, |request| request.unsubscribe = owned(&["80"]));
    bench.set(&[]);
    assert_eq!(bench.drain(), [""; 0]);
}

#[test]
fn on_demand_hosts_are_found_by_alias_or_said_to_be_absent() {
    let host = |version| Resource::with_aliases(VirtualHost, "80/a", version, vec!["80/a.example".into()], b"");
    for target_first in [true, false] {
        let mut bench = Bench::new(Mode::Delta);
        let target = |version| Target { layers: vec![Layer::new([host(version)])] };
        if target_first {
            bench.session.set_target(target("1"));
        }
        bench.ask(VirtualHost, &["80/a.example", "80/b.example"]);
        bench.session.set_target(target("1"));
        assert_eq!(bench.drain(), ["VHDS +80/a@1 ?80/b.example"], "target first: {target_first}");
        bench.session.set_target(target("2"));
        assert_eq!(bench.drain(), ["VHDS +80/a@2"]);
    }
}

#[test]
fn an_answer_to_another_response_answers_nothing() {
    let mut bench = Bench::delta(&[(Cluster, "a", "1")]);
    bench.ask(Cluster, &[]);
    let open = bench.next();
    assert_eq!(bench.request(Cluster, |request| request.nonce = "old".into()), Outcome::Subscribed);
    bench.set(&[(Cluster, "a", "2")]);
    assert!(bench.poll().is_none());
    bench.ack(&open);
    assert_eq!(bench.drain(), ["CDS +a@2"]);
}
