//! `proxy-config endpoint`: NAME, STATUS, LOCALITY, CLUSTER.

use serde_json::Value;

use crate::dump::{address, text};
use crate::table;

/// Which endpoints to show.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// Only of this cluster.
    pub cluster: Option<&'a str>,
    /// Only on this port.
    pub port: Option<u16>,
    /// Only on this address.
    pub address: Option<&'a str>,
    /// Only of this status, in any case.
    pub status: Option<&'a str>,
}

/// The table, from the endpoints by cluster.
pub fn table(assignments: &[&Value], filter: &Filter<'_>) -> String {
    let mut rows: Vec<Vec<String>> = assignments.iter().flat_map(|assignment| rows(assignment, filter)).collect();
    rows.sort();
    table::render(&["NAME", "STATUS", "LOCALITY", "CLUSTER"], &rows)
}

fn rows(assignment: &Value, filter: &Filter<'_>) -> Vec<Vec<String>> {
    let cluster = text(assignment, "cluster_name");
    if filter.cluster.is_some_and(|wanted| wanted != cluster) {
        return Vec::new();
    }
    let localities = assignment["endpoints"].as_array().into_iter().flatten();
    let each = |group: &Value| {
        let locality = &group["locality"];
        let parts = [text(locality, "region"), text(locality, "zone"), text(locality, "sub_zone")];
        let locality = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
        let endpoints = group["lb_endpoints"].as_array().into_iter().flatten();
        endpoints.filter_map(|endpoint| row(endpoint, &locality, cluster, filter)).collect::<Vec<_>>()
    };
    localities.flat_map(each).collect()
}

fn row(endpoint: &Value, locality: &str, cluster: &str, filter: &Filter<'_>) -> Option<Vec<String>> {
    let (ip, port) = address(&endpoint["endpoint"]["address"]);
    let status = match text(endpoint, "health_status") {
        "" | "UNKNOWN" => "HEALTHY",
        other => other,
    };
    let shown = filter.address.is_none_or(|wanted| wanted == ip)
        && filter.port.is_none_or(|wanted| Some(u64::from(wanted)) == port)
        && filter.status.is_none_or(|wanted| wanted.eq_ignore_ascii_case(status));
    let name = port.map_or(ip.clone(), |port| format!("{ip}:{port}"));
    shown.then(|| vec![name, status.to_owned(), locality.to_owned(), cluster.to_owned()])
}
