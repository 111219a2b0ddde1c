//! A world from YAML as users write it, and questions about what is compiled.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::sync::Arc;

use api::{Change, Object};
use compile::{Compiled, Compiler, MeshConfig, Scope, World};
use config::{Action, ClusterChoice, Endpoints, Listener, Route, Snapshot, VirtualHost};
use serde_json::{Value, json};

/// A Service with one ready pod per version, as its YAML. `10.0.<index>.<n>` are the pods, `10.96.0.<index>` is the VIP.
pub fn service(name: &str, index: u8, ports: &[(&str, u16)], versions: &[&str]) -> String {
    service_in("default", name, index, ports, versions)
}

pub fn service_in(ns: &str, name: &str, index: u8, ports: &[(&str, u16)], versions: &[&str]) -> String {
    let listed: Vec<Value> =
        ports.iter().map(|(name, port)| json!({"name": name, "port": port, "targetPort": port})).collect();
    let slice: Vec<Value> = ports.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns},
        "spec": {"clusterIP": format!("10.96.0.{index}"), "selector": {"app": name}, "ports": listed}
    })];
    let mut endpoints = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let pod = format!("{name}-{version}");
        let ip = format!("10.0.{index}.{}", at + 1);
        endpoints.push(json!({"addresses": [ip], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod, "namespace": ns}}));
        objects.push(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": ns, "labels": {"app": name, "version": version}},
            "status": {"phase": "Running", "podIP": ip}}));
    }
    objects.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{name}-x"), "namespace": ns, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": endpoints, "ports": slice}));
    objects.iter().map(|object| format!("---\n{object:#}\n")).collect()
}

/// The reviews of every example.
pub fn reviews() -> String {
    service("reviews", 1, &[("http", 9080)], &["v1", "v2"])
        + "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"
}

pub fn objects(yaml: &str) -> Vec<Arc<Object>> {
    let read = api::parse_yaml(yaml, "test.yaml").into_iter();
    read.filter_map(|one| one.unwrap_or_else(|error| panic!("{error:?}")).object).map(Arc::new).collect()
}

pub fn world(yaml: &str) -> World {
    world_with(MeshConfig::default(), yaml)
}

/// Applies an object that an API server has, without the strict reader's checks.
pub fn apply_stored(world: &mut World, object: Value) {
    let object = Object::from_json(object).unwrap().unwrap();
    world.apply(Change::Upsert(Arc::new(object)));
}

pub fn world_with(mesh: MeshConfig, yaml: &str) -> World {
    let mut world = World::new(mesh);
    for object in objects(yaml) {
        world.apply(Change::Upsert(object));
    }
    world
}

/// A captured sidecar in namespace `default`.
pub fn sidecar() -> Scope {
    sidecar_in("default", json!({"LABELS": {"app": "client"}}))
}

pub fn sidecar_in(ns: &str, metadata: Value) -> Scope {
    Scope::parse(&format!("sidecar~10.9.0.1~client.{ns}~{ns}.svc.cluster.local"), &metadata).unwrap()
}

/// A sidecar of a pod that `service` made.
pub fn sidecar_of(pod: &str, ip: &str, metadata: Value) -> Scope {
    Scope::parse(&format!("sidecar~{ip}~{pod}.default~default.svc.cluster.local"), &metadata).unwrap()
}

pub fn gateway() -> Scope {
    let metadata = json!({"LABELS": {"istio": "ingressgateway"}});
    Scope::parse("router~10.9.0.2~gw.istio-system~istio-system.svc.cluster.local", &metadata).unwrap()
}

pub fn compile(world: &World, scope: &Scope) -> Compiled {
    Compiler::default().compile(world, scope)
}

/// The whole snapshot, which must pass the check that precedes every push.
pub fn snapshot(world: &World, scope: &Scope) -> Snapshot {
    let snapshot = compile(world, scope).snapshot();
    assert_eq!(config::check(&snapshot), Vec::new());
    snapshot
}

pub fn host<'a>(snapshot: &'a Snapshot, table: &str, name: &str) -> &'a VirtualHost {
    let table = snapshot.routes.get(table).unwrap_or_else(|| panic!("no table {table}: {:?}", snapshot.routes.keys()));
    let found = table.virtual_hosts.iter().find(|host| &*host.name == name);
    found.unwrap_or_else(|| panic!("no host {name}: {}", config::render(snapshot)))
}

pub fn has_host(snapshot: &Snapshot, table: &str, name: &str) -> bool {
    snapshot.routes.get(table).is_some_and(|table| table.virtual_hosts.iter().any(|host| &*host.name == name))
}

/// Where routes lead, in order: cluster names, `name=weight` pairs, or a status.
pub fn targets(routes: &[Route]) -> Vec<String> {
    routes
        .iter()
        .map(|route| match &route.action {
            Action::Respond(respond) => respond.status.to_string(),
            Action::Redirect(redirect) => redirect.status.to_string(),
            Action::Forward(forward) => match &forward.cluster {
                ClusterChoice::One(name) => name.to_string(),
                ClusterChoice::Weighted(many) => {
                    many.iter().map(|one| format!("{}={}", one.cluster, one.weight)).collect::<Vec<_>>().join(" ")
                }
            },
        })
        .collect()
}

/// Where a sidecar in `default` sends requests for reviews.
pub fn reviews_targets(yaml: &str) -> Vec<String> {
    let world = world(&(reviews() + "\n---\n" + yaml));
    let snapshot = snapshot(&world, &sidecar());
    short(&host(&snapshot, "9080", "reviews.default.svc.cluster.local:9080").routes)
}

/// The same with the common part of cluster names left out.
pub fn short(routes: &[Route]) -> Vec<String> {
    targets(routes)
        .iter()
        .map(|name| name.replace("outbound|9080|", "").replace("|reviews.default.svc.cluster.local", ""))
        .collect()
}

pub fn addresses(endpoints: &Endpoints) -> Vec<String> {
    endpoints.iter().map(|one| one.address.to_string()).collect()
}

pub fn listener<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Listener {
    snapshot.listeners.get(name).unwrap_or_else(|| panic!("no listener {name}: {:?}", snapshot.listeners.keys()))
}

/// `CODE Kind namespace/name field`, as the diagnostics of a world.
pub fn findings(world: &World) -> Vec<String> {
    let found = Compiler::default().diagnostics(world);
    found.iter().map(|one| format!("{} {} {}", one.code, one.object.as_ref().unwrap(), one.field)).collect()
}
