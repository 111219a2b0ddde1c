//! The Gateway front end: one object in, the servers it asks for out (GW01 to GW06).

use std::net::IpAddr;

use api::gateway::ServerTlsMode;
use api::{GatewaySpec, ServerTls};
use words::{Diagnostic, Fingerprint, Labels, Origin, Protocol, host};

use crate::host_name;
use crate::mesh::MeshConfig;
use crate::notes::Notes;
use crate::server_tls;
use crate::service::Age;

/// A Gateway by itself.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others (X30).
    pub(crate) age: Age,
    /// `namespace/name`, as VirtualServices refer to it.
    pub(crate) name: String,
    /// Which gateway pods; empty for all (GW01).
    pub(crate) selector: Labels,
    /// What it serves.
    pub(crate) servers: Vec<Server>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// What is done with the connections of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Carries {
    /// Requests, by `http` rules.
    Http,
    /// Bytes, by `tcp` rules (GW28).
    Tcp,
    /// TLS that stays closed, by `tls` rules (GW16).
    Passthrough,
    /// TLS that stays closed, by the server names of services (GW17).
    AutoPassthrough,
}

/// A port at the edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// What is done with its connections.
    pub(crate) carries: Carries,
    /// TLS is opened first.
    pub(crate) tls: Option<config::ServerTls>,
    /// The server's own name, for statistics of HTTPS (GW06); may be empty.
    pub(crate) title: String,
    /// Its port's name, for the names of what is made of it.
    pub(crate) name: String,
    /// The port as written; VirtualServices match on it (TR60).
    pub(crate) port: u16,
    /// Where it listens; `None` for every address.
    pub(crate) bind: Option<IpAddr>,
    /// Which VirtualServices may attach.
    pub(crate) hosts: Vec<ServerHost>,
    /// Every host of it is answered 301 to https (GW19).
    pub(crate) https_redirect: bool,
}

/// `[namespace/]host` of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerHost {
    /// Namespace of the VirtualServices; `None` for any.
    pub(crate) namespace: Option<String>,
    /// Lower case; may have a wildcard.
    pub(crate) host: String,
}

/// Lowers a Gateway.
pub(crate) fn lower(origin: Origin, age: Age, spec: &GatewaySpec, mesh: &MeshConfig) -> Gateway {
    let GatewaySpec { servers, selector } = spec;
    let mut notes = Notes::about(&origin);
    let mut lowered = Vec::with_capacity(servers.len());
    for (index, server) in servers.iter().enumerate() {
        if let Some(server) =
            lower_server(server, &format!("spec.servers[{index}]"), (&origin.namespace, mesh), &mut notes)
        {
            lowered.push(server);
        }
    }
    let name = format!("{}/{}", origin.namespace, origin.name);
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, selector, &lowered, &diagnostics));
    Gateway { origin, age, name, selector: selector.clone(), servers: lowered, diagnostics, print }
}

fn lower_server(
    server: &api::Server,
    field: &str,
    (namespace, mesh): (&str, &MeshConfig),
    notes: &mut Notes,
) -> Option<Server> {
    // `defaultEndpoint` is not implemented in Istio either (GW07).
    let api::Server { port, bind, hosts, tls, default_endpoint, name: title } = server;
    notes.not_obeyed(default_endpoint.is_some(), || format!("{field}.defaultEndpoint"));
    let Some(written) = port else {
        notes.ignored(format!("{field}.port"), "a port is missing; the server is left out");
        return None;
    };
    let Some(number) = u16::try_from(written.number).ok().filter(|number| *number != 0) else {
        notes.ignored(
            format!("{field}.port.number"),
            format!("{} is not a port; the server is left out", written.number),
        );
        return None;
    };
    let carries = carries(&written.protocol, tls.as_ref(), field, notes)?;
    let opened = tls.as_ref().filter(|tls| {
        // TLS of a plaintext HTTP port says no more than whether it redirects (GW19).
        server_tls::terminates(tls) && Protocol::parse(&written.protocol).is_some_and(|protocol| !protocol.is_http())
    });
    let alpn: &[&str] = if carries == Carries::Http { &["h2", "http/1.1"] } else { &[] };
    let opened = match opened {
        Some(tls) => Some(server_tls::lower(tls, alpn, mesh, &format!("{field}.tls"), notes)?),
        None => None,
    };
    let bind = match bind.as_deref().filter(|bind| !bind.is_empty()) {
        None => None,
        Some(text) => match text.parse::<IpAddr>() {
            Ok(ip) => Some(ip).filter(|ip| !ip.is_unspecified() || ip.is_ipv6()),
            Err(_) => {
                notes
                    .ignored(format!("{field}.bind"), format!("{text:?} is not an IP address; the server is left out"));
                return None;
            }
        },
    };
    let mut lowered = Vec::with_capacity(hosts.len());
    for (index, written) in hosts.iter().enumerate() {
        let made = server_host(written, namespace);
        match host_name::is_usable(&made.host) {
            true => lowered.push(made),
            false => notes.ignored(format!("{field}.hosts[{index}]"), format!("{written:?} is not a host")),
        }
    }
    let https_redirect = tls.as_ref().is_some_and(|tls| tls.https_redirect == Some(true));
    Some(Server {
        carries,
        tls: opened,
        title: title.clone().unwrap_or_default(),
        name: written.name.clone(),
        port: number,
        bind,
        hosts: lowered,
        https_redirect,
    })
}

/// By protocol and TLS mode (GW27); `None` when the server is left out.
fn carries(protocol: &str, tls: Option<&ServerTls>, field: &str, notes: &mut Notes) -> Option<Carries> {
    let Some(known) = Protocol::parse(protocol) else {
        let message = format!("{protocol:?} is not a protocol; the server is left out");
        notes.ignored(format!("{field}.port.protocol"), message);
        return None;
    };
    let passes = tls.and_then(|tls| match tls.mode {
        None | Some(ServerTlsMode::Passthrough) => Some(Carries::Passthrough),
        Some(ServerTlsMode::AutoPassthrough) => Some(Carries::AutoPassthrough),
        Some(_) => None,
    });
    match (known, tls) {
        (Protocol::Https | Protocol::Tls, Some(_)) if passes.is_some() => return passes,
        (Protocol::Https | Protocol::Tls, None) => {
            notes.ignored(format!("{field}.tls"), format!("{protocol} needs it (V-63); the server is left out"));
            return None;
        }
        (Protocol::Https, Some(tls)) if server_tls::terminates(tls) => return Some(Carries::Http),
        (Protocol::Tls | Protocol::Tcp | Protocol::Mongo | Protocol::Redis | Protocol::MySql, Some(tls))
            if server_tls::terminates(tls) =>
        {
            return Some(Carries::Tcp);
        }
        (Protocol::Tcp | Protocol::Mongo | Protocol::Redis | Protocol::MySql, None) => return Some(Carries::Tcp),
        (http, _) if http.is_http() && http != Protocol::HttpProxy => {
            let rest = tls.map(|tls| ServerTls { https_redirect: None, ..tls.clone() });
            notes.not_obeyed(rest.is_some_and(|rest| rest != ServerTls::default()), || format!("{field}.tls"));
            return Some(Carries::Http);
        }
        _ => notes.not_obeyed(true, || format!("{field}.port.protocol ({protocol})")),
    }
    None
}

fn server_host(written: &str, own: &str) -> ServerHost {
    let (namespace, host) = match written.split_once('/') {
        None | Some(("*", _)) => (None, written.rsplit('/').next().unwrap_or(written)),
        Some((".", host)) => (Some(own.to_owned()), host),
        Some((namespace, host)) => (Some(namespace.to_owned()), host),
    };
    ServerHost { namespace, host: host.to_ascii_lowercase() }
}

impl ServerHost {
    /// The hosts that a VirtualService of `namespace` gets here for one of its hosts: the more specific one (GW08).
    pub(crate) fn attach<'a>(&'a self, namespace: &str, host: &'a str) -> Option<&'a str> {
        if self.namespace.as_deref().is_some_and(|wanted| wanted != namespace) {
            return None;
        }
        if host::is_subset(host, &self.host) {
            return Some(host);
        }
        host::is_subset(&self.host, host).then_some(&*self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw08_the_more_specific_host_is_served() {
        let any = server_host("*", "ns");
        assert_eq!(any.attach("x", "a.com"), Some("a.com"));
        let exact = server_host("./a.com", "ns");
        assert_eq!(exact.attach("ns", "*.com"), Some("a.com"));
        assert_eq!(exact.attach("other", "*.com"), None);
        assert_eq!(exact.attach("ns", "b.com"), None);
        assert_eq!(server_host("*/a.com", "ns").attach("other", "a.com"), Some("a.com"));
    }
}
