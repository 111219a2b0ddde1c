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
fn s20_connection_pool_fills_thresholds_dr32_keepalive_and_tr05_zero_is_unset() {
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
        "{host: reviews, trafficPolicy: {tunnel: {targetHost: x, targetPort: 1}, loadBalancer: {consistentHash: {httpHeaderName: x}}}}",
    );
    let expected = ["SLU0100 DestinationRule default/r spec.trafficPolicy.tunnel"];
    assert_eq!(findings(&world(&(bare() + &yaml))), expected);
}

fn with(traffic_policy: &str) -> Snapshot {
    seen_from("default", &rule("default", "r", &format!("{{host: reviews, trafficPolicy: {traffic_policy}}}")))
}

fn outlier(block: &str) -> config::Outlier {
    cluster(&with(&format!("{{outlierDetection: {block}}}")), "").outlier.clone().unwrap()
}

#[test]
fn dr53_an_empty_block_has_istios_defaults_and_no_block_is_none() {
    assert_eq!(outlier("{}"), config::Outlier::default());
    assert_eq!(outlier("{maxEjectionPercent: 0}").max_ejection_percent, 10);
    assert_eq!((cluster(&bare_snapshot(), "").outlier.clone(), cluster(&bare_snapshot(), "").panic_percent), (None, 0));
    let said = outlier("{interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 50, consecutiveGatewayErrors: 7}");
    let times = (said.interval, said.base_ejection_time);
    assert_eq!(times, (Duration::from_secs(1), Duration::from_secs(180)));
    assert_eq!((said.max_ejection_percent, said.consecutive_gateway, said.consecutive_5xx), (50, 7, 5));
}

fn bare_snapshot() -> Snapshot {
    seen_from("default", "")
}

#[test]
fn dr52_spellings_of_consecutive_errors() {
    assert_eq!(outlier("{consecutive5xxErrors: 0}").consecutive_5xx, 0);
    assert_eq!(outlier("{consecutiveErrors: 1}").consecutive_5xx, 1);
    assert_eq!(outlier("{consecutiveErrors: 1, consecutive5xxErrors: 7}").consecutive_5xx, 7);
    let alias = with("{circuitBreaker: {consecutiveErrors: 3, interval: 30s}}");
    assert_eq!(cluster(&alias, "").outlier.as_ref().map(|outlier| outlier.consecutive_5xx), Some(3));
}

#[test]
fn dr54_local_failures_are_split_only_when_asked_for() {
    assert_eq!(outlier("{}").consecutive_local, None);
    assert_eq!(outlier("{splitExternalLocalOriginErrors: true}").consecutive_local, Some(5));
    let said = "{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}";
    assert_eq!(outlier(said).consecutive_local, Some(2));
}

#[test]
fn dr56_status_codes_are_kept_in_order() {
    assert_eq!(outlier("{outlierDetectionHttpErrorCodes: [503, 429, 503]}").error_codes, [429, 503]);
}

#[test]
fn dr57_min_health_percent_is_the_panic_threshold() {
    let snapshot = with("{outlierDetection: {minHealthPercent: 30}}");
    assert_eq!(cluster(&snapshot, "").panic_percent, 30);
}

#[test]
fn dr34_idle_timeouts_http_before_tcp_and_zero_is_never() {
    let idle = |pool: &str| cluster(&with(&format!("{{connectionPool: {pool}}}")), "").idle_timeout;
    assert_eq!(idle("{tcp: {idleTimeout: 5s}}"), Some(Duration::from_secs(5)));
    assert_eq!(idle("{tcp: {idleTimeout: 5s}, http: {idleTimeout: 7s}}"), Some(Duration::from_secs(7)));
    assert_eq!(idle("{tcp: {idleTimeout: 0s}}"), Some(Duration::ZERO));
    assert_eq!(idle("{tcp: {maxConnections: 1}}"), None);
}

#[test]
fn dr42_streams_and_pings_only_where_http2_is_certain() {
    let of = |http: &str| cluster(&with(&format!("{{connectionPool: {{http: {http}}}}}")), "").http2;
    let said = "maxConcurrentStreams: 9, http2KeepAlive: {interval: 5s, timeout: 1s}";
    let http2 = of(&format!("{{h2UpgradePolicy: UPGRADE, {said}}}"));
    let keepalive = config::Http2Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_secs(1) };
    assert_eq!((http2.max_concurrent_streams, http2.keepalive), (Some(9), Some(keepalive)));
    assert_eq!(of(&format!("{{{said}}}")), config::Http2Bounds::default());
    assert_eq!(of(&format!("{{useClientProtocol: true, {said}}}")), config::Http2Bounds::default());
}

#[test]
fn dr33_the_age_of_connections_is_bounded() {
    let snapshot = with("{connectionPool: {tcp: {maxConnectionDuration: 90s}}}");
    assert_eq!(cluster(&snapshot, "").max_connection_duration, Some(Duration::from_secs(90)));
}

#[test]
fn dr07_to_dr09_outlier_detection_is_inherited_like_other_blocks() {
    let spec = "{host: reviews, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}, portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]}, subsets: [{name: v1, trafficPolicy: {loadBalancer: {simple: RANDOM}}}, {name: v2, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 2}}}]}";
    let world =
        world(&(service("reviews", 1, &[("http", 9080), ("http-b", 81)], &["v1"]) + &rule("default", "r", spec)));
    let snapshot = snapshot(&world, &sidecar_in("default", json!({"LABELS": {"app": "client"}})));
    let errors = |port: u16, subset: &str| {
        let name = format!("outbound|{port}|{subset}|reviews.default.svc.cluster.local");
        snapshot.clusters[&*name].outlier.as_ref().map(|outlier| outlier.consecutive_5xx)
    };
    assert_eq!([errors(9080, ""), errors(9080, "v1"), errors(9080, "v2")], [Some(1), Some(1), Some(2)]);
    assert_eq!([errors(81, ""), errors(81, "v1"), errors(81, "v2")], [None, None, Some(2)]);
}

#[test]
fn dr13_dr58_the_inbound_side_obeys_the_pool_of_its_own_rule_and_no_outlier_detection() {
    let spec = "{host: reviews, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, outlierDetection: {consecutive5xxErrors: 1}}}";
    let of = |spec: &str| {
        let world = world(&(bare() + &rule("default", "r", spec)));
        let pod = sidecar_of("reviews-v1", "10.0.1.1", json!({"LABELS": {"app": "reviews", "version": "v1"}}));
        let snapshot = snapshot(&world, &pod);
        let inbound = snapshot.clusters["inbound|9080||"].clone();
        (inbound.thresholds.max_connections, inbound.outlier.clone())
    };
    assert_eq!(of(spec), (7, None));
    // Rules with a selector are about clients (DR06).
    let selecting = spec.replace("{host: reviews,", "{host: reviews, workloadSelector: {matchLabels: {app: reviews}},");
    assert_eq!(of(&selecting), (u32::MAX, None));
}

#[test]
fn dr58_the_own_applications_cluster_has_no_outlier_detection() {
    let yaml = reviews() + "---\n" + &rule("default", "r", "{host: reviews, trafficPolicy: {outlierDetection: {}}}");
    let snapshot = snapshot(&world(&yaml), &sidecar_of("reviews-v1", "10.0.1.1", serde_json::json!({})));
    assert_eq!(snapshot.clusters["inbound|9080||"].outlier, None);
    assert!(cluster(&snapshot, "").outlier.is_some());
}
