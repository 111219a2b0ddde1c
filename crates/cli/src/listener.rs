//! `proxy-config listener`: ADDRESSES, PORT, MATCH, DESTINATION.

use serde_json::Value;

use crate::dump::{address, text};
use crate::table;

/// True for a listener that is to be shown.
pub fn takes(listener: &Value, wanted_address: Option<&str>, wanted_port: Option<u16>) -> bool {
    let (ip, port) = address(&listener["address"]);
    wanted_address.is_none_or(|wanted| wanted == ip) && wanted_port.is_none_or(|wanted| Some(u64::from(wanted)) == port)
}

/// The table.
pub fn table(listeners: &[&Value]) -> String {
    let mut rows: Vec<(u64, Vec<String>)> = listeners.iter().flat_map(|listener| rows(listener)).collect();
    // The chains of a listener keep their order.
    rows.sort_by(|a, b| (a.0, &a.1[0]).cmp(&(b.0, &b.1[0])));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    table::render(&["ADDRESSES", "PORT", "MATCH", "DESTINATION"], &rows)
}

fn rows(listener: &Value) -> Vec<(u64, Vec<String>)> {
    let (ip, port) = address(&listener["address"]);
    let port = port.unwrap_or(0);
    let chains = listener["filter_chains"].as_array().into_iter().flatten();
    let default = listener.get("default_filter_chain").filter(|chain| !chain.is_null());
    let row = |chain: &Value| (port, vec![ip.clone(), port.to_string(), matches(chain), destination(chain)]);
    chains.chain(default).map(row).collect()
}

fn matches(chain: &Value) -> String {
    let conditions = &chain["filter_chain_match"];
    let list = |key: &str| {
        let items = conditions[key].as_array().into_iter().flatten();
        items.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    };
    let mut parts = Vec::new();
    if let Some(port) = conditions["destination_port"].as_u64() {
        parts.push(format!("Port: {port}"));
    }
    let ranges = conditions["prefix_ranges"].as_array().into_iter().flatten();
    let ranges: Vec<String> =
        ranges.map(|range| format!("{}/{}", text(range, "address_prefix"), range["prefix_len"])).collect();
    if !ranges.is_empty() {
        parts.push(format!("Addr: {}", ranges.join(",")));
    }
    for (label, value) in [("SNI", list("server_names")), ("App", list("application_protocols"))] {
        if !value.is_empty() {
            parts.push(format!("{label}: {value}"));
        }
    }
    match text(conditions, "transport_protocol") {
        "" => {}
        transport => parts.push(format!("Trans: {transport}")),
    }
    if parts.is_empty() { "ALL".into() } else { parts.join("; ") }
}

fn destination(chain: &Value) -> String {
    let filters = chain["filters"].as_array().into_iter().flatten();
    let mut described = filters.filter_map(|filter| {
        let config = &filter["typed_config"];
        let kind = config["@type"].as_str()?;
        if kind.ends_with("HttpConnectionManager") {
            return Some(http(config));
        }
        kind.ends_with("TcpProxy").then(|| tcp(config))
    });
    described.next_back().unwrap_or_else(|| "Non-HTTP/Non-TCP".into())
}

fn http(config: &Value) -> String {
    match config["rds"]["route_config_name"].as_str() {
        Some(name) => format!("Route: {name}"),
        None => format!("Inline Route: {}", inline(&config["route_config"])),
    }
}

fn inline(table: &Value) -> String {
    let hosts = table["virtual_hosts"].as_array().into_iter().flatten();
    let routes = hosts.flat_map(|host| host["routes"].as_array().into_iter().flatten());
    let paths: Vec<String> = routes.map(|route| format!("{}*", text(&route["match"], "prefix"))).collect();
    paths.join(", ")
}

fn tcp(config: &Value) -> String {
    match config["cluster"].as_str() {
        Some(cluster) => format!("Cluster: {cluster}"),
        None => "Weighted Clusters".into(),
    }
}
