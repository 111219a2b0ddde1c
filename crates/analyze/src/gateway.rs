//! Gateways beside the rest (IST0101, IST0138, IST0145, IST0161, IST0162).

use std::collections::{BTreeMap, BTreeSet};

use api::{GatewaySpec, Server};
use words::Labels;

use crate::certificate;
use crate::found::Found;
use crate::selection;
use crate::world::{Of, Workload, World};

type Gw<'a> = Of<'a, GatewaySpec>;

/// A server, and where in its Gateway it stands.
type Placed<'w, 'a> = (&'w Gw<'a>, usize, &'w Server);

/// A selector without workloads (IST0101), and ports that no service of the workload has (IST0162).
pub(crate) fn ports(world: &World<'_>, found: &mut Found) {
    if !world.knows_workloads {
        return;
    }
    for gateway in world.gateways.iter().filter(|gateway| !gateway.spec.selector.is_empty()) {
        let workloads = world.selected(&gateway.spec.selector, None);
        if workloads.is_empty() {
            let message = format!("no pod has the labels {}", selection::describe(&gateway.spec.selector));
            found.add("IST0101", &gateway.origin, "spec.selector", message, "select the labels of a gateway's pods");
            continue;
        }
        if !world.knows_services {
            continue;
        }
        let known: BTreeSet<String> = workloads.iter().flat_map(|workload| reachable(world, workload)).collect();
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let Some(number) = server.port.as_ref().map(|port| port.number).filter(|number| *number != 0) else {
                continue;
            };
            if !known.contains(&number.to_string()) {
                let message = format!("port {number} is no port and no target port of a service of the gateway's pods");
                let fix = "add the port to the gateway's Service";
                found.add("IST0162", &gateway.origin, format!("spec.servers[{index}].port.number"), message, fix);
            }
        }
    }
}

// Ports and target ports by which services lead to a workload.
fn reachable(world: &World<'_>, workload: &Workload) -> Vec<String> {
    let services = world.services_on(workload);
    let ports = services.iter().flat_map(|service| &service.ports).filter(|port| port.is_tcp);
    let each = ports.flat_map(|port| {
        let target = workload.ports.get(&port.target).map_or(port.target.clone(), u32::to_string);
        [port.number.to_string(), target]
    });
    each.collect()
}

/// Secrets that are not there (IST0101) or hold no certificate (IST0161).
pub(crate) fn secrets(world: &World<'_>, found: &mut Found) {
    for gateway in &world.gateways {
        let homes = homes(world, gateway);
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let Some(tls) = &server.tls else { continue };
            let single = tls.credential_name.iter().map(|name| ("credentialName".to_owned(), name));
            let several =
                tls.credential_names.iter().enumerate().map(|(at, name)| (format!("credentialNames[{at}]"), name));
            for (field, name) in single.chain(several).filter(|(_, name)| is_secret(name)) {
                let field = format!("spec.servers[{index}].tls.{field}");
                check_secret(world, gateway, &homes, &field, name, found);
            }
        }
    }
}

// Names with a scheme are served by others than Secrets.
fn is_secret(name: &str) -> bool {
    !name.is_empty() && (!name.contains("://") || name.starts_with("kubernetes://"))
}

// Secrets are read where the gateway's pods are (TR62); where that is not known, beside the Gateway.
fn homes<'a>(world: &'a World<'_>, gateway: &'a Gw<'_>) -> BTreeSet<&'a str> {
    let pods = world.selected(&gateway.spec.selector, None);
    let homes: BTreeSet<&str> = pods.iter().map(|pod| &*pod.origin.namespace).collect();
    if homes.is_empty() { BTreeSet::from([gateway.namespace()]) } else { homes }
}

fn check_secret(
    world: &World<'_>,
    gateway: &Gw<'_>,
    homes: &BTreeSet<&str>,
    field: &str,
    name: &str,
    found: &mut Found,
) {
    let name = name.strip_prefix("kubernetes://").unwrap_or(name);
    for home in homes {
        let (namespace, name) = name.split_once('/').unwrap_or((home, name));
        let secret = world.secrets.iter().find(|secret| secret.namespace() == namespace && secret.meta.name == name);
        let Some(secret) = secret else {
            let message =
                format!("there is no Secret {namespace}/{name}; Secrets are read where the gateway's pods are");
            let fix = format!("kubectl -n {namespace} create secret tls {name} --cert=… --key=…");
            found.add("IST0101", &gateway.origin, field, message, fix);
            continue;
        };
        if let Some(reason) = certificate::problem(secret.spec, world.options.now_seconds) {
            let message = format!("Secret {namespace}/{name} holds no usable certificate: {reason}");
            found.add("IST0161", &gateway.origin, field, message, "put a certificate and its key into it, as PEM");
        }
    }
}

/// One certificate served by two Gateways: browsers may reuse a connection for both (IST0138).
pub(crate) fn certificates(world: &World<'_>, found: &mut Found) {
    let mut by_certificate: BTreeMap<String, Vec<&Gw<'_>>> = BTreeMap::new();
    for gateway in &world.gateways {
        let names: BTreeSet<String> = gateway.spec.servers.iter().flat_map(served).collect();
        for name in names {
            by_certificate.entry(name).or_default().push(gateway);
        }
    }
    for (name, gateways) in by_certificate.iter().filter(|(_, gateways)| gateways.len() > 1) {
        for gateway in gateways {
            let shares = |other: &&&Gw<'_>| other.origin != gateway.origin && share_a_workload(world, gateway, other);
            let others: Vec<String> = gateways
                .iter()
                .filter(shares)
                .map(|other| format!("{}/{}", other.namespace(), other.meta.name))
                .collect();
            if !others.is_empty() {
                let message = format!(
                    "certificate {name} is served by Gateway {} too; a client that reuses a connection for both hosts gets 404",
                    others.join(", ")
                );
                found.add(
                    "IST0138",
                    &gateway.origin,
                    "spec.servers",
                    message,
                    "put the hosts into one Gateway, or use a certificate each",
                );
            }
        }
    }
}

fn served(server: &Server) -> Vec<String> {
    let Some(tls) = &server.tls else { return Vec::new() };
    let names = tls.credential_name.iter().chain(&tls.credential_names).filter(|name| !name.is_empty()).cloned();
    let pair = |certificate: &Option<String>, key: &Option<String>| {
        Some(format!("{} with {}", certificate.as_deref().filter(|path| !path.is_empty())?, key.as_deref()?))
    };
    let own = pair(&tls.server_certificate, &tls.private_key);
    let listed = tls.tls_certificates.iter().filter_map(|one| pair(&one.server_certificate, &one.private_key));
    names.chain(own).chain(listed).collect()
}

// Equal selectors, or a workload that both select.
fn share_a_workload(world: &World<'_>, a: &Gw<'_>, b: &Gw<'_>) -> bool {
    let selects_all = |labels: &Labels| labels.is_empty();
    if a.spec.selector == b.spec.selector || selects_all(&a.spec.selector) || selects_all(&b.spec.selector) {
        return true;
    }
    world.selected(&a.spec.selector, None).iter().any(|pod| words::labels_select(&b.spec.selector, &pod.labels))
}

/// One host on one port in two Gateways: only the older serves it (IST0145).
pub(crate) fn conflicts(world: &World<'_>, found: &mut Found) {
    let mut by_port: BTreeMap<(u32, &str), Vec<Placed<'_, '_>>> = BTreeMap::new();
    for gateway in &world.gateways {
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let number = server.port.as_ref().map(|port| port.number).unwrap_or_default();
            let bind = server.bind.as_deref().unwrap_or_default();
            by_port.entry((number, bind)).or_default().push((gateway, index, server));
        }
    }
    for ((number, _), servers) in &by_port {
        for (gateway, index, server) in servers {
            let rivals: BTreeSet<String> = servers
                .iter()
                .filter(|(other, ..)| other.origin != gateway.origin)
                .filter(|(_, _, rival)| shared_host(server, rival).is_some())
                .filter(|(other, ..)| share_a_workload(world, gateway, other))
                .map(|(other, ..)| format!("{}/{}", other.namespace(), other.meta.name))
                .collect();
            let host = servers
                .iter()
                .filter(|(other, ..)| other.origin != gateway.origin)
                .find_map(|(_, _, rival)| shared_host(server, rival));
            if let (false, Some(host)) = (rivals.is_empty(), host) {
                let rivals: Vec<String> = rivals.into_iter().collect();
                let message =
                    format!("host {host} on port {number} is also in Gateway {} for the same pods", rivals.join(", "));
                let field = format!("spec.servers[{index}].hosts");
                found.add(
                    "IST0145",
                    &gateway.origin,
                    field,
                    message,
                    "keep the host in one of them, or select other pods",
                );
            }
        }
    }
}

// As written: `a/x` and `b/x` take VirtualServices of different namespaces.
fn shared_host<'a>(a: &'a Server, b: &Server) -> Option<&'a str> {
    let parts = |host: &'a str| host.split_once('/').unwrap_or(("*", host));
    a.hosts.iter().map(String::as_str).find(|host| {
        let (namespace, name) = parts(host);
        b.hosts.iter().any(|other| {
            let (other_namespace, other_name) = other.split_once('/').unwrap_or(("*", other));
            let meet = namespace == "*" || other_namespace == "*" || namespace == other_namespace;
            meet && name.eq_ignore_ascii_case(other_name)
        })
    })
}
