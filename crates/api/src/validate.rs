//! Validation of one object by itself: errors refuse it, warnings and notes go with it.
//!
//! In: an object that has passed its schema. Out: diagnostics that name object and field. Knows no other object: what
//! depends on others is found by `compile` and `analyze`. One file per kind or per block that several kinds share; the
//! vocabulary of findings is here, what a name may look like is in `names`. Comments name the rules (`V-30`), and
//! `tests/validation` has what each refuses and lets pass.

use words::{Diagnostic, Labels, Origin, Severity};

use crate::{Duration, LooseDuration, Object};

mod authorization_policy;
mod balancer;
mod client_tls;
mod destination;
mod destination_rule;
mod gateway;
mod header;
mod http_action;
mod http_match;
mod locality;
mod metadata;
mod names;
mod outlier;
mod peer_authentication;
mod pool;
mod probe;
mod proxy_config;
mod rate_limit;
mod redundant;
mod request_authentication;
mod selector;
mod server_tls;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;
mod workload;

pub(crate) use names::{bad_host, bad_label};

/// Longest regular expression accepted, in bytes (V-07).
pub const REGEX_BYTES_MAX: usize = 1024;

/// Istio's code for what the schema or the webhook refuses.
pub const REFUSED: &str = "IST0106";
/// Istio's code for what the webhook warns of.
pub const WARNED: &str = "IST0133";
/// Istio's code for a rule that no request reaches (V-41).
pub const UNREACHABLE: &str = "IST0130";
/// Istio's code for a match that an earlier rule has taken (V-42).
pub const INEFFECTIVE: &str = "IST0131";
/// Istio's code for a ServiceEntry whose TCP ports need addresses (V-74).
pub const ADDRESSES_REQUIRED: &str = "IST0134";

/// Every finding about one object.
pub fn object(object: &Object) -> Vec<Diagnostic> {
    let mut findings = Findings { origin: object.origin(), found: Vec::new() };
    metadata::check(object, &mut findings);
    match object {
        Object::VirtualService(vs) => virtual_service::check(&vs.spec, &mut findings),
        Object::DestinationRule(dr) => destination_rule::check(&dr.spec, &mut findings),
        Object::Gateway(gateway) => gateway::check(&gateway.spec, &mut findings),
        Object::ServiceEntry(entry) => service_entry::check(&entry.metadata, &entry.spec, &mut findings),
        Object::Sidecar(sidecar) => sidecar::check(&sidecar.spec, &mut findings),
        Object::Telemetry(telemetry) => telemetry::check(&telemetry.spec, &mut findings),
        Object::RequestAuthentication(one) => request_authentication::check(&one.spec, &mut findings),
        Object::AuthorizationPolicy(one) => authorization_policy::check(&one.spec, &mut findings),
        Object::ProxyConfig(config) => proxy_config::check(&config.spec, &mut findings),
        Object::PeerAuthentication(policy) => peer_authentication::check(&policy.spec, &mut findings),
        Object::RateLimitPolicy(policy) => rate_limit::check(&policy.spec, &mut findings),
        Object::WorkloadEntry(entry) => workload::check_entry("spec", &entry.spec, &mut findings),
        Object::WorkloadGroup(group) => workload::check_group(&group.spec, &mut findings),
        _ => {}
    }
    findings.found
}

/// Findings about one object, as they are made.
pub(crate) struct Findings {
    origin: Origin,
    found: Vec<Diagnostic>,
}

impl Findings {
    /// Istio's code for a schema error.
    pub(crate) fn error(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.found.push(Diagnostic::error(REFUSED, self.origin.clone(), field, message));
    }

    /// Istio's code for a schema warning.
    pub(crate) fn warn(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.found.push(Diagnostic::warning(WARNED, self.origin.clone(), field, message));
    }

    /// A schema warning with what to write instead.
    pub(crate) fn deprecated(&mut self, field: impl Into<String>, message: &str, fix: &str) {
        self.found.push(Diagnostic::warning(WARNED, self.origin.clone(), field, message).with_fix(fix));
    }

    /// A finding with a code of its own.
    pub(crate) fn add(
        &mut self,
        code: &str,
        severity: Severity,
        field: impl Into<String>,
        message: impl Into<String>,
        fix: &str,
    ) {
        self.found.push(Diagnostic::new(code, severity, self.origin.clone(), field, message).with_fix(fix));
    }

    /// The namespace of the object.
    pub(crate) fn namespace(&self) -> &str {
        &self.origin.namespace
    }

    /// An error when two of the named fields are set.
    pub(crate) fn at_most_one(&mut self, field: &str, set: &[(&str, bool)]) {
        let set: Vec<&str> = set.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        if set.len() > 1 {
            self.error(field, format!("only one of {} may be set", set.join(", ")));
        }
    }

    /// A regular expression (V-07).
    pub(crate) fn regex(&mut self, field: &str, regex: &str) {
        if regex.is_empty() || regex.len() > REGEX_BYTES_MAX {
            return self
                .error(field, format!("a regex must have 1 to {REGEX_BYTES_MAX} bytes, this one has {}", regex.len()));
        }
        if let Err(error) = regex::Regex::new(regex) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            self.error(field, format!("the regex {regex:?} does not compile: {reason}"));
        }
    }

    /// A port number (V-02).
    pub(crate) fn port(&mut self, field: &str, number: u32) {
        if !(1..=65535).contains(&number) {
            self.error(field, format!("port {number} is not within 1 to 65535"));
        }
    }

    /// A protocol by name (V-02, X41).
    pub(crate) fn protocol(&mut self, field: &str, name: &str) {
        if words::Protocol::parse(name).is_none() {
            self.error(field, format!("{name:?} is no protocol"));
        }
    }

    /// A duration of whole milliseconds, at least one (V-01).
    pub(crate) fn duration(&mut self, field: &str, duration: Option<&Duration>) {
        let Some(Duration(text)) = duration else { return };
        match duration.and_then(Duration::get) {
            Some(value) if value.as_millis() < 1 => self.error(field, format!("{text:?} is less than 1ms")),
            Some(value) if value.as_nanos() % 1_000_000 != 0 => {
                self.error(field, format!("{text:?} is no whole number of milliseconds"));
            }
            Some(_) => {}
            None => self.error(field, format!("{text:?} is not a duration, such as \"1s\" or \"250ms\"")),
        }
    }

    /// A duration that may be 0 (X05).
    pub(crate) fn loose_duration(&mut self, field: &str, duration: Option<&LooseDuration>) {
        if let Some(LooseDuration(text)) = duration.filter(|duration| duration.get().is_none()) {
            self.error(field, format!("{text:?} is not a duration, such as \"0s\" or \"30m\""));
        }
    }

    /// A percentage: 0, or 0.0001 to 100 (V-11).
    pub(crate) fn percent(&mut self, field: &str, value: f64) {
        if !(value == 0.0 || (0.0001..=100.0).contains(&value)) {
            self.error(field, format!("{value} is neither 0 nor within 0.0001 to 100"));
        }
    }

    /// Labels as Kubernetes has them (V-09).
    pub(crate) fn labels(&mut self, field: &str, labels: &Labels) {
        for (key, value) in labels {
            if let Some(reason) = names::bad_label_key(key) {
                self.error(format!("{field}.{key}"), format!("{key:?} is not a label's key: {reason}"));
            }
            if let Some(reason) = names::bad_label_value(value) {
                self.error(format!("{field}.{key}"), format!("{value:?} is not a label's value: {reason}"));
            }
        }
    }

    /// Gateways by name: `mesh`, `name`, `namespace/name`, or a host of old (V-24).
    pub(crate) fn gateways(&mut self, path: &str, gateways: &[String]) {
        for (index, gateway) in gateways.iter().enumerate() {
            let field = format!("{path}[{index}]");
            let reason = match gateway.split_once('/') {
                // `./name` is the object's own namespace (X11).
                Some((".", name)) => bad_label(name),
                Some((namespace, name)) => bad_label(namespace).or_else(|| bad_label(name)),
                None => names::bad_fqdn(gateway),
            };
            if let Some(reason) = reason {
                self.error(field, format!("{gateway:?} is not a gateway's name: {reason}"));
            } else if gateway.contains('.') && !gateway.contains('/') {
                let fix = "write namespace/name";
                self.deprecated(field, "a gateway by its host is the form of old; it means namespace and name", fix);
            }
        }
    }

    /// Namespaces that see an object: `.`, `*` alone, or names; `~`, nobody, is for ServiceEntry alone (V-10).
    pub(crate) fn export_to(&mut self, namespaces: &[String], nobody_allowed: bool) {
        let own = self.namespace().to_owned();
        let meant = |namespace: &String| if namespace == "." { own.clone() } else { namespace.clone() };
        for (index, namespace) in namespaces.iter().enumerate() {
            let field = format!("spec.exportTo[{index}]");
            if namespaces[..index].iter().any(|other| meant(other) == meant(namespace)) {
                self.error(&field, format!("{namespace:?} is there twice"));
            }
            match namespace.as_str() {
                "." => {}
                "*" if namespaces.len() == 1 => {}
                "~" if nobody_allowed && namespaces.len() == 1 => {}
                "*" | "~" => {
                    self.error(field, format!("{namespace:?} must stand alone, and \"~\" only in a ServiceEntry"))
                }
                name => {
                    if let Some(reason) = bad_label(name) {
                        self.error(field, format!("{name:?} is not a namespace: {reason}"));
                    }
                }
            }
        }
    }

    /// A host, which may be a wildcard or an address (V-03).
    pub(crate) fn host(&mut self, field: &str, name: &str) {
        if let Some(reason) = bad_host(name) {
            self.error(field, format!("{name:?} is not a host: {reason}"));
        }
    }

    /// A name of one host, without a wildcard (V-03).
    pub(crate) fn fqdn(&mut self, field: &str, name: &str) {
        if let Some(reason) = names::bad_fqdn(name) {
            self.error(field, format!("{name:?} is not a host's full name: {reason}"));
        }
    }

    /// Addresses or ranges of addresses.
    pub(crate) fn subnets(&mut self, path: &str, subnets: &[String]) {
        for (index, subnet) in subnets.iter().enumerate().filter(|(_, subnet)| !names::is_subnet(subnet)) {
            self.error(format!("{path}[{index}]"), format!("{subnet:?} is neither an address nor a range"));
        }
    }
}
