//! Applying changes one at a time gives what the final world gives from nothing; compile is total; what did not change is the
//! same `Arc`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Change, Object, ObjectKey};
use compile::{Compiler, Dirty, MeshConfig, Scope, World};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::*;

/// Objects by key, each in several versions.
fn pool() -> Vec<Vec<Arc<Object>>> {
    let istio = |kind: &str, ns: &str, name: &str, specs: &[Value]| -> Vec<Value> {
        let object = |spec: &Value| {
            json!({"apiVersion": "networking.istio.io/v1", "kind": kind,
                "metadata": {"name": name, "namespace": ns}, "spec": spec})
        };
        specs.iter().map(object).collect()
    };
    let rule = |subset: &str| json!({"destination": {"host": "a", "subset": subset}, "weight": 1});
    let mut pool = vec![
        istio(
            "VirtualService",
            "default",
            "a",
            &[
                json!({"hosts": ["a"], "http": [{"route": [rule("v1")]}]}),
                json!({"hosts": ["a", "x.com"], "exportTo": ["."], "http": [{"route": [rule("v1"), rule("v2")]}]}),
                json!({"hosts": ["*.local"], "http": [{"match": [{"sourceLabels": {"app": "client"}}], "route": [rule("v2")]}]}),
            ],
        ),
        istio(
            "VirtualService",
            "other",
            "a",
            &[
                json!({"hosts": ["a.default.svc.cluster.local"], "gateways": ["mesh", "default/edge"],
                "http": [{"route": [{"destination": {"host": "b.default.svc.cluster.local"}}]}]}),
                json!({"hosts": ["c.com"], "gateways": ["default/edge"], "http": [{"route": [{"destination": {"host": "ext.com"}}]}]}),
            ],
        ),
        istio(
            "DestinationRule",
            "default",
            "a",
            &[
                json!({"host": "a", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
                json!({"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}},
                "subsets": [{"name": "v1", "labels": {"version": "v2"}}, {"name": "v2", "labels": {"version": "v2"}}]}),
            ],
        ),
        istio(
            "DestinationRule",
            "other",
            "wide",
            &[
                json!({"host": "*.local", "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}}),
                json!({"host": "*.local", "workloadSelector": {"matchLabels": {"app": "client"}},
                "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 3}}}}),
            ],
        ),
        istio(
            "Gateway",
            "default",
            "edge",
            &[
                json!({"selector": {"istio": "ingressgateway"}, "servers": [{"port": {"number": 80, "name": "h", "protocol": "HTTP"}, "hosts": ["*"]}]}),
                json!({"servers": [{"port": {"number": 81, "name": "h", "protocol": "HTTP"}, "hosts": ["c.com"]}]}),
            ],
        ),
        istio(
            "Sidecar",
            "other",
            "s",
            &[
                json!({"egress": [{"hosts": ["default/*"]}]}),
                json!({"workloadSelector": {"labels": {"app": "client"}}, "outboundTrafficPolicy": {}}),
                json!({"egress": [
                    {"port": {"number": 9080, "name": "http", "protocol": "HTTP"}, "captureMode": "NONE", "hosts": ["*/a.default.svc.cluster.local"]},
                    {"port": {"number": 3128, "name": "p", "protocol": "HTTP_PROXY"}, "hosts": ["*/*", "~default/b.default.svc.cluster.local"]},
                    {"hosts": ["*/*.com"]}],
                    "ingress": [{"port": {"number": 7070, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:8080"}],
                    "outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "b.default.svc.cluster.local", "port": {"number": 9080}}}}),
            ],
        ),
        istio(
            "ServiceEntry",
            "default",
            "ext",
            &[
                json!({"hosts": ["ext.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"}),
                json!({"hosts": ["ext.com", "a.default.svc.cluster.local"], "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC", "workloadSelector": {"labels": {"app": "a"}}}),
                json!({"hosts": ["*.ext.com"], "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}, {"number": 443, "name": "tls", "protocol": "TLS"}],
                "resolution": "DYNAMIC_DNS"}),
            ],
        ),
        istio(
            "ServiceEntry",
            "other",
            "named",
            &[
                json!({"hosts": ["ext.com", "db.com"], "ports": [{"number": 90, "name": "tcp", "protocol": "TCP"}], "resolution": "DNS",
                "workloadSelector": {"labels": {"app": "vm"}}}),
                json!({"hosts": ["db.com"], "ports": [{"number": 90, "name": "x", "targetPort": 91}], "resolution": "NONE", "exportTo": ["."]}),
            ],
        ),
        istio(
            "WorkloadEntry",
            "other",
            "vm",
            &[
                json!({"address": "vm.machines.example", "labels": {"app": "vm"}}),
                json!({"address": "unix:///run/vm.sock", "labels": {"app": "vm"}}),
            ],
        ),
        istio(
            "WorkloadEntry",
            "default",
            "vm",
            &[
                json!({"address": "10.7.0.1", "labels": {"app": "a", "version": "v1"}, "locality": "r/z"}),
                json!({"address": "10.7.0.2", "labels": {"app": "a"}, "weight": 3}),
            ],
        ),
    ];
    for (name, index) in [("a", 1u8), ("b", 2)] {
        let first = objects(&service(name, index, &[("http", 9080), ("tcp", 90)], &["v1", "v2"]));
        let second = objects(&service(name, index, &[("web", 9080)], &["v2"]).replace("10.96.0.2", "None"));
        let third = objects(
            &service(name, index, &[("http", 80)], &["v2"]).replace("\"version\": \"v2\"", "\"version\": \"v1\""),
        );
        let mut by_key: BTreeMap<ObjectKey, Vec<Arc<Object>>> = BTreeMap::new();
        for object in first.into_iter().chain(second).chain(third) {
            by_key.entry(object.key()).or_default().push(object);
        }
        pool.extend(by_key.into_values().map(|versions| versions.iter().map(stored).collect::<Vec<_>>()));
    }
    pool.push(vec![
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"topology.kubernetes.io/region": "r"}}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}),
    ]);
    pool.into_iter().map(|versions| versions.into_iter().filter_map(read).collect()).collect()
}

// Objects that are typed already go through as they are.
fn stored(object: &Arc<Object>) -> Value {
    let mut value = serde_json::to_value(&**object).unwrap();
    let api_version = match object.kind().group() {
        "" => object.kind().versions()[0].to_owned(),
        group => format!("{group}/{}", object.kind().versions()[0]),
    };
    value["apiVersion"] = json!(api_version);
    // A narrowed Kubernetes object is serialized under `spec` as a whole.
    let inner = value["spec"].take();
    for (key, part) in inner.as_object().unwrap() {
        value[key] = part.clone();
    }
    value
}

fn read(value: Value) -> Option<Arc<Object>> {
    Object::from_json(value).ok().flatten().map(Arc::new)
}

fn scopes() -> Vec<Scope> {
    let no_capture =
        json!({"INTERCEPTION_MODE": "NONE", "SLUICE_OUTBOUND_ADDRESS": "127.0.0.1:15080", "LABELS": {"app": "client"}});
    let dns = json!({"DNS_CAPTURE": "true", "LABELS": {"app": "client"}});
    let bare = json!({"INTERCEPTION_MODE": "NONE", "LABELS": {"app": "client"}});
    vec![
        sidecar(),
        sidecar_in("other", no_capture),
        sidecar_in("other", dns),
        sidecar_in("other", bare),
        sidecar_of("a-v1", "10.0.1.1", json!({})),
        gateway(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_at_a_time_equals_from_nothing(steps in prop::collection::vec((0usize..40, 0usize..4), 1..60)) {
        let pool = pool();
        let scopes = scopes();
        let (mut world, mut compiler) = (World::new(MeshConfig::default()), Compiler::default());
        let mut present: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for (which, version) in steps {
            let versions = &pool[which % pool.len()];
            match versions.get(version) {
                Some(object) => {
                    world.apply(Change::Upsert(object.clone()));
                    present.insert(object.key(), object.clone());
                }
                None => {
                    world.apply(Change::Delete(versions[0].key()));
                    present.remove(&versions[0].key());
                }
            }
            let mut fresh = World::new(MeshConfig::default());
            for object in present.values().rev() {
                fresh.apply(Change::Upsert(object.clone()));
            }
            for scope in &scopes {
                let ours = compiler.compile(&world, scope);
                let theirs = Compiler::default().compile(&fresh, scope);
                prop_assert_eq!(config::render(&ours.snapshot()), config::render(&theirs.snapshot()));
                prop_assert_eq!(ours.snapshot(), theirs.snapshot());
                prop_assert_eq!(config::check(&ours.snapshot()), Vec::new());
            }
            prop_assert_eq!(compiler.diagnostics(&world), compiler.diagnostics(&fresh));
        }
    }
}

const NASTY: &[&str] = &[
    "",
    "*",
    "*.",
    ".",
    "/",
    "~/*",
    "./*",
    "*/*",
    "a/b/c",
    "unix://",
    "unix://x",
    "mesh",
    "é.com",
    "a",
    "A.B",
    "*.*",
    "1.2.3.4",
    "::1",
    "10.0.0.0/33",
    "0.0.0.0/0",
    "0s",
    "-1s",
    "(",
    "[::1]:80",
    "a b",
    "\u{0}",
    "localhost",
    "65536",
    "http",
    "HTTP",
    "TLS",
    "a.default.svc.cluster.local",
    "@request.auth.claims.x",
    "None",
    "named",
    "ALLOW_ANY",
    "STATIC",
    "DNS",
    "NONE",
    "DNS_ROUND_ROBIN",
];

fn nasty() -> impl Strategy<Value = String> {
    prop::sample::select(NASTY).prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = u64> {
    prop::sample::select(&[0u64, 1, 80, 9080, 15001, 15006, 65535, 65536, 4_294_967_295][..])
}

fn nasty_object() -> impl Strategy<Value = Value> {
    let texts = prop::collection::vec(nasty(), 8);
    let numbers = prop::collection::vec(number(), 4);
    (0usize..9, texts, numbers).prop_map(|(kind, t, n)| {
        let istio = |kind: &str, spec: Value| {
            json!({"apiVersion": "networking.istio.io/v1", "kind": kind,
                "metadata": {"name": t[0].clone() + "x", "namespace": "default"}, "spec": spec})
        };
        let destination = json!({"host": t[1], "subset": t[2], "port": {"number": n[0]}});
        match kind {
            0 => istio("VirtualService", json!({"hosts": [t[3], t[4]], "gateways": [t[5], "mesh"], "exportTo": [t[6]], "http": [
                {"match": [{"uri": {"regex": t[3]}, "port": n[1], "headers": {t[4].clone(): {"prefix": t[5]}}, "queryParams": {t[6].clone(): {}}}],
                    "route": [{"destination": destination.clone(), "weight": 1}], "timeout": t[7]},
                {"route": [{"destination": destination, "weight": n[2] as u32 as i32}, {"destination": {"host": t[4]}, "weight": 1}],
                    "retries": {"attempts": 1, "retryOn": t[7], "perTryTimeout": t[6]}},
                {"directResponse": {"status": n[3]}}]})),
            1 => istio("DestinationRule", json!({"host": t[1], "exportTo": [t[2]], "subsets": [{"name": t[3], "labels": {t[4].clone(): t[5]}}],
                "trafficPolicy": {"portLevelSettings": [{"port": {"number": n[0]}}], "connectionPool": {"tcp": {"connectTimeout": t[6], "idleTimeout": t[7]}}}})),
            2 => istio("Gateway", json!({"selector": {}, "servers": [{"port": {"number": n[0], "name": t[1], "protocol": t[2]}, "bind": t[3], "hosts": [t[4], t[5]]},
                {"port": {"number": n[1], "name": "h", "protocol": "HTTP"}, "bind": t[6], "hosts": [t[5]]}]})),
            3 => istio("ServiceEntry", json!({"hosts": [t[1], t[2]], "addresses": [t[3]], "ports": [{"number": n[0], "name": t[4], "protocol": t[5], "targetPort": n[1]}],
                "endpoints": [{"address": t[6], "ports": {t[4].clone(): n[2]}, "locality": t[7]}], "resolution": "STATIC"})),
            4 => istio("ServiceEntry", json!({"hosts": [t[1], t[2]], "addresses": [t[3]], "ports": [{"number": n[0], "name": t[4], "protocol": t[5]}],
                "endpoints": [{"address": t[6]}], "resolution": "DNS"})),
            5 => istio("Sidecar", json!({"egress": [{"hosts": [t[1], t[2]]}], "workloadSelector": {"labels": {t[3].clone(): t[4]}}})),
            6 => json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default", "annotations": {"networking.istio.io/exportTo": t[1]}},
                "spec": {"clusterIP": t[2], "selector": {"app": "client"}, "ports": [{"port": n[0], "name": t[3], "targetPort": t[4]}, {"port": n[1], "appProtocol": t[5], "targetPort": n[2]}]}}),
            7 => json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": t[1].clone() + "s", "namespace": "default"},
                "spec": {"type": "ExternalName", "externalName": t[2], "ports": [{"port": n[0], "name": t[3]}]}}),
            _ => json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": t[1].clone() + "e", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "a"}}, "endpoints": [{"addresses": [t[2], t[3]], "conditions": {}}, {"addresses": ["10.0.0.1"]}],
                "ports": [{"name": t[4], "port": n[0]}]}),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compile_is_total_and_what_it_makes_passes_the_check(all in prop::collection::vec(nasty_object(), 1..12)) {
        let (mut world, mut compiler) = (World::new(MeshConfig::default()), Compiler::default());
        for object in all.into_iter().filter_map(read) {
            world.apply(Change::Upsert(object));
        }
        for scope in scopes() {
            let snapshot = compiler.compile(&world, &scope).snapshot();
            prop_assert_eq!(config::check(&snapshot), Vec::new());
        }
        let _ = compiler.diagnostics(&world);
    }
}

#[test]
fn unread_edits_leave_no_trace() {
    let mut world = world(&reviews());
    let mut compiler = Compiler::default();
    let before = compiler.compile(&world, &sidecar());
    for object in objects(&reviews()) {
        let mut edited = (*object).clone();
        let metadata = edited.metadata_mut();
        metadata.resource_version = "77".into();
        metadata.generation = 5;
        metadata.annotations.insert("example.com/note".into(), "x".into());
        if object.kind() != api::Kind::Pod {
            metadata.labels.insert("example.com/note".into(), "x".into());
        }
        assert_eq!(world.apply(Change::Upsert(Arc::new(edited))), Dirty::None, "{}", object.key());
    }
    let after = compiler.compile(&world, &sidecar());
    assert!(before.layers.iter().zip(&after.layers).all(|(a, b)| Arc::ptr_eq(a, b)));
}

#[test]
fn an_edit_keeps_what_it_does_not_touch() {
    let yaml = reviews() + &service("ratings", 2, &[("http", 9080)], &["v1"]);
    let mut world = world(&yaml);
    let mut compiler = Compiler::default();
    let before = compiler.compile(&world, &sidecar()).snapshot();
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r}\nspec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v2}}]}]}";
    for object in objects(rule) {
        assert_eq!(world.apply(Change::Upsert(object)), Dirty::Config);
    }
    let after = compiler.compile(&world, &sidecar()).snapshot();
    let same = |a: &config::Snapshot, b: &config::Snapshot, table: &str| {
        let hosts = |one: &config::Snapshot| one.routes[table].virtual_hosts.clone();
        hosts(a).iter().zip(&hosts(b)).filter(|(a, b)| Arc::ptr_eq(a, b)).count()
    };
    assert_eq!(same(&before, &after, "9080"), 2, "ratings and allow_any stay, reviews is new");
    assert!(before.clusters.iter().all(|(name, one)| Arc::ptr_eq(one, &after.clusters[name])));
    assert!(before.listeners.iter().all(|(name, one)| Arc::ptr_eq(one, &after.listeners[name])));
}

#[test]
fn an_endpoint_change_touches_endpoints_only() {
    let mut world = world(&reviews());
    let mut compiler = Compiler::default();
    let before = compiler.compile(&world, &sidecar()).snapshot();
    let slices = objects(&reviews().replacen("\"ready\": true", "\"ready\": false", 1));
    let slice = slices.into_iter().find(|object| object.kind() == api::Kind::EndpointSlice).unwrap();
    let hosts = [Arc::from("reviews.default.svc.cluster.local")].into();
    assert_eq!(world.apply(Change::Upsert(slice)), Dirty::Endpoints { hosts });
    let after = compiler.compile(&world, &sidecar()).snapshot();
    assert!(before.routes.iter().all(|(name, one)| Arc::ptr_eq(one, &after.routes[name])));
    assert!(before.clusters.iter().all(|(name, one)| Arc::ptr_eq(one, &after.clusters[name])));
    let changed: Vec<_> = before
        .endpoints
        .iter()
        .filter(|(name, one)| !Arc::ptr_eq(one, &after.endpoints[*name]))
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(
        changed,
        ["outbound|9080|v1|reviews.default.svc.cluster.local", "outbound|9080||reviews.default.svc.cluster.local"]
    );
}

#[test]
fn proxies_of_one_class_share_their_layer() {
    let world = world(&reviews());
    let mut compiler = Compiler::default();
    let scope =
        |name: &str, ip: &str| sidecar_of(name, ip, json!({"LABELS": {"app": name, "pod-template-hash": name}}));
    let a = compiler.compile(&world, &scope("a", "10.1.0.1"));
    let b = compiler.compile(&world, &scope("b", "10.1.0.2"));
    assert!(Arc::ptr_eq(&a.layers[0], &b.layers[0]));
    assert!(!Arc::ptr_eq(&a.layers[1], &b.layers[1]));
    let other = compiler.compile(&world, &sidecar_in("other", json!({})));
    assert!(!Arc::ptr_eq(&a.layers[0], &other.layers[0]));
    let (ours, theirs) = (&a.layers[0].snapshot, &other.layers[0].snapshot);
    assert!(ours.clusters.iter().all(|(name, one)| Arc::ptr_eq(one, &theirs.clusters[name])));
}

#[test]
fn an_endpoint_waits_for_its_pod() {
    let all = objects(&reviews());
    let is_it = |object: &Arc<Object>| object.kind() == api::Kind::Pod && &*object.metadata().name == "reviews-v1";
    let pod = all.iter().find(|object| is_it(object)).unwrap().clone();
    let (mut world, mut compiler) = (World::new(MeshConfig::default()), Compiler::default());
    all.into_iter().filter(|object| !is_it(object)).for_each(|object| _ = world.apply(Change::Upsert(object)));
    let mut addresses = |world: &World| {
        let snapshot = compiler.compile(world, &sidecar()).snapshot();
        format!("{:?}", snapshot.endpoints["outbound|9080||reviews.default.svc.cluster.local"])
    };
    // Whether it takes mutual TLS is not known: plaintext would be a guess.
    let before = addresses(&world);
    assert!(!before.contains("10.0.1.1:") && before.contains("10.0.1.2:"), "{before}");
    let hosts = [Arc::from("reviews.default.svc.cluster.local")].into();
    assert_eq!(world.apply(Change::Upsert(pod.clone())), Dirty::Endpoints { hosts });
    assert!(addresses(&world).contains("10.0.1.1:"));
    world.apply(Change::Delete(pod.key()));
    assert_eq!(addresses(&world), before);
}

#[test]
fn labels_of_the_pod_beat_what_its_proxy_said_when_it_started() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r}\nspec: {hosts: [reviews], \
                http: [{match: [{sourceLabels: {version: canary}}], directResponse: {status: 418}}, {route: [{destination: {host: reviews}}]}]}";
    let mut world = world(&(reviews() + "---\n" + rule));
    let mut compiler = Compiler::default();
    let scope = sidecar_of("reviews-v1", "10.0.1.1", json!({"LABELS": {"app": "reviews", "version": "canary"}}));
    let mut is_canary = |world: &World| config::render(&compiler.compile(world, &scope).snapshot()).contains("418");
    assert!(!is_canary(&world));
    let pods = objects(&reviews().replace("\"version\": \"v1\"", "\"version\": \"canary\""));
    let pod = pods.into_iter().find(|object| object.kind() == api::Kind::Pod).unwrap();
    assert_ne!(world.apply(Change::Upsert(pod.clone())), Dirty::None);
    assert!(is_canary(&world));
    // Without its pod there is only its word.
    world.apply(Change::Delete(pod.key()));
    assert!(is_canary(&world));
}
