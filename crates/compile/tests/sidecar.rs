//! Listeners, tables and visibility of sidecars.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::SocketAddr;

use compile::{MeshConfig, OutboundTrafficPolicy};
use config::{Discovery, Filter, Lb, RouteSource, UpstreamProtocol};
use serde_json::json;
use support::*;

#[test]
fn dp02_virtual_outbound_hands_over_and_lets_the_rest_through() {
    let snapshot = snapshot(&world(&reviews()), &sidecar());
    let listener = listener(&snapshot, "virtualOutbound");
    assert_eq!(listener.address, "0.0.0.0:15001".parse::<SocketAddr>().unwrap());
    assert!(listener.bind_to_port && listener.use_original_dst && listener.filters.original_dst);
    assert_eq!(listener.chains[0].matches.destination_port, Some(15001));
    let Filter::Tcp(rest) = &listener.default_chain.as_ref().unwrap().filter else { panic!("not TCP") };
    assert_eq!(rest.cluster.names().next().map(|name| &**name), Some("PassthroughCluster"));
}

#[test]
fn dp03_http_ports_share_a_listener_that_does_not_bind() {
    let yaml = reviews() + &service("ratings", 2, &[("http", 9080)], &["v1"]);
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let listener = listener(&snapshot, "0.0.0.0_9080");
    assert!(!listener.bind_to_port);
    let Filter::Http(http) = &listener.chains[0].filter else { panic!("not HTTP") };
    assert_eq!(http.routes, RouteSource::Rds("9080".into()));
    assert!(has_host(&snapshot, "9080", "ratings.default.svc.cluster.local:9080"));
    assert!(has_host(&snapshot, "9080", "allow_any"));
}

#[test]
fn x15_domains_of_a_service() {
    let world = world(&reviews());
    let domains = |ns: &str| {
        let snapshot = snapshot(&world, &sidecar_in(ns, json!({})));
        host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").domains.clone()
    };
    let host = "reviews.default.svc.cluster.local";
    let dotted = format!("{host}.");
    assert_eq!(domains("default"), [host, &dotted, "reviews", "reviews.default", "reviews.default.svc", "10.96.0.1"]);
    assert_eq!(domains("other"), [host, &dotted, "reviews.default", "reviews.default.svc", "10.96.0.1"]);
}

#[test]
fn tcp_services_have_a_listener_per_address() {
    let yaml = service("db", 5, &[("tcp", 3306)], &["v1"]);
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let listener = listener(&snapshot, "10.96.0.5_3306");
    let Filter::Tcp(tcp) = &listener.default_chain.as_ref().unwrap().filter else { panic!("not TCP") };
    assert_eq!(tcp.cluster.names().next().map(|name| &**name), Some("outbound|3306||db.default.svc.cluster.local"));
}

#[test]
fn x43_an_undeclared_port_is_detected() {
    let yaml = service("web", 6, &[("web", 8080)], &["v1"]);
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let listener = listener(&snapshot, "10.96.0.6_8080");
    assert!(listener.filters.http_inspector);
    let Filter::Http(http) = &listener.chains[0].filter else { panic!("not HTTP") };
    assert_eq!(http.routes, RouteSource::Rds("web.default.svc.cluster.local:8080".into()));
    assert_eq!(listener.chains[0].matches.application_protocols, ["http/1.1", "h2c"]);
    let cluster = &snapshot.clusters["outbound|8080||web.default.svc.cluster.local"];
    assert_eq!(cluster.protocol, UpstreamProtocol::SameAsDownstream);
}

#[test]
fn tr84_app_protocol_beats_the_port_name() {
    let yaml = service("web", 6, &[("tcp-x", 8080)], &["v1"]).replace(
        "\"name\": \"tcp-x\",\n        \"port\": 8080,\n        \"targetPort\"",
        "\"name\": \"tcp-x\", \"appProtocol\": \"grpc\",\n        \"port\": 8080,\n        \"targetPort\"",
    );
    let snapshot = snapshot(&world(&yaml), &sidecar());
    assert_eq!(snapshot.clusters["outbound|8080||web.default.svc.cluster.local"].protocol, UpstreamProtocol::Http2);
}

#[test]
fn tr82_headless_http_is_routed_by_host_and_tcp_by_pod() {
    let yaml = service("db", 7, &[("http", 80), ("tcp", 5432)], &["v1", "v2"]).replace("10.96.0.7", "None");
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let host = host(&snapshot, "80", "db.default.svc.cluster.local:80");
    assert!(host.domains.contains(&"*.db.default".to_owned()));
    let cluster = &snapshot.clusters["outbound|80||db.default.svc.cluster.local"];
    assert_eq!((&cluster.discovery, cluster.lb), (&Discovery::OriginalDst, Lb::ClusterProvided));
    for ip in ["10.0.7.1", "10.0.7.2"] {
        assert!(!listener(&snapshot, &format!("{ip}_5432")).bind_to_port);
    }
}

#[test]
fn tr80_an_external_name_is_another_name_of_its_target() {
    let alias = "---\n{apiVersion: v1, kind: Service, metadata: {name: other, namespace: default}, spec: {type: ExternalName, externalName: reviews.default.svc.cluster.local, ports: [{name: http, port: 80}]}}\n";
    let rule = "---\n{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: r}, spec: {hosts: [reviews], http: [{route: [{destination: {host: other}}]}]}}\n";
    let snapshot = snapshot(&world(&(reviews() + alias + rule)), &sidecar());
    let host = host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080");
    assert!(host.domains.contains(&"other.default.svc".to_owned()));
    assert_eq!(short(&host.routes), [""]);
    assert!(!snapshot.clusters.keys().any(|name| name.contains("other")));
}

#[test]
fn tr27_registry_only_answers_502_and_closes_the_rest() {
    let mesh = MeshConfig { outbound_traffic_policy: OutboundTrafficPolicy::RegistryOnly, ..MeshConfig::default() };
    let snapshot = snapshot(&world_with(mesh, &reviews()), &sidecar());
    assert_eq!(targets(&host(&snapshot, "9080", "block_all").routes), ["502"]);
    let rest = listener(&snapshot, "virtualOutbound").default_chain.as_ref().unwrap();
    assert!(matches!(&rest.filter, Filter::Tcp(tcp) if tcp.cluster.names().any(|name| &**name == "BlackHoleCluster")));
}

#[test]
fn tr26_an_empty_outbound_traffic_policy_means_registry_only() {
    let sidecar_object = "---\n{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: default}, spec: {outboundTrafficPolicy: {}}}\n";
    let snapshot = snapshot(&world(&(reviews() + sidecar_object)), &sidecar());
    assert!(has_host(&snapshot, "9080", "block_all"));
}

#[test]
fn sc03_egress_hosts_limit_what_is_seen_and_sc08_destinations_come_along() {
    let yaml = reviews()
        + &service("ratings", 2, &[("http", 9080)], &["v1"])
        + &service("details", 3, &[("http", 9080)], &["v1"])
        + "---\n{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: default}, spec: {egress: [{hosts: [\"./reviews.default.svc.cluster.local\"]}]}}\n---\n{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: r}, spec: {hosts: [reviews], http: [{route: [{destination: {host: ratings}}]}]}}\n";
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let has = |name: &str| snapshot.clusters.contains_key(&*format!("outbound|9080||{name}.default.svc.cluster.local"));
    assert!(has("reviews") && has("ratings") && !has("details"));
}

#[test]
fn x21_a_service_is_seen_where_it_is_exported_to() {
    let yaml = reviews().replacen(
        "\"name\": \"reviews\",",
        "\"name\": \"reviews\", \"annotations\": {\"networking.istio.io/exportTo\": \"., b\"},",
        1,
    );
    let world = world(&yaml);
    let seen = |ns: &str| snapshot(&world, &sidecar_in(ns, json!({}))).routes.contains_key("9080");
    assert!(seen("default") && seen("b") && !seen("c"));
}

#[test]
fn explicit_proxy_has_all_ports_under_names_with_ports() {
    let yaml = reviews() + &service("web", 6, &[("http", 80), ("undeclared", 8080), ("tcp", 9)], &["v1"]);
    let scope =
        sidecar_in("default", json!({"INTERCEPTION_MODE": "NONE", "SLUICE_OUTBOUND_ADDRESS": "127.0.0.1:15080"}));
    let snapshot = snapshot(&world(&yaml), &scope);
    let listener = listener(&snapshot, "127.0.0.1_15080");
    assert!(listener.bind_to_port);
    assert_eq!(snapshot.listeners.len(), 1);
    assert!(!snapshot.routes["http_proxy"].ignore_port && snapshot.routes["9080"].ignore_port);
    let web = host(&snapshot, "http_proxy", "web.default.svc.cluster.local:80");
    assert!(web.domains.contains(&"web".to_owned()) && web.domains.contains(&"web:80".to_owned()));
    let detected = host(&snapshot, "http_proxy", "web.default.svc.cluster.local:8080");
    assert!(detected.domains.contains(&"web:8080".to_owned()) && !detected.domains.contains(&"web".to_owned()));
    assert!(!has_host(&snapshot, "http_proxy", "web.default.svc.cluster.local:9"));
    assert!(
        host(&snapshot, "http_proxy", "reviews.default.svc.cluster.local:9080")
            .domains
            .contains(&"10.96.0.1:9080".to_owned())
    );
}

#[test]
fn inbound_of_a_captured_pod_follows_its_services() {
    let yaml = service("web", 6, &[("http", 80), ("tcp", 9), ("grpc", 90), ("undeclared", 91)], &["v1"]);
    let snapshot = snapshot(&world(&yaml), &sidecar_of("web-v1", "10.0.6.1", json!({})));
    let inbound = listener(&snapshot, "virtualInbound");
    let ports: Vec<_> = inbound.chains.iter().filter_map(|chain| chain.matches.destination_port).collect();
    assert_eq!(ports, [15006, 9, 80, 90, 91, 91]);
    let chain = inbound.chains.iter().find(|chain| chain.matches.destination_port == Some(80)).unwrap();
    let Filter::Http(http) = &chain.filter else { panic!("not HTTP") };
    let RouteSource::Inline(table) = &http.routes else { panic!("not inline") };
    assert_eq!(&*table.virtual_hosts[0].name, "inbound|http|80");
    let cluster = &snapshot.clusters["inbound|80||"];
    assert_eq!(cluster.discovery, Discovery::OriginalDst);
    assert_eq!(cluster.source_address, Some("127.0.0.6".parse().unwrap()));
}

#[test]
fn a_pod_of_both_families_is_captured_in_both() {
    let yaml = service("web", 6, &[("http", 80)], &["v1"]);
    let of = |ips: &str| snapshot(&world(&yaml), &sidecar_of("web-v1", "10.0.6.1", json!({"INSTANCE_IPS": ips})));
    let dual = of("10.0.6.1,fd00::6");
    for (name, also) in [("virtualInbound", "[::]:15006"), ("virtualOutbound", "[::]:15001"), ("0.0.0.0_80", "[::]:80")]
    {
        assert_eq!(listener(&dual, name).also, also.parse().ok(), "{name}");
    }
    let far_side = |snapshot: &config::Snapshot, name: &str| {
        let cluster = &snapshot.clusters[name];
        (cluster.source_address, cluster.source_address_v6)
    };
    for name in ["inbound|80||", "InboundPassthroughCluster"] {
        assert_eq!(far_side(&dual, name), ("127.0.0.6".parse().ok(), "::6".parse().ok()));
        assert_eq!(far_side(&of("10.0.6.1"), name), ("127.0.0.6".parse().ok(), None));
    }
    assert!(of("10.0.6.1").listeners.values().all(|one| one.also.is_none()));
    let metadata = json!({"INSTANCE_IPS": "fd00::6"});
    let only_v6 = snapshot(&world(&yaml), &sidecar_of("web-v1", "fd00::6", metadata));
    assert_eq!(listener(&only_v6, "virtualInbound").address, "[::]:15006".parse().unwrap());
    assert_eq!(far_side(&only_v6, "InboundPassthroughCluster"), ("::6".parse().ok(), None));
}

#[test]
fn tr07_vs87_inbound_routes_retry_before_the_request_but_not_grpc() {
    let yaml = service("web", 6, &[("http", 80), ("grpc", 90)], &["v1"]);
    let snapshot = snapshot(&world(&yaml), &sidecar_of("web-v1", "10.0.6.1", json!({})));
    let retry = |port: u16| {
        let inbound = listener(&snapshot, "virtualInbound");
        let chain = inbound.chains.iter().find(|chain| chain.matches.destination_port == Some(port)).unwrap();
        let Filter::Http(http) = &chain.filter else { panic!("not HTTP") };
        let RouteSource::Inline(table) = &http.routes else { panic!("not inline") };
        match &table.virtual_hosts[0].routes[0].action {
            config::Action::Forward(forward) => {
                forward.retry.as_ref().map(|retry| (retry.num_retries, retry.retry_on.to_list()))
            }
            _ => panic!("answered"),
        }
    };
    assert_eq!(retry(80), Some((2, "reset-before-request".to_owned())));
    assert_eq!(retry(90), None);
}

#[test]
fn inbound_without_capture_binds_and_asks_the_application() {
    let yaml = service("web", 6, &[("http", 80)], &["v1"]);
    let scope = |more: serde_json::Value| {
        let mut metadata = json!({"INTERCEPTION_MODE": "NONE"});
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        sidecar_of("web-v1", "10.0.6.1", metadata)
    };
    let plain = snapshot(&world(&yaml), &scope(json!({})));
    assert!(listener(&plain, "10.0.6.1_80").bind_to_port);
    let app = |snapshot: &config::Snapshot| match &snapshot.clusters["inbound|80||"].discovery {
        Discovery::Static(endpoints) => addresses(endpoints),
        other => panic!("{other:?}"),
    };
    assert_eq!(app(&plain), ["127.0.0.1:80"]);
    let moved = snapshot(&world(&yaml), &scope(json!({"SLUICE_APP_IP": "10.0.6.9", "SLUICE_BIND_IP": "0.0.0.0"})));
    assert!(listener(&moved, "0.0.0.0_80").bind_to_port);
    assert_eq!(app(&moved), ["10.0.6.9:80"]);
}

#[test]
fn inbound_ports_by_name_come_from_the_pod() {
    let yaml = "---\n{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: named}]}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: web-1, labels: {app: web}}, spec: {containers: [{name: c, ports: [{name: named, containerPort: 8088}]}]}, status: {podIP: 10.0.0.1}}\n";
    let snapshot = snapshot(&world(yaml), &sidecar_of("web-1", "10.0.0.1", json!({})));
    assert!(snapshot.clusters.contains_key("inbound|8088||"));
}

fn entry(spec: &str) -> String {
    format!("---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: e}}, spec: {spec}}}\n")
}

#[test]
fn se06_static_entries_have_endpoints() {
    let yaml = entry(
        "{hosts: [db.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], resolution: STATIC, endpoints: [{address: 1.2.3.4}, {address: 1.2.3.5, ports: {http: 81}, weight: 3}]}",
    );
    let snapshot = snapshot(&world(&yaml), &sidecar());
    assert_eq!(addresses(&snapshot.endpoints["outbound|80||db.example.com"]), ["1.2.3.4:8080", "1.2.3.5:81"]);
    assert_eq!(host(&snapshot, "80", "db.example.com:80").domains, ["db.example.com", "db.example.com."]);
}

#[test]
fn se07_dns_entries_resolve_their_host_or_endpoints() {
    let ports = "ports: [{number: 443, name: x, protocol: TLS}]";
    let own = entry(&format!("{{hosts: [a.example.com], {ports}, resolution: DNS}}"));
    let found =
        |yaml: &str| snapshot(&world(yaml), &sidecar()).clusters["outbound|443||a.example.com"].discovery.clone();
    let Discovery::StrictDns(endpoints) = found(&own) else { panic!("not DNS") };
    assert_eq!(addresses(&endpoints), ["a.example.com:443"]);
    let other = entry(&format!(
        "{{hosts: [a.example.com], {ports}, resolution: DNS_ROUND_ROBIN, endpoints: [{{address: b.example.com}}]}}"
    ));
    let Discovery::LogicalDns(endpoints) = found(&other) else { panic!("not logical DNS") };
    assert_eq!(addresses(&endpoints), ["b.example.com:443"]);
}

#[test]
fn se05_none_follows_the_dialled_address() {
    let yaml =
        entry("{hosts: [\"*.example.com\"], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}");
    let snapshot = snapshot(&world(&yaml), &sidecar());
    assert_eq!(snapshot.clusters["outbound|80||*.example.com"].discovery, Discovery::OriginalDst);
    assert_eq!(host(&snapshot, "80", "*.example.com:80").domains, ["*.example.com"]);
}

#[test]
fn se11_a_selector_takes_pods_and_workload_entries() {
    let yaml = reviews()
        + "---\n{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: vm}, spec: {address: 10.7.0.1, labels: {app: reviews}}}\n"
        + &entry(
            "{hosts: [vm.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9080}], resolution: STATIC, workloadSelector: {labels: {app: reviews}}}",
        );
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let expected = ["10.0.1.1:9080", "10.0.1.2:9080", "10.7.0.1:9080"];
    assert_eq!(addresses(&snapshot.endpoints["outbound|80||vm.example.com"]), expected);
    // A Service's selector takes WorkloadEntries too (WE06).
    assert_eq!(addresses(&snapshot.endpoints["outbound|9080||reviews.default.svc.cluster.local"]), expected);
}

#[test]
fn se15_a_kubernetes_service_beats_an_entry_of_the_same_host() {
    let yaml = reviews() + &entry("{hosts: [reviews.default.svc.cluster.local], ports: [{number: 9080, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 1.2.3.4}]}").replace("name: e", "name: a, creationTimestamp: \"1999-01-01T00:00:00Z\"");
    let world = world(&yaml);
    let found = snapshot(&world, &sidecar());
    assert_eq!(
        addresses(&found.endpoints["outbound|9080||reviews.default.svc.cluster.local"]),
        ["10.0.1.1:9080", "10.0.1.2:9080"]
    );
    assert_eq!(findings(&world), ["SLU0104 ServiceEntry default/a spec.hosts"]);
}

#[test]
fn tr85_health_of_endpoints_is_sent() {
    let yaml = reviews().replacen("\"ready\": true", "\"ready\": false", 1);
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let endpoints = &snapshot.endpoints["outbound|9080||reviews.default.svc.cluster.local"];
    let health: Vec<_> = endpoints.iter().map(|one| one.health).collect();
    assert_eq!(health, [config::Health::Unhealthy, config::Health::Healthy]);
}

#[test]
fn endpoints_know_their_workload() {
    let snapshot = snapshot(&world(&reviews()), &sidecar());
    let endpoints = &snapshot.endpoints["outbound|9080||reviews.default.svc.cluster.local"];
    let workload = endpoints.iter().next().unwrap().workload.as_ref().unwrap();
    assert_eq!(
        (workload.name.as_str(), workload.canonical_name.as_str(), workload.canonical_revision.as_str()),
        ("reviews-v1", "reviews", "v1")
    );
    assert_eq!((workload.namespace.as_str(), workload.cluster_id.as_str()), ("default", "Kubernetes"));
}

#[test]
fn dr34_tcp_idle_timeout_bounds_silence_and_zero_is_never() {
    let yaml = service("db", 5, &[("tcp", 3306)], &["v1"]);
    let idle = |written: &str| {
        let rule = format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: r}}, spec: {{host: db, trafficPolicy: {{connectionPool: {{tcp: {{idleTimeout: {written}}}}}}}}}}}\n"
        );
        let snapshot = snapshot(&world(&(yaml.clone() + &rule)), &sidecar());
        match &listener(&snapshot, "10.96.0.5_3306").default_chain.as_ref().unwrap().filter {
            Filter::Tcp(tcp) => tcp.idle_timeout.unwrap(),
            Filter::Http(_) => panic!("not TCP"),
        }
    };
    assert_eq!(idle("5s"), std::time::Duration::from_secs(5));
    assert!(idle("0s") > std::time::Duration::from_secs(3600 * 24 * 365));
}

#[test]
fn tr29_tables_are_per_port() {
    let yaml = reviews() + &service("web", 6, &[("http", 80)], &["v1"]);
    let snapshot = snapshot(&world(&yaml), &sidecar());
    assert!(has_host(&snapshot, "80", "web.default.svc.cluster.local:80"));
    assert!(!has_host(&snapshot, "80", "reviews.default.svc.cluster.local:9080"));
    assert!(!has_host(&snapshot, "9080", "web.default.svc.cluster.local:80"));
}

#[test]
fn x31_the_own_namespaces_service_is_meant_else_the_oldest() {
    let of = |ns: &str, created: u16, address: &str| {
        entry(&format!("{{hosts: [a.com], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: {address}}}]}}"))
            .replace("name: e", &format!("name: e, namespace: {ns}, creationTimestamp: \"{created}-01-01T00:00:00Z\""))
    };
    let world = world(&(of("newer", 2025, "1.1.1.1") + &of("older", 2024, "2.2.2.2")));
    let seen = |ns: &str| addresses(&snapshot(&world, &sidecar_in(ns, json!({}))).endpoints["outbound|80||a.com"]);
    assert_eq!(seen("newer"), ["1.1.1.1:80"]);
    assert_eq!(seen("default"), ["2.2.2.2:80"]);
}

#[test]
fn dr80_local_services_stay_on_the_clients_node() {
    let yaml = service("web", 6, &[("http", 80)], &["v1", "v2"])
        .replace("\"clusterIP\"", "\"internalTrafficPolicy\": \"Local\", \"clusterIP\"")
        .replacen("\"addresses\"", "\"nodeName\": \"n1\", \"addresses\"", 1);
    let world = world(&yaml);
    let seen = |node: &str| {
        let scope = sidecar_in("default", json!({"NODE_NAME": node}));
        addresses(&snapshot(&world, &scope).endpoints["outbound|80||web.default.svc.cluster.local"])
    };
    assert_eq!(seen("n1"), ["10.0.6.1:80"]);
    assert_eq!(seen("n2"), Vec::<String>::new());
}

#[test]
fn x44_the_older_tcp_service_keeps_a_shared_port_and_the_other_is_told() {
    let of = |name: &str, host: &str| {
        entry(&format!("{{hosts: [{host}], ports: [{{number: 5432, name: tcp, protocol: TCP}}], resolution: STATIC, endpoints: [{{address: 1.1.1.1}}]}}"))
            .replace("name: e", &format!("name: {name}"))
    };
    let compiled = compile(&world(&(of("a", "a.com") + &of("b", "b.com"))), &sidecar());
    let told: Vec<String> = compiled.layers[0].diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "Warning [SLU0103] (ServiceEntry default/b) spec.ports: port 5432 is carried for ServiceEntry default/a, which is older; TCP connections go there"
        ]
    );
}

#[test]
fn http_and_tcp_on_one_port_share_a_listener() {
    let yaml = reviews()
        + &entry("{hosts: [tcp.example.com], ports: [{number: 9080, name: tcp, protocol: TCP}], resolution: DNS}");
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let shared = listener(&snapshot, "0.0.0.0_9080");
    assert!(matches!(shared.chains[0].filter, Filter::Http(_)));
    let rest = shared.default_chain.as_ref().unwrap();
    assert!(
        matches!(&rest.filter, Filter::Tcp(tcp) if tcp.cluster.names().any(|name| &**name == "outbound|9080||tcp.example.com"))
    );
}

#[test]
fn tcp_ranges_are_chains_of_the_shared_listener() {
    let yaml = entry(
        "{hosts: [net.example.com], addresses: [10.5.0.0/16], ports: [{number: 9, name: tcp, protocol: TCP}], resolution: NONE}",
    );
    let snapshot = snapshot(&world(&yaml), &sidecar());
    let chain = &listener(&snapshot, "0.0.0.0_9").chains[0];
    assert_eq!(chain.matches.destination_ranges, [config::Cidr::parse("10.5.0.0/16").unwrap()]);
}
