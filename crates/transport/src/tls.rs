//! TLS by rustls: what we are, whom we trust, what we demand of peers, and the handshakes of both sides. No policy: who
//! presents what is said by the caller.
//!
//! In: PEM text and plain settings. Out: configurations that are made once and shared by all threads, and connections.

mod der;
mod peer;
mod verify;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
pub use rustls::{ClientConfig, ServerConfig};
use rustls::{RootCertStore, SignatureAlgorithm, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use peer::{Form, Peer, principal};

use crate::io::Io;

/// Largest PEM text read, in bytes: a bundle of all public roots has a quarter of a MiB.
pub const PEM_BYTES_MAX: usize = 4 << 20;
/// Most certificates of a chain.
const CHAIN_MAX: usize = 16;

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// Roots and revocation lists.
pub struct Trust {
    roots: RootCertStore,
    revoked: Vec<webpki::CertRevocationList<'static>>,
}

/// What makes a peer's certificate acceptable: every condition that is there must hold.
#[derive(Clone, Default)]
pub struct Demands {
    /// The chain must lead here; `None`: it is not looked at.
    pub trust: Option<Arc<Trust>>,
    /// One of these must be among its alternative names; empty: any.
    pub names: Vec<String>,
    /// Or it is the id of a workload in one of these trust domains. Empty: nothing is demanded.
    pub trust_domains: Vec<String>,
    /// SHA-256 of acceptable public keys. Any of these or of `hashes` will do.
    pub spki: Vec<[u8; 32]>,
    /// SHA-256 of acceptable certificates.
    pub hashes: Vec<[u8; 32]>,
    /// Let through what fails.
    pub accept_untrusted: bool,
}

/// Versions, ciphers and protocols.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// TLS 1.2 is spoken.
    pub tls12: bool,
    /// TLS 1.3 is spoken.
    pub tls13: bool,
    /// TLS 1.2 suites in OpenSSL's names; those that we have not are passed over. Empty: all that we have.
    pub cipher_suites: Vec<String>,
    /// ALPN, preferred first.
    pub alpn: Vec<String>,
}

/// How a client names the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// The name is sent (SNI).
    pub sends_sni: bool,
    /// The certificate must be for the name.
    pub verifies: bool,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a certificate")
    }
}

impl Identity {
    /// Reads a certificate chain, the leaf first, and its key.
    ///
    /// # Errors
    /// What is wrong, without anything of the key.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let certificates = certificates(chain)?;
        let leaf = certificates.first().ok_or("there is no certificate")?;
        if certificates.len() > CHAIN_MAX {
            return Err(format!("a chain of {} certificates is longer than {CHAIN_MAX}", certificates.len()));
        }
        let fields = der::fields(leaf).ok_or("the certificate cannot be read")?;
        // The error could quote the input.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "there is no private key that can be read")?;
        let key = provider().key_provider.load_private_key(key).map_err(|error| format!("the private key: {error}"))?;
        if key.public_key().is_some_and(|public| public.as_ref() != fields.spki) {
            return Err("the private key is not that of the certificate".into());
        }
        // Not `from_der`: it refuses version 1 certificates, which people make with OpenSSL and clients accept.
        Ok(Self(Arc::new(CertifiedKey::new(certificates, key))))
    }
}

impl Identity {
    /// The workload that the certificate is of.
    pub fn principal(&self) -> Option<words::SpiffeId> {
        principal(self.0.cert.first()?)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if pem.len() > PEM_BYTES_MAX {
        return Err(format!("{} bytes are more than {PEM_BYTES_MAX}", pem.len()));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.map_err(|error| format!("not PEM: {error}"))
}

impl Trust {
    /// Reads roots and revocation lists.
    ///
    /// # Errors
    /// What is wrong. A root that cannot be used is passed over if there is another: bundles have odd ones.
    pub fn parse(roots: &[u8], crl: Option<&[u8]>) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(certificates(roots)?);
        if added == 0 {
            return Err("there is no root certificate".into());
        }
        Ok(Self { roots: store, revoked: Self::revoked(crl.unwrap_or_default())? })
    }

    /// The same roots with revocation lists.
    ///
    /// # Errors
    /// What is wrong with the lists.
    pub fn with_revoked(&self, crl: &[u8]) -> Result<Self, String> {
        Ok(Self { roots: self.roots.clone(), revoked: Self::revoked(crl)? })
    }

    fn revoked(crl: &[u8]) -> Result<Vec<webpki::CertRevocationList<'static>>, String> {
        let mut revoked = Vec::new();
        for list in CertificateRevocationListDer::pem_slice_iter(crl) {
            let list = list.map_err(|error| format!("revocation list: not PEM: {error}"))?;
            let list = webpki::OwnedCertRevocationList::from_der(&list)
                .map_err(|error| format!("revocation list: {error}"))?;
            revoked.push(list.into());
        }
        Ok(revoked)
    }

    /// What the machine trusts; read once.
    pub fn system() -> Arc<Self> {
        static SYSTEM: OnceLock<Arc<Trust>> = OnceLock::new();
        let read = || {
            let found = rustls_native_certs::load_native_certs();
            for error in found.errors {
                tracing::warn!("the machine's roots: {error}");
            }
            let mut roots = RootCertStore::empty();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            tracing::debug!(added, "the machine's roots are read");
            Arc::new(Self { roots, revoked: Vec::new() })
        };
        SYSTEM.get_or_init(read).clone()
    }
}

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
}

impl Parameters {
    fn provider(&self) -> Result<Arc<CryptoProvider>, String> {
        if self.cipher_suites.is_empty() {
            return Ok(provider().clone());
        }
        let mut chosen = provider().as_ref().clone();
        // The suites of TLS 1.3 are not chosen by people, neither here nor in Envoy.
        let old: Vec<_> = self
            .cipher_suites
            .iter()
            .filter_map(|name| SUITES.iter().find(|(known, _)| known == name).map(|(_, suite)| *suite))
            .filter_map(|suite| chosen.cipher_suites.iter().find(|one| one.suite() == suite).copied())
            .collect();
        chosen.cipher_suites.retain(|suite| suite.tls13().is_some());
        chosen.cipher_suites.extend(old);
        Ok(Arc::new(chosen))
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
        let all = [(self.tls13, &rustls::version::TLS13), (self.tls12, &rustls::version::TLS12)];
        let spoken: Vec<_> = all.into_iter().filter(|(on, _)| *on).map(|(_, version)| version).collect();
        match spoken.is_empty() {
            true => Err("only TLS 1.2 and 1.3 are spoken here".into()),
            false => Ok(spoken),
        }
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
    }
}

use rustls::CipherSuite as Suite;

/// The suites of TLS 1.2 that rustls has, by the names that OpenSSL, Envoy and Istio have for them.
const SUITES: [(&str, Suite); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES256-GCM-SHA384", Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Several certificates of one server: the first whose key the client can check (RSA beside ECDSA, GW20).
struct Several {
    identities: Vec<Identity>,
    tls13: bool,
}

impl fmt::Debug for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.identities.len())
    }
}

impl ResolvesServerCert for Several {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suites = hello.cipher_suites();
        // The suites of TLS 1.3 go with any key; those of TLS 1.2 say which.
        let any_key = self.tls13 && suites.iter().any(|suite| u16::from(*suite) >> 8 == 0x13);
        let fits = |identity: &Identity| {
            let named = match identity.0.key.algorithm() {
                SignatureAlgorithm::RSA => "ECDHE-RSA",
                _ => "ECDHE-ECDSA",
            };
            let of_key = SUITES.iter().any(|(name, suite)| name.starts_with(named) && suites.contains(suite));
            (any_key || of_key) && identity.0.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let chosen = self.identities.iter().find(|identity| fits(identity));
        chosen.or(self.identities.first()).map(|one| one.0.clone())
    }
}

/// What a server needs for handshakes. `clients`: they are asked for a certificate; true: they must have one.
///
/// # Errors
/// What cannot be spoken here.
pub fn server(
    identities: Vec<Identity>,
    clients: Option<(bool, Demands)>,
    parameters: &Parameters,
) -> Result<Arc<ServerConfig>, String> {
    if identities.is_empty() {
        return Err("there is no certificate".into());
    }
    let provider = parameters.provider()?;
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&parameters.versions()?).map_err(|error| error.to_string())?;
    let asks = clients.is_some();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((required, demands)) => {
            builder.with_client_cert_verifier(Arc::new(verify::Verifier::new(demands, required, false, provider)))
        }
    };
    let mut made = builder.with_cert_resolver(Arc::new(Several { identities, tls13: parameters.tls13 }));
    made.alpn_protocols = parameters.alpn();
    if asks {
        // A resumed session would not show the client's certificate again, which may have expired or been revoked since.
        made.session_storage = Arc::new(NoServerSessionStorage {});
        made.send_tls13_tickets = 0;
    }
    Ok(Arc::new(made))
}

/// What a client needs for handshakes.
///
/// # Errors
/// What cannot be spoken here.
pub fn client(
    identity: Option<Identity>,
    demands: Option<Demands>,
    naming: Naming,
    parameters: &Parameters,
) -> Result<Arc<ClientConfig>, String> {
    let provider = parameters.provider()?;
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&parameters.versions()?).map_err(|error| error.to_string())?;
    let demands = demands.unwrap_or(Demands { accept_untrusted: true, ..Demands::default() });
    let verifier = verify::Verifier::new(demands, true, naming.verifies, provider);
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut made = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity(key)) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key))),
    };
    made.enable_sni = naming.sends_sni;
    made.alpn_protocols = parameters.alpn();
    Ok(Arc::new(made))
}

/// The server's handshake. Bounded in time by the caller. Who the peer is, is for the caller to say, who knows what was
/// demanded of its certificate.
///
/// # Errors
/// The peer's, or what it was refused for.
pub async fn accept(stream: Io, config: &Arc<ServerConfig>) -> io::Result<(Io, Peer)> {
    let stream = TlsAcceptor::from(config.clone()).accept(stream).await?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|all| all.first()).map(|leaf| leaf.to_vec());
    let mut peer = Peer::new(certificate, session.alpn_protocol());
    peer.server_name = session.server_name().map(Box::from);
    Ok((Io::Tls(Box::new(TlsStream::Server(stream))), peer))
}

/// The workload at the other end of a connection, by the certificate that it has shown. Says nothing about who signed it.
pub fn peer_of(io: &Io) -> Option<words::SpiffeId> {
    let Io::Tls(stream) = io else { return None };
    principal(stream.get_ref().1.peer_certificates()?.first()?)
}

/// The client's handshake. `name` is the server's, for SNI and the check, as far as they are on.
///
/// # Errors
/// The peer's, or what it was refused for.
pub async fn connect(stream: Io, name: &str, config: &Arc<ClientConfig>) -> io::Result<Io> {
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| io::Error::other(format!("{name:?} is not a host")))?;
    let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
    Ok(Io::Tls(Box::new(TlsStream::Client(stream))))
}
