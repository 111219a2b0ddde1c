//! `proxy-config route`: NAME, VHOST NAME, DOMAINS, MATCH, VIRTUAL SERVICE.

use serde_json::Value;

use crate::dump::{origin, text};
use crate::table;

/// Domains shown before the rest is counted, as istioctl does.
const DOMAINS_SHOWN: usize = 2;

/// A row for each route.
pub fn table(tables: &[&Value]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut sorted = tables.to_vec();
    sorted.sort_by_key(|table| text(table, "name"));
    for table in sorted {
        for host in table["virtual_hosts"].as_array().into_iter().flatten() {
            add_host(text(table, "name"), host, &mut rows);
        }
    }
    table::render(&["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"], &rows)
}

/// A row for each table.
pub fn summary(tables: &[&Value]) -> String {
    let count = |table: &Value| table["virtual_hosts"].as_array().map_or(0, Vec::len);
    let mut rows: Vec<Vec<String>> =
        tables.iter().map(|table| vec![text(table, "name").to_owned(), count(table).to_string()]).collect();
    rows.sort();
    table::render(&["NAME", "VIRTUAL HOSTS"], &rows)
}

fn add_host(table: &str, host: &Value, rows: &mut Vec<Vec<String>>) {
    let row = |path: String, service: String| {
        vec![table.to_owned(), text(host, "name").to_owned(), domains(host), path, service]
    };
    let routes = host["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if routes.is_empty() {
        return rows.push(row("/*".into(), "404".into()));
    }
    rows.extend(routes.iter().map(|route| row(describe_match(&route["match"]), origin(route))));
}

fn domains(host: &Value) -> String {
    let all: Vec<&str> = host["domains"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    // The name alone says least; istioctl shows the longest forms last and starts with the full name.
    let shown = all.iter().take(DOMAINS_SHOWN).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(DOMAINS_SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn describe_match(conditions: &Value) -> String {
    let path = match (conditions["prefix"].as_str(), conditions["path"].as_str()) {
        (Some(prefix), _) => format!("{prefix}*"),
        (None, Some(path)) => path.to_owned(),
        (None, None) => match conditions["safe_regex"]["regex"].as_str() {
            Some(regex) => format!("regex {regex}"),
            None => "*".to_owned(),
        },
    };
    let names = |key: &str| {
        let items = conditions[key].as_array().into_iter().flatten();
        items.map(|item| text(item, "name").to_owned()).collect::<Vec<_>>()
    };
    let mut out = path;
    for (label, names) in [("header", names("headers")), ("query", names("query_parameters"))] {
        if !names.is_empty() {
            out.push_str(&format!(" {label} {}", names.join(",")));
        }
    }
    out
}
