//! Validation of one object by itself: errors refuse it, warnings and notes go with it.
//!
//! In: an object that has passed its schema. Out: diagnostics that name object and field. Knows no other object: what
//! depends on others is found by `compile`. One file per kind; the shared checks are here.

use words::{Diagnostic, Origin, host};

use crate::{LooseDuration, Object};

mod destination_rule;
mod gateway;
mod service_entry;
mod virtual_service;
mod workload;

/// Longest regular expression accepted, in bytes (V-07).
pub const REGEX_BYTES_MAX: usize = 1024;

/// Every finding about one object.
pub fn object(object: &Object) -> Vec<Diagnostic> {
    let mut findings = Findings { origin: object.origin(), found: Vec::new() };
    match object {
        Object::VirtualService(vs) => virtual_service::check(&vs.spec, &mut findings),
        Object::DestinationRule(dr) => destination_rule::check(&dr.spec, &mut findings),
        Object::Gateway(gateway) => gateway::check(&gateway.spec, &mut findings),
        Object::ServiceEntry(entry) => service_entry::check(&entry.spec, &mut findings),
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
        self.found.push(Diagnostic::error("IST0106", self.origin.clone(), field, message));
    }

    /// Istio's code for a schema warning, with what to write instead.
    pub(crate) fn deprecated(&mut self, field: impl Into<String>, message: &str, fix: &str) {
        self.found.push(Diagnostic::warning("IST0133", self.origin.clone(), field, message).with_fix(fix));
    }

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

    /// A duration that may be 0 (X05).
    pub(crate) fn loose_duration(&mut self, field: &str, duration: Option<&LooseDuration>) {
        if let Some(LooseDuration(text)) = duration.filter(|duration| duration.get().is_none()) {
            self.error(field, format!("{text:?} is not a duration, such as \"0s\" or \"30m\""));
        }
    }

    /// Gateways by name: `mesh`, `name`, `namespace/name`, or a host of old (V-24).
    pub(crate) fn gateways(&mut self, path: &str, gateways: &[String]) {
        for (index, gateway) in gateways.iter().enumerate() {
            let reason = match gateway.split_once('/') {
                Some((namespace, name)) => bad_label(namespace).or_else(|| bad_label(name)),
                None if gateway.starts_with('*') => Some("it has a wildcard"),
                None => bad_host(gateway),
            };
            if let Some(reason) = reason {
                self.error(format!("{path}[{index}]"), format!("{gateway:?} is not a gateway's name: {reason}"));
            }
        }
    }

    /// Namespaces that see an object: `.`, `*` alone, or names; `~`, nobody, is for ServiceEntry alone (V-10).
    pub(crate) fn export_to(&mut self, namespaces: &[String], nobody_allowed: bool) {
        for (index, namespace) in namespaces.iter().enumerate() {
            let field = format!("spec.exportTo[{index}]");
            if namespaces[..index].contains(namespace) {
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
}

/// Why a name is no host; `None` when it is one.
pub(crate) fn bad_host(name: &str) -> Option<&'static str> {
    if host::ip(name).is_some() || name == "*" {
        return None;
    }
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let rest = rest.strip_suffix('.').unwrap_or(rest);
    if rest.is_empty() || name.len() > 255 {
        return Some("it must have 1 to 255 characters");
    }
    rest.split('.').enumerate().find_map(|(index, label)| {
        let partial = index == 0 && label.starts_with('*');
        bad_label(if partial { label[1..].trim_start_matches('-') } else { label })
    })
}

/// Why a name is no DNS label (RFC 1123); `None` when it is one.
pub(crate) fn bad_label(label: &str) -> Option<&'static str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric();
    let (Some(first), Some(last)) = (label.bytes().next(), label.bytes().last()) else {
        return Some("a label is empty");
    };
    if label.len() > 63 {
        return Some("a label is longer than 63 characters");
    }
    if !is_word(first) || !is_word(last) {
        return Some("a label must begin and end with a letter or digit");
    }
    let bad = label.bytes().any(|byte| !is_word(byte) && byte != b'-' && byte != b'_');
    bad.then_some("a label may hold only letters, digits, '-' and '_'")
}
