//! Pods before and after, one file each; and what holds for every pod.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use api::ProxyConfigSpec;
use inject::{Outcome, Reason, Request, STATUS, Settings};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use words::Labels;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    about: String,
    settings: Few,
    namespace: Labels,
    #[serde(default)]
    configs: Vec<ProxyConfigSpec>,
    pod: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Few {
    server_minor: u32,
    proxy_image_pull_secret: Vec<String>,
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pods");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    files
}

fn patched(pod: &Value, to: &Value) -> Value {
    let operations: json_patch::Patch = serde_json::from_value(Value::Array(inject::diff(pod, to))).unwrap();
    let mut result = pod.clone();
    json_patch::patch(&mut result, &operations).unwrap();
    result
}

#[test]
fn dp12_pods_before_and_after() {
    let files = examples();
    assert!(files.len() >= 12);
    for file in files {
        let example: Example = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let settings = Settings {
            server_minor: example.settings.server_minor,
            proxy_image_pull_secret: example.settings.proxy_image_pull_secret,
            ..Settings::default()
        };
        let configs: Vec<&ProxyConfigSpec> = example.configs.iter().collect();
        let request = Request {
            pod: &example.pod,
            namespace: "default",
            labels: Some(&example.namespace),
            workload: None,
            configs: &configs,
            settings: &settings,
        };
        let Outcome::Injected { pod, warnings } = inject::run(request) else {
            panic!("{name}: {:?}", inject::run(request))
        };
        assert_eq!(patched(&example.pod, &pod), pod, "{name}");
        assert_eq!(inject::run(Request { pod: &pod, ..request }), Outcome::Left(Reason::AlreadyInjected), "{name}");
        let text = serde_saphyr::to_string(&pod).unwrap();
        insta::assert_snapshot!(name, format!("# {}\n# warnings: {warnings:?}\n{text}", example.about));
    }
}

fn outcome(namespace: &str, labels: Value, pod: &Value) -> Outcome {
    let labels: Labels = serde_json::from_value(labels).unwrap();
    let settings = Settings::default();
    inject::run(Request { pod, namespace, labels: Some(&labels), workload: None, configs: &[], settings: &settings })
}

fn left(namespace: &str, labels: Value, pod: &Value) -> Reason {
    match outcome(namespace, labels, pod) {
        Outcome::Left(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn plain(metadata: Value) -> Value {
    json!({"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "app"}]}})
}

#[test]
fn dp12_who_is_injected() {
    let bare = plain(json!({}));
    let by = |key: &str, name: &str, value: &str| plain(json!({key: {name: value}}));
    let yes =
        |labels: Value, pod: &Value| assert!(matches!(outcome("a", labels, pod), Outcome::Injected { .. }), "{pod}");
    let enabled = || json!({"istio-injection": "enabled"});
    yes(enabled(), &bare);
    yes(json!({"istio.io/rev": "default"}), &bare);
    yes(json!({}), &by("labels", "sidecar.istio.io/inject", "true"));
    yes(json!({}), &by("labels", "istio.io/rev", "default"));
    // The label stands before the annotation.
    yes(
        enabled(),
        &plain(
            json!({"labels": {"sidecar.istio.io/inject": "true"}, "annotations": {"sidecar.istio.io/inject": "false"}}),
        ),
    );
    assert_eq!(left("a", json!({}), &bare), Reason::NotAsked);
    assert_eq!(left("a", json!({}), &by("annotations", "sidecar.istio.io/inject", "true")), Reason::NotAsked);
    assert_eq!(left("a", enabled(), &by("labels", "sidecar.istio.io/inject", "false")), Reason::PodDisabled("label"));
    assert_eq!(
        left("a", enabled(), &by("annotations", "sidecar.istio.io/inject", "no")),
        Reason::PodDisabled("annotation")
    );
    let disabled = json!({"istio-injection": "disabled"});
    assert_eq!(left("a", disabled, &by("labels", "sidecar.istio.io/inject", "true")), Reason::NamespaceDisabled);
    assert_eq!(left("a", json!({"istio.io/rev": "canary"}), &bare), Reason::OtherRevision("canary".into()));
    yes(json!({"istio.io/rev": "canary", "istio-injection": "enabled"}), &bare);
    assert_eq!(left("kube-system", enabled(), &bare), Reason::SystemNamespace);
}

#[test]
fn pods_that_cannot_be_injected_are_left_or_refused_with_a_reason() {
    let enabled = || json!({"istio-injection": "enabled"});
    let of = |spec: Value| json!({"metadata": {}, "spec": spec});
    let host = of(json!({"hostNetwork": true, "containers": [{"name": "app"}]}));
    assert_eq!(left("a", enabled(), &host), Reason::HostNetwork);
    assert_eq!(left("a", json!({}), &host), Reason::NotAsked);
    assert_eq!(
        left("a", enabled(), &of(json!({"containers": [{"name": "istio-proxy"}]}))),
        Reason::HasContainer("istio-proxy")
    );
    assert!(Reason::HostNetwork.is_surprising() && !Reason::NotAsked.is_surprising());
    let refused = |pod: &Value, part: &str| match outcome("a", enabled(), pod) {
        Outcome::Refused(reason) => assert!(reason.contains(part), "{reason}"),
        other => panic!("{other:?}"),
    };
    let port = |number: u32| of(json!({"containers": [{"name": "app", "ports": [{"containerPort": number}]}]}));
    refused(&port(15090), "container app listens on port 15090, which the sidecar needs for metrics");
    refused(&port(15001), "for captured outbound traffic");
    // The port of readiness may be moved, and is taken then.
    let moved = |annotation: &str, number: u32| {
        let mut pod = port(number);
        pod["metadata"] = json!({"annotations": {"status.sidecar.istio.io/port": annotation}});
        pod
    };
    refused(&moved("8999", 8999), "for readiness");
    refused(&moved("15020", 15021), "for readiness");
    assert!(matches!(outcome("a", enabled(), &moved("8999", 15021)), Outcome::Injected { .. }));
    // Only where the sidecar answers DNS.
    assert!(matches!(outcome("a", enabled(), &port(15053)), Outcome::Injected { .. }));
    let said = |name: &str, value: &str| plain(json!({"annotations": {name: value}}));
    for (name, value, part) in [
        ("sidecar.istio.io/proxyCPU", "many", "proxyCPU: \"many\" is no quantity"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "80,x", "\"x\" is no port"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/99", "is no address range"),
        ("sidecar.istio.io/interceptionMode", "MAGIC", "none of REDIRECT, TPROXY, NONE"),
        ("sidecar.istio.io/interceptionMode", "TPROXY", "TPROXY is not supported yet"),
        ("sidecar.istio.io/nativeSidecar", "perhaps", "neither true nor false"),
        ("sidecar.istio.io/userVolume", "[1]", "userVolume"),
        ("sidecar.istio.io/logLevel", "loud", "is no level"),
        ("proxy.istio.io/config", "- a", "not the YAML of a ProxyConfig"),
        ("status.sidecar.istio.io/port", "high", "is no port"),
        ("status.sidecar.istio.io/port", "15090", "the sidecar needs 15090 for metrics"),
        ("status.sidecar.istio.io/port", "15006", "the sidecar needs 15006 for captured inbound traffic"),
    ] {
        refused(&said(name, value), part);
    }
}

fn containers() -> impl Strategy<Value = Value> {
    let probe = prop_oneof![
        Just(json!(null)),
        Just(json!({"httpGet": {"path": "/", "port": 80}})),
        Just(json!({"tcpSocket": {"port": "web"}})),
        Just(json!({"exec": {"command": ["x"]}})),
        Just(json!({"grpc": {}})),
    ];
    let one = ("[a-z]{1,3}", probe, 0u32..70_000).prop_map(|(name, probe, port)| {
        json!({"name": name, "livenessProbe": probe, "ports": [{"name": "web", "containerPort": port}]})
    });
    prop_oneof![9 => proptest::collection::vec(one, 0..4).prop_map(Value::Array), 1 => Just(json!("containers"))]
}

proptest! {
    #[test]
    fn a_patch_makes_the_pod_and_a_second_injection_changes_nothing(
        init in containers(), own in containers(), native: bool, hold: bool,
        labels in proptest::collection::btree_map("[a-z~/]{1,4}", "[a-z]{0,3}", 0..3),
    ) {
        let pod = json!({"metadata": {"labels": labels}, "spec": {"initContainers": init, "containers": own}});
        let settings = Settings { server_minor: if native { 33 } else { 20 }, hold_application: hold, ..Settings::default() };
        let request = Request { pod: &pod, namespace: "a", labels: None, workload: None, configs: &[], settings: &settings };
        if let Outcome::Injected { pod: after, .. } = inject::run(request) {
            prop_assert_eq!(patched(&pod, &after), after.clone());
            prop_assert!(after["metadata"]["annotations"].get(STATUS).is_some());
            prop_assert_eq!(inject::run(Request { pod: &after, ..request }), Outcome::Left(Reason::AlreadyInjected));
        }
    }

    #[test]
    fn a_patch_makes_any_value_of_any_other(from in value(), to in value()) {
        let (from, to) = (json!({"it": from}), json!({"it": to}));
        prop_assert_eq!(patched(&from, &to), to);
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(json!(null)), any::<bool>().prop_map(Value::from), (0u8..4).prop_map(Value::from)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map("[ab~/]{0,2}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}
