//! Make before break: what waits for what.

use super::*;
use crate::limits::ENDPOINTS_AWAITED_MAX;

const MESH: [(TypeUrl, &str, &str); 5] =
    [(Cluster, "a", "1"), (Endpoints, "a", "1"), (Listener, "l", "1"), (Route, "r", "1"), (VirtualHost, "r/h", "1")];

#[test]
fn envoys_start_is_answered_as_it_asks() {
    let mut bench = Bench::delta(&MESH);
    bench.ask(Cluster, &[]);
    let clusters = bench.next();
    assert_eq!(said(&clusters), "CDS +a@1");
    // Envoy asks for endpoints right after its ACK, for listeners once clusters are warm.
    bench.ack(&clusters);
    bench.ask(Endpoints, &["a"]);
    assert_eq!(bench.drain(), ["EDS +a@1"]);
    bench.ask(Listener, &[]);
    assert_eq!(bench.drain(), ["LDS +l@1"]);
    bench.ask(Route, &["r"]);
    assert_eq!(bench.drain(), ["RDS +r@1"]);
    bench.ask(VirtualHost, &["r"]);
    assert_eq!(bench.drain(), ["VHDS +r/h@1"]);
    assert!(bench.session.is_settled());
}

#[test]
fn additions_go_forward_removals_backward() {
    let mut bench = settled(&MESH);
    bench.set(&[
        (Cluster, "b", "1"),
        (Endpoints, "b", "1"),
        (Listener, "m", "1"),
        (Route, "r", "2"),
        (VirtualHost, "r/i", "1"),
    ]);
    let clusters = bench.next();
    assert_eq!(said(&clusters), "CDS +b@1");
    assert!(bench.poll().is_none(), "the rest waits for the ACK");
    bench.ack(&clusters);
    assert!(bench.poll().is_none(), "listeners wait for the question about endpoints");
    bench.ask(Endpoints, &["b"]);
    assert_eq!(bench.drain(), ["EDS +b@1", "LDS +m@1", "RDS +r@2", "VHDS +r/i@1 -r/h", "LDS -l", "EDS -a", "CDS -a"]);
}

#[test]
fn a_refusal_opens_the_gate() {
    let mut bench = settled(&MESH);
    bench.set(&[(Cluster, "a", "2"), (Endpoints, "a", "1"), (Listener, "l", "2")]);
    let clusters = bench.next();
    assert_eq!(said(&clusters), "CDS +a@2");
    assert!(bench.poll().is_none());
    bench.nack(&clusters, "no");
    assert_eq!(bench.drain(), ["EDS +a@1", "LDS +l@2", "VHDS -r/h", "RDS -r"]);
}

#[test]
fn endpoints_do_not_wait_for_routes() {
    let mut bench = settled(&MESH);
    bench.set(&[
        (Cluster, "a", "1"),
        (Endpoints, "a", "1"),
        (Listener, "l", "1"),
        (Route, "r", "2"),
        (VirtualHost, "r/h", "1"),
    ]);
    assert_eq!(said(&bench.next()), "RDS +r@2");
    bench.set(&[
        (Cluster, "a", "1"),
        (Endpoints, "a", "2"),
        (Listener, "l", "1"),
        (Route, "r", "2"),
        (VirtualHost, "r/h", "1"),
    ]);
    assert_eq!(said(&bench.next()), "EDS +a@2");
}

#[test]
fn a_cluster_sent_again_takes_its_endpoints_along() {
    let mut bench = settled(&MESH);
    let mut changed = MESH;
    changed[0] = (Cluster, "a", "2");
    bench.set(&changed);
    assert_eq!(bench.drain(), ["CDS +a@2", "EDS +a@1"]);
}

#[test]
fn a_client_that_never_asks_for_endpoints_gets_its_listeners_after_a_moment() {
    let mut bench = Bench::delta(&MESH);
    bench.ask(Cluster, &[]);
    bench.ask(Listener, &[]);
    assert_eq!(bench.drain(), ["CDS +a@1"]);
    let deadline = bench.session.deadline().expect("a moment");
    assert!(deadline <= bench.now + ENDPOINTS_AWAITED_MAX);
    bench.now = deadline;
    assert_eq!(bench.drain(), ["LDS +l@1"]);
    // And is not waited for again.
    bench.set(&[(Cluster, "b", "1"), (Endpoints, "b", "1"), (Listener, "l", "2")]);
    assert_eq!(bench.drain(), ["CDS +b@1", "LDS +l@2", "CDS -a"]);
}

#[test]
fn removals_come_even_when_the_moment_passes_with_nothing_to_add() {
    let mut bench = settled(&MESH);
    bench.set(&[(Cluster, "b", "1"), (Endpoints, "b", "1")]);
    assert_eq!(bench.drain(), ["CDS +b@1"]);
    bench.now = bench.session.deadline().expect("a moment");
    assert_eq!(bench.drain(), ["VHDS -r/h", "RDS -r", "LDS -l", "EDS -a", "CDS -a"]);
}

#[test]
fn awaited_endpoints_that_vanish_are_not_awaited() {
    let mut bench = Bench::delta(&MESH);
    bench.ask(Cluster, &[]);
    bench.ask(Listener, &[]);
    bench.drain();
    bench.set(&[(Cluster, "a", "1"), (Listener, "l", "1")]);
    assert_eq!(bench.drain(), ["LDS +l@1"]);
}

#[test]
fn a_stream_of_additions_does_not_hold_removals_back() {
    let mut bench = settled(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    bench.set(&[(Cluster, "a", "2")]);
    let mut answers = Vec::new();
    for version in 3..7 {
        let open = bench.next();
        answers.push(said(&open));
        // The next addition is there before each answer.
        bench.set(&[(Cluster, "a", &version.to_string())]);
        bench.ack(&open);
    }
    assert_eq!(answers, ["CDS +a@2", "CDS -b", "CDS +a@4", "CDS +a@5"]);
}

#[test]
fn secrets_wait_for_nothing() {
    let mut bench = Bench::delta(&[(Cluster, "a", "1"), (TypeUrl::Secret, "s", "1")]);
    bench.ask(Cluster, &[]);
    bench.next();
    bench.ask(TypeUrl::Secret, &["s"]);
    assert_eq!(said(&bench.next()), "SDS +s@1");
}
