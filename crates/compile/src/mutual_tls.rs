//! Mutual TLS between workloads: what a client does, what a server asks for, and which connections it takes (PA04 to PA06,
//! DR60, DR64).
//!
//! Certificates and roots are the proxies' own ([`config::OWN_CERTIFICATE`]), so only proxies that have them get any of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::{
    ChainMatch, ClientCertificates, ClientTls, Direction, Filter, Listener, OWN_CERTIFICATE, OWN_ROOTS, ServerTls, Sni,
    TlsParameters, TransportMatch, UpstreamProtocol, Validation,
};
use words::Protocol;

use crate::listener;
use crate::mesh::MeshConfig;
use crate::peer_authentication::Mode;

/// Istio's words for requests.
const REQUESTS: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// Istio's words for bytes.
const BYTES: [&str; 2] = ["istio-peer-exchange", "istio"];

/// What is known of the other side of a service's clusters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peers {
    /// The ids of its workloads, without trust domain: `ns/a/sa/b`.
    pub(crate) accounts: BTreeSet<Arc<str>>,
    /// Where nothing is said, endpoints of the mesh are spoken to by mutual TLS (PA04).
    pub(crate) auto: bool,
    /// There are endpoints, and all of them are of the mesh.
    pub(crate) all: bool,
}

/// What a cluster is spoken to by.
pub(crate) struct Spoken<'a> {
    /// What the port carries.
    pub(crate) port: Protocol,
    /// What requests are sent as.
    pub(crate) protocol: UpstreamProtocol,
    /// The server name of its port and subset.
    pub(crate) server_name: String,
    /// Who may answer.
    pub(crate) accounts: &'a BTreeSet<Arc<str>>,
    /// Trust domain and so on.
    pub(crate) mesh: &'a MeshConfig,
}

impl Spoken<'_> {
    /// TLS of a cluster; `sni` and `names` are those of a rule, if it has any.
    pub(crate) fn tls(self, sni: Option<String>, names: &[String], marked_only: bool) -> ClientTls {
        let Self { port, protocol, server_name, accounts, mesh } = self;
        let domain = &mesh.trust_domain;
        let names = match names.is_empty() {
            true => accounts.iter().map(|account| format!("spiffe://{domain}/{account}")).collect(),
            false => names.to_vec(),
        };
        let trust_domains = if names.is_empty() { vec![domain.clone()] } else { Vec::new() };
        let words: &[&str] = match protocol {
            _ if !port.is_http() => &["istio"],
            UpstreamProtocol::Http1 => &["istio-http/1.1", "istio", "http/1.1"],
            UpstreamProtocol::Http2 => &["istio-h2", "istio", "h2"],
            UpstreamProtocol::SameAsDownstream => &["istio"],
        };
        ClientTls {
            certificate: Some(OWN_CERTIFICATE.into()),
            validation: Some(Validation { names, trust_domains, ..of_the_mesh() }),
            sni: Sni::Name(sni.unwrap_or(server_name)),
            verify_host: false,
            parameters: TlsParameters::default(),
            alpn: words.iter().map(|word| (*word).to_owned()).collect(),
            announces: protocol == UpstreamProtocol::SameAsDownstream,
            marked_only,
        }
    }
}

fn of_the_mesh() -> Validation {
    Validation { roots: Some(OWN_ROOTS.into()), ..Validation::default() }
}

/// TLS of a chain that only workloads of the mesh get through. `names`: those that are accepted; empty: all.
pub(crate) fn server(alpn: &[&str], names: &[String], mesh: &MeshConfig) -> ServerTls {
    let trust_domains = if names.is_empty() { vec![mesh.trust_domain.clone()] } else { Vec::new() };
    let validation = Validation { names: names.to_vec(), trust_domains, ..of_the_mesh() };
    ServerTls {
        certificates: vec![OWN_CERTIFICATE.into()],
        clients: Some(ClientCertificates { required: true, validation }),
        parameters: TlsParameters::default(),
        alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// A kind of connection that a port takes.
pub(crate) struct Taken {
    /// Which.
    pub(crate) matches: ChainMatch,
    /// By mutual TLS, which is opened.
    pub(crate) secured: bool,
    /// What is in it is HTTP.
    pub(crate) http: bool,
}

/// The connections that a port takes, as Istio has them (PA05). `None`: the proxy knows no mutual TLS.
pub(crate) fn taken(mode: Option<Mode>, protocol: Protocol) -> Vec<Taken> {
    let is_tls = |words: &[&str]| ChainMatch {
        transport: TransportMatch::Tls,
        application_protocols: words.iter().map(|word| (*word).to_owned()).collect(),
        ..ChainMatch::default()
    };
    let plaintext = || ChainMatch { transport: TransportMatch::Plaintext, ..ChainMatch::default() };
    let secured = |matches, http| Taken { matches, secured: true, http };
    let open = |matches, http| Taken { matches, secured: false, http };
    let any = ChainMatch::default;
    let every = [&REQUESTS[..], &BYTES].concat();
    let detected = protocol == Protocol::Auto;
    let http = protocol.is_http();
    match mode.unwrap_or(Mode::Disable) {
        Mode::Disable if detected => vec![open(listener::plaintext_http(), true), open(any(), false)],
        Mode::Disable => vec![open(any(), http)],
        Mode::Strict if detected => vec![secured(is_tls(&REQUESTS), true), secured(is_tls(&[]), false)],
        Mode::Strict => vec![secured(is_tls(&[]), http)],
        Mode::Permissive if detected => vec![
            secured(is_tls(&REQUESTS), true),
            open(listener::plaintext_http(), true),
            secured(is_tls(&BYTES), false),
            open(plaintext(), false),
            open(is_tls(&[]), false),
        ],
        Mode::Permissive if http => vec![secured(is_tls(&every), true), open(plaintext(), true)],
        Mode::Permissive => {
            vec![secured(is_tls(&every), false), open(is_tls(&[]), false), open(plaintext(), false)]
        }
    }
}

/// Lets requests to upstreams say what they are.
pub(crate) fn put(listener: &mut Listener) {
    if listener.direction == Direction::Inbound {
        return;
    }
    for chain in listener.chains.iter_mut().chain(&mut listener.default_chain) {
        if let Filter::Http(http) = &mut chain.filter {
            http.announces = true;
        }
    }
}
