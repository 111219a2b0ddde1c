//! TCP and TLS: which chains a sidecar's and a gateway's listeners have, and what they carry to.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use config::{ChainMatch, Filter, FilterChain, Snapshot, TcpProxy};
use serde_json::json;
use support::*;

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn db() -> String {
    service("db", 1, &[("tcp", 3306)], &["v1", "v2"])
}

fn tcp(chain: &FilterChain) -> &TcpProxy {
    let Filter::Tcp(tcp) = &chain.filter else { panic!("not TCP: {}", chain.name) };
    tcp
}

fn of_db(yaml: &str) -> TcpProxy {
    let snapshot = snapshot(&world(&(db() + yaml)), &sidecar());
    tcp(listener(&snapshot, "10.96.0.1_3306").default_chain.as_ref().unwrap()).clone()
}

fn rule(route: &str) -> String {
    object("VirtualService", "db", &format!("{{hosts: [db], tcp: [{{route: [{route}]}}]}}"))
}

#[test]
fn vs124_stats_are_of_the_cluster_or_of_the_rule() {
    let one = of_db(&rule("{destination: {host: db, subset: v1}}"));
    assert_eq!(one.stat_prefix, "outbound|3306|v1|db.default.svc.cluster.local");
    let many = of_db(&rule(
        "{destination: {host: db, subset: v1}, weight: 1}, {destination: {host: db, subset: v2}, weight: 1}",
    ));
    assert_eq!(many.stat_prefix, "db.default");
}

#[test]
fn dr34_only_the_rules_own_policy_bounds_connections() {
    let pool = |idle: &str| format!("connectionPool: {{tcp: {{idleTimeout: {idle}, maxConnectionDuration: 9s}}}}");
    let port = format!(
        "{{host: db, trafficPolicy: {{{}, portLevelSettings: [{{port: {{number: 3306}}, {}}}]}}}}",
        pool("2s"),
        pool("3s")
    );
    let bounded = of_db(&object("DestinationRule", "db", &port));
    assert_eq!(bounded.idle_timeout.unwrap().as_secs(), 2);
    assert_eq!(bounded.max_connection_duration.unwrap().as_secs(), 9);
    let never = of_db(&object("DestinationRule", "db", &format!("{{host: db, trafficPolicy: {{{}}}}}", pool("0s"))));
    assert!(never.idle_timeout.unwrap().as_secs() > 3600, "0s is never, not the default hour");
}

fn entry(name: &str, hosts: &str, protocol: &str) -> String {
    object(
        "ServiceEntry",
        name,
        &format!(
            "{{hosts: [{hosts}], ports: [{{number: 443, name: p, protocol: {protocol}}}], resolution: STATIC, \
             endpoints: [{{address: 10.1.1.1}}]}}"
        ),
    )
}

fn names(snapshot: &Snapshot, listener_name: &str) -> Vec<String> {
    let named = |chain: &FilterChain| format!("{} {}", chain.matches.server_names.join(","), tcp(chain).stat_prefix);
    listener(snapshot, listener_name).chains.iter().map(named).collect()
}

#[test]
fn vs121_shared_listeners_ask_for_the_host_as_server_name() {
    let both = entry("a", "a.example.com", "TLS") + &entry("b", "b.example.com", "HTTPS");
    let snapshot = snapshot(&world(&both), &sidecar());
    assert_eq!(
        names(&snapshot, "0.0.0.0_443"),
        ["a.example.com outbound|443||a.example.com", "b.example.com outbound|443||b.example.com"]
    );
    assert!(listener(&snapshot, "0.0.0.0_443").filters.tls_inspector);
}

#[test]
fn x44_the_older_service_keeps_what_both_would_have() {
    let aged = |name: &str, year: u16| {
        entry(name, &format!("{name}.example.com"), "TCP").replace(
            &format!("name: {name}}}"),
            &format!("name: {name}, creationTimestamp: \"{year}-01-01T00:00:00Z\"}}"),
        )
    };
    let world = world(&(aged("a", 2025) + &aged("b", 2024)));
    let compiled = compile(&world, &sidecar());
    let chain = listener(&compiled.snapshot(), "0.0.0.0_443").default_chain.clone().unwrap();
    assert_eq!(tcp(&chain).stat_prefix, "outbound|443||b.example.com");
    let said: Vec<_> = compiled.layers[0].diagnostics.iter().map(|one| one.to_string()).collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

fn gateway_object(name: &str, servers: &str) -> String {
    object("Gateway", name, &format!("{{selector: {{istio: ingressgateway}}, servers: [{servers}]}}"))
}

const PASS: &str = "{port: {number: 443, name: t, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}";

#[test]
fn gw16_names_of_a_rule_that_are_taken_leave_the_rest() {
    let rules = "{hosts: ['*.example.com'], gateways: [edge], tls: [\
        {match: [{sniHosts: [a.example.com]}], route: [{destination: {host: db, subset: v1}}]}, \
        {match: [{sniHosts: [a.example.com, b.example.com]}], route: [{destination: {host: db, subset: v2}}]}]}";
    let yaml = db() + &gateway_object("edge", PASS) + &object("VirtualService", "db", rules);
    let snapshot = snapshot(&world(&yaml), &gateway());
    assert_eq!(
        names(&snapshot, "0.0.0.0_443"),
        [
            "a.example.com outbound|3306|v1|db.default.svc.cluster.local",
            "b.example.com outbound|3306|v2|db.default.svc.cluster.local"
        ]
    );
}

#[test]
fn gw11_gw12_servers_that_cannot_share_a_port_are_left_out_and_said() {
    let tcp_server = "{port: {number: 443, name: x, protocol: TCP}, hosts: ['*']}";
    let world =
        world(&(db() + &gateway_object("a", PASS) + &gateway_object("b", tcp_server) + &gateway_object("c", PASS)));
    let compiled = compile(&world, &gateway());
    let said: Vec<String> = compiled.layers[0].diagnostics.iter().map(|one| one.to_string()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("another protocol") && said[1].contains("taken already"), "{said:?}");
    assert!(compiled.snapshot().listeners.is_empty(), "GW10: no rule, no listener");
}

#[test]
fn tr60_a_tcp_server_listens_on_the_target_port_and_matches_the_written_one() {
    let lb = service_in("istio-system", "gw", 9, &[("tcp", 31400)], &[])
        .replace("\"targetPort\": 31400", "\"targetPort\": 9000")
        .replace("{\n      \"app\": \"gw\"\n    }", "{\"istio\": \"ingressgateway\"}");
    let server = "{port: {number: 31400, name: x, protocol: TCP}, hosts: ['*']}";
    let rules = "{hosts: ['*'], gateways: [edge], tcp: [{match: [{port: 31400}], route: [{destination: {host: db}}]}]}";
    let yaml = db() + &lb + &gateway_object("edge", server) + &object("VirtualService", "db", rules);
    let snapshot = snapshot(&world(&yaml), &gateway());
    assert_eq!(listener(&snapshot, "0.0.0.0_9000").chains[0].matches, ChainMatch::default());
}

#[test]
fn gw17_services_by_server_name_have_clusters_of_their_own() {
    let server = "{port: {number: 15443, name: t, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}";
    let external = entry("out", "out.example.local", "TCP").replace("{hosts", "{location: MESH_EXTERNAL, hosts");
    let snapshot = snapshot(&world(&(db() + &external + &gateway_object("edge", server))), &gateway());
    let name = "outbound_.3306_._.db.default.svc.cluster.local";
    assert_eq!(names(&snapshot, "0.0.0.0_15443"), [format!("{name} {name}")]);
    assert_eq!(addresses(&snapshot.endpoints[name]).len(), 2);
    let other = snapshot.clusters.keys().filter(|name| name.starts_with("outbound_.")).count();
    assert_eq!(other, 1);
}

#[test]
fn trusted_proxies_in_front_are_said_by_the_pod_or_by_the_proxy() {
    let yaml = db() + &gateway_object("edge", "{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}");
    let hops =
        |yaml: &str, scope: &compile::Scope| match &listener(&snapshot(&world(yaml), scope), "0.0.0.0_80").chains[..] {
            [config::FilterChain { filter: config::Filter::Http(http), .. }] => http.xff_trusted_hops,
            other => panic!("{other:?}"),
        };
    assert_eq!(hops(&yaml, &gateway()), 0);
    let id = "router~10.9.0.2~gw.istio-system~istio-system.svc.cluster.local";
    let config = json!({"gatewayTopology": {"numTrustedProxies": 2}});
    let metadata = json!({"LABELS": {"istio": "ingressgateway"}, "PROXY_CONFIG": config});
    assert_eq!(hops(&yaml, &compile::Scope::parse(id, &metadata).unwrap()), 2);
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: gw, namespace: istio-system, labels: {istio: ingressgateway}, \
               annotations: {proxy.istio.io/config: 'gatewayTopology: {numTrustedProxies: 1}'}}\n";
    assert_eq!(hops(&(yaml + pod), &gateway()), 1);
}

#[test]
fn proxy_protocol_is_said_by_the_pod_or_by_the_proxy() {
    let yaml = db() + &gateway_object("edge", "{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}");
    let on = |yaml: &str, scope: &compile::Scope| {
        listener(&snapshot(&world(yaml), scope), "0.0.0.0_80").filters.proxy_protocol
    };
    assert!(!on(&yaml, &gateway()));
    let id = "router~10.9.0.2~gw.istio-system~istio-system.svc.cluster.local";
    let config = json!({"gatewayTopology": {"proxyProtocol": {}}});
    for written in [config.clone(), json!(config.to_string())] {
        let metadata = json!({"LABELS": {"istio": "ingressgateway"}, "PROXY_CONFIG": written});
        assert!(on(&yaml, &compile::Scope::parse(id, &metadata).unwrap()));
    }
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: gw, namespace: istio-system, labels: {istio: ingressgateway}, \
               annotations: {proxy.istio.io/config: 'gatewayTopology: {proxyProtocol: {}}'}}\n";
    assert!(on(&(yaml + pod), &gateway()));
}
