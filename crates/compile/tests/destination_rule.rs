//! DestinationRules: which one acts, and what becomes of it in clusters.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use config::{Cluster, Discovery, Lb, Snapshot, UpstreamProtocol};
use serde_json::json;
use support::*;

fn rule(ns: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {ns}}}\nspec: {spec}\n"
    )
}

fn cluster<'a>(snapshot: &'a Snapshot, subset: &str) -> &'a Cluster {
    let name = format!("outbound|9080|{subset}|reviews.default.svc.cluster.local");
    snapshot.clusters.get(&*name).unwrap_or_else(|| panic!("no {name} in {:?}", snapshot.clusters.keys()))
}

fn bare() -> String {
    service("reviews", 1, &[("http", 9080)], &["v1", "v2"])
}

fn seen_from(ns: &str, yaml: &str) -> Snapshot {
    snapshot(&world(&(bare() + yaml)), &sidecar_in(ns, json!({"LABELS": {"app": "client"}})))
}

fn lb(ns: &str, yaml: &str) -> Lb {
    cluster(&seen_from(ns, yaml), "").lb
}

const RR: &str = "{host: reviews.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}";
const RANDOM: &str = "{host: reviews.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}}}";

#[test]
fn tr03_least_request_is_the_default_and_least_conn_the_same() {
    assert_eq!(lb("default", ""), Lb::LeastRequest);
    let rule = rule("default", "r", "{host: reviews, trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}}");
    assert_eq!(lb("default", &rule), Lb::LeastRequest);
}

#[test]
fn s18_a_subset_overrides_only_what_it_says() {
    let yaml = rule(
        "default",
        "r",
        "{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}, {name: v2, labels: {version: v2}}]}",
    );
    let snapshot = seen_from("default", &yaml);
    let found = ["", "v1", "v2"].map(|subset| cluster(&snapshot, subset).lb);
    assert_eq!(found, [Lb::RoundRobin, Lb::Random, Lb::RoundRobin]);
}

#[test]
fn subsets_select_endpoints_by_labels() {
    let yaml = rule(
        "default",
        "r",
        "{host: reviews, subsets: [{name: v2, labels: {version: v2}}, {name: all}, {name: none, labels: {version: v9}}]}",
    );
    let snapshot = seen_from("default", &yaml);
    let of = |subset: &str| addresses(&snapshot.endpoints[&cluster(&snapshot, subset).name]);
    assert_eq!(of("v2"), ["10.0.1.2:9080"]);
    assert_eq!(of("all"), ["10.0.1.1:9080", "10.0.1.2:9080"]);
    assert_eq!(of("none"), Vec::<String>::new());
}

#[test]
fn tr23_levels_never_combine_client_then_service_then_root() {
    let service = rule("default", "service", RR);
    let root = rule("istio-system", "root", RANDOM);
    assert_eq!(lb("other", &(service.clone() + &root)), Lb::RoundRobin);
    assert_eq!(lb("other", &root), Lb::Random);
    // A wildcard rule of the client's namespace hides the exact one next to the service.
    let client = rule("other", "wide", "{host: \"*.cluster.local\", trafficPolicy: {loadBalancer: {simple: RANDOM}}}");
    assert_eq!(lb("other", &(client.clone() + &service)), Lb::Random);
    assert_eq!(lb("default", &(client + &service)), Lb::RoundRobin);
}

#[test]
fn dr02_the_root_namespace_obeys_only_its_private_rules_first() {
    let root = rule("istio-system", "root", RANDOM);
    let service = rule("default", "service", RR);
    assert_eq!(lb("istio-system", &(root.clone() + &service)), Lb::RoundRobin);
    let private = root.replace("spec: {", "spec: {exportTo: [\".\"], ");
    assert_eq!(lb("istio-system", &(private.clone() + &service)), Lb::Random);
    assert_eq!(lb("other", &(private + &service)), Lb::RoundRobin);
}

#[test]
fn dr04_export_is_checked_after_the_host_was_picked() {
    let exact = rule("default", "exact", RANDOM).replace("spec: {", "spec: {exportTo: [elsewhere], ");
    let wide =
        rule("default", "wide", "{host: \"*.cluster.local\", trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}");
    assert_eq!(lb("other", &(exact + &wide)), Lb::LeastRequest);
}

#[test]
fn tr24_rules_for_one_host_add_up_subsets_and_keep_the_first_policy() {
    let a = rule("default", "a", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}");
    let b = rule(
        "default",
        "b",
        "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v2}}, {name: v2, labels: {version: v2}}]}",
    );
    let c = rule("default", "c", "{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}");
    let snapshot = seen_from("default", &(a + &b + &c));
    assert_eq!(cluster(&snapshot, "").lb, Lb::Random);
    assert_eq!(addresses(&snapshot.endpoints[&cluster(&snapshot, "v1").name]), ["10.0.1.1:9080"]);
    assert_eq!(addresses(&snapshot.endpoints[&cluster(&snapshot, "v2").name]), ["10.0.1.2:9080"]);
}

#[test]
fn dr06_a_workload_selector_takes_its_clients_only() {
    let all = rule("default", "a", RR);
    let some =
        rule("default", "b", RANDOM).replace("spec: {", "spec: {workloadSelector: {matchLabels: {app: client}}, ");
    assert_eq!(lb("default", &(all.clone() + &some)), Lb::Random);
    let world = world(&(bare() + &all + &some));
    let other = snapshot(&world, &sidecar_in("default", json!({"LABELS": {"app": "x"}})));
    assert_eq!(cluster(&other, "").lb, Lb::RoundRobin);
    // A rule with a selector is private (X24).
    assert_eq!(lb("other", &some), Lb::LeastRequest);
}

#[test]
fn s20_connection_pool_fills_thresholds_and_tr05_zero_is_unset() {
    let yaml = rule(
        "default",
        "r",
        "{host: reviews, trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 10, http2MaxRequests: 1, maxRequestsPerConnection: 2, maxRetries: 0, idleTimeout: 5s}, tcp: {maxConnections: 2, connectTimeout: 30ms, tcpKeepalive: {time: 7200s, interval: 75s}}}}}",
    );
    let snapshot = seen_from("default", &yaml);
    let cluster = cluster(&snapshot, "");
    let bounds = cluster.thresholds;
    assert_eq!(
        (bounds.max_connections, bounds.max_pending_requests, bounds.max_requests, bounds.max_retries),
        (2, 10, 1, u32::MAX)
    );
    assert_eq!(
        (cluster.connect_timeout, cluster.idle_timeout),
        (Duration::from_millis(30), Some(Duration::from_secs(5)))
    );
    let keepalive = cluster.tcp_keepalive.unwrap();
    assert_eq!((keepalive.time_seconds, keepalive.interval_seconds, keepalive.probes), (Some(7200), Some(75), None));
    assert_eq!(cluster.max_requests_per_connection, Some(2));
}

#[test]
fn dr20_passthrough_follows_the_dialled_address() {
    let yaml = rule("default", "r", "{host: reviews, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}");
    let snapshot = seen_from("default", &yaml);
    assert_eq!(
        (&cluster(&snapshot, "").discovery, cluster(&snapshot, "").lb),
        (&Discovery::OriginalDst, Lb::ClusterProvided)
    );
}

#[test]
fn dr40_h2_upgrade_and_dr41_client_protocol() {
    let of = |http: &str| {
        let yaml =
            rule("default", "r", &format!("{{host: reviews, trafficPolicy: {{connectionPool: {{http: {http}}}}}}}"));
        cluster(&seen_from("default", &yaml), "").protocol
    };
    assert_eq!(of("{h2UpgradePolicy: UPGRADE}"), UpstreamProtocol::Http2);
    assert_eq!(of("{useClientProtocol: true}"), UpstreamProtocol::SameAsDownstream);
    assert_eq!(of("{maxRetries: 1}"), UpstreamProtocol::Http1);
}

#[test]
fn what_is_not_obeyed_yet_is_said() {
    let yaml = rule(
        "default",
        "r",
        "{host: reviews, trafficPolicy: {tunnel: {targetHost: x, targetPort: 1}, tls: {mode: ISTIO_MUTUAL}, loadBalancer: {consistentHash: {httpHeaderName: x}}}}",
    );
    let expected = [
        "SLU0100 DestinationRule default/r spec.trafficPolicy.tls",
        "SLU0100 DestinationRule default/r spec.trafficPolicy.tunnel",
    ];
    assert_eq!(findings(&world(&(bare() + &yaml))), expected);
}
