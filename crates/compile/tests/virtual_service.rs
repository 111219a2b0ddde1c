//! Rules of VirtualServices, each as a user writes it and as a sidecar gets it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use config::{Action, PathMatch, ValueMatch};
use serde_json::json;
use support::*;

fn vs(name: &str, spec: &str) -> String {
    let spec = spec.lines().map(|line| format!("  {line}\n")).collect::<String>();
    format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n{spec}---\n")
}

fn aged(created: &str, name: &str, spec: &str) -> String {
    vs(name, spec).replace("metadata: {", &format!("metadata: {{creationTimestamp: \"{created}T00:00:00Z\", "))
}

#[test]
fn vs76_a_service_without_rules_has_its_own_route() {
    let snapshot = snapshot(&world(&reviews()), &sidecar());
    let host = host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080");
    assert_eq!(targets(&host.routes), ["outbound|9080||reviews.default.svc.cluster.local"]);
    assert_eq!(host.routes[0].name, "default");
    assert_eq!(host.routes[0].operation, "reviews.default.svc.cluster.local:9080/*");
    assert!(host.include_attempt_count);
}

#[test]
fn tr01_default_retries_and_tr02_no_timeout() {
    let snapshot = snapshot(&world(&reviews()), &sidecar());
    let host = host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080");
    let Action::Forward(forward) = &host.routes[0].action else { panic!("not forwarded") };
    assert_eq!(forward.timeout, None);
    let retry = forward.retry.as_ref().unwrap();
    assert_eq!(retry.retry_on.to_list(), "connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable");
    assert_eq!((retry.num_retries, retry.retriable_status_codes.len()), (2, 0));
    assert_eq!((retry.host_selection_attempts, retry.avoid_previous_hosts), (5, true));
}

#[test]
fn s01_header_rule_before_the_default() {
    let found = reviews_targets(&vs(
        "reviews",
        "hosts: [reviews]\nhttp:\n- match: [{headers: {end-user: {exact: jason}}}]\n  route: [{destination: {host: reviews, subset: v2}}]\n- route: [{destination: {host: reviews, subset: v1}}]",
    ));
    assert_eq!(found, ["v2", "v1"]);
}

#[test]
fn tr20_short_names_are_of_the_rules_namespace() {
    let rule = vs("r", "hosts: [reviews]\nhttp:\n- route: [{destination: {host: reviews}}]")
        .replace("name: r}", "name: r, namespace: other}");
    let world = world(&(reviews() + "\n---\n" + &rule));
    let snapshot = snapshot(&world, &sidecar());
    let host = host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080");
    assert_eq!(host.routes[0].origin, None);
}

#[test]
fn tr21_two_mesh_rules_on_one_host_do_not_merge_the_oldest_wins() {
    let newer = aged(
        "2025-01-01",
        "a",
        "hosts: [reviews]\nhttp:\n- match: [{uri: {exact: /x}}]\n  route: [{destination: {host: reviews, subset: v2}}]",
    );
    let older =
        aged("2024-01-01", "z", "hosts: [reviews]\nhttp:\n- route: [{destination: {host: reviews, subset: v1}}]");
    assert_eq!(reviews_targets(&(newer + &older)), ["v1"]);
}

#[test]
fn tr21_a_private_rule_goes_before_an_older_public_one() {
    let public =
        aged("2024-01-01", "a", "hosts: [reviews]\nhttp:\n- route: [{destination: {host: reviews, subset: v1}}]");
    let private = aged(
        "2025-01-01",
        "b",
        "exportTo: [\".\"]\nhosts: [reviews]\nhttp:\n- route: [{destination: {host: reviews, subset: v2}}]",
    );
    assert_eq!(reviews_targets(&(public + &private)), ["v2"]);
}

#[test]
fn tr22_exact_beats_wildcard_and_longer_beats_shorter() {
    let any = vs("any", "hosts: [\"*.cluster.local\"]\nhttp:\n- route: [{destination: {host: reviews, subset: v1}}]");
    let longer = vs(
        "longer",
        "hosts: [\"*.default.svc.cluster.local\"]\nhttp:\n- route: [{destination: {host: reviews, subset: v2}}]",
    );
    let exact = vs("exact", "hosts: [reviews]\nhttp:\n- route: [{destination: {host: reviews, subset: v3}}]");
    assert_eq!(reviews_targets(&(any.clone() + &longer)), ["v2"]);
    assert_eq!(reviews_targets(&(any + &longer + &exact)), ["v3"]);
}

#[test]
fn tr28_unknown_subset_and_service_name_clusters_that_are_not_there() {
    let found = reviews_targets(&vs(
        "r",
        "hosts: [reviews]\nhttp:\n- match: [{uri: {exact: /x}}]\n  route: [{destination: {host: nobody}}]\n- route: [{destination: {host: reviews, subset: v9}}]",
    ));
    assert_eq!(found, ["|nobody.default.svc.cluster.local", "v9"]);
}

fn first_match(block: &str) -> config::RouteMatch {
    let rule =
        vs("r", &format!("hosts: [reviews]\nhttp:\n- match: [{block}]\n  route: [{{destination: {{host: reviews}}}}]"));
    let world = world(&(reviews() + "\n---\n" + &rule));
    let snapshot = snapshot(&world, &sidecar());
    host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes[0].matches.clone()
}

#[test]
fn tr40_prefix_exact_and_regex_stay_what_they_are() {
    assert_eq!(first_match("{uri: {prefix: /api}}").path, PathMatch::Prefix("/api".into()));
    assert_eq!(first_match("{uri: {exact: /api}}").path, PathMatch::Exact("/api".into()));
    let insensitive = first_match("{uri: {regex: \"/a.*\"}, ignoreUriCase: true}");
    assert_eq!((insensitive.path, insensitive.ignore_case), (PathMatch::Regex("/a.*".into()), true));
}

#[test]
fn tr42_an_empty_condition_is_presence() {
    let found = first_match("{headers: {x: {}}, queryParams: {q: {}}, withoutHeaders: {y: {regex: \"*\"}}}");
    assert_eq!(found.headers[0].value, ValueMatch::Present);
    assert_eq!(found.query[0].value, ValueMatch::Present);
    assert_eq!(
        (&found.headers[1].value, found.headers[1].invert, found.headers[1].missing_is_empty),
        (&ValueMatch::Present, true, false)
    );
}

#[test]
fn tr43_header_keys_are_ordinary_and_absent_is_empty_without_headers() {
    let found = first_match("{headers: {uri: {exact: x}}, withoutHeaders: {Y: {exact: \"\"}}}");
    assert_eq!(found.headers[0].name, "uri");
    assert_eq!((found.headers[1].name.as_str(), found.headers[1].missing_is_empty), ("y", true));
}

#[test]
fn vs14_method_authority_and_scheme_are_pseudo_headers() {
    let found = first_match("{method: {exact: GET}, authority: {prefix: rev}, scheme: {exact: http}}");
    let names: Vec<&str> = found.headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(names, [":method", ":authority", ":scheme"]);
}

#[test]
fn tr44_gateways_of_a_block_decide_alone() {
    let only = |block: &str| {
        reviews_targets(&vs(
            "r",
            &format!(
                "hosts: [reviews]\nhttp:\n- match: [{block}]\n  route: [{{destination: {{host: reviews, subset: v2}}}}]\n- route: [{{destination: {{host: reviews, subset: v1}}}}]"
            ),
        ))
    };
    assert_eq!(only("{gateways: [mesh], sourceLabels: {app: other}, sourceNamespace: other}"), ["v2", "v1"][..1]);
    assert_eq!(only("{gateways: [gw]}"), ["v1"]);
    assert_eq!(only("{sourceLabels: {app: other}}"), ["v1"]);
    assert_eq!(only("{sourceNamespace: other}"), ["v1"]);
    assert_eq!(only("{sourceLabels: {app: client}, sourceNamespace: default, uri: {prefix: /a}}"), ["v2", "v1"]);
    assert_eq!(only("{port: 80}"), ["v1"]);
    assert_eq!(only("{port: 9080, uri: {prefix: /a}}"), ["v2", "v1"]);
}

#[test]
fn vs73_without_a_surviving_route_the_service_keeps_its_own() {
    let found = reviews_targets(&vs(
        "r",
        "hosts: [reviews]\nhttp:\n- match: [{port: 80}]\n  route: [{destination: {host: reviews, subset: v2}}]",
    ));
    assert_eq!(found, [""]);
}

#[test]
fn vs74_tr45_rules_after_a_catch_all_are_not_sent() {
    let found = reviews_targets(&vs(
        "r",
        "hosts: [reviews]\nhttp:\n- match: [{uri: {prefix: /}}]\n  route: [{destination: {host: reviews, subset: v2}}]\n- route: [{destination: {host: reviews, subset: v1}}]",
    ));
    assert_eq!(found, ["v2"]);
}

#[test]
fn vs11_blocks_are_alternatives_with_one_action() {
    let found = reviews_targets(&vs(
        "r",
        "hosts: [reviews]\nhttp:\n- match: [{uri: {exact: /a}}, {uri: {exact: /b}}]\n  route: [{destination: {host: reviews, subset: v2}}]",
    ));
    assert_eq!(found, ["v2", "v2"]);
}

#[test]
fn tr46_weights_are_relative_and_a_single_one_is_ignored() {
    let found = reviews_targets(&vs(
        "r",
        "hosts: [reviews]\nhttp:\n- match: [{uri: {exact: /one}}]\n  route: [{destination: {host: reviews, subset: v1}, weight: 0}]\n- route:\n  - {destination: {host: reviews, subset: v1}, weight: 1}\n  - {destination: {host: reviews, subset: v2}, weight: 3}\n  - {destination: {host: reviews, subset: v3}, weight: 0}",
    ));
    assert_eq!(found, ["v1", "v1=1 v2=3"]);
}

#[test]
fn vs32_port_as_written_else_the_only_one_else_the_listeners() {
    let two = service("two", 2, &[("http", 8000), ("http-b", 9080)], &["v1"]);
    let one = service("one", 3, &[("http", 8001)], &["v1"]);
    let rule = vs(
        "r",
        "hosts: [reviews]\nhttp:\n- match: [{uri: {exact: /a}}]\n  route: [{destination: {host: two, port: {number: 8000}}}]\n- match: [{uri: {exact: /b}}]\n  route: [{destination: {host: one}}]\n- route: [{destination: {host: two}}]",
    );
    let world = world(&(reviews() + "\n" + &two + &one + "\n---\n" + &rule));
    let snapshot = snapshot(&world, &sidecar());
    let host = host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080");
    let expected = [
        "outbound|8000||two.default.svc.cluster.local",
        "outbound|8001||one.default.svc.cluster.local",
        "outbound|9080||two.default.svc.cluster.local",
    ];
    assert_eq!(targets(&host.routes), expected);
}

#[test]
fn vs48_timeout_and_vs81_retries() {
    let rule = vs(
        "r",
        "hosts: [reviews]\nhttp:\n- timeout: 10s\n  retries: {attempts: 3, perTryTimeout: 2s, retryOn: \"5xx,418\", backoff: 10ms}\n  match: [{uri: {exact: /a}}]\n  route: [{destination: {host: reviews}}]\n- retries: {}\n  route: [{destination: {host: reviews}}]",
    );
    let world = world(&(reviews() + "\n---\n" + &rule));
    let snapshot = snapshot(&world, &sidecar());
    let routes = &host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes;
    let Action::Forward(first) = &routes[0].action else { panic!("not forwarded") };
    assert_eq!(first.timeout, Some(Duration::from_secs(10)));
    let retry = first.retry.as_ref().unwrap();
    assert_eq!((retry.num_retries, retry.retry_on.to_list().as_str()), (3, "5xx,retriable-status-codes"));
    assert_eq!(
        (retry.retriable_status_codes.as_slice(), retry.per_try_timeout),
        (&[418][..], Some(Duration::from_secs(2)))
    );
    assert_eq!(retry.backoff_base, Some(Duration::from_millis(10)));
    // A block without attempts turns retries off (TR01).
    assert!(matches!(&routes[1].action, Action::Forward(forward) if forward.retry.is_none()));
}

#[test]
fn vs43_direct_response() {
    let rule = vs("r", "hosts: [reviews]\nhttp:\n- directResponse: {status: 418, body: {string: teapot}}");
    assert_eq!(reviews_targets(&rule), ["418"]);
}

#[test]
fn x54_names_of_routes() {
    let rule = vs(
        "r",
        "hosts: [reviews]\nhttp:\n- name: rule\n  match: [{name: m, uri: {exact: /a}}, {uri: {prefix: /b}}]\n  route: [{destination: {host: reviews}}]",
    );
    let world = world(&(reviews() + "\n---\n" + &rule));
    let snapshot = snapshot(&world, &sidecar());
    let routes = &host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes;
    let names: Vec<_> = routes.iter().map(|route| (route.name.as_str(), route.operation.as_str())).collect();
    let host = "reviews.default.svc.cluster.local:9080";
    assert_eq!(names, [("rule.m", &*format!("{host}/a")), ("rule", &*format!("{host}/b*"))]);
}

#[test]
fn vs71_port_80_has_hosts_of_no_service() {
    let web = service("web", 4, &[("http", 80)], &["v1"]);
    let rule =
        vs("r", "hosts: [shop.example.com, reviews]\nhttp:\n- route: [{destination: {host: reviews, subset: v1}}]");
    let snapshot = snapshot(&world(&(reviews() + "\n" + &web + "\n---\n" + &rule)), &sidecar());
    assert_eq!(host(&snapshot, "80", "shop.example.com:80").domains, ["shop.example.com"]);
    assert!(has_host(&snapshot, "80", "reviews.default.svc.cluster.local:80"));
    assert!(!has_host(&snapshot, "9080", "shop.example.com:80"));
}

#[test]
fn tr41_a_regex_that_does_not_compile_takes_out_its_rule_only() {
    let mut world = world(&reviews());
    apply_stored(
        &mut world,
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "r", "namespace": "default"},
            "spec": {"hosts": ["reviews"], "http": [
                {"match": [{"uri": {"regex": "("}}], "route": [{"destination": {"host": "reviews", "subset": "v2"}}]},
                {"route": [{"destination": {"host": "reviews", "subset": "v1"}}]}]}}),
    );
    let snapshot = snapshot(&world, &sidecar());
    assert_eq!(short(&host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes), ["v1"]);
    assert_eq!(findings(&world), ["SLU0101 VirtualService default/r spec.http[0].match[0].uri.regex"]);
}

#[test]
fn x20_a_rule_acts_where_it_is_exported_to() {
    let rule = vs("r", "exportTo: [b]\nhosts: [reviews]\nhttp:\n- route: [{destination: {host: reviews, subset: v2}}]");
    let world = world(&(reviews() + "\n---\n" + &rule));
    let here = |ns: &str| {
        let snapshot = snapshot(&world, &sidecar_in(ns, json!({})));
        short(&host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes)
    };
    assert_eq!(here("default"), [""]);
    assert_eq!(here("b"), ["v2"]);
}

#[test]
fn vs24_stat_prefix_of_a_match_names_the_routes_statistics() {
    let yaml = vs(
        "r",
        "hosts: [reviews]\nhttp:\n- match: [{uri: {prefix: /a}, statPrefix: alpha}, {uri: {prefix: /b}}]\n  route: [{destination: {host: reviews}}]",
    );
    let snapshot = snapshot(&world(&(reviews() + "\n---\n" + &yaml)), &sidecar());
    let host = host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080");
    let prefixes: Vec<_> = host.routes.iter().map(|route| route.stat_prefix.as_str()).collect();
    assert_eq!(prefixes, ["alpha", ""]);
}
