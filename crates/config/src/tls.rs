//! TLS on either side of a proxy: what a chain presents and asks of clients, what a cluster presents and demands of its
//! hosts (Envoy `transport_sockets.tls.v3`). Keys and certificates are named here and stand in [`crate::Secret`].

use serde::Serialize;

use crate::Name;

/// The secret with the certificate and key that a proxy has of its own, which says what its workload is (Istio's name).
pub const OWN_CERTIFICATE: &str = "default";
/// The secret with the roots of the mesh, which a proxy has of its own (Istio's name).
pub const OWN_ROOTS: &str = "ROOTCA";

/// True for secrets that a proxy has of its own: nobody is asked for them over xDS. Our proxy has them from its agent or
/// from files, Envoy from the static secrets of its bootstrap.
pub fn is_own_secret(name: &str) -> bool {
    name == OWN_CERTIFICATE || name == OWN_ROOTS
}

/// TLS terminated by a filter chain (`DownstreamTlsContext`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ServerTls {
    /// Secrets with a certificate and key; the first that the client can use is presented (GW20: at most two).
    pub certificates: Vec<Name>,
    /// What is asked of clients; `None`: no certificate (GW13).
    pub clients: Option<ClientCertificates>,
    /// Versions and ciphers.
    pub parameters: TlsParameters,
    /// Protocols offered, preferred first; empty: none.
    pub alpn: Vec<String>,
}

/// Certificates of clients (GW14, GW15).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ClientCertificates {
    /// A client without one is refused.
    pub required: bool,
    /// What holds for one that is sent.
    pub validation: Validation,
}

/// TLS to the hosts of a cluster (`UpstreamTlsContext`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ClientTls {
    /// The secret with our own certificate and key, if we show one (DR60 MUTUAL).
    pub certificate: Option<Name>,
    /// What is demanded of the host's certificate; `None`: nothing (`insecureSkipVerify`).
    pub validation: Option<Validation>,
    /// The server name that is asked for.
    pub sni: Sni,
    /// The certificate must be for the request's host (`auto_san_validation`; DR63).
    pub verify_host: bool,
    /// Versions and ciphers.
    pub parameters: TlsParameters,
    /// Protocols offered, preferred first; empty: none.
    pub alpn: Vec<String>,
    /// Requests offer what they are in Istio's words instead, `istio-http/1.1` or `istio-h2`: for clusters that carry
    /// requests and bytes (Istio's filter `istio.alpn`; DR64).
    pub announces: bool,
    /// Only endpoints with [`crate::Endpoint::mtls`] are spoken to by TLS, the others in plaintext (auto mTLS, PA04).
    pub marked_only: bool,
}

/// The server name in a ClientHello.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Sni {
    /// None.
    Absent,
    /// Always this.
    Name(String),
    /// The host of the request, when it is a name (`auto_sni`); none for TCP.
    FromHost,
}

/// What makes a peer's certificate acceptable: every condition that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Validation {
    /// The secret with the roots that it must lead to; `None`: the chain is not looked at.
    pub roots: Option<Name>,
    /// One of these must be among its subject alternative names: DNS name (a wildcard in the certificate counts), URI or
    /// IP address. Empty: any, unless `trust_domains` says more.
    pub names: Vec<String>,
    /// Or it is the SPIFFE id of a workload in one of these trust domains. Empty: nothing is demanded.
    pub trust_domains: Vec<String>,
    /// Base64 of the SHA-256 of acceptable public keys (SubjectPublicKeyInfo). Any of these or of `hashes` will do.
    pub spki: Vec<String>,
    /// Hex of the SHA-256 of acceptable certificates, colons allowed.
    pub hashes: Vec<String>,
    /// A certificate that fails is let through all the same (GW26: `insecureSkipVerify` of a server).
    pub accept_untrusted: bool,
}

/// Versions and ciphers (GW24, GW25).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TlsParameters {
    /// The oldest version spoken.
    pub min: TlsVersion,
    /// The newest.
    pub max: TlsVersion,
    /// TLS 1.2 suites in OpenSSL's names, preferred first; empty: the proxy's own.
    pub cipher_suites: Vec<String>,
}

/// A version of TLS. Our proxy speaks 1.2 and 1.3; Envoy all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    /// 1.0.
    V1_0,
    /// 1.1.
    V1_1,
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}

impl Default for TlsParameters {
    /// Istio's: 1.2 and 1.3, the proxy's ciphers.
    fn default() -> Self {
        Self { min: TlsVersion::V1_2, max: TlsVersion::V1_3, cipher_suites: Vec::new() }
    }
}

impl ServerTls {
    /// True when the proxy presents its own certificate.
    pub fn is_of_the_mesh(&self) -> bool {
        self.certificates.iter().any(|name| is_own_secret(name))
    }

    /// The secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        self.certificates.iter().chain(self.clients.iter().flat_map(|clients| &clients.validation.roots))
    }
}

impl ClientTls {
    /// The secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        self.certificate.iter().chain(self.validation.iter().flat_map(|validation| &validation.roots))
    }
}
