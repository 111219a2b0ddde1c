//! The init container that makes the capture rules: Istio's `istio-init`, with istio-iptables' flags.

use serde_json::{Value, json};

use crate::proxy::{Config, Interception, STATUS_PORT};
use crate::{INIT_CONTAINER, Settings};

/// The proxy's user and group, whose connections are not captured.
pub(crate) const PROXY_UID: u32 = 1337;

/// The container; `None` where nothing is captured.
pub(crate) fn container(config: &Config, settings: &Settings) -> Option<Value> {
    if config.interception == Interception::None {
        return None;
    }
    let mut excluded = vec!["15090".to_owned(), "15021".to_owned(), "15020".to_owned()];
    if config.own_status_port() != STATUS_PORT {
        excluded.push(config.own_status_port().to_string());
    }
    excluded.extend(Some(config.exclude_inbound.clone()).filter(|ports| !ports.is_empty()));
    let uid = PROXY_UID.to_string();
    let excluded = excluded.join(",");
    let mut args = vec!["iptables", "-p", "15001", "-z", "15006", "-u", &uid, "-m", "REDIRECT"];
    args.extend(["-i", &config.include_ranges, "-x", &config.exclude_ranges]);
    args.extend(["-b", &config.include_inbound, "-d", &excluded]);
    for (flag, value) in [
        ("-q", &config.include_outbound),
        ("-o", &config.exclude_outbound),
        ("-k", &config.virtual_interfaces),
        ("-c", &config.exclude_interfaces),
    ] {
        if !value.is_empty() {
            args.extend([flag, value]);
        }
    }
    args.extend(config.redirect_dns.then_some("--redirect-dns"));
    args.extend(settings.native_nftables.then_some("--native-nftables"));
    Some(json!({
        "name": INIT_CONTAINER,
        "image": config.image,
        "imagePullPolicy": settings.proxy_image_pull_policy,
        "args": args,
        "resources": resources(config),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"}
        }
    }))
}

/// Requests and limits, as Kubernetes has them.
pub(crate) fn resources(config: &Config) -> Value {
    let mut all = json!({});
    for (name, values) in [("requests", &config.requests), ("limits", &config.limits)] {
        if !values.is_empty() {
            all[name] = json!(values);
        }
    }
    all
}
