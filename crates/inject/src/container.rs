//! The sidecar's container and the volumes it needs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::capture::{PROXY_UID, resources};
use crate::proxy::{Config, Interception, STATUS_PORT};
use crate::{PROXY_CONTAINER, Request};

/// Where applications without capture reach the proxy.
const OUTBOUND_WITHOUT_CAPTURE: &str = "127.0.0.1:15080";
/// How long a token is good for, in seconds; kubelet renews it at four fifths.
const TOKEN_SECONDS: u32 = 43_200;
const STARTUP_TRIES: u32 = 600;
/// The prefix of environment variables that the control plane sees.
const META: &str = "ISTIO_META_";

/// Names of the volumes.
pub(crate) const VOLUMES: [&str; 4] = ["istio-data", "istio-podinfo", "istio-token", "istiod-ca-cert"];

/// What of the pod the container depends on.
pub(crate) struct About<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) config: &'a Config,
    pub(crate) workload: &'a str,
    /// The probes that the proxy makes for kubelet, by path.
    pub(crate) probes: &'a BTreeMap<String, Value>,
    /// Where the application has metrics of its own.
    pub(crate) application_metrics: Option<Value>,
}

/// The container.
pub(crate) fn container(about: &About<'_>) -> Value {
    let (config, settings) = (about.config, about.request.settings);
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": config.image,
        "imagePullPolicy": settings.proxy_image_pull_policy,
        "args": args(about),
        "env": env(about),
        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "resources": resources(config),
        "securityContext": security(),
        "volumeMounts": mounts(about)
    });
    if config.status_port != 0 {
        container["readinessProbe"] = probe(config.status_port, &[("periodSeconds", 15), ("failureThreshold", 4)]);
    }
    if config.is_native {
        container["restartPolicy"] = json!("Always");
        // It is stopped last, and would not know that the pod ends.
        container["lifecycle"] = json!({"preStop": {"exec": {"command": ["/sluice-proxy", "drain"]}}});
    }
    // A pod that holds its application starts it when this probe succeeds; a container without one counts at once.
    if config.is_native && config.status_port != 0 {
        let often = [("periodSeconds", 1), ("failureThreshold", STARTUP_TRIES)];
        container["startupProbe"] = probe(config.status_port, &often);
    } else if config.holds_application {
        let mut command = vec!["/sluice-proxy".to_owned(), "wait".to_owned()];
        if config.own_status_port() != STATUS_PORT {
            command.extend(["--status-address".to_owned(), format!("127.0.0.1:{}", config.own_status_port())]);
        }
        container["lifecycle"]["postStart"] = json!({"exec": {"command": command}});
    }
    container
}

fn probe(port: u16, numbers: &[(&str, u32)]) -> Value {
    let mut probe = json!({"httpGet": {"path": "/healthz/ready", "port": port}, "timeoutSeconds": 3});
    for (name, number) in numbers {
        probe[*name] = json!(number);
    }
    probe
}

fn args(about: &About<'_>) -> Vec<String> {
    let (config, settings) = (about.config, about.request.settings);
    let domain = &settings.cluster_domain;
    let interception = match config.interception {
        Interception::Redirect => "redirect",
        Interception::None => "none",
    };
    let node = format!("sidecar~$(INSTANCE_IP)~$(POD_NAME).$(POD_NAMESPACE)~$(POD_NAMESPACE).svc.{domain}");
    let (threads, drain) = (config.concurrency.to_string(), config.drain_seconds.to_string());
    let mut args = vec!["--node", &node];
    args.extend(["--control-plane", &settings.discovery_address]);
    args.extend(["--service-account", "$(SERVICE_ACCOUNT)"]);
    args.extend(["--workload", about.workload]);
    args.extend(["--cluster-id", &settings.cluster_id]);
    args.extend(["--token-file", "/var/run/secrets/tokens/istio-token"]);
    args.extend(["--root-cert-file", "/var/run/secrets/istio/root-cert.pem"]);
    args.extend(["--labels-file", "/etc/istio/pod/labels"]);
    args.extend(["--application-address", "0.0.0.0:15020"]);
    args.extend(["--metrics-address", "0.0.0.0:15090"]);
    args.extend(["--interception", interception]);
    args.extend(["--concurrency", &threads]);
    args.extend(["--drain-seconds", &drain]);
    args.extend(["--log-level", &config.log_level]);
    if config.interception == Interception::None {
        args.extend(["--outbound-address", OUTBOUND_WITHOUT_CAPTURE]);
    }
    if config.redirect_dns {
        args.extend(["--dns-address", "127.0.0.1:15053"]);
    }
    let status = format!("0.0.0.0:{}", config.own_status_port());
    if config.own_status_port() != STATUS_PORT {
        args.extend(["--status-address", &status]);
    }
    let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    for (name, value) in &config.environment {
        if let Some(key) = name.strip_prefix(META).filter(|key| *key != "DNS_CAPTURE") {
            args.extend(["--metadata".to_owned(), format!("{key}={value}")]);
        }
    }
    args
}

fn env(about: &About<'_>) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut all = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("INSTANCE_IPS", "status.podIPs"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
    ];
    if !about.probes.is_empty() {
        all.push(json!({"name": "ISTIO_KUBE_APP_PROBERS", "value": json!(about.probes).to_string()}));
    }
    if let Some(metrics) = &about.application_metrics {
        all.push(json!({"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": metrics.to_string()}));
    }
    let own: Vec<String> = all.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
    let more = about.config.environment.iter().filter(|(name, _)| !own.contains(name));
    all.extend(more.map(|(name, value)| json!({"name": name, "value": value})));
    all
}

fn security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsUser": PROXY_UID,
        "runAsGroup": PROXY_UID,
        "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"}
    })
}

fn mounts(about: &About<'_>) -> Vec<Value> {
    let mut all = vec![
        json!({"name": "istio-data", "mountPath": "/var/lib/istio/data"}),
        json!({"name": "istio-podinfo", "mountPath": "/etc/istio/pod"}),
        json!({"name": "istio-token", "mountPath": "/var/run/secrets/tokens"}),
        json!({"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"}),
    ];
    all.extend(about.request.user_list("sidecar.istio.io/userVolumeMount"));
    all
}

/// The volumes.
pub(crate) fn volumes(request: Request<'_>) -> Vec<Value> {
    let file = |path: &str| json!({"path": path, "fieldRef": {"fieldPath": format!("metadata.{path}")}});
    let token = json!({"audience": "istio-ca", "expirationSeconds": TOKEN_SECONDS, "path": "istio-token"});
    let mut all = vec![
        json!({"name": "istio-data", "emptyDir": {}}),
        json!({"name": "istio-podinfo", "downwardAPI": {"items": [file("labels"), file("annotations")]}}),
        json!({"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}}),
        json!({"name": "istiod-ca-cert", "configMap": {"name": request.settings.root_config_map}}),
    ];
    all.extend(request.user_list("sidecar.istio.io/userVolume"));
    all
}
