//! Virtual hosts: the names that a service answers to (X15), and the routes under them.
//!
//! In: a service as a client's namespace sees it, and the object that speaks about it, if any. Out: a [`VirtualHost`].

use std::collections::BTreeSet;
use std::sync::Arc;

use config::{HashKey, Name, VirtualHost};
use words::{Fingerprint, host};

use crate::intent::{Asker, Routing};
use crate::mesh::DefaultRetries;
use crate::registry::Seen;
use crate::route::{self, Facts, Place};
use crate::service::Service;

/// The names of a service for clients of `namespace`, without ports. The complete host is the first. `dns`: clients know
/// the addresses that services got for want of any (SE16).
pub(crate) fn domains(seen: &Seen, namespace: &str, domain: &str, dns: bool) -> Vec<String> {
    let mut names = Vec::new();
    for service in std::iter::once(seen.service()).chain(seen.aliases.iter().map(|alias| &alias.service)) {
        add_names(service, namespace, domain, &mut names);
    }
    for address in seen.addresses(dns) {
        // A range is no name; a single address is.
        if address == config::Cidr::host(address.address) {
            names.push(in_authority(address.address));
        }
    }
    let mut seen_names = BTreeSet::new();
    names.retain(|name| seen_names.insert(name.clone()));
    names
}

fn add_names(service: &Service, namespace: &str, domain: &str, names: &mut Vec<String>) {
    let start = names.len();
    names.push(service.host.to_string());
    if !host::is_wildcard(&service.host) {
        names.push(format!("{}.", service.host));
    }
    if service.is_kubernetes() {
        let Service { name, namespace: own, .. } = service;
        if &**own == namespace {
            names.push(name.clone());
        }
        names.push(format!("{name}.{own}"));
        // `svc` comes before the domain, so it shortens the host only where the host has it.
        if *service.host == format!("{name}.{own}.svc.{domain}") {
            names.push(format!("{name}.{own}.svc"));
        }
        if service.resolution == crate::service::Resolution::Headless {
            let pods: Vec<String> = names[start..].iter().map(|name| format!("*.{name}")).collect();
            names.extend(pods);
        }
    }
}

/// An address as it stands in a Host header.
pub(crate) fn in_authority(address: std::net::IpAddr) -> String {
    match address {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// The names with a port, for a listener that carries all ports (X15); port 80 also without.
pub(crate) fn with_port(domains: &[String], port: u16) -> Vec<String> {
    let ported = domains.iter().map(|domain| format!("{domain}:{port}"));
    match port {
        80 => domains.iter().cloned().chain(ported).collect(),
        _ => ported.collect(),
    }
}

/// What decides about a virtual host of sidecars. Nothing else is looked at.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    /// Its name and domains, and their fingerprint.
    pub(crate) frame: &'a Frame,
    /// Who speaks about it; `None`: the service's own route.
    pub(crate) routing: Option<&'a Routing>,
    /// For whom.
    pub(crate) asker: &'a Asker<'a>,
    /// The content of the asker.
    pub(crate) asker_print: Fingerprint,
    /// What is known of destinations, by host; without a routing, of the service itself.
    pub(crate) facts: &'a Facts,
    /// What the service's own route retries.
    pub(crate) default_retries: DefaultRetries,
}

/// A virtual host without its routes.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// `<host>:<port>` (X53).
    pub(crate) name: Name,
    /// Names, lower case.
    pub(crate) domains: Vec<String>,
    /// The host, for rules.
    pub(crate) host: Arc<str>,
    /// The service port.
    pub(crate) port: u16,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

impl Frame {
    /// A frame.
    pub(crate) fn new(host: Arc<str>, port: u16, domains: Vec<String>) -> Self {
        let name: Name = format!("{host}:{port}").into();
        let print = Fingerprint::of(&(&name, &domains, &host, port));
        Self { name, domains, host, port, print }
    }
}

impl Inputs<'_> {
    /// The memo key.
    pub(crate) fn print(&self) -> Fingerprint {
        let Self { frame, routing, asker: _, asker_print, facts, default_retries } = self;
        let Some(routing) = routing else {
            return Fingerprint::of(&(frame.print, "own", default_retries, self.own_key()));
        };
        // Sorted: a map's order must not reach an output (architecture, rule 5).
        let mut known: Vec<_> = facts.iter().collect();
        known.sort_by(|a, b| a.0.cmp(b.0));
        Fingerprint::of(&(frame.print, routing.print, asker_print, known))
    }

    /// The key of the service's own route.
    fn own_key(&self) -> Option<&HashKey> {
        self.facts.get(&self.frame.host)?.hashing.as_ref()?.of_service(self.frame.port)
    }

    /// The virtual host.
    pub(crate) fn compute(&self) -> VirtualHost {
        let Self { frame, routing, asker, asker_print: _, facts, default_retries } = self;
        let place = Place { asker, facts, port: frame.port, is_tls: false };
        let routes = match routing {
            Some(routing) => route::emit(routing, place),
            None => vec![route::default(&frame.host, frame.port, *default_retries, self.own_key())],
        };
        VirtualHost {
            name: frame.name.clone(),
            domains: frame.domains.clone(),
            routes,
            include_attempt_count: true,
            require_tls: false,
            limits: Vec::new(),
        }
    }
}
