//! Canned answers of an API server: a mesh that works, and what is said when one thing about it does not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::ask::Cluster;
use super::*;

// Until 2036-11-18.
const ROOT: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBczCCARmgAwIBAgIUB+v/hhwClLnm5yeIizmYbyXyxzEwCgYIKoZIzj0EAwIw\n\
DzENMAsGA1UEAwwEcm9vdDAeFw0yNjExMjExMzMxMDhaFw0zNjExMTgxMzMxMDha\n\
MA8xDTALBgNVBAMMBHJvb3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASYlyxT\n\
mKxZKurlmf005uMc6WfgyqiYNX70F6wPUw04yAdY7m7kjF2ev/SsrojpDUfvduql\n\
R/TaG8D0ZCWNKbi0o1MwUTAdBgNVHQ4EFgQUCQskZn0utK5lVwMe/evdU7T6zsYw\n\
HwYDVR0jBBgwFoAUCQskZn0utK5lVwMe/evdU7T6zsYwDwYDVR0TAQH/BAUwAwEB\n\
/zAKBggqhkjOPQQDAgNIADBFAiBTRMCvG0EazeKcd5kGaQIMoDoCdtxL4yeLKtk2\n\
wPrQgAIhAIROdItCrqBgBM889Y6ffjPx/6Bh8wuowUQ7JJQ0bOZV\n\
-----END CERTIFICATE-----\n";

/// Answers by `METHOD path`, without the query.
type Answers = BTreeMap<String, (u16, Value)>;

fn cluster(answers: Answers) -> Cluster {
    let answers = Arc::new(answers);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answers = answers.clone();
        async move {
            let asked = format!("{} {}", request.method(), request.uri().path());
            let (status, value) = match asked.as_str() {
                "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"
                | "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
                    let body = request.into_body().collect_bytes().await.unwrap_or_default();
                    review(&answers, serde_json::from_slice(&body).unwrap_or_default())
                }
                _ => answers.get(&asked).cloned().unwrap_or((404, json!({"message": "not found"}))),
            };
            let date = jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_string(&jiff::Timestamp::try_from(SystemTime::now())?)?;
            let body = Full::new(Bytes::from(value.to_string()));
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
                Response::builder().status(status).header("date", date).body(body)?,
            )
        }
    });
    Cluster::new(Client::new(service, "default"), page, "istio-system")
}

// A forwarded port, as one more path of the API server.
fn page(client: Client, namespace: String, pod: String, path: String) -> super::ask::Page {
    Box::pin(async move {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/portforward{path}");
        let answer = client.request_text(Request::get(path).body(Vec::new())?).await;
        Ok(answer.map_err(|error| anyhow::anyhow!(crate::forward::explain(&error, &namespace)))?.into())
    })
}

// Everything is allowed but every Secret, and what a test refuses.
fn review(answers: &Answers, review: Value) -> (u16, Value) {
    let action = &review["spec"]["resourceAttributes"];
    let text = |key: &str| action[key].as_str().unwrap_or_default();
    let is_all_secrets = action["resource"] == "secrets" && action["verb"] == "list" && action["namespace"].is_null();
    let is_refused = answers.contains_key(&format!("refuse {} {}", text("verb"), text("resource")));
    (201, json!({"status": {"allowed": !is_all_secrets && !is_refused}}))
}

fn list(items: Value) -> (u16, Value) {
    (200, json!({"items": items}))
}

fn pod(name: &str, namespace: &str, container: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": container, "image": "sluice:dev"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    })
}

fn deployment(name: &str, available: u64) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "istio-system"},
        "spec": {"replicas": 2}, "status": {"availableReplicas": available}
    })
}

fn proxy(name: &str, last_error: &str) -> Value {
    json!({"proxy": name, "proxy_version": env!("CARGO_PKG_VERSION"),
        "resources": {"CDS": {"synced": last_error.is_empty(), "last_error": last_error}}})
}

fn webhooks(name: &str, policy: &str) -> (u16, Value) {
    let bundle = base64(ROOT.as_bytes());
    list(json!([{
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "sluice"}},
        "webhooks": [{"name": "a", "failurePolicy": policy,
            "clientConfig": {"caBundle": bundle, "service": {"namespace": "istio-system"}}}]
    }]))
}

fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = data.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    bits.chunks(6)
        .map(|six| six.iter().chain([0; 6].iter()).take(6).fold(0, |value, bit| value << 1 | usize::from(*bit)))
        .map(|value| char::from(DIGITS[value]))
        .collect()
}

fn healthy() -> Answers {
    let system = "istio-system";
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap().to_string();
    let mut answers = Answers::new();
    let mut get = |path: &str, answer: (u16, Value)| answers.insert(format!("GET {path}"), answer);
    get("/version", (200, json!({"major": "1", "minor": "36"})));
    for one in api::crd::all() {
        let name = one.file.trim_end_matches(".yaml").to_owned();
        let mut value = one.value;
        value["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
        get(&format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"), (200, value));
    }
    get(&format!("/apis/apps/v1/namespaces/{system}/deployments/sluiced"), (200, deployment("sluiced", 2)));
    let replicas = json!([pod("sluiced-a", system, "discovery"), pod("sluiced-b", system, "discovery")]);
    get(&format!("/api/v1/namespaces/{system}/pods"), list(replicas));
    let lease = json!({"spec": {"holderIdentity": "sluiced-a", "renewTime": now}});
    get(&format!("/apis/coordination.k8s.io/v1/namespaces/{system}/leases/sluice-leader"), (200, lease));
    for service in ["sluiced", "istiod"] {
        get(&format!("/api/v1/namespaces/{system}/services/{service}"), (200, json!({})));
    }
    let endpoints = json!([{"endpoints": [{"conditions": {"ready": true}}]}]);
    get(&format!("/apis/discovery.k8s.io/v1/namespaces/{system}/endpointslices"), list(endpoints));
    for namespace in [system, "shop"] {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
        get(&path, (200, json!({"data": {"root-cert.pem": ROOT}})));
    }
    get(
        "/api/v1/namespaces",
        list(json!([
            {"metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}}}, {"metadata": {"name": "default"}}
        ])),
    );
    let admission = "/apis/admissionregistration.k8s.io/v1";
    get(&format!("{admission}/mutatingwebhookconfigurations"), webhooks("sluice-sidecar-injector", "Fail"));
    get(&format!("{admission}/validatingwebhookconfigurations"), webhooks("sluice-validator", "Fail"));
    get("/apis/apps/v1/deployments", list(json!([deployment("sluiced", 2), deployment("istio-ingressgateway", 2)])));
    get("/api/v1/services", list(json!([])));
    for (replica, name) in [("sluiced-a", "web.shop"), ("sluiced-b", "cart.shop")] {
        let path = format!("/api/v1/namespaces/{system}/pods/{replica}/portforward/debug/syncz");
        get(&path, (200, json!([proxy(name, "")])));
    }
    get(
        "/api/v1/pods",
        list(json!([
            pod("web", "shop", "istio-proxy"),
            pod("cart", "shop", "istio-proxy"),
            pod("other", "default", "app")
        ])),
    );
    answers.insert("POST /api/v1/namespaces/default/pods".into(), (201, pod("x", "default", "istio-proxy")));
    let denied = json!({"message": "admission webhook \"validation.sluice.dev\" denied the request: no route"});
    answers.insert("POST /apis/networking.istio.io/v1/namespaces/default/virtualservices".into(), (403, denied));
    answers
}

async fn text_of(answers: Answers) -> String {
    render(CheckForm::Short, &all(&cluster(answers), false).await).unwrap().text
}

fn changed(path: &str, answer: (u16, Value)) -> Answers {
    let mut answers = healthy();
    answers.insert(path.to_owned(), answer);
    answers
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let system = "/api/v1/namespaces/istio-system";
    let rule = "GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/destinationrules.networking.istio.io";
    let admission = "GET /apis/admissionregistration.k8s.io/v1";
    let cases = [
        ("it is 1.20", "GET /version".to_owned(), (200, json!({"minor": "20+"}))),
        ("    destinationrules.networking.istio.io", rule.to_owned(), (404, json!({}))),
        (
            "    0 of 2 are",
            "GET /apis/apps/v1/namespaces/istio-system/deployments/sluiced".to_owned(),
            (200, deployment("sluiced", 0)),
        ),
        (
            "nobody holds the Lease",
            "GET /apis/coordination.k8s.io/v1/namespaces/istio-system/leases/sluice-leader".to_owned(),
            (200, json!({})),
        ),
        (
            "it has no ready endpoint",
            "GET /apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices".to_owned(),
            list(json!([])),
        ),
        ("    it may not watch pods", "refuse watch pods".to_owned(), (0, json!({}))),
        (
            "    it may not patch virtualservices.networking.istio.io/status",
            "refuse patch virtualservices".to_owned(),
            (0, json!({})),
        ),
        (
            "no ConfigMap istio-ca-root-cert in istio-system",
            format!("GET {system}/configmaps/istio-ca-root-cert"),
            (404, json!({})),
        ),
        (
            "no ConfigMap sluice-ca-root-cert in istio-system",
            "GET /apis/apps/v1/namespaces/istio-system/deployments/sluiced".to_owned(),
            (
                200,
                json!({"spec": {"template": {"spec": {"containers": [
                {"args": ["--root-config-map=sluice-ca-root-cert"]}]}}}}),
            ),
        ),
        (
            "missing or different in shop",
            "GET /api/v1/namespaces/shop/configmaps/istio-ca-root-cert".to_owned(),
            (200, json!({"data": {"root-cert.pem": "other"}})),
        ),
        (
            "no validatingwebhookconfigurations sluice-validator",
            format!("{admission}/validatingwebhookconfigurations"),
            list(json!([])),
        ),
        (
            "its failurePolicy is still Ignore",
            format!("{admission}/validatingwebhookconfigurations"),
            webhooks("sluice-validator", "Ignore"),
        ),
        (
            "a pod that asked for a sidecar got none",
            "POST /api/v1/namespaces/default/pods".to_owned(),
            (201, pod("x", "default", "app")),
        ),
        (
            "it let a wrong object pass",
            "POST /apis/networking.istio.io/v1/namespaces/default/virtualservices".to_owned(),
            (201, json!({})),
        ),
        ("    cart.shop", format!("GET {system}/pods/sluiced-b/portforward/debug/syncz"), (200, json!([]))),
        (
            "    cart.shop refuses CDS: no such cluster",
            format!("GET {system}/pods/sluiced-b/portforward/debug/syncz"),
            (200, json!([proxy("cart.shop", "no such cluster")])),
        ),
        (
            "account that may create and get pods/portforward",
            format!("GET {system}/pods/sluiced-b/portforward/debug/syncz"),
            (403, json!({"message": "forbidden"})),
        ),
    ];
    for (wanted, path, answer) in cases {
        let text = text_of(changed(&path, answer)).await;
        assert!(text.lines().any(|line| line.contains(wanted)), "{path}: no {wanted:?} in\n{text}");
    }
}

#[tokio::test]
async fn a_mesh_that_works_is_green_but_for_what_the_test_makes_up() {
    let found = all(&cluster(healthy()), false).await;
    let not_good: Vec<&str> = found
        .iter()
        .flat_map(|category| &category.checks)
        .filter(|check| check.state != State::Good)
        .map(|check| check.about.as_str())
        .collect();
    // Every list of Deployments has the same two here, whatever it asks for.
    assert_eq!(not_good, ["no istiod in the cluster", "nobody else writes the roots of the mesh"]);
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_all_that_is_said() {
    let found = all(&cluster(Answers::new()), false).await;
    assert_eq!(found.len(), 1);
    let answer = render(CheckForm::Json, &found).unwrap();
    let value: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!((answer.exit, value["success"].as_bool()), (1, Some(false)));
    assert_eq!(value["categories"][0]["checks"][0]["result"], "error");
}

#[tokio::test]
async fn before_there_is_a_mesh_only_what_it_needs_is_asked_for() {
    let mut answers = Answers::new();
    answers.insert("GET /version".into(), (200, json!({"minor": "36"})));
    let found = all(&cluster(answers.clone()), true).await;
    assert!(is_good(&found), "{}", render(CheckForm::Short, &found).unwrap().text);
    answers.insert("refuse create clusterroles".into(), (0, json!({})));
    let text = render(CheckForm::Short, &all(&cluster(answers), true).await).unwrap().text;
    assert!(text.contains("× can create clusterroles"), "{text}");
}

#[test]
fn clocks_far_apart_are_bad() {
    let now = SystemTime::now();
    assert_eq!(api_server::clock(Some(now), now).state, State::Good);
    let late = api_server::clock(Some(now), now + Duration::from_secs(60));
    assert!(matches!(late.state, State::Warning(..)), "{late:?}");
    let days = api_server::clock(Some(now + Duration::from_secs(86_400)), now);
    assert!(matches!(days.state, State::Bad(..)), "{days:?}");
}

#[test]
fn a_bundle_that_is_not_the_root_is_bad() {
    let configuration = webhooks("x", "Fail").1["items"][0].clone();
    assert_eq!(webhooks::trusts(&configuration, "it", ROOT).state, State::Good);
    assert!(matches!(webhooks::trusts(&configuration, "it", "other").state, State::Bad(..)));
    let empty = json!({"webhooks": [{"name": "a", "clientConfig": {}}]});
    assert!(matches!(webhooks::trusts(&empty, "it", ROOT).state, State::Bad(..)));
}

#[test]
fn a_root_that_ends_is_said_a_month_before() {
    let end = 2_110_627_868; // 2036-11-18, 13:31:08
    assert_eq!(certificates::ends(ROOT, end - 31 * 86_400).state, State::Good);
    let soon = certificates::ends(ROOT, end - 29 * 86_400);
    assert!(matches!(&soon.state, State::Warning(what, _) if what == "it ends on 2036-11-18"), "{soon:?}");
    assert!(matches!(certificates::ends(ROOT, end + 1).state, State::Bad(..)));
    assert!(matches!(certificates::ends("nonsense", end).state, State::Bad(..)));
}

#[test]
fn a_table_has_signs_and_hints() {
    let checks = vec![good("a"), warning("b", "what", "do this"), bad("c", "worse", "do that")];
    let found = [Category { name: "things", checks }];
    let answer = render(CheckForm::Table, &found).unwrap();
    let wanted = "things\n------\n√ a\n‼ b\n    what\n    hint: do this\n× c\n    worse\n    hint: do that\n\n\
                  Status check results are ×\n";
    assert_eq!((answer.text.as_str(), answer.exit), (wanted, 1));
}
