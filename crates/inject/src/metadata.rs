//! Labels and annotations that a pod of the mesh carries, as tutorials print them (S9).

use serde_json::{Map, Value, json};

use crate::annotations::{self, STATUS};
use crate::container::VOLUMES;
use crate::proxy::Config;
use crate::{INIT_CONTAINER, PROXY_CONTAINER, Request, workload};

/// Where metrics are scraped.
const SCRAPE: [(&str, &str); 3] =
    [("prometheus.io/scrape", "true"), ("prometheus.io/port", "15020"), ("prometheus.io/path", "/stats/prometheus")];

/// Adds them.
pub(crate) fn add(pod: &mut Value, request: Request<'_>, config: &Config, workload: &str, has_init: bool) {
    let (name, revision) = workload::canonical(pod, workload);
    let mesh_revision = &request.settings.revision;
    let labels = section(pod, "labels");
    for (key, value) in [
        ("security.istio.io/tlsMode", "istio"),
        ("service.istio.io/canonical-name", &name),
        ("service.istio.io/canonical-revision", &revision),
        ("istio.io/rev", mesh_revision),
    ] {
        labels.entry(key).or_insert_with(|| json!(value));
    }
    let first = pod["spec"]["containers"].as_array().and_then(|all| {
        all.iter().find_map(|one| one["name"].as_str().filter(|name| *name != PROXY_CONTAINER)).map(str::to_owned)
    });
    let merges = merges_metrics(pod);
    let annotations = section(pod, "annotations");
    for (key, value) in SCRAPE.into_iter().filter(|_| merges) {
        annotations.insert(key.to_owned(), json!(value));
    }
    if merges {
        // The application's; the sidecar is scraped without TLS.
        annotations.remove("prometheus.io/scheme");
    }
    for key in ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"] {
        if let Some(first) = &first {
            annotations.entry(key).or_insert_with(|| json!(first));
        }
    }
    annotations.entry("istio.io/rev").or_insert_with(|| json!(mesh_revision));
    annotations.insert(STATUS.to_owned(), json!(status(request, config, has_init).to_string()));
}

fn status(request: Request<'_>, config: &Config, has_init: bool) -> Value {
    let proxy = config.is_native.then_some(PROXY_CONTAINER);
    let init: Vec<&str> = has_init.then_some(INIT_CONTAINER).into_iter().chain(proxy).collect();
    let containers: Vec<&str> = if config.is_native { Vec::new() } else { vec![PROXY_CONTAINER] };
    json!({
        "initContainers": init, "containers": containers, "volumes": VOLUMES,
        "imagePullSecrets": request.settings.proxy_image_pull_secret, "revision": request.settings.revision
    })
}

fn section<'a>(pod: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !pod["metadata"].is_object() {
        pod["metadata"] = json!({});
    }
    if !pod["metadata"][name].is_object() {
        pod["metadata"][name] = json!({});
    }
    match &mut pod["metadata"][name] {
        Value::Object(fields) => fields,
        _ => unreachable!("it was made an object"),
    }
}

fn merges_metrics(pod: &Value) -> bool {
    annotations::of(pod).get("prometheus.istio.io/merge-metrics").is_none_or(|value| value != "false")
}

/// Where the application's own metrics are, when it says that it has some: Istio's `ISTIO_PROMETHEUS_ANNOTATIONS`.
pub(crate) fn application_metrics(pod: &Value) -> Option<Value> {
    let said = annotations::of(pod);
    let text = |name: &str| said.get(name).cloned().unwrap_or_default();
    let scrapes = text("prometheus.io/scrape") == "true" && merges_metrics(pod);
    scrapes.then(|| {
        json!({
            "scrape": "true", "scheme": text("prometheus.io/scheme"), "path": text("prometheus.io/path"),
            "port": text("prometheus.io/port")
        })
    })
}
