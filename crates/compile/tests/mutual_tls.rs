//! Mutual TLS of proxies that have identities: what captured sidecars take in, and what clusters follow.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use config::{Listener, Snapshot};
use serde_json::{Value, json};
use support::*;

fn metadata() -> Value {
    json!({"LABELS": {"app": "reviews", "version": "v1"}, "SLUICE_IDENTITY": "true"})
}

fn inbound(yaml: &str) -> Snapshot {
    let world = world(&(service("reviews", 1, &[("http", 9080), ("tcp", 9000)], &["v1"]) + "\n---\n" + yaml));
    snapshot(&world, &sidecar_of("reviews-v1", "10.0.1.1", metadata()))
}

fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Port, whether TLS is opened, and what it does, for every chain but the guard's.
fn taken(listener: &Listener) -> Vec<String> {
    let chains = listener.all_chains().filter(|chain| !chain.name.ends_with("blackhole"));
    chains
        .map(|chain| {
            let port = chain.matches.destination_port.map(|port| port.to_string()).unwrap_or("*".into());
            let how = if chain.tls.is_some() { "mtls" } else { "open" };
            let what = match &chain.filter {
                config::Filter::Http(_) => "http",
                config::Filter::Tcp(_) => "tcp",
            };
            format!("{port} {how} {what}")
        })
        .collect()
}

fn virtual_inbound(yaml: &str) -> Vec<String> {
    let snapshot = inbound(yaml);
    let listener = &snapshot.listeners["virtualInbound"];
    // Whatever a strict port does not take must not end there.
    assert!(listener.default_chain.is_none());
    taken(listener)
}

#[test]
fn pa06_ports_of_no_service_take_what_the_workload_takes() {
    let rest = |mode: &str| {
        let all = virtual_inbound(&policy("a", &format!("{{mtls: {{mode: {mode}}}}}")));
        all.into_iter().filter(|one| one.starts_with('*')).collect::<Vec<_>>()
    };
    assert_eq!(rest("STRICT"), ["* mtls http", "* mtls tcp"]);
    assert_eq!(rest("DISABLE"), ["* open http", "* open tcp"]);
    assert_eq!(rest("PERMISSIVE"), ["* mtls http", "* open http", "* mtls tcp", "* open tcp", "* open tcp"]);
}

#[test]
fn pa06_a_port_of_no_service_may_be_named() {
    let spec = "{selector: {matchLabels: {app: reviews}}, mtls: {mode: STRICT}, portLevelMtls: {7000: {mode: DISABLE}, 9000: {mode: DISABLE}}}";
    let found = virtual_inbound(&policy("a", spec));
    let expected = ["9000 open tcp", "9080 mtls http", "7000 open http", "7000 open tcp", "* mtls http", "* mtls tcp"];
    assert_eq!(found, expected);
}

#[test]
fn pa05_a_proxy_without_identity_takes_plaintext_whatever_is_said() {
    let yaml = service("reviews", 1, &[("http", 9080)], &["v1"]) + "\n---\n" + &policy("a", "{mtls: {mode: STRICT}}");
    let scope = sidecar_of("reviews-v1", "10.0.1.1", json!({"LABELS": {"app": "reviews"}}));
    let snapshot = snapshot(&world(&yaml), &scope);
    assert_eq!(taken(&snapshot.listeners["virtualInbound"]), ["9080 open http", "* open http", "* open tcp"]);
}

fn client() -> compile::Scope {
    sidecar_in("default", json!({"LABELS": {"app": "client"}, "SLUICE_IDENTITY": true}))
}

fn pod(name: &str, ip: &str, account: &str, mode: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: db, security.istio.io/tlsMode: {mode}}}}}\n\
         spec: {{serviceAccountName: {account}}}\nstatus: {{phase: Running, podIP: {ip}}}\n"
    )
}

const HEADLESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 3306}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: db-x, labels: {kubernetes.io/service-name: db}}
ports: [{name: tcp, port: 3306}]
endpoints:
- {addresses: [10.0.7.1], targetRef: {kind: Pod, name: db-0}}
- {addresses: [10.0.7.2], targetRef: {kind: Pod, name: db-1}}
";

#[test]
fn se31_a_headless_service_has_mutual_tls_only_when_all_pods_take_it() {
    let tls = |second: &str| {
        let yaml =
            format!("{HEADLESS}{}{}", pod("db-0", "10.0.7.1", "db", "istio"), pod("db-1", "10.0.7.2", "other", second));
        let snapshot = snapshot(&world(&yaml), &client());
        snapshot.clusters["outbound|3306||db.default.svc.cluster.local"].tls.clone()
    };
    assert_eq!(tls("disabled"), None);
    let all = tls("istio").unwrap();
    assert!(!all.marked_only);
    let names = ["spiffe://cluster.local/ns/default/sa/db", "spiffe://cluster.local/ns/default/sa/other"];
    assert_eq!(all.validation.unwrap().names, names);
    assert_eq!(all.alpn, ["istio"]);
}

#[test]
fn pa04_a_new_account_is_in_the_cluster_at_once() {
    let mut world = world(&format!("{HEADLESS}{}", pod("db-0", "10.0.7.1", "db", "istio")));
    let mut compiler = compile::Compiler::default();
    let names = |compiler: &mut compile::Compiler, world: &compile::World| {
        let snapshot = compiler.compile(world, &gateway_with_identity()).snapshot();
        let tls = snapshot.clusters["outbound|3306||db.default.svc.cluster.local"].tls.clone().unwrap();
        tls.validation.unwrap().names.len()
    };
    assert_eq!(names(&mut compiler, &world), 1);
    for object in objects(&pod("db-1", "10.0.7.2", "other", "istio")) {
        world.apply(api::Change::Upsert(object));
    }
    assert_eq!(names(&mut compiler, &world), 2);
}

fn gateway_with_identity() -> compile::Scope {
    let metadata = json!({"LABELS": {"istio": "ingressgateway"}, "SLUICE_IDENTITY": true});
    compile::Scope::parse("router~10.9.0.2~gw.istio-system~istio-system.svc.cluster.local", &metadata).unwrap()
}
