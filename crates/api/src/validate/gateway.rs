//! Gateway by itself (V-60 to V-63, as far as routing needs them now).

use words::Protocol;

use super::Findings;
use crate::{GatewaySpec, Server, ServerTls};

pub(super) fn check(spec: &GatewaySpec, found: &mut Findings) {
    if spec.servers.is_empty() {
        found.error("spec.servers", "a Gateway without servers");
    }
    for (index, server) in spec.servers.iter().enumerate() {
        let path = format!("spec.servers[{index}]");
        check_server(&path, server, found);
        let name = |server: &Server| server.port.as_ref().map(|port| port.name.clone()).filter(|name| !name.is_empty());
        if name(server).is_some_and(|own| spec.servers[..index].iter().any(|other| name(other) == Some(own.clone()))) {
            found.error(format!("{path}.port.name"), "the port name is there twice");
        }
    }
}

fn check_server(path: &str, server: &Server, found: &mut Findings) {
    if server.hosts.is_empty() {
        found.error(format!("{path}.hosts"), "a server without hosts");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        let field = format!("{path}.hosts[{index}]");
        let name = host.rsplit_once('/').map_or(host.as_str(), |(_, name)| name);
        found.host(&field, name);
        if !name.contains('.') && !name.contains(':') && name != "*" {
            found.error(&field, format!("{name:?} is a short name; a Gateway needs the full one"));
        }
        if name.starts_with('*') && name != "*" && !name.starts_with("*.") {
            found.error(&field, format!("{name:?}: a wildcard must be a whole label"));
        }
    }
    if let Some(tls) = &server.tls {
        check_tls(&format!("{path}.tls"), tls, found);
    }
    let Some(port) = &server.port else { return found.error(format!("{path}.port"), "a server without port") };
    found.port(&format!("{path}.port.number"), port.number);
    match Protocol::parse(&port.protocol) {
        None => found.error(format!("{path}.port.protocol"), format!("{:?} is no protocol", port.protocol)),
        Some(protocol) if protocol.is_tls() && server.tls.is_none() => {
            found.error(format!("{path}.tls"), format!("protocol {} needs a tls block", port.protocol));
        }
        Some(_) => {}
    }
    if port.name.is_empty() {
        found.error(format!("{path}.port.name"), "a port without name");
    }
}

// V-66, and the CRD's CEL rules.
fn check_tls(path: &str, tls: &ServerTls, found: &mut Findings) {
    let sources = [
        ("credentialName", tls.credential_name.is_some()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    let set: Vec<&str> = sources.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    if set.len() > 1 {
        found.error(path, format!("only one of {} may be set", set.join(", ")));
    }
    for (name, count) in
        [("credentialNames", tls.credential_names.len()), ("tlsCertificates", tls.tls_certificates.len())]
    {
        if count > 2 {
            found.error(format!("{path}.{name}"), format!("{count} are more than 2"));
        }
    }
}
