//! The check before publishing and before installing: every name resolves, every bound holds.
//!
//! In: a snapshot. Out: the problems, each with the resource and the path in it. A snapshot with a problem is neither
//! sent nor obeyed; the one before it stays. A route to a cluster that is not there is *not* a problem: Istio accepts
//! it and such a request is answered 503 with flag NC (TR28).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use crate::{
    AbortStatus, Action, Authentication, Authorization, AuthorizationRule, Cluster, ClusterChoice, Condition,
    Discovery, Fault, Filter, FilterChain, Forward, HeaderChanges, Listener, PathMatch, PathRewrite, REDIRECT_CODES,
    Route, RouteSource, RouteTable, Snapshot, ValueMatch, VirtualHost,
};

/// Longest regular expression accepted, in bytes (V-07).
pub const REGEX_BYTES_MAX: usize = 1024;

/// Something that must not be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind and name of the resource, `route table "9080"`.
    pub resource: String,
    /// Where in it; may be empty.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => write!(f, "{}: {}", self.resource, self.reason),
            false => write!(f, "{} at {}: {}", self.resource, self.path, self.reason),
        }
    }
}

/// Checks a whole snapshot.
pub fn check(snapshot: &Snapshot) -> Vec<Problem> {
    let Snapshot { listeners, routes, clusters, endpoints: _, names: _, secrets: _ } = snapshot;
    let mut found = Vec::new();
    let mut bound: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    for listener in listeners.values() {
        check_listener(listener, snapshot, &mut found);
        let taken = listener.addresses().filter(|_| listener.bind_to_port);
        for (address, other) in taken.filter_map(|one| Some((one, bound.insert(one, &listener.name)?))) {
            found.push(problem(
                format!("listener {:?}", listener.name),
                "address",
                format!("{address} is taken by listener {other:?}"),
            ));
        }
    }
    for table in routes.values() {
        check_table(table, &mut found);
    }
    for cluster in clusters.values() {
        check_cluster(cluster, snapshot, &mut found);
    }
    found
}

/// Checks one route table by itself.
pub fn check_table(table: &RouteTable, found: &mut Vec<Problem>) {
    let mut domains: BTreeMap<&str, &str> = BTreeMap::new();
    for host in &table.virtual_hosts {
        for domain in &host.domains {
            if let Some(other) = domains.insert(domain, &host.name) {
                let reason = format!("domain {domain:?} is also in virtual host {other:?}");
                found.push(problem(
                    format!("route table {:?}", table.name),
                    format!("virtual host {:?}", host.name),
                    reason,
                ));
            }
        }
        check_virtual_host(&table.name, host, found);
    }
}

fn check_virtual_host(table: &str, host: &VirtualHost, found: &mut Vec<Problem>) {
    for (index, route) in host.routes.iter().enumerate() {
        if let Err(reason) = check_route(route) {
            let path = format!("virtual host {:?} route {index}", host.name);
            found.push(problem(format!("route table {table:?}"), path, reason));
        }
    }
}

fn check_route(route: &Route) -> Result<(), String> {
    let Route { name: _, matches, action, origin: _, operation: _, headers, cors, stat_prefix: _, limits: _ } = route;
    if let PathMatch::Regex(regex) = &matches.path {
        check_regex(regex)?;
    }
    let values = matches.headers.iter().map(|header| &header.value);
    let values = values.chain(matches.claims.iter().map(|claim| &claim.value));
    for value in values.chain(matches.query.iter().map(|query| &query.value)) {
        if let ValueMatch::Regex(regex) = value {
            check_regex(regex)?;
        }
    }
    for value in cors.iter().flat_map(|cors| &cors.allow_origins) {
        if let ValueMatch::Regex(regex) = value {
            check_regex(regex)?;
        }
    }
    check_headers(headers.as_deref())?;
    match action {
        Action::Forward(forward) => check_forward(forward),
        Action::Redirect(redirect) if !REDIRECT_CODES.contains(&redirect.status) => {
            Err(format!("a redirect has no status {}", redirect.status))
        }
        Action::Redirect(_) => Ok(()),
        Action::Respond(respond) if !(200..=599).contains(&respond.status) => {
            Err(format!("status {} is not between 200 and 599", respond.status))
        }
        Action::Respond(_) => Ok(()),
    }
}

fn check_forward(forward: &Forward) -> Result<(), String> {
    check_choice(&forward.cluster)?;
    forward.fault.as_ref().map_or(Ok(()), check_fault)?;
    if let ClusterChoice::Weighted(weighted) = &forward.cluster {
        weighted.iter().try_for_each(|one| check_headers(one.headers.as_deref()))?;
    }
    let path = forward.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    if let Some(PathRewrite::Regex { pattern, substitution }) = path {
        check_regex(pattern)?;
        crate::rewrite::substitution(substitution)?;
    }
    Ok(())
}

fn check_headers(changes: Option<&HeaderChanges>) -> Result<(), String> {
    for put in changes.iter().flat_map(|changes| changes.edits()).flat_map(|edits| &edits.put) {
        crate::template::parse(&put.value).map_err(|reason| format!("header {:?}: {reason}", put.name))?;
    }
    Ok(())
}

fn check_fault(fault: &Fault) -> Result<(), String> {
    let Fault { delay, abort } = fault;
    if delay.as_ref().is_some_and(|delay| delay.fixed.is_zero()) {
        return Err("the delay is 0".into());
    }
    match abort.as_ref().map(|abort| abort.status) {
        Some(AbortStatus::Http(status)) if !(200..=599).contains(&status) => {
            Err(format!("status {status} is not between 200 and 599"))
        }
        _ => Ok(()),
    }
}

fn check_choice(choice: &ClusterChoice) -> Result<(), String> {
    let ClusterChoice::Weighted(weighted) = choice else { return Ok(()) };
    let sum: u64 = weighted.iter().map(|one| u64::from(one.weight)).sum();
    match sum {
        0 => Err("the weights add up to 0".into()),
        sum if sum > u64::from(u32::MAX) => Err(format!("the weights add up to {sum}, more than {}", u32::MAX)),
        _ => Ok(()),
    }
}

fn check_regex(regex: &str) -> Result<(), String> {
    if regex.len() > REGEX_BYTES_MAX {
        return Err(format!("a regex of {} bytes is longer than {REGEX_BYTES_MAX}", regex.len()));
    }
    match regex::Regex::new(regex) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the regex {regex:?} does not compile: {error}")),
    }
}

fn check_listener(listener: &Listener, snapshot: &Snapshot, found: &mut Vec<Problem>) {
    for chain in listener.all_chains() {
        if let Err(reason) = check_chain(chain, snapshot, found) {
            found.push(problem(format!("listener {:?}", listener.name), format!("chain {:?}", chain.name), reason));
        }
    }
}

// Where a condition has nothing in it, our proxy and Envoy could take it for either answer.
fn check_authorization(all: &[Authorization]) -> Result<(), String> {
    fn is_whole<T>(one: &Condition<T>) -> bool {
        match one {
            Condition::Always | Condition::Is(_) => true,
            Condition::All(many) | Condition::One(many) => !many.is_empty() && many.iter().all(is_whole),
            Condition::Not(inner) => is_whole(inner),
        }
    }
    for rule in all.iter().flat_map(Authorization::all_rules) {
        let AuthorizationRule { name, operations, callers } = rule;
        let is_empty = operations.is_empty() || callers.is_empty();
        if is_empty || !operations.iter().all(is_whole) || !callers.iter().all(is_whole) {
            return Err(format!("rule {name:?} has an empty condition"));
        }
    }
    Ok(())
}

fn check_authentication(authentication: Option<&Authentication>) -> Result<(), String> {
    let Some(Authentication { issuers }) = authentication else { return Ok(()) };
    let names: std::collections::BTreeSet<&str> = issuers.iter().map(|issuer| issuer.name.as_str()).collect();
    match issuers.is_empty() || names.len() < issuers.len() {
        true => Err("issuers of tokens are needed, each with a name of its own".into()),
        false => Ok(()),
    }
}

fn check_chain(chain: &FilterChain, snapshot: &Snapshot, found: &mut Vec<Problem>) -> Result<(), String> {
    match &chain.filter {
        Filter::Tcp(tcp) => {
            check_authorization(&tcp.authorization)?;
            check_choice(&tcp.cluster)
        }
        Filter::Http(http) => {
            check_authentication(http.authentication.as_ref())?;
            check_authorization(&http.authorization)?;
            match &http.routes {
                RouteSource::Rds(name) if !snapshot.routes.contains_key(name) => {
                    Err(format!("no route table {name:?}"))
                }
                RouteSource::Rds(_) => Ok(()),
                RouteSource::Inline(table) => {
                    check_table(table, found);
                    Ok(())
                }
            }
        }
    }
}

fn check_cluster(cluster: &Cluster, snapshot: &Snapshot, found: &mut Vec<Problem>) {
    let reason = match &cluster.discovery {
        Discovery::Eds(name) if !snapshot.endpoints.contains_key(name) => format!("no endpoints {name:?}"),
        _ if cluster.connect_timeout.is_zero() => "the connect timeout is 0".into(),
        _ => return,
    };
    found.push(problem(format!("cluster {:?}", cluster.name), "", reason));
}

fn problem(resource: String, path: impl Into<String>, reason: String) -> Problem {
    Problem { resource, path: path.into(), reason }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Respond, RouteMatch};

    fn table(hosts: &[(&str, &str)], regex: &str) -> RouteTable {
        let host = |(name, domain): &(&str, &str)| {
            let matches = RouteMatch { path: PathMatch::Regex(regex.into()), ..RouteMatch::any() };
            let action = Action::Respond(Respond { status: 200, body: Default::default() });
            let route = Route::new("r", matches, action);
            Arc::new(VirtualHost {
                name: (*name).into(),
                domains: vec![(*domain).into()],
                routes: vec![route],
                include_attempt_count: false,
                require_tls: false,
                limits: Vec::new(),
            })
        };
        RouteTable { name: "80".into(), ignore_port: true, virtual_hosts: hosts.iter().map(host).collect() }
    }

    fn reasons(table: RouteTable) -> Vec<String> {
        let mut snapshot = Snapshot::default();
        snapshot.routes.insert(table.name.clone(), Arc::new(table));
        check(&snapshot).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_table_passes() {
        assert_eq!(reasons(table(&[("a", "a"), ("b", "b")], ".*")), Vec::<String>::new());
    }

    #[test]
    fn a_domain_stands_once() {
        let found = reasons(table(&[("a", "x"), ("b", "x")], ".*"));
        assert_eq!(found, ["route table \"80\" at virtual host \"b\": domain \"x\" is also in virtual host \"a\""]);
    }

    #[test]
    fn regex_must_compile_and_be_short() {
        assert!(reasons(table(&[("a", "a")], "(")).join("").contains("does not compile"));
        assert!(reasons(table(&[("a", "a")], &"x".repeat(1025))).join("").contains("longer than 1024"));
    }
}
