//! The cluster's objects, kind by kind, page by page. Reads only.

use analyze::Inputs;
use anyhow::{Context, Result, bail};
use api::{Kind, Object};
use kube::Client;
use serde_json::Value;
use words::{Diagnostic, Origin};

/// Objects of one page.
const PAGE_OBJECTS: u32 = 500;
/// Most pages of one kind.
const PAGES_MAX: usize = 4_000;

/// Kinds that are not routed by, as far as something is said about them: group and version, plural, name.
const OTHERS: [(&str, &str, &str); 5] = [
    ("apis/apps/v1", "deployments", "Deployment"),
    ("apis/apps/v1", "statefulsets", "StatefulSet"),
    ("apis/apps/v1", "daemonsets", "DaemonSet"),
    ("apis/extensions.istio.io/v1alpha1", "wasmplugins", "WasmPlugin"),
    ("api/v1", "configmaps", "ConfigMap"),
];

/// Lists everything into the inputs.
pub(super) async fn read(client: &Client, inputs: &mut Inputs) -> Result<()> {
    for kind in Kind::ALL.iter().copied() {
        // Nothing is said about them.
        if matches!(kind, Kind::EndpointSlice | Kind::Node) {
            continue;
        }
        let root = if kind.group().is_empty() { "api".to_owned() } else { format!("apis/{}", kind.group()) };
        let mut items = None;
        for version in kind.versions() {
            if items.is_none() {
                items = list(client, &format!("{root}/{version}"), kind.plural(), selector(kind)).await?;
            }
        }
        inputs.set_known(kind.name());
        for value in items.unwrap_or_default() {
            let origin = origin_of(kind.name(), &value);
            match Object::from_parts(kind, value) {
                Ok(object) => inputs.add_live(object),
                Err(error) => inputs.add_finding(Diagnostic { object: Some(origin), ..error.diagnostic() }),
            }
        }
    }
    for (root, plural, kind) in OTHERS {
        for mut value in list(client, root, plural, other_selector(kind)).await?.unwrap_or_default() {
            value["kind"] = kind.into();
            inputs.add_live_other(value);
        }
        inputs.set_known(kind);
    }
    Ok(())
}

fn origin_of(kind: &str, value: &Value) -> Origin {
    let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default();
    Origin::new(kind, text("namespace"), text("name"))
}

fn selector(kind: Kind) -> &'static str {
    match kind {
        // Pods that have ended serve nobody.
        Kind::Pod => "status.phase!=Succeeded,status.phase!=Failed",
        // What cannot be a certificate is not read.
        Kind::Secret => {
            "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=kubernetes.io/dockerconfigjson"
        }
        _ => "",
    }
}

fn other_selector(kind: &str) -> &'static str {
    if kind == "ConfigMap" { "metadata.name=istio" } else { "" }
}

// Every object of a kind; `None` when the server does not know the kind.
async fn list(client: &Client, root: &str, plural: &str, selector: &str) -> Result<Option<Vec<Value>>> {
    let mut items = Vec::new();
    let mut next = String::new();
    for _ in 0..PAGES_MAX {
        let path = format!(
            "/{root}/{plural}?limit={PAGE_OBJECTS}{}{}",
            query("fieldSelector", selector),
            query("continue", &next)
        );
        let request = http::Request::get(&path).body(Vec::new())?;
        let text = match client.request_text(request).await {
            Ok(text) => text,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => bail!("list {plural}: {error}"),
        };
        let mut page: Value =
            serde_json::from_str(&text).with_context(|| format!("the list of {plural} is not JSON"))?;
        if let Value::Array(more) = page["items"].take() {
            items.extend(more);
        }
        next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if next.is_empty() {
            return Ok(Some(items));
        }
    }
    bail!("more than {PAGES_MAX} pages of {plural}")
}

fn query(name: &str, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    let escaped = value.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    format!("&{name}={}", escaped.collect::<String>())
}
