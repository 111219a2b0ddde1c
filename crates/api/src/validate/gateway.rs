//! Gateway by itself (V-60 to V-63, as far as routing needs them now).

use words::Protocol;

use super::Findings;
use crate::{GatewaySpec, Server};

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
