//! `proxy-status`: which proxies are connected, and whether they run what they were sent.
//!
//! In: the control plane's `/debug/syncz`. Out: istioctl's tables. A type is SYNCED when the last version sent was
//! acknowledged, STALE when not yet, NOT SENT when the proxy never asked for it, ERROR when it was refused.

use serde_json::Value;

use crate::dump::text;
use crate::table;

/// Columns of the long table, with the type each stands for.
const TYPES: [&str; 4] = ["CDS", "LDS", "EDS", "RDS"];

/// The rows of one proxy, or of all.
pub fn of<'a>(proxies: &'a Value, wanted: Option<&str>) -> Vec<&'a Value> {
    let all = proxies.as_array().into_iter().flatten();
    let mut found: Vec<&Value> =
        all.filter(|proxy| wanted.is_none_or(|wanted| text(proxy, "proxy") == wanted)).collect();
    found.sort_by_key(|proxy| text(proxy, "proxy"));
    found
}

/// The short table.
pub fn table(proxies: &[&Value]) -> String {
    let row = |proxy: &&Value| {
        let types = subscribed(proxy);
        let types = format!("{} ({})", types.len(), types.join(","));
        let field = |key| text(proxy, key).to_owned();
        vec![field("proxy"), field("cluster_id"), field("control_plane"), field("proxy_version"), types]
    };
    let rows: Vec<Vec<String>> = proxies.iter().map(row).collect();
    table::render(&["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"], &rows)
}

/// The long table.
pub fn long_table(proxies: &[&Value]) -> String {
    let row = |proxy: &&Value| {
        let field = |key| text(proxy, key).to_owned();
        let mut row = vec![field("proxy"), field("cluster_id")];
        row.extend(TYPES.iter().map(|name| state(&proxy["resources"][*name])));
        row.extend([field("control_plane"), field("proxy_version")]);
        row
    };
    let rows: Vec<Vec<String>> = proxies.iter().map(row).collect();
    table::render(&["NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "ISTIOD", "VERSION"], &rows)
}

fn subscribed(proxy: &Value) -> Vec<&str> {
    let resources = proxy["resources"].as_object();
    resources.map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn state(resource: &Value) -> String {
    if resource.is_null() {
        return "NOT SENT".into();
    }
    if resource["last_error"].as_str().is_some_and(|error| !error.is_empty()) {
        return "ERROR".into();
    }
    let age = resource["acked_seconds_ago"].as_u64();
    match (resource["synced"].as_bool(), age) {
        (Some(true), Some(seconds)) => format!("SYNCED ({})", short(seconds)),
        (Some(true), None) => "SYNCED".into(),
        _ => "STALE".into(),
    }
}

fn short(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}
