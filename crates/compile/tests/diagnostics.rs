//! What is said about objects beside each other.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use compile::Compiler;
use serde_json::json;
use support::*;

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("---\n{{apiVersion: networking.istio.io/v1, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}\n")
}

fn vs(name: &str, spec: &str) -> String {
    object("VirtualService", name, spec)
}

fn said(yaml: &str) -> Vec<String> {
    findings(&world(&(reviews() + yaml)))
}

#[test]
fn ist0101_missing_host_port_and_subset() {
    let yaml = vs(
        "r",
        "{hosts: [reviews], http: [{route: [{destination: {host: nobody}, weight: 1}, {destination: {host: reviews, port: {number: 1}}, weight: 1}, {destination: {host: reviews, subset: v9}, weight: 1}]}]}",
    );
    let expected = ["[0].destination.host", "[1].destination.port.number", "[2].destination.subset"];
    let expected = expected.map(|field| format!("IST0101 VirtualService default/r spec.http[0].route{field}"));
    assert_eq!(said(&yaml), expected);
}

#[test]
fn a_finding_reads_like_a_sentence() {
    let yaml = vs("r", "{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v9}}]}]}");
    let found = Compiler::default().diagnostics(&world(&(reviews() + &yaml)));
    let expected = "Error [IST0101] (VirtualService default/r) spec.http[0].route[0].destination.subset: \
                    subset \"v9\" is in no DestinationRule for reviews.default.svc.cluster.local";
    assert_eq!(found[0].to_string(), expected);
}

#[test]
fn ist0109_two_mesh_rules_on_one_host_are_both_told() {
    let rule = |name: &str, export: &str| {
        vs(
            name,
            &format!(
                "{{hosts: [reviews], exportTo: [{export}], http: [{{route: [{{destination: {{host: reviews}}}}]}}]}}"
            ),
        )
    };
    let both = ["IST0109 VirtualService default/a spec.hosts", "IST0109 VirtualService default/b spec.hosts"];
    // The younger one's rule is also named by itself.
    let all = [both[0], both[1], "SLU0110 VirtualService default/b spec.http[0]"];
    assert_eq!(said(&(rule("a", "\"*\"") + &rule("b", "\"*\""))), all);
    assert_eq!(said(&(rule("a", "one") + &rule("b", "two"))), Vec::<String>::new());
}

#[test]
fn s31_a_rule_that_is_reached_anywhere_is_not_reported() {
    let edge =
        object("Gateway", "edge", "{servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*\"]}]}");
    let rule = |name: &str, hosts: &str, matches: &str| {
        let http = format!("[{{{matches}route: [{{destination: {{host: reviews}}}}]}}]");
        vs(name, &format!("{{hosts: [{hosts}], gateways: [edge], http: {http}}}"))
    };
    let behind = ["SLU0110 VirtualService default/b spec.http[0]"];
    for (older, younger, found) in [
        (rule("a", "x.com", ""), rule("b", "x.com", ""), behind.as_slice()),
        (rule("a", "x.com", ""), rule("b", "\"x.com\", \"y.com\"", ""), &[]),
        (rule("a", "x.com", ""), rule("b", "x.com", "match: [{uri: {exact: /b}}], "), &[]),
        (rule("a", "x.com", "match: [{sourceLabels: {a: b}}], "), rule("b", "x.com", ""), &[]),
        (rule("a", "x.com", "match: [{port: 81}], "), rule("b", "x.com", ""), &[]),
    ] {
        assert_eq!(said(&(edge.clone() + &older + &younger)), found);
    }
}

#[test]
fn gateways_that_are_not_there_or_take_no_host() {
    let rule =
        vs("r", "{hosts: [shop.example.com], gateways: [edge], http: [{route: [{destination: {host: reviews}}]}]}");
    assert_eq!(said(&rule), ["IST0101 VirtualService default/r spec.gateways"]);
    let edge = object(
        "Gateway",
        "edge",
        "{servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [other.example.com]}]}",
    );
    assert_eq!(said(&(rule + &edge)), ["IST0132 VirtualService default/r spec.hosts"]);
}

#[test]
fn ist0174_a_rule_for_no_service() {
    assert_eq!(
        said(&object("DestinationRule", "r", "{host: nobody}")),
        ["IST0174 DestinationRule default/r spec.host"]
    );
}

#[test]
fn every_field_that_is_not_obeyed_is_named() {
    let yaml = vs(
        "r",
        "{hosts: [reviews], tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: reviews}}]}], \
         http: [{match: [{uri: {prefix: /a}, statPrefix: x}], rewrite: {uri: /b}, headers: {request: {set: {a: b}}}, \
         route: [{destination: {host: reviews}, headers: {response: {remove: [x]}}}]}]}",
    );
    let fields = ["spec.tcp[0].match[0].sourceSubnet"];
    assert_eq!(said(&yaml), fields.map(|field| format!("SLU0100 VirtualService default/r {field}")));
}

#[test]
fn tr47_a_redirect_that_envoy_would_refuse_is_left_out_and_the_next_rule_acts() {
    let yaml = vs(
        "r",
        "{hosts: [reviews], http: [{match: [{uri: {exact: /old}}], redirect: {uri: /new, redirectCode: 304}}, {route: [{destination: {host: reviews, subset: v2}}]}]}",
    );
    assert_eq!(reviews_targets(&yaml), ["v2"]);
    assert_eq!(said(&yaml), ["SLU0101 VirtualService default/r spec.http[0].redirect.redirectCode"]);
}

#[test]
fn vs93_a_missing_delegate_costs_its_rule() {
    let yaml = vs(
        "r",
        "{hosts: [reviews], http: [{match: [{uri: {prefix: /a}}], delegate: {name: nobody}}, {route: [{destination: {host: reviews, subset: v2}}]}]}",
    );
    assert_eq!(reviews_targets(&yaml), ["v2"]);
    assert_eq!(said(&yaml), ["SLU0101 VirtualService default/r spec.http[0].delegate"]);
}

#[test]
fn vs54_a_header_value_that_envoy_would_refuse_is_left_out_alone() {
    let mut world = world(&reviews());
    let set = json!({"x-good": "1", "x-bad": "%NOPE%", "x-half": "50% off", ":path": "/x"});
    apply_stored(
        &mut world,
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "r", "namespace": "default"},
            "spec": {"hosts": ["reviews"], "http": [{"headers": {"request": {"set": set, "remove": ["Host"]}},
                "route": [{"destination": {"host": "reviews"}}]}]}}),
    );
    let snapshot = snapshot(&world, &sidecar());
    let route = &host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes[0];
    let edits = &route.headers.as_ref().unwrap().request;
    let names: Vec<&str> = edits.put.iter().map(|put| put.name.as_str()).collect();
    assert_eq!((names, edits.remove.len()), (vec!["x-good"], 0));
    let expected = ["x-bad", "x-half"];
    let expected =
        expected.map(|name| format!("SLU0102 VirtualService default/r spec.http[0].headers.request.set[{name}]"));
    assert_eq!(findings(&world), expected);
}

#[test]
fn vs43_a_status_that_is_none_costs_its_rule() {
    let mut world = world(&reviews());
    apply_stored(
        &mut world,
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "r", "namespace": "default"},
            "spec": {"hosts": ["reviews"], "http": [{"match": [{"uri": {"prefix": "/a"}}], "directResponse": {"status": 199}},
                {"route": [{"destination": {"host": "reviews", "subset": "v1"}}]}]}}),
    );
    let snapshot = snapshot(&world, &sidecar());
    assert_eq!(short(&host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes), ["v1"]);
    assert_eq!(findings(&world), ["SLU0101 VirtualService default/r spec.http[0].directResponse.status"]);
}

#[test]
fn a_sidecar_says_what_it_does_not_obey() {
    let mut world = world(&reviews());
    apply_stored(
        &mut world,
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "s", "namespace": "default"},
            "spec": {
                "ingress": [
                    {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": {"mode": "SIMPLE"}},
                    {"port": {"number": 80}, "defaultEndpoint": "10.0.0.1:80"}],
                "egress": [{"port": {"number": 0}, "bind": "unix:///x", "hosts": ["*/*"]}]}}),
    );
    let expected = [
        "SLU0102 Sidecar default/s spec.egress[0].port",
        "SLU0100 Sidecar default/s spec.ingress[0].tls",
        "SLU0102 Sidecar default/s spec.ingress[1].defaultEndpoint",
    ];
    assert_eq!(findings(&world), expected);
}

#[test]
fn what_a_proxy_would_refuse_is_left_out_alone() {
    let mut world = world(&reviews());
    let route = json!([{"destination": {"host": "reviews", "subset": "v1"}}]);
    apply_stored(
        &mut world,
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "r", "namespace": "default"},
            "spec": {"hosts": ["a\nb", "reviews"], "http": [
                {"match": [{"headers": {"no good": {"exact": "x"}}}], "route": [{"destination": {"host": "reviews", "subset": "v2"}}]},
                {"route": route}]}}),
    );
    let snapshot = snapshot(&world, &sidecar());
    assert_eq!(short(&host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes), ["v1"]);
    let expected = [
        "SLU0102 VirtualService default/r spec.hosts[0]",
        "SLU0101 VirtualService default/r spec.http[0].match[0].headers[no good]",
    ];
    assert_eq!(findings(&world), expected);
}
