//! `proxy-config cluster`: SERVICE FQDN, PORT, SUBSET, DIRECTION, TYPE, DESTINATION RULE.

use serde_json::Value;

use crate::dump::{cluster_parts, origin, text};
use crate::table;

/// Which clusters to show.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// Only of this service.
    pub fqdn: Option<&'a str>,
    /// Only of this port.
    pub port: Option<u16>,
    /// Only of this subset.
    pub subset: Option<&'a str>,
    /// Only of this direction.
    pub direction: Option<&'a str>,
}

impl Filter<'_> {
    /// True for a cluster that is to be shown.
    pub fn takes(&self, cluster: &Value) -> bool {
        let [direction, port, subset, host] = cluster_parts(text(cluster, "name"));
        self.fqdn.is_none_or(|wanted| host == wanted)
            && self.port.is_none_or(|wanted| port == wanted.to_string())
            && self.subset.is_none_or(|wanted| subset == wanted)
            && self.direction.is_none_or(|wanted| direction == wanted)
    }
}

/// The table.
pub fn table(clusters: &[&Value]) -> String {
    let mut rows: Vec<Vec<String>> = clusters.iter().map(|cluster| row(cluster)).collect();
    rows.sort();
    table::render(&["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"], &rows)
}

fn row(cluster: &Value) -> Vec<String> {
    let [direction, port, subset, host] = cluster_parts(text(cluster, "name"));
    let or_dash = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
    // An inbound cluster's name ends with empty parts; istioctl leaves the host empty too.
    let kind = text(cluster, "type");
    let kind = if kind.is_empty() { "STATIC" } else { kind };
    vec![host.to_owned(), or_dash(port), or_dash(subset), or_dash(direction), kind.to_owned(), origin(cluster)]
}
