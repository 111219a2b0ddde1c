//! State of the world, rendered.

use super::*;

#[test]
fn clusters_are_always_sent_whole_and_endpoints_by_name() {
    let mut bench =
        Bench::sotw(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    bench.ask(Cluster, &[]);
    assert_eq!(said(&bench.next()), "CDS +a@1 +b@1");
    bench.request(Cluster, |request| request.nonce = "1".into());
    bench.ask(Endpoints, &["a", "b"]);
    assert_eq!(said(&bench.next()), "EDS +a@1 +b@1");
    bench.request(Endpoints, |request| (request.names, request.nonce) = (owned(&["a", "b"]), "2".into()));
    bench.set(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoints, "a", "1"), (Endpoints, "b", "2")]);
    assert_eq!(said(&bench.next()), "EDS +b@2");
    bench.request(Endpoints, |request| (request.names, request.nonce) = (owned(&["a", "b"]), "3".into()));
    bench.set(&[(Cluster, "a", "2"), (Cluster, "b", "1"), (Endpoints, "a", "1"), (Endpoints, "b", "2")]);
    assert_eq!(said(&bench.next()), "CDS +a@2 +b@1");
    bench.request(Cluster, |request| request.nonce = "4".into());
    assert_eq!(said(&bench.next()), "EDS +a@1");
}

#[test]
fn what_goes_is_sent_along_until_its_removal_is_due() {
    let mut bench = Bench::sotw(&[(Cluster, "a", "1"), (Listener, "l", "1")]);
    bench.ask(Cluster, &[]);
    bench.drain();
    bench.ask(Listener, &[]);
    bench.drain();
    bench.set(&[(Cluster, "b", "1"), (Listener, "l", "2")]);
    assert_eq!(bench.drain(), ["CDS +a@1 +b@1", "LDS +l@2", "CDS +b@1"]);
}

#[test]
fn a_name_that_does_not_exist_is_waited_for() {
    let mut bench = Bench::sotw(&[]);
    bench.ask(Route, &["r"]);
    assert!(bench.poll().is_none());
    bench.set(&[(Route, "r", "1")]);
    assert_eq!(said(&bench.next()), "RDS +r@1");
}

#[test]
fn added_names_are_answered_and_dropped_names_forgotten() {
    let mut bench = Bench::sotw(&[(Route, "q", "1"), (Route, "r", "1")]);
    bench.ask(Route, &["r"]);
    let first = bench.next();
    bench.request(Route, |request| (request.names, request.nonce) = (owned(&["q", "r"]), first.nonce.clone()));
    let second = bench.next();
    assert_eq!(said(&second), "RDS +q@1");
    bench.request(Route, |request| (request.names, request.nonce) = (owned(&["q"]), second.nonce.clone()));
    bench.set(&[(Route, "q", "1"), (Route, "r", "2")]);
    assert!(bench.poll().is_none());
}

#[test]
fn a_stale_nonce_is_ignored() {
    let mut bench = Bench::sotw(&[(Route, "q", "1"), (Route, "r", "1")]);
    bench.ask(Route, &["r"]);
    let first = bench.next();
    bench.ack(&first);
    bench.request(Route, |request| (request.names, request.nonce) = (owned(&["q"]), "0".into()));
    assert!(bench.poll().is_none());
}

#[test]
fn a_wildcard_over_nothing_is_answered() {
    let mut bench = Bench::sotw(&[]);
    bench.ask(Listener, &[]);
    assert_eq!(said(&bench.next()), "LDS");
}
