use std::sync::Arc;
use std::time::Duration;

use ::inject::Settings;
use api::{Change, Object};
use base64::Engine;
use compile::MeshConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::*;

/// A loop that knows this much.
fn webhooks(known: impl Fn(&Ask) -> Known + Send + 'static) -> Webhooks {
    let (events, mut queue) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(event) = queue.recv().await {
            if let Event::Admission(ask) = event {
                let known = known(&ask);
                let _ = ask.answer.send(known);
            }
        }
    });
    Webhooks::new(events, settings(Settings::default(), None), MeshConfig::default(), None)
}

fn stages() -> watch::Receiver<Stage> {
    watch::channel(Stage::Serves).1
}

async fn post(webhooks: &Webhooks, path: &str, body: &[u8]) -> (u16, String) {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let incoming = futures::stream::iter([Ok(far)]);
    tokio::spawn(webhooks.clone().serve(incoming, stages()));
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    near.write_all(head.as_bytes()).await.unwrap();
    // A refusal may come before all of it was taken.
    let _ = near.write_all(body).await;
    let mut answer = Vec::new();
    let _ = near.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn review(object: Value, more: Value) -> Vec<u8> {
    let mut request = json!({"uid": "u1", "operation": "CREATE", "namespace": "shop", "object": object});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string().into_bytes()
}

fn enabled() -> Known {
    let labels = [("istio-injection".to_owned(), "enabled".to_owned())].into();
    Known { synced: true, labels: Some(labels), ..Known::default() }
}

async fn answered(webhooks: &Webhooks, path: &str, body: Vec<u8>) -> Value {
    let (status, text) = post(webhooks, path, &body).await;
    assert_eq!(status, 200, "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["apiVersion"], &value["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    assert_eq!(value["response"]["uid"], "u1");
    value["response"].clone()
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "app"}]}})
}

fn virtual_service(spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "reviews"}, "spec": spec})
}

#[tokio::test]
async fn what_is_no_review_is_refused_with_a_reason() {
    let webhooks = webhooks(|_| enabled());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let in_review = format!(r#"{{"request":{{"uid":"a","operation":"CREATE","object":{deep}}}}}"#);
    for (body, part) in [
        ("", "EOF"),
        ("no", "expected"),
        ("{}", "not AdmissionReview of admission.k8s.io/v1"),
        (r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#, "v1beta1"),
        (r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, "it has no request"),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"","operation":"CREATE"}}"#,
            "no uid",
        ),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"a","operation":"EAT"}}"#,
            "EAT",
        ),
        (&deep, "invalid type"),
        (&in_review, "recursion limit"),
        ("\u{0}\u{1}", "expected"),
    ] {
        for path in ["/inject", "/validate"] {
            let (status, text) = post(&webhooks, path, body.as_bytes()).await;
            assert!(status == 400 && text.contains(part), "{path} {status} {text}");
        }
    }
    let (status, text) = post(&webhooks, "/validate", &vec![b' '; BODY_BYTES_MAX + 1]).await;
    assert_eq!(status, 413, "{text}");
    assert_eq!(post(&webhooks, "/other", b"{}").await.0, 404);
    assert_eq!(post(&webhooks, "/injector", b"{}").await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn reviews_that_only_begin_do_not_fill_the_memory() {
    let webhooks = webhooks(|_| enabled());
    let mut held = Vec::new();
    for _ in 0..64 {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        tokio::spawn(webhooks.clone().serve(futures::stream::iter([Ok(far)]), stages()));
        let head = format!("POST /validate HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES_MAX}\r\n\r\n{{");
        near.write_all(head.as_bytes()).await.unwrap();
        held.push(near);
    }
    assert_eq!(answered(&webhooks, "/inject", review(pod(), json!({}))).await["allowed"], true);
    // What is not in memory any more is not counted.
    drop(held);
    let free = webhooks.bytes.clone().acquire_many_owned(BYTES_MAX as u32);
    let free = tokio::time::timeout(Duration::from_secs(10), free).await.unwrap().unwrap();
    // Without room nothing is taken in.
    let (status, text) = post(&webhooks, "/validate", b"{}").await;
    assert_eq!(status, 408, "{text}");
    drop(free);
}

#[tokio::test]
async fn any_object_gets_an_answer() {
    let webhooks = webhooks(|_| enabled());
    for object in
        [json!(null), json!(1), json!([]), json!({}), json!({"kind": "Pod"}), json!({"apiVersion": [], "kind": {}})]
    {
        for path in ["/inject", "/validate"] {
            assert_eq!(answered(&webhooks, path, review(object.clone(), json!({}))).await["allowed"], true, "{object}");
        }
    }
    // Of our kinds, but not of their form.
    for mut object in
        [virtual_service(json!([])), virtual_service(json!({"http": 7})), virtual_service(json!({"hosts": [{}]}))]
    {
        let answer = answered(&webhooks, "/validate", review(object.clone(), json!({}))).await;
        assert_eq!(answer["allowed"], false, "{object}");
        object["metadata"] = json!("none");
        assert_eq!(answered(&webhooks, "/validate", review(object, json!({}))).await["allowed"], false);
    }
    let mut odd = pod();
    odd["spec"] = json!({"containers": {"a": 1}, "volumes": "x"});
    odd["metadata"] = json!([1]);
    answered(&webhooks, "/inject", review(odd, json!({}))).await;
}

#[tokio::test]
async fn a_pod_gets_its_sidecar_as_a_patch() {
    let webhooks =
        webhooks(|ask| if ask.namespace == "shop" { enabled() } else { Known { synced: true, ..Known::default() } });
    let answer = answered(&webhooks, "/inject", review(pod(), json!({}))).await;
    assert_eq!((&answer["allowed"], &answer["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = base64::engine::general_purpose::STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
    let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
    assert!(
        patch.iter().any(|one| one["path"] == "/spec/containers/1" && one["value"]["name"] == "istio-proxy"),
        "{patch:?}"
    );
    // Where nobody asks, on updates, and for subresources nothing happens.
    for more in
        [json!({"namespace": "other"}), json!({"operation": "UPDATE"}), json!({"subResource": "ephemeralcontainers"})]
    {
        assert_eq!(
            answered(&webhooks, "/inject/net/n1", review(pod(), more)).await,
            json!({"uid": "u1", "allowed": true})
        );
    }
}

#[tokio::test]
async fn a_pod_that_cannot_be_injected_is_told() {
    let webhooks = webhooks(|_| enabled());
    let mut host = pod();
    host["spec"]["hostNetwork"] = json!(true);
    let answer = answered(&webhooks, "/inject", review(host, json!({}))).await;
    assert_eq!(answer["allowed"], true);
    assert!(answer["warnings"][0].as_str().unwrap().starts_with("the pod gets no sidecar: it uses the node's network"));
    assert!(answer["patch"].is_string(), "an annotation says why");
    let mut port = pod();
    port["spec"]["containers"][0]["ports"] = json!([{"containerPort": 15006}]);
    let answer = answered(&webhooks, "/inject", review(port, json!({}))).await;
    assert_eq!(answer["allowed"], false);
    assert!(answer["status"]["message"].as_str().unwrap().contains("container app listens on port 15006"), "{answer}");
}

#[tokio::test]
async fn pc01_proxy_configs_of_root_namespace_and_selector() {
    let config = |namespace: &str, name: &str, spec: Value| {
        let value = json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "ProxyConfig",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec
        });
        Arc::new(Object::from_json(value).unwrap().unwrap())
    };
    let configs = vec![
        config("shop", "mine", json!({"selector": {"matchLabels": {"app": "a"}}, "concurrency": 7})),
        config("shop", "others", json!({"selector": {"matchLabels": {"app": "b"}}, "concurrency": 9})),
        config("shop", "all", json!({"concurrency": 5, "environmentVariables": {"FROM": "namespace"}})),
        config("istio-system", "mesh", json!({"environmentVariables": {"FROM": "root", "MESH": "1"}})),
    ];
    let webhooks = webhooks(move |_| Known { configs: configs.clone(), ..enabled() });
    let mut pod = pod();
    pod["metadata"]["labels"] = json!({"app": "a"});
    let answer = answered(&webhooks, "/inject", review(pod, json!({}))).await;
    let patch = base64::engine::general_purpose::STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(patch).unwrap();
    for part in [r#""--concurrency","7""#, r#"{"name":"FROM","value":"namespace"}"#, r#"{"name":"MESH","value":"1"}"#] {
        assert!(text.contains(part), "{part} {text}");
    }
}

#[tokio::test]
async fn a_wrong_object_is_refused_with_field_and_reason() {
    let webhooks = webhooks(|_| enabled());
    let wrong = virtual_service(
        json!({"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}, "weight": -1}]}]}),
    );
    let answer = answered(&webhooks, "/validate", review(wrong.clone(), json!({}))).await;
    let status = &answer["status"];
    assert_eq!(
        (&answer["allowed"], &status["code"], &status["reason"]),
        (&json!(false), &json!(422), &json!("Invalid"))
    );
    assert_eq!((&status["details"]["kind"], &status["details"]["name"]), (&json!("VirtualService"), &json!("reviews")));
    let cause = &status["details"]["causes"][0];
    assert!(cause["field"].as_str().unwrap().starts_with("spec.http[0].route[0]"), "{status}");
    // Whoever deletes, or writes its status, or takes a finalizer off, is not kept from it.
    let mut leaving = wrong.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (object, more) in [
        (wrong.clone(), json!({"operation": "DELETE"})),
        (wrong.clone(), json!({"operation": "UPDATE", "subResource": "status"})),
        (leaving, json!({"operation": "UPDATE"})),
    ] {
        assert_eq!(answered(&webhooks, "/validate", review(object, more)).await["allowed"], true);
    }
}

#[tokio::test]
async fn warnings_are_of_the_object_and_of_what_is_beside_it() {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "reviews", "namespace": "shop"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80, "name": "http"}]}
    });
    let service = Arc::new(Object::from_json(service).unwrap().unwrap());
    let webhooks = webhooks(move |ask| {
        assert!(ask.wants_others);
        Known { others: vec![service.clone()], ..enabled() }
    });
    let route =
        |host: &str| virtual_service(json!({"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}));
    let good = answered(&webhooks, "/validate", review(route("reviews"), json!({}))).await;
    assert_eq!(good, json!({"uid": "u1", "allowed": true}));
    let lost = answered(&webhooks, "/validate", review(route("nobody"), json!({}))).await;
    assert_eq!(lost["allowed"], true);
    let line = lost["warnings"][0].as_str().unwrap();
    assert!(
        line.starts_with("[IST0101] spec.http[0].route[0].destination.host: host \"nobody.shop.svc.cluster.local\""),
        "{line}"
    );
    // Deprecated, and generated names.
    let mut old = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"generateName": "r-"},
        "spec": {"host": "reviews", "trafficPolicy": {"loadBalancer": {"simple": "LEAST_CONN"}}}
    });
    old["metadata"]["namespace"] = json!("shop");
    let answer = answered(&webhooks, "/validate", review(old, json!({}))).await;
    assert!(answer["warnings"][0].as_str().unwrap().contains("[IST0133]"), "{answer}");
}

#[tokio::test]
async fn nothing_is_answered_before_the_world_is_known() {
    let webhooks = webhooks(|_| Known::default());
    assert_eq!(post(&webhooks, "/inject", &review(pod(), json!({}))).await.0, 503);
}

#[tokio::test]
async fn a_panic_ends_one_request() {
    let broken: Result<(), Refusal> = contained(|| panic!("as a parser might")).await;
    assert_eq!(broken.unwrap_err().status, 500);
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_is_given_up() {
    let webhooks = webhooks(|_| enabled());
    let (mut near, far) = tokio::io::duplex(1024);
    tokio::spawn(webhooks.serve(futures::stream::iter([Ok(far)]), stages()));
    near.write_all(b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(Duration::from_secs(30), near.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_hundred_milliseconds_are_enough_beside_a_thousand_objects() {
    let many: Vec<Arc<Object>> = (0..1000)
        .map(|number| {
            let host = format!("s{number}.example.com");
            let mut object =
                virtual_service(json!({"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}));
            object["metadata"] = json!({"name": format!("v{number}"), "namespace": "shop"});
            Arc::new(Object::from_json(object).unwrap().unwrap())
        })
        .collect();
    let mut world = compile::World::new(MeshConfig::default());
    many.iter().for_each(|object| _ = world.apply(Change::Upsert(object.clone())));
    let webhooks = webhooks(move |_| Known { others: many.clone(), ..enabled() });
    let object = virtual_service(
        json!({"hosts": ["x.example.com"], "http": [{"route": [{"destination": {"host": "x.example.com"}}]}]}),
    );
    let began = std::time::Instant::now();
    answered(&webhooks, "/validate", review(object, json!({}))).await;
    // Measured without optimisation; generous, because other things run beside tests.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    eprintln!("validated beside 1000 objects in {:?}", began.elapsed());
}
