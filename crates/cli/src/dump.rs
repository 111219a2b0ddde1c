//! Envoy's `config_dump`: its sections, and the bits that several tables need.

use anyhow::{Context, Result};
use serde_json::Value;

/// A `config_dump`.
pub struct Dump(pub Value);

impl Dump {
    /// Reads a dump's JSON.
    pub fn read(text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(text).context("the dump is not JSON")?;
        value.get("configs").and_then(Value::as_array).context("the JSON is no config_dump: it has no configs")?;
        Ok(Self(value))
    }

    /// The resources of one section: `field` of each entry of `lists` in the section whose type ends with `section`.
    pub fn resources<'a>(&'a self, section: &str, lists: &[&str], field: &[&str]) -> Vec<&'a Value> {
        let configs = self.0["configs"].as_array().into_iter().flatten();
        let of_section = configs.filter(|config| config["@type"].as_str().is_some_and(|name| name.ends_with(section)));
        let entries = of_section.flat_map(|config| lists.iter().filter_map(|list| config[*list].as_array()).flatten());
        entries.filter_map(|entry| field.iter().try_fold(entry, |value, key| value.get(*key))).collect()
    }

    /// Clusters.
    pub fn clusters(&self) -> Vec<&Value> {
        self.resources("ClustersConfigDump", &["static_clusters", "dynamic_active_clusters"], &["cluster"])
    }

    /// Listeners.
    pub fn listeners(&self) -> Vec<&Value> {
        let mut all = self.resources("ListenersConfigDump", &["static_listeners"], &["listener"]);
        all.extend(self.resources("ListenersConfigDump", &["dynamic_listeners"], &["active_state", "listener"]));
        all
    }

    /// Route tables.
    pub fn routes(&self) -> Vec<&Value> {
        self.resources("RoutesConfigDump", &["static_route_configs", "dynamic_route_configs"], &["route_config"])
    }

    /// Endpoints by cluster.
    pub fn endpoints(&self) -> Vec<&Value> {
        let lists = ["static_endpoint_configs", "dynamic_endpoint_configs"];
        self.resources("EndpointsConfigDump", &lists, &["endpoint_config"])
    }
}

/// A string field; empty when absent.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The object behind a resource, `reviews.default`, from Istio's metadata path; empty for none.
pub fn origin(resource: &Value) -> String {
    let path = resource["metadata"]["filter_metadata"]["istio"]["config"].as_str().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["", "apis", _, _, "namespaces", namespace, _, name] => format!("{name}.{namespace}"),
        _ => String::new(),
    }
}

/// Address and port of an `address` message.
pub fn address(value: &Value) -> (String, Option<u64>) {
    let socket = &value["socket_address"];
    match value["pipe"]["path"].as_str() {
        Some(path) => (format!("unix://{path}"), None),
        None => (text(socket, "address").to_owned(), socket["port_value"].as_u64()),
    }
}

/// The parts of a cluster's name, `outbound|9080|v1|host`; a name of another form is all host.
pub fn cluster_parts(name: &str) -> [&str; 4] {
    let mut parts = name.splitn(4, '|');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(direction), Some(port), Some(subset), Some(host)) => [direction, port, subset, host],
        _ => ["", "", "", name],
    }
}
