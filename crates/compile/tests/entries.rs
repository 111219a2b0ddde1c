//! What only shows where traffic is captured: listeners at allocated addresses, hosts that a ClientHello names, egress
//! listeners that take over; and what the proxies' addresses depend on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use config::{Discovery, Filter, RouteSource};
use serde_json::json;
use support::*;

fn entry(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {name}}}, spec: {spec}}}\n"
    )
}

fn sidecar_object(spec: &str) -> String {
    format!("---\n{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: default}}, spec: {spec}}}\n")
}

fn with_dns() -> compile::Scope {
    sidecar_in("default", json!({"LABELS": {"app": "client"}, "DNS_CAPTURE": "true"}))
}

fn databases() -> String {
    let of = |name: &str| {
        entry(
            name,
            &format!(
                "{{hosts: [{name}.example.com], ports: [{{number: 5432, name: tcp, protocol: TCP}}], resolution: STATIC, endpoints: [{{address: 1.1.1.1}}]}}"
            ),
        )
    };
    of("a") + &of("b")
}

fn allocated(snapshot: &config::Snapshot, host: &str) -> std::net::IpAddr {
    snapshot.names.as_ref().unwrap().names[host].addresses[0]
}

#[test]
fn se16_each_entry_has_a_listener_at_its_allocated_address_where_dns_is_answered() {
    let found = snapshot(&world(&databases()), &with_dns());
    let (a, b) = (allocated(&found, "a.example.com"), allocated(&found, "b.example.com"));
    assert_ne!(a, b);
    for (ip, cluster) in [(a, "outbound|5432||a.example.com"), (b, "outbound|5432||b.example.com")] {
        let Filter::Tcp(tcp) = &listener(&found, &format!("{ip}_5432")).default_chain.as_ref().unwrap().filter else {
            panic!("not TCP")
        };
        assert!(tcp.cluster.names().any(|name| &**name == cluster));
    }
    let without = snapshot(&world(&databases()), &sidecar());
    assert!(without.names.is_none());
    assert!(without.listeners.contains_key("0.0.0.0_5432"));
}

#[test]
fn se16_addresses_stay_when_others_come_and_go_and_chosen_ones_are_taken() {
    let alone = snapshot(
        &world(&entry(
            "a",
            "{hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
        )),
        &with_dns(),
    );
    let address = allocated(&alone, "a.example.com");
    let beside = snapshot(
        &world(
            &(databases().replace("a.example.com", "c.example.com")
                + &entry(
                    "z",
                    "{hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
                )),
        ),
        &with_dns(),
    );
    assert_eq!(allocated(&beside, "a.example.com"), address);
    let chosen = entry(
        "user",
        &format!(
            "{{hosts: [user.example.com], addresses: [{address}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}"
        ),
    );
    let taken = snapshot(
        &world(
            &(chosen
                + &entry(
                    "a",
                    "{hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
                )),
        ),
        &with_dns(),
    );
    assert_eq!(allocated(&taken, "user.example.com"), address);
    assert_ne!(allocated(&taken, "a.example.com"), address);
}

#[test]
fn se09_tls_goes_to_the_host_that_the_client_names() {
    let yaml = entry(
        "w",
        "{hosts: [\"*.wiki.example\"], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DYNAMIC_DNS}",
    );
    let found = snapshot(&world(&yaml), &sidecar());
    assert!(matches!(found.clusters["outbound|443||*.wiki.example"].discovery, Discovery::Dynamic(_)));
    let listener = listener(&found, "0.0.0.0_443");
    assert!(listener.filters.tls_inspector);
    assert_eq!(listener.chains[0].matches.server_names, ["*.wiki.example"]);
    let Filter::Tcp(tcp) = &listener.chains[0].filter else { panic!("not TCP") };
    assert_eq!(tcp.dynamic_host.as_ref().map(|host| host.port), Some(443));
}

#[test]
fn se09_what_names_no_host_is_left_out() {
    let mut world = world(&reviews());
    apply_stored(
        &mut world,
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "w", "namespace": "default"},
            "spec": {"hosts": ["*.wiki.example", "en.wiki.example"], "resolution": "DYNAMIC_DNS", "ports": [
                {"number": 5432, "name": "tcp", "protocol": "TCP"}, {"number": 80, "name": "http", "protocol": "HTTP"}]}}),
    );
    let found = snapshot(&world, &sidecar());
    assert!(found.clusters.contains_key("outbound|80||*.wiki.example"));
    assert!(!found.clusters.contains_key("outbound|5432||*.wiki.example"));
    assert!(!found.clusters.contains_key("outbound|80||en.wiki.example"));
    let expected =
        ["SLU0102 ServiceEntry default/w spec.hosts[1]", "SLU0102 ServiceEntry default/w spec.ports[0].protocol"];
    assert_eq!(findings(&world), expected);
}

#[test]
fn se03_target_port_of_resolution_none_replaces_the_dialled_port() {
    let of = |spec: &str| {
        let yaml = entry(
            "plain",
            &format!(
                "{{hosts: [n.example.com], ports: [{{number: 80, name: http, protocol: HTTP{spec}}}], resolution: NONE}}"
            ),
        );
        snapshot(&world(&yaml), &sidecar()).clusters["outbound|80||n.example.com"].original_port
    };
    assert_eq!(of(", targetPort: 8080"), Some(8080));
    assert_eq!(of(""), None);
}

#[test]
fn sc06_captured_egress_listeners_take_over_and_uncaptured_ones_bind() {
    let yaml = reviews()
        + &sidecar_object(
            "{egress: [{port: {number: 9080, name: http, protocol: HTTP}, hosts: [\"./*\"]}, {port: {number: 9081, name: b, protocol: HTTP}, captureMode: NONE, hosts: [\"./*\"]}, {port: {number: 9082, name: c, protocol: HTTP}, bind: 10.9.9.9, captureMode: IPTABLES, hosts: [\"./*\"]}]}",
        );
    let found = snapshot(&world(&yaml), &sidecar());
    assert!(!listener(&found, "0.0.0.0_9080").bind_to_port);
    assert!(listener(&found, "127.0.0.1_9081").bind_to_port);
    assert!(!listener(&found, "10.9.9.9_9082").bind_to_port);
}

#[test]
fn sc07_a_declared_port_shows_its_own_hosts_only() {
    let yaml = reviews()
        + &service("ratings", 2, &[("http", 9080), ("tcp", 5432)], &["v1"])
        + &sidecar_object(
            "{egress: [{port: {number: 9080, name: http, protocol: HTTP}, hosts: [\"./reviews.default.svc.cluster.local\"]}, {hosts: [\"./*\"]}]}",
        );
    let found = snapshot(&world(&yaml), &sidecar());
    assert!(has_host(&found, "9080", "reviews.default.svc.cluster.local:9080"));
    assert!(!has_host(&found, "9080", "ratings.default.svc.cluster.local:9080"));
    assert!(found.listeners.contains_key("10.96.0.2_5432"));
}

#[test]
fn sc05_without_capture_a_tcp_listener_is_at_its_bind_and_not_at_the_service() {
    let yaml = service("db", 2, &[("tcp", 5432)], &["v1"])
        + &sidecar_object(
            "{egress: [{port: {number: 5432, name: tcp, protocol: TCP}, captureMode: NONE, hosts: [\"./*\"]}]}",
        );
    let found = snapshot(&world(&yaml), &sidecar());
    assert!(listener(&found, "127.0.0.1_5432").bind_to_port);
    assert!(!found.listeners.contains_key("10.96.0.2_5432"));
}

#[test]
fn sc12_captured_ingress_follows_the_dialled_address_unless_it_names_an_endpoint() {
    let of = |endpoint: &str| {
        let yaml =
            sidecar_object(&format!("{{ingress: [{{port: {{number: 9080, name: http, protocol: HTTP}}{endpoint}}}]}}"));
        snapshot(&world(&yaml), &sidecar()).clusters["inbound|9080||"].discovery.clone()
    };
    assert_eq!(of(""), Discovery::OriginalDst);
    let at = |discovery: Discovery| match discovery {
        Discovery::Static(endpoints) => addresses(&endpoints).join(","),
        other => format!("{other:?}"),
    };
    assert_eq!(at(of(", defaultEndpoint: \"127.0.0.1:8080\"")), "127.0.0.1:8080");
    assert_eq!(at(of(", defaultEndpoint: \"0.0.0.0:8080\"")), "10.9.0.1:8080");
    assert_eq!(at(of(", defaultEndpoint: \"unix:///run/app.sock\"")), "unix:///run/app.sock");
}

#[test]
fn sc11_an_ingress_listener_without_capture_binds_beside_the_capturing_one() {
    let yaml = sidecar_object(
        "{ingress: [{port: {number: 9080, name: http, protocol: HTTP}, captureMode: NONE, bind: 10.9.0.1, defaultEndpoint: \"127.0.0.1:8080\"}, {port: {number: 9081, name: b, protocol: HTTP}}]}",
    );
    let found = snapshot(&world(&yaml), &sidecar());
    assert!(listener(&found, "10.9.0.1_9080").bind_to_port);
    let inbound = listener(&found, "virtualInbound");
    let ports: Vec<_> = inbound.chains.iter().filter_map(|chain| chain.matches.destination_port).collect();
    assert_eq!(ports, [15006, 9081]);
}

#[test]
fn sc11_of_two_listeners_for_one_address_the_outbound_one_is_made_and_the_other_named() {
    let yaml = reviews()
        + &sidecar_object(
            "{egress: [{port: {number: 9080, name: http, protocol: HTTP}, bind: 10.9.0.1, captureMode: NONE, hosts: [\"./*\"]}], ingress: [{port: {number: 9080, name: http, protocol: HTTP}, captureMode: NONE, bind: 10.9.0.1}]}",
        );
    let compiled = compile(&world(&yaml), &sidecar());
    assert_eq!(config::check(&compiled.snapshot()), Vec::new());
    assert!(compiled.layers[0].snapshot.listeners.contains_key("10.9.0.1_9080"));
    assert_eq!(compiled.layers[1].diagnostics.len(), 1);
}

#[test]
fn sc14_precedence_of_inbound_bounds() {
    let service = "---\n{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.9, selector: {app: client}, ports: [{name: http, port: 80, targetPort: 9080}]}}\n";
    let rule = "---\n{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: web}, spec: {host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}}\n";
    let bound = |sidecar_spec: &str| {
        let object = if sidecar_spec.is_empty() { String::new() } else { sidecar_object(sidecar_spec) };
        let found = snapshot(&world(&(service.to_owned() + rule + &object)), &sidecar());
        found.clusters["inbound|9080||"].thresholds.max_connections
    };
    let port = "ingress: [{port: {number: 9080, name: http, protocol: HTTP}";
    assert_eq!(bound(""), 1);
    assert_eq!(bound("{inboundConnectionPool: {tcp: {maxConnections: 2}}}"), 2);
    assert_eq!(
        bound(&format!(
            "{{inboundConnectionPool: {{tcp: {{maxConnections: 2}}}}, {port}, connectionPool: {{tcp: {{maxConnections: 3}}}}}}]}}"
        )),
        3
    );
    assert_eq!(bound(&format!("{{inboundConnectionPool: {{tcp: {{maxConnections: 2}}}}, {port}}}]}}")), 2);
    assert_eq!(bound(&format!("{{{port}}}]}}")), 1);
}

#[test]
fn sc16_unknown_connections_go_to_the_egress_proxy() {
    let yaml = service("out", 2, &[("http", 9080)], &["v1"])
        + &sidecar_object(
            "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: out.default.svc.cluster.local, port: {number: 9080}}}}",
        );
    let found = snapshot(&world(&yaml), &sidecar());
    let rest = listener(&found, "virtualOutbound").default_chain.as_ref().unwrap();
    let cluster = "outbound|9080||out.default.svc.cluster.local";
    assert!(matches!(&rest.filter, Filter::Tcp(tcp) if tcp.cluster.names().any(|name| &**name == cluster)));
    assert_eq!(targets(&host(&found, "9080", "allow_any").routes), [cluster]);
}

#[test]
fn sc18_without_capture_every_port_is_bound_on_the_loopback_address() {
    let yaml = reviews() + &service("db", 5, &[("tcp", 3306)], &["v1"]);
    let scope = sidecar_in("default", json!({"LABELS": {"app": "client"}, "INTERCEPTION_MODE": "NONE"}));
    let found = snapshot(&world(&yaml), &scope);
    assert!(!found.listeners.contains_key("virtualOutbound"));
    for name in ["127.0.0.1_9080", "127.0.0.1_3306"] {
        assert!(listener(&found, name).bind_to_port, "{name}");
    }
    let Filter::Http(http) = &listener(&found, "127.0.0.1_9080").chains[0].filter else { panic!("not HTTP") };
    assert_eq!(http.routes, RouteSource::Rds("9080".into()));
}

#[test]
fn se11_names_of_selected_workloads_follow_them() {
    let se = entry(
        "e",
        "{hosts: [vm.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS, workloadSelector: {labels: {app: vm}}}",
    );
    let machine = |name: &str| {
        format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: {name}}}, spec: {{address: {name}.machines.example, labels: {{app: vm}}}}}}\n"
        )
    };
    let mut compiler = compile::Compiler::default();
    let mut world = world(&(se + &machine("one")));
    let mut seen = |world: &compile::World| {
        let found = compiler.compile(world, &sidecar()).snapshot();
        match &found.clusters["outbound|80||vm.example.com"].discovery {
            Discovery::StrictDns(endpoints) => addresses(endpoints),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen(&world), ["one.machines.example:80"]);
    for object in objects(&machine("two")) {
        world.apply(api::Change::Upsert(object));
    }
    assert_eq!(seen(&world), ["one.machines.example:80", "two.machines.example:80"]);
}
