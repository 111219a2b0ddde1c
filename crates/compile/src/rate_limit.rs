//! RateLimitPolicies: the front end, and which limits a virtual host gets.
//!
//! A policy counts at the proxies that route for its hosts, if they are of its own namespace, if it stands in the root
//! namespace, or if the host is a service of its namespace: who owns a service may protect it from everybody, and nobody
//! limits others' calls to others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::rate_limit::{RateLimitKey, RateLimitPolicySpec, RateLimitRule};
use config::{RateKey, RateLimit, VirtualHost};
use words::{Diagnostic, Fingerprint, Origin, host};

use crate::gateway_name;
use crate::intent::{Asker, MESH};
use crate::mesh::MeshConfig;
use crate::notes::Notes;
use crate::service::Age;

/// Interval of a limit that says none.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

/// A policy by itself.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others.
    pub(crate) age: Age,
    /// Complete hosts, lower case; wildcards too.
    hosts: Vec<String>,
    /// [`MESH`], or `namespace/name`.
    gateways: BTreeSet<String>,
    limits: Vec<Limit>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

#[derive(Debug, Hash)]
struct Limit {
    index: usize,
    /// Rules by name; empty for the whole host.
    routes: Vec<String>,
    key: Option<RateKey>,
    requests: u32,
    interval: Duration,
    burst: u32,
}

/// Lowers a RateLimitPolicy.
pub(crate) fn lower(origin: Origin, age: Age, spec: &RateLimitPolicySpec, mesh: &MeshConfig) -> Policy {
    let RateLimitPolicySpec { hosts, gateways, limits } = spec;
    let mut notes = Notes::about(&origin);
    let hosts = hosts.iter().map(|written| host::resolve_short(written, &origin.namespace, &mesh.domain)).collect();
    let gateways = match gateways.is_empty() {
        true => BTreeSet::from([MESH.to_owned()]),
        false => gateways.iter().map(|name| gateway_name::resolve(name, &origin.namespace)).collect(),
    };
    let limits = limits.iter().enumerate().filter_map(|(index, one)| lower_limit(index, one, &mut notes)).collect();
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, &hosts, &gateways, &limits, &diagnostics));
    Policy { origin, age, hosts, gateways, limits, diagnostics, print }
}

// The schema and validation refuse these; an object that got in anyway loses the limit and nothing else.
fn lower_limit(index: usize, rule: &RateLimitRule, notes: &mut Notes) -> Option<Limit> {
    let RateLimitRule { routes, key, requests, interval, burst } = rule;
    let key = match key {
        None => None,
        Some(RateLimitKey { header: Some(name), source_address: None }) => {
            Some(RateKey::Header(name.to_ascii_lowercase()))
        }
        Some(RateLimitKey { header: None, source_address: Some(_) }) => Some(RateKey::SourceAddress),
        Some(_) => {
            notes.ignored(format!("spec.limits[{index}].key"), "exactly one of header and sourceAddress is needed");
            return None;
        }
    };
    let Some(requests) = requests.filter(|requests| *requests > 0) else {
        notes.ignored(format!("spec.limits[{index}].requests"), "at least 1 request is needed");
        return None;
    };
    let interval = interval.as_ref().and_then(api::Duration::get).unwrap_or(INTERVAL_DEFAULT);
    let burst = burst.filter(|burst| *burst > 0).unwrap_or(requests);
    Some(Limit { index, routes: routes.clone(), key, requests, interval, burst })
}

/// All policies, and what decides who obeys them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<'a> {
    /// Oldest first.
    pub(crate) all: &'a [Arc<Policy>],
    /// The mesh's settings.
    pub(crate) mesh: &'a MeshConfig,
}

impl<'a> Limits<'a> {
    /// Those that concern a host at a proxy.
    pub(crate) fn of_host(self, name: &str, asker: &Asker<'_>) -> Vec<&'a Policy> {
        let concerns = |policy: &&Arc<Policy>| {
            let namespace = &*policy.origin.namespace;
            let owned = format!(".{namespace}.svc.{}", self.mesh.domain);
            asker.gateways.iter().any(|gateway| policy.gateways.contains(*gateway))
                && policy.hosts.iter().any(|host| host::is_subset(name, host))
                && (namespace == asker.namespace || namespace == self.mesh.root_namespace || name.ends_with(&owned))
        };
        self.all.iter().filter(concerns).map(|policy| &**policy).collect()
    }
}

/// The content of policies, for memo keys.
pub(crate) fn print(policies: &[&Policy]) -> Vec<Fingerprint> {
    policies.iter().map(|policy| policy.print).collect()
}

/// Gives a virtual host and its routes their limits.
pub(crate) fn put(policies: &[&Policy], host: &mut VirtualHost) {
    for policy in policies {
        for limit in &policy.limits {
            let bucket = format!("{}/{}/{}@{}", policy.origin.namespace, policy.origin.name, limit.index, host.name);
            if limit.routes.is_empty() {
                host.limits.push(limit.made(bucket));
                continue;
            }
            for route in &mut host.routes {
                // `rule` or `rule.match` (X54).
                let named = limit.routes.iter().find(|rule| match route.name.strip_prefix(rule.as_str()) {
                    Some(rest) => rest.is_empty() || rest.starts_with('.'),
                    None => false,
                });
                route.limits.extend(named.map(|rule| limit.made(format!("{bucket}/{rule}"))));
            }
        }
    }
}

impl Limit {
    fn made(&self, bucket: String) -> RateLimit {
        let Self { key, requests, interval, burst, .. } = self;
        RateLimit { name: bucket.into(), key: key.clone(), requests: *requests, interval: *interval, burst: *burst }
    }
}
