//! On a real kube-apiserver: pods that become injected, objects that are refused in kubectl's words, warnings, and a
//! caBundle that is kept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use suite::kube::ApiServer;
use suite::mesh::ControlPlane;
use testkit::process::{free_address, program};
use testkit::wait;

const SOON: Duration = Duration::from_secs(20);
const INJECTOR: &str = "sluice-sidecar-injector";
const VALIDATOR: &str = "sluice-validator";

// As the chart has them, but by URL.
fn configurations(webhooks: SocketAddr) -> String {
    let common = "sideEffects: None, admissionReviewVersions: [v1], timeoutSeconds: 5";
    format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: {INJECTOR}}}
webhooks:
- name: namespace.sidecar-injector.istio.io
  clientConfig: {{url: 'https://{webhooks}/inject'}}
  rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}}]
  namespaceSelector: {{matchLabels: {{istio-injection: enabled}}}}
  objectSelector: {{matchExpressions: [{{key: sidecar.istio.io/inject, operator: NotIn, values: ['false']}}]}}
  {{failurePolicy: Fail, reinvocationPolicy: Never, {common}}}
- name: object.sidecar-injector.istio.io
  clientConfig: {{url: 'https://{webhooks}/inject'}}
  rules: [{{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}}]
  namespaceSelector: {{matchExpressions: [{{key: istio-injection, operator: DoesNotExist}}, {{key: istio.io/rev, operator: DoesNotExist}}]}}
  objectSelector: {{matchLabels: {{sidecar.istio.io/inject: 'true'}}}}
  {{failurePolicy: Fail, reinvocationPolicy: Never, {common}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: {VALIDATOR}}}
webhooks:
- name: validation.sluice.dev
  clientConfig: {{url: 'https://{webhooks}/validate'}}
  rules: [{{apiGroups: [networking.istio.io, telemetry.istio.io, security.istio.io, networking.sluice.dev], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: ['*']}}]
  {{failurePolicy: Ignore, {common}}}
"
    )
    .lines()
    .map(|line| match line.strip_prefix("  {") {
        Some(fields) => fields.trim_end_matches('}').split(", ").map(|field| format!("  {field}\n")).collect(),
        None => format!("{line}\n"),
    })
    .collect()
}

fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\nspec:\n  \
         serviceAccountName: default\n  automountServiceAccountToken: false\n  containers: [{{name: app, image: none{more}}}]\n"
    )
}

struct Cluster {
    server: ApiServer,
    _plane: ControlPlane,
    webhooks: SocketAddr,
}

impl Cluster {
    async fn start() -> Result<Self> {
        let server = ApiServer::start("admission")?;
        server.define()?;
        server.kubectl(&["create", "namespace", "istio-system"], "")?;
        let webhooks = free_address("127.0.0.1")?;
        let (kubeconfig, address) = (server.kubeconfig(), webhooks.to_string());
        let args = ["--kubeconfig", &kubeconfig, "--webhook-address", &address, "--serving-name", "127.0.0.1"];
        let plane = ControlPlane::start(&args).await?;
        server.kubectl(&["apply", "-f", "-"], &configurations(webhooks))?;
        let cluster = Self { server, _plane: plane, webhooks };
        for (plural, name) in [("mutating", INJECTOR), ("validating", VALIDATOR)] {
            cluster.until_trusted(plural, name).await?;
        }
        cluster.until_closed().await?;
        Ok(cluster)
    }

    async fn until_closed(&self) -> Result<()> {
        wait::until("the validator fails closed", SOON, || async {
            match self.policy()? == "Fail" {
                true => Ok(()),
                false => bail!("it is still open"),
            }
        })
        .await
    }

    fn policy(&self) -> Result<Value> {
        Ok(self.configuration("validating", VALIDATOR)?["webhooks"][0]["failurePolicy"].clone())
    }

    fn configuration(&self, plural: &str, name: &str) -> Result<Value> {
        let text = self.server.kubectl(&["get", &format!("{plural}webhookconfiguration"), name, "-o", "json"], "")?;
        Ok(serde_json::from_str(&text)?)
    }

    async fn until_trusted(&self, plural: &str, name: &str) -> Result<()> {
        wait::until(&format!("{name} has a caBundle"), SOON, || async {
            let there = self.configuration(plural, name)?;
            let all = there["webhooks"].as_array().context("webhooks")?;
            let has = |one: &Value| one["clientConfig"]["caBundle"].as_str().is_some_and(|bundle| bundle.len() > 100);
            if all.iter().all(has) { Ok(()) } else { bail!("{all:?}") }
        })
        .await
    }

    fn apply(&self, text: &str) -> Result<String> {
        self.server.kubectl(&["apply", "-f", "-"], text)
    }

    /// What kubectl says beside its output, and whether it succeeded.
    fn said(&self, text: &str) -> Result<(bool, String)> {
        let output = self.server.try_kubectl(&["apply", "-f", "-"], text)?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    fn pod(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.server.kubectl(&["get", "pod", name, "-n", "shop", "-o", "json"], "")?)?)
    }
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let all = pod["spec"][list].as_array().into_iter().flatten();
    all.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn webhooks_of_a_real_api_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = Cluster::start().await.unwrap();
        injection(&cluster).unwrap();
        refusals(&cluster).unwrap();
        validation(&cluster).unwrap();
        bundles(&cluster).await.unwrap();
    });
}

fn injection(cluster: &Cluster) -> Result<()> {
    // Labelled a moment before: the API server knows it at once, and that counts.
    cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")?;
    cluster.apply(&pod("before", ""))?;
    cluster.server.kubectl(&["label", "namespace", "shop", "istio-injection=enabled"], "")?;
    let text = pod(
        "reviews",
        ", ports: [{containerPort: 9080}], readinessProbe: {timeoutSeconds: 1, httpGet: {path: /health, port: 9080, scheme: HTTP}}",
    );
    cluster.apply(&text)?;
    assert_eq!(names(&cluster.pod("before")?, "containers"), ["app"]);
    let injected = cluster.pod("reviews")?;
    // This server is new enough for sidecars that are init containers.
    assert_eq!(names(&injected, "initContainers"), ["istio-init", "istio-proxy"]);
    assert_eq!(injected["spec"]["initContainers"][1]["restartPolicy"], "Always");
    assert_eq!(injected["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"], "/app-health/app/readyz");
    let labels = &injected["metadata"]["labels"];
    assert_eq!((&labels["security.istio.io/tlsMode"], &labels["istio.io/rev"]), (&json!("istio"), &json!("default")));
    offline(cluster, &text, &injected)?;
    // A classic sidecar, by annotation.
    let classic =
        pod("classic", "").replace("labels:", "annotations: {sidecar.istio.io/nativeSidecar: 'false'}, labels:");
    cluster.apply(&classic)?;
    assert_eq!(names(&cluster.pod("classic")?, "containers"), ["app", "istio-proxy"]);
    // The pod says no.
    cluster.apply(&pod("out", "").replace("app: out", "sidecar.istio.io/inject: 'false'"))?;
    assert_eq!(names(&cluster.pod("out")?, "containers"), ["app"]);
    Ok(())
}

// `sluicectl inject` with the control plane's settings gives the pod that the webhook gave, but for what an API server fills
// in before it asks: a probe's defaults, which the pod above says itself.
fn offline(cluster: &Cluster, text: &str, injected: &Value) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, settings) = (folder.path().join("pod.yaml"), folder.path().join("settings.json"));
    std::fs::write(&file, text)?;
    let plane = &cluster._plane;
    let given = tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(suite::mesh::get(plane.http, "/debug/inject"))
    })?;
    std::fs::write(&settings, given)?;
    let output = Command::new(program("sluicectl")?)
        .args(["inject", "-f", &file.to_string_lossy(), "--settings", &settings.to_string_lossy(), "-o", "json"])
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let offline: Value = serde_json::from_slice(&output.stdout)?;
    for (section, field) in
        [("metadata", "labels"), ("spec", "initContainers"), ("spec", "volumes"), ("spec", "containers")]
    {
        is_part(&offline[section][field], &injected[section][field], &format!("{section}.{field}"));
    }
    let status = "sidecar.istio.io/status";
    assert_eq!(offline["metadata"]["annotations"][status], injected["metadata"]["annotations"][status]);
    Ok(())
}

// An API server fills in defaults.
fn is_part(part: &Value, whole: &Value, path: &str) {
    match (part, whole) {
        (Value::Object(part), Value::Object(_)) => {
            part.iter().for_each(|(name, value)| is_part(value, &whole[name], &format!("{path}.{name}")));
        }
        (Value::Array(part), Value::Array(all)) => {
            assert_eq!(part.len(), all.len(), "{path}");
            part.iter().zip(all).enumerate().for_each(|(at, (a, b))| is_part(a, b, &format!("{path}[{at}]")));
        }
        _ => assert!(part == whole || quantities(part, whole), "{path}: {part} is {whole}"),
    }
}

// `2000m` comes back as `2`, `1024Mi` as `1Gi`.
fn quantities(a: &Value, b: &Value) -> bool {
    [("2000m", "2"), ("1024Mi", "1Gi")].iter().any(|(sent, kept)| a == sent && b == kept)
}

fn refusals(cluster: &Cluster) -> Result<()> {
    let (ok, said) = cluster.said(&pod("greedy", ", ports: [{containerPort: 15090}]"))?;
    assert!(!ok && said.contains("container app listens on port 15090, which the sidecar needs for metrics"), "{said}");
    let host = pod("host", "").replace("spec:\n", "spec:\n  hostNetwork: true\n");
    let (ok, said) = cluster.said(&host)?;
    assert!(ok && said.starts_with("Warning: the pod gets no sidecar: it uses the node's network"), "{said}");
    let told = &cluster.pod("host")?["metadata"]["annotations"]["networking.sluice.dev/not-injected"];
    assert!(told.as_str().is_some_and(|text| text.contains("hostNetwork")), "{told}");
    Ok(())
}

fn validation(cluster: &Cluster) -> Result<()> {
    let rule = |kind: &str, spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: reviews, namespace: shop}}\nspec: {spec}\n"
        )
    };
    // What the schema cannot see: weights that are all 0.
    let wrong = "{hosts: [reviews], http: [{route: [{destination: {host: reviews}}], redirect: {uri: /x}}]}";
    let (ok, said) = cluster.said(&rule("VirtualService", wrong))?;
    assert!(!ok && said.contains("spec.http[0]"), "{said}");
    assert!(said.contains("\"reviews\" is invalid") || said.contains("denied the request"), "{said}");
    // Nobody has this host, and the other is deprecated: it goes in, with warnings.
    let lost = "{hosts: [reviews], http: [{route: [{destination: {host: nobody}}]}]}";
    let (ok, said) = cluster.said(&rule("VirtualService", lost))?;
    assert!(ok && said.contains("Warning: [IST0101] spec.http[0].route[0].destination.host: host"), "{said}");
    let old = "{host: reviews, trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}}";
    let (ok, said) = cluster.said(&rule("DestinationRule", old))?;
    assert!(ok && said.contains("Warning: [IST0133]"), "{said}");
    // A change to something wrong is refused too, and the object stays as it was; deleting is always possible.
    let patch = r#"{"spec": {"http": [{"redirect": {"uri": "/x"}, "route": [{"destination": {"host": "reviews"}}]}]}}"#;
    let output =
        cluster.server.try_kubectl(&["patch", "vs", "reviews", "-n", "shop", "--type=merge", "-p", patch], "")?;
    assert!(!output.status.success());
    cluster.server.kubectl(&["delete", "vs,dr", "reviews", "-n", "shop"], "").map(drop)
}

async fn bundles(cluster: &Cluster) -> Result<()> {
    let patch = r#"[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="}, {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]"#;
    let began = std::time::Instant::now();
    let kind = "validatingwebhookconfiguration";
    let output = cluster.server.try_kubectl(&["patch", kind, VALIDATOR, "--type=json", "-p", patch], "")?;
    // The server may refuse what is no certificate; an empty one it takes.
    if !output.status.success() {
        let patch = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}, {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]"#;
        cluster.server.kubectl(&["patch", kind, VALIDATOR, "--type=json", "-p", patch], "")?;
    }
    cluster.until_trusted("validating", VALIDATOR).await?;
    cluster.until_closed().await?;
    eprintln!("kept after {:?}", began.elapsed());
    // What somebody removes is not made anew; what is installed again is trusted again. Where the API server does not
    // reach it, it stays open: objects are isolated, and not refused everywhere.
    cluster.server.kubectl(&["delete", kind, VALIDATOR], "")?;
    let nobody = free_address("127.0.0.1")?;
    cluster.apply(&configurations(nobody))?;
    let patch = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]"#;
    for _ in 0..2 {
        cluster.until_trusted("validating", VALIDATOR).await?;
        cluster.server.kubectl(&["patch", kind, VALIDATOR, "--type=json", "-p", patch], "")?;
    }
    cluster.until_trusted("validating", VALIDATOR).await?;
    assert_eq!(cluster.policy()?, "Ignore");
    cluster.apply(&configurations(cluster.webhooks))?;
    cluster.until_closed().await
}
