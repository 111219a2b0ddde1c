//! The pod with its sidecar.
//!
//! Order, as in Istio: a native sidecar runs first of all (capture, proxy, then the application's own init containers, so
//! that they are in the mesh); a classic one comes last, and capture after the application's init containers, which would
//! find no proxy. A classic sidecar that holds its application stands first, as kubelet starts containers in order.

use serde_json::{Value, json};

use crate::container::{self, About};
use crate::proxy::{Config, Interception};
use crate::{Request, annotations, capture, metadata, probe, workload};

/// Entries of a list that an annotation adds, at most.
const USER_ENTRIES_MAX: usize = 64;

/// Injects a pod that is to be injected.
pub(crate) fn inject(request: Request<'_>) -> Result<(Value, Vec<String>), String> {
    let config = Config::of(request)?;
    request.check_user_lists()?;
    let mut pod = request.pod.clone();
    if !pod["spec"].is_object() {
        return Err("a pod without a spec".to_owned());
    }
    let workload = request.workload.map_or_else(|| workload::name(&pod), str::to_owned);
    let application_metrics = metadata::application_metrics(&pod);
    let rewritten = match config.rewrites_probes {
        true => probe::rewrite(&mut pod["spec"], config.is_native),
        false => Default::default(),
    };
    let probes = &rewritten.probes;
    let about = About { request, config: &config, workload: &workload, probes, application_metrics };
    let proxy = container::container(&about);
    let init = capture::container(&config, request.settings);
    let has_init = init.is_some();
    place(&mut pod["spec"], &config, proxy, init);
    append(&mut pod["spec"], "volumes", container::volumes(request));
    let secrets = request.settings.proxy_image_pull_secret.iter().map(|name| json!({"name": name}));
    append(&mut pod["spec"], "imagePullSecrets", secrets.collect());
    metadata::add(&mut pod, request, &config, &workload, has_init);
    let mut all = warnings(&pod, &config);
    all.extend(rewritten.warnings);
    Ok((pod, all))
}

fn place(spec: &mut Value, config: &Config, proxy: Value, init: Option<Value>) {
    let mut own: Vec<Value> = init.into_iter().collect();
    if config.is_native {
        own.push(proxy);
        return prepend(spec, "initContainers", own);
    }
    append(spec, "initContainers", own);
    match config.holds_application {
        true => prepend(spec, "containers", vec![proxy]),
        false => append(spec, "containers", vec![proxy]),
    }
}

fn list<'a>(spec: &'a mut Value, name: &str) -> Option<&'a mut Vec<Value>> {
    if !spec[name].is_array() {
        spec[name] = json!([]);
    }
    spec[name].as_array_mut()
}

fn prepend(spec: &mut Value, name: &str, new: Vec<Value>) {
    if !new.is_empty()
        && let Some(list) = list(spec, name)
    {
        list.splice(0..0, new);
    }
}

// What has the name of a new one already stays as it is.
fn append(spec: &mut Value, name: &str, new: Vec<Value>) {
    if !new.is_empty()
        && let Some(list) = list(spec, name)
    {
        for one in new {
            if !list.iter().any(|there| there["name"] == one["name"]) {
                list.push(one);
            }
        }
    }
}

fn warnings(pod: &Value, config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    let uid = capture::PROXY_UID;
    let is_proxy_user = |context: &Value| context["runAsUser"] == uid || context["runAsGroup"] == uid;
    let captured = config.interception != Interception::None;
    for one in pod["spec"]["containers"].as_array().into_iter().flatten() {
        let name = one["name"].as_str().unwrap_or_default();
        let own = one["securityContext"].get("runAsUser").is_some();
        let of_pod = !own && is_proxy_user(&pod["spec"]["securityContext"]);
        if captured && name != crate::PROXY_CONTAINER && (is_proxy_user(&one["securityContext"]) || of_pod) {
            all.push(format!(
                "container {name} runs as user or group {uid}, the sidecar's: its traffic is not captured"
            ));
        }
    }
    all
}

impl Request<'_> {
    /// What an annotation adds to a list: JSON, a list of objects with names, or an object of objects by name (Istio).
    pub(crate) fn user_list(&self, name: &str) -> Vec<Value> {
        self.read_user_list(name).unwrap_or_default()
    }

    fn check_user_lists(&self) -> Result<(), String> {
        ["sidecar.istio.io/userVolume", "sidecar.istio.io/userVolumeMount"]
            .into_iter()
            .try_for_each(|name| self.read_user_list(name).map(drop))
    }

    fn read_user_list(&self, name: &str) -> Result<Vec<Value>, String> {
        let said = annotations::of(self.pod);
        let Some(text) = said.get(name) else { return Ok(Vec::new()) };
        let bad = || format!("annotation {name}: not JSON of at most {USER_ENTRIES_MAX} named objects");
        let all: Vec<Value> = match serde_json::from_str(text).map_err(|_| bad())? {
            Value::Array(all) => all,
            Value::Object(all) => {
                let named = |(name, mut value): (String, Value)| {
                    value.as_object_mut()?.entry("name").or_insert(json!(name));
                    Some(value)
                };
                all.into_iter().filter_map(named).collect()
            }
            _ => return Err(bad()),
        };
        let is_good = all.len() <= USER_ENTRIES_MAX && all.iter().all(|one| one["name"].is_string());
        if is_good { Ok(all) } else { Err(bad()) }
    }
}
