//! What a proxy was told to hold, in the form of Envoy's `config_dump`.

use std::sync::Arc;

use config::Snapshot;
use serde_json::{Value, json};
use xds::TypeUrl;

/// The dump of a proxy's layers. Values come from the compiled layers, versions from the encoded ones.
pub(crate) fn config_dump(compiled: &[Arc<compile::Layer>], layers: &[Arc<xds::Layer>]) -> Value {
    let mut whole = Snapshot::default();
    for layer in compiled {
        whole.extend(&layer.snapshot);
    }
    let version = |kind: TypeUrl, name: &str| {
        layers.iter().find_map(|layer| layer.get(kind, name)).map_or_else(String::new, |one| one.version.to_string())
    };
    let clusters: Vec<Value> = whole
        .clusters
        .iter()
        .map(|(name, one)| json!({"version_info": version(TypeUrl::Cluster, name), "cluster": codec::json::cluster(one)}))
        .collect();
    let listeners: Vec<Value> = whole
        .listeners
        .iter()
        .map(|(name, one)| {
            let state = json!({"version_info": version(TypeUrl::Listener, name), "listener": codec::json::listener(one)});
            json!({"name": name.as_ref(), "active_state": state})
        })
        .collect();
    let routes: Vec<Value> = whole
        .routes
        .iter()
        .map(|(name, one)| {
            json!({"version_info": version(TypeUrl::Route, name), "route_config": codec::json::route_table(one)})
        })
        .collect();
    let endpoints: Vec<Value> = whole
        .endpoints
        .iter()
        .map(|(name, one)| {
            json!({"version_info": version(TypeUrl::Endpoints, name), "endpoint_config": codec::json::endpoints(one)})
        })
        .collect();
    let section = |name: &str, list: &str, entries: Vec<Value>| {
        json!({"@type": format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump"), list: entries})
    };
    json!({"configs": [
        section("Clusters", "dynamic_active_clusters", clusters),
        section("Listeners", "dynamic_listeners", listeners),
        section("Routes", "dynamic_route_configs", routes),
        section("Endpoints", "dynamic_endpoint_configs", endpoints),
    ]})
}
