//! Gateways: listeners, hosts, merging.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use config::{Filter, RouteSource};
use support::*;

fn gateway_object(name: &str, hosts: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: default}}\nspec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: {hosts}}}]}}\n"
    )
}

fn vs(created: u16, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: default, creationTimestamp: \"{created}-01-01T00:00:00Z\"}}\nspec: {{gateways: [edge], {spec}}}\n"
    )
}

fn route(subset: &str) -> String {
    format!("route: [{{destination: {{host: reviews, subset: {subset}}}}}]")
}

#[test]
fn gw08_a_bound_rule_is_served_on_the_more_specific_host() {
    let rule = vs(2024, "a", &format!("hosts: [\"*.example.com\"], http: [{{{}}}]", route("v1")));
    let world = world(&(reviews() + &gateway_object("edge", "[shop.example.com]") + &rule));
    let snapshot = snapshot(&world, &gateway());
    assert_eq!(host(&snapshot, "http.80", "shop.example.com:80").domains, ["shop.example.com"]);
    let listener = listener(&snapshot, "0.0.0.0_80");
    assert!(listener.bind_to_port);
    let Filter::Http(http) = &listener.chains[0].filter else { panic!("not HTTP") };
    assert_eq!(http.routes, RouteSource::Rds("http.80".into()));
    assert!(http.use_remote_address);
}

#[test]
fn tr13_rules_on_one_host_merge_oldest_first_and_catch_alls_last() {
    let oldest = vs(2023, "z", &format!("hosts: [shop.example.com], http: [{{{}}}]", route("v1")));
    let header = vs(
        2024,
        "b",
        &format!(
            "hosts: [shop.example.com], http: [{{match: [{{headers: {{canary: {{exact: \"true\"}}}}}}], {}}}, {{{}}}]",
            route("v2"),
            route("v3")
        ),
    );
    let newest = vs(
        2025,
        "a",
        &format!("hosts: [shop.example.com], http: [{{match: [{{uri: {{exact: /a}}}}], {}}}]", route("v4")),
    );
    let world = world(&(reviews() + &gateway_object("edge", "[\"*\"]") + &newest + &header + &oldest));
    let snapshot = snapshot(&world, &gateway());
    assert_eq!(short(&host(&snapshot, "http.80", "shop.example.com:80").routes), ["v2", "v4", "v1"]);
}

#[test]
fn gw10_a_port_without_rules_answers_404() {
    let world = world(&(reviews() + &gateway_object("edge", "[\"*\"]")));
    let snapshot = snapshot(&world, &gateway());
    let host = host(&snapshot, "http.80", "blackhole:80");
    assert_eq!((host.domains.as_slice(), host.routes.len()), (&["*".to_owned()][..], 0));
}

#[test]
fn gw05_namespace_filters_of_server_hosts() {
    let rule = vs(2024, "a", &format!("hosts: [shop.example.com], http: [{{{}}}]", route("v1")));
    let served = |hosts: &str| {
        let world = world(&(reviews() + &gateway_object("edge", hosts) + &rule));
        has_host(&snapshot(&world, &gateway()), "http.80", "shop.example.com:80")
    };
    assert!(served("[\"./*\"]"));
    assert!(served("[\"default/*.example.com\"]"));
    assert!(!served("[\"prod/*\"]"));
    assert!(!served("[other.example.com]"));
}

#[test]
fn tr60_gateway_ports_are_translated_by_services_and_rules_match_the_written_one() {
    let service = "---\n{apiVersion: v1, kind: Service, metadata: {name: ingress, namespace: istio-system}, spec: {clusterIP: 10.96.1.1, selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}}\n";
    let rule = vs(
        2024,
        "a",
        &format!(
            "hosts: [a.com], http: [{{match: [{{port: 8080}}], {}}}, {{match: [{{port: 80}}], {}}}]",
            route("v1"),
            route("v2")
        ),
    );
    let world = world(&(reviews() + service + &gateway_object("edge", "[a.com]") + &rule));
    let snapshot = snapshot(&world, &gateway());
    assert!(listener(&snapshot, "0.0.0.0_8080").bind_to_port);
    assert_eq!(short(&host(&snapshot, "http.8080", "a.com:80").routes), ["v2"]);
}

#[test]
fn gw11_servers_of_several_gateways_share_a_port() {
    let a = vs(2024, "a", &format!("hosts: [a.com], http: [{{{}}}]", route("v1")));
    let b = vs(2024, "b", &format!("hosts: [b.com], http: [{{{}}}]", route("v2"))).replace("[edge]", "[edge2]");
    let world =
        world(&(reviews() + &gateway_object("edge", "[a.com]") + &gateway_object("edge2", "[b.com]") + &a + &b));
    let snapshot = snapshot(&world, &gateway());
    assert_eq!(snapshot.listeners.len(), 1);
    assert!(has_host(&snapshot, "http.80", "a.com:80") && has_host(&snapshot, "http.80", "b.com:80"));
}

#[test]
fn gw01_a_gateway_acts_on_the_pods_it_selects() {
    let world = world(&(reviews() + &gateway_object("edge", "[a.com]").replace("ingressgateway", "other")));
    assert!(snapshot(&world, &gateway()).listeners.is_empty());
}

#[test]
fn se31_gateways_have_endpoints_of_headless_services() {
    let headless = service("db", 7, &[("http", 80)], &["v1"]).replace("10.96.0.7", "None");
    let snapshot = snapshot(&world(&headless), &gateway());
    assert_eq!(addresses(&snapshot.endpoints["outbound|80||db.default.svc.cluster.local"]), ["10.0.7.1:80"]);
}

#[test]
fn gw04_servers_of_one_port_at_different_addresses_have_listeners_of_their_own() {
    let at = |name: &str, bind: &str, host: &str| {
        gateway_object(name, &format!("[{host}]")).replace("hosts:", &format!("bind: {bind}, hosts:"))
    };
    let rules = vs(2024, "a", &format!("hosts: [a.com], http: [{{{}}}]", route("v1")))
        + &vs(2024, "b", &format!("hosts: [b.com], http: [{{{}}}]", route("v2"))).replace("[edge]", "[edge2]");
    let gateways = at("edge", "10.1.1.1", "a.com") + &at("edge2", "10.1.1.2", "b.com");
    let snapshot = snapshot(&world(&(reviews() + &gateways + &rules)), &gateway());
    assert_eq!(snapshot.listeners.keys().map(|name| &**name).collect::<Vec<_>>(), ["10.1.1.1_80", "10.1.1.2_80"]);
    assert!(
        has_host(&snapshot, "http.80.10.1.1.1", "a.com:80") && !has_host(&snapshot, "http.80.10.1.1.1", "b.com:80")
    );
    assert!(has_host(&snapshot, "http.80.10.1.1.2", "b.com:80"));
}

#[test]
fn gw33_gateways_have_clusters_of_every_service_they_see_and_no_passthrough() {
    let snapshot = snapshot(&world(&(reviews() + &gateway_object("edge", "[a.com]"))), &gateway());
    assert!(snapshot.clusters.contains_key("outbound|9080||reviews.default.svc.cluster.local"));
    assert!(!snapshot.clusters.contains_key("PassthroughCluster"));
}

#[test]
fn gw06_an_https_server_names_its_statistics() {
    let tls = "tls: {mode: SIMPLE, serverCertificate: /a, privateKey: /b}, name: shop, hosts:";
    let object = gateway_object("edge", "[a.com]")
        .replace("number: 80, name: http, protocol: HTTP", "number: 443, name: https, protocol: HTTPS");
    let snapshot = snapshot(&world(&(reviews() + &object.replace("hosts:", tls))), &gateway());
    let Filter::Http(http) = &listener(&snapshot, "0.0.0.0_443").chains[0].filter else { panic!("not HTTP") };
    assert_eq!(http.stat_prefix, "shop");
}
