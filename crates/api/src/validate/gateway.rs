//! Gateway by itself (V-60 to V-63; its TLS is in `server_tls`).

use words::Protocol;

use super::{Findings, bad_label, names, server_tls};
use crate::gateway::ServerTlsMode;
use crate::{GatewaySpec, Port, Server, ServerTls};

pub(super) fn check(spec: &GatewaySpec, found: &mut Findings) {
    if let Some(reason) = bad_label(&found.origin.name.clone()) {
        found.error("metadata.name", format!("a Gateway's name must be a DNS label: {reason}"));
    }
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
        check_host(&format!("{path}.hosts[{index}]"), host, found);
    }
    let bind = server.bind.as_deref().unwrap_or_default();
    let is_socket = check_bind(&format!("{path}.bind"), bind, found);
    let Some(port) = &server.port else { return found.error(format!("{path}.port"), "a server without port") };
    check_port(&format!("{path}.port"), port, is_socket, found);
    if let Some(protocol) = Protocol::parse(&port.protocol) {
        check_tls(&format!("{path}.tls"), protocol, &port.protocol, server.tls.as_ref(), found);
    }
    if let Some(tls) = &server.tls {
        server_tls::check(&format!("{path}.tls"), tls, found);
    }
}

// V-61.
fn check_host(field: &str, host: &str, found: &mut Findings) {
    let (namespace, name) = host.split_once('/').map_or((None, host), |(namespace, name)| (Some(namespace), name));
    if let Some(namespace) = namespace.filter(|namespace| !["*", "."].contains(namespace))
        && let Some(reason) = bad_label(namespace)
    {
        found.error(field, format!("{namespace:?} is not a namespace: {reason}"));
    }
    found.host(field, name);
    if !name.contains('.') && !name.contains(':') && name != "*" {
        found.error(field, format!("{name:?} is a short name; a Gateway needs the full one"));
    }
    if name.starts_with('*') && name != "*" && !name.starts_with("*.") {
        found.error(field, format!("{name:?}: a wildcard must be a whole label"));
    }
}

// V-62. True for a unix socket.
fn check_bind(field: &str, bind: &str, found: &mut Findings) -> bool {
    let path = names::unix_path(bind);
    let fits = path.map_or(bind.is_empty() || words::host::ip(bind).is_some(), |path| path.starts_with(['/', '@']));
    if !fits {
        found.error(field, format!("{bind:?} is neither an address nor a socket such as unix:///run/x.sock"));
    }
    path.is_some()
}

// V-62.
fn check_port(path: &str, port: &Port, is_socket: bool, found: &mut Findings) {
    match (is_socket, port.number) {
        (true, 0) => {}
        (true, number) => found.error(format!("{path}.number"), format!("a unix socket has no port {number}; write 0")),
        (false, number) => found.port(&format!("{path}.number"), number),
    }
    found.protocol(&format!("{path}.protocol"), &port.protocol);
    if port.name.is_empty() {
        found.error(format!("{path}.name"), "a port without name");
    } else if let Some(reason) = bad_label(&port.name) {
        found.error(format!("{path}.name"), format!("{:?} is not a port name: {reason}", port.name));
    }
    if port.target_port.is_some() {
        found.error(format!("{path}.targetPort"), "a Gateway has no target ports; the gateway's Service has");
    }
}

// V-63.
fn check_tls(path: &str, protocol: Protocol, name: &str, tls: Option<&ServerTls>, found: &mut Findings) {
    let Some(tls) = tls else {
        if protocol.is_tls() {
            found.error(path, format!("protocol {name} needs a tls block"));
        }
        return;
    };
    let only_redirects = protocol == Protocol::Http && is_bare(tls);
    if !protocol.is_tls() && !only_redirects {
        found.error(path, format!("protocol {name} has no TLS; only httpsRedirect may be set here, on HTTP"));
    }
    if tls.https_redirect == Some(true) && !protocol.is_http() {
        found.warn(format!("{path}.httpsRedirect"), "it redirects plain HTTP, and this port has none");
    }
}

// Nothing but `httpsRedirect`.
fn is_bare(tls: &ServerTls) -> bool {
    let mode = tls.mode.filter(|mode| *mode != ServerTlsMode::Passthrough);
    let rest = ServerTls { https_redirect: None, mode, ..tls.clone() };
    rest == ServerTls::default()
}
