//! TLS of chains and clusters, ready to be used: secrets read, certificates parsed at their first handshake.
//!
//! In: the snapshot's settings and secrets, files. Out: handshakes. What has no certificate yet fails its handshakes and
//! nothing else; the next plan may have it.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use config::{Name, Secret, SecretContent, Sni, Source, TlsParameters, TlsVersion, UpstreamProtocol, Validation};
use transport::io::Io;
use transport::tls::{self, Demands, Identity, Naming, PEM_BYTES_MAX, Parameters, Peer, Trust};
use words::SpiffeId;

/// What Envoy says when a handshake needs a secret that has not come.
const NOT_SUPPLIED: &str = "TLS error: Secret is not supplied by SDS";

/// Materials by SDS name.
pub type Materials = BTreeMap<Name, Arc<Material>>;

/// A secret with what its files hold; parsed when it is first needed.
pub struct Material {
    secret: Arc<Secret>,
    files: BTreeMap<String, File>,
    identity: OnceLock<Result<Identity, String>>,
    trust: OnceLock<Result<Arc<Trust>, String>>,
}

/// A file as it was when it was read.
struct File {
    mark: Option<Mark>,
    content: Result<Arc<[u8]>, String>,
}

/// Tells versions of a file apart: device, inode, size and time of change.
type Mark = (u64, u64, u64, i64, i64);

fn mark(path: &str) -> Option<Mark> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

impl File {
    fn read(path: &str) -> Self {
        let mark = mark(path);
        let read = || {
            let mut content = Vec::new();
            let file = std::fs::File::open(path)?;
            file.take(PEM_BYTES_MAX as u64 + 1).read_to_end(&mut content)?;
            Ok::<_, std::io::Error>(content)
        };
        Self { mark, content: read().map(Arc::from).map_err(|error| format!("{path}: {error}")) }
    }
}

impl Material {
    fn new(secret: Arc<Secret>) -> Self {
        let mut files = BTreeMap::new();
        for path in paths(&secret.content) {
            files.insert(path.to_owned(), File::read(path));
        }
        Self { secret, files, identity: OnceLock::new(), trust: OnceLock::new() }
    }

    /// True while its files are as they were read.
    pub fn is_fresh(&self) -> bool {
        self.files.iter().all(|(path, file)| mark(path) == file.mark)
    }

    fn bytes(&self, source: &Source) -> Result<Arc<[u8]>, String> {
        match source {
            Source::Inline(bytes) => Ok(bytes.clone()),
            Source::File(path) => match self.files.get(path) {
                Some(file) => file.content.clone(),
                None => Err(format!("{path} was not read")),
            },
            Source::System => Err("the machine's roots are no PEM text".into()),
        }
    }

    fn identity(&self) -> Result<Identity, String> {
        let read = || match &self.secret.content {
            SecretContent::Certificate { chain, key } => Identity::parse(&self.bytes(chain)?, &self.bytes(key)?),
            SecretContent::Roots { .. } => Err("it has roots and no certificate".into()),
        };
        self.identity.get_or_init(|| self.said(read())).clone()
    }

    fn trust(&self) -> Result<Arc<Trust>, String> {
        let read = || match &self.secret.content {
            SecretContent::Roots { roots: Source::System, crl: None } => Ok(Trust::system()),
            SecretContent::Roots { roots, crl } => {
                let crl = crl.as_ref().map(|crl| self.bytes(crl)).transpose()?;
                let trust = match roots {
                    Source::System => Trust::system().with_revoked(crl.as_deref().unwrap_or_default()),
                    roots => Trust::parse(&self.bytes(roots)?, crl.as_deref()),
                };
                trust.map(Arc::new)
            }
            SecretContent::Certificate { .. } => Err("it has a certificate and no roots".into()),
        };
        self.trust.get_or_init(|| self.said(read())).clone()
    }

    // Said once, when it is first needed.
    fn said<T>(&self, outcome: Result<T, String>) -> Result<T, String> {
        outcome.map_err(|reason| {
            tracing::error!(secret = &*self.secret.name, "cannot be used: {reason}");
            format!("TLS error: {}: {reason}", self.secret.name)
        })
    }
}

/// Whether what came in a secret itself can be used; files may come later (Envoy refuses a secret likewise).
///
/// # Errors
/// What is wrong with it, without anything of a key.
pub fn check(content: &SecretContent) -> Result<(), String> {
    match content {
        SecretContent::Certificate { chain: Source::Inline(chain), key: Source::Inline(key) } => {
            Identity::parse(chain, key).map(drop)
        }
        SecretContent::Roots { roots: Source::Inline(roots), crl: None } => Trust::parse(roots, None).map(drop),
        SecretContent::Roots { roots: Source::Inline(roots), crl: Some(Source::Inline(crl)) } => {
            Trust::parse(roots, Some(crl)).map(drop)
        }
        SecretContent::Certificate { .. } | SecretContent::Roots { .. } => Ok(()),
    }
}

fn paths(content: &SecretContent) -> impl Iterator<Item = &str> {
    let (first, second) = match content {
        SecretContent::Certificate { chain, key } => (chain, Some(key)),
        SecretContent::Roots { roots, crl } => (roots, crl.as_ref()),
    };
    std::iter::once(first).chain(second).filter_map(|source| match source {
        Source::File(path) => Some(path.as_str()),
        Source::Inline(_) | Source::System => None,
    })
}

/// Materials of a snapshot's secrets; those that did not change are the ones from before.
pub fn materials(secrets: &BTreeMap<Name, Arc<Secret>>, before: &Materials) -> Materials {
    let make = |(name, secret): (&Name, &Arc<Secret>)| {
        let kept = before.get(name).filter(|kept| Arc::ptr_eq(&kept.secret, secret) && kept.is_fresh());
        (name.clone(), kept.cloned().unwrap_or_else(|| Arc::new(Material::new(secret.clone()))))
    };
    secrets.iter().map(make).collect()
}

/// True when a file of any of them is not as it was read.
pub fn any_stale(materials: &Materials) -> bool {
    materials.values().any(|material| !material.is_fresh())
}

/// True when any of them has files.
pub fn any_files(materials: &Materials) -> bool {
    materials.values().any(|material| !material.files.is_empty())
}

/// Materials that settings name, by their place in them.
#[derive(Default)]
struct Named(Vec<(Name, Option<Arc<Material>>)>);

impl Named {
    fn new<'a>(names: impl Iterator<Item = &'a Name>, materials: &Materials) -> Self {
        Self(names.map(|name| (name.clone(), materials.get(name).cloned())).collect())
    }

    fn is_as_in(&self, materials: &Materials) -> bool {
        self.0.iter().all(|(name, known)| match (known, materials.get(name)) {
            (None, None) => true,
            (Some(known), Some(now)) => Arc::ptr_eq(known, now),
            _ => false,
        })
    }

    fn get(&self, name: &Name) -> Result<&Arc<Material>, String> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.and_then(|(_, material)| material.as_ref()).ok_or_else(|| NOT_SUPPLIED.to_owned())
    }
}

fn parameters(written: &TlsParameters, alpn: &[String]) -> Parameters {
    Parameters {
        tls12: written.min <= TlsVersion::V1_2 && written.max >= TlsVersion::V1_2,
        tls13: written.max >= TlsVersion::V1_3,
        cipher_suites: written.cipher_suites.clone(),
        alpn: alpn.to_vec(),
    }
}

fn demands(written: &Validation, named: &Named) -> Result<Demands, String> {
    let Validation { roots, names, trust_domains, spki, hashes, accept_untrusted } = written;
    Ok(Demands {
        trust: roots.as_ref().map(|roots| named.get(roots)?.trust()).transpose()?,
        names: names.clone(),
        trust_domains: trust_domains.clone(),
        spki: spki.iter().map(|one| pin(BASE64.decode(one).ok(), one)).collect::<Result<_, _>>()?,
        hashes: hashes.iter().map(|one| pin(hex(one), one)).collect::<Result<_, _>>()?,
        accept_untrusted: *accept_untrusted,
    })
}

fn pin(bytes: Option<Vec<u8>>, written: &str) -> Result<[u8; 32], String> {
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("TLS error: {written:?} is no SHA-256"))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect()
}

/// A chain's TLS.
pub struct ServerTls {
    config: config::ServerTls,
    named: Named,
    ready: OnceLock<Result<Served, String>>,
    without_alpn: OnceLock<Result<Served, String>>,
}

/// What handshakes need, and who we are in them.
struct Served {
    config: Arc<tls::ServerConfig>,
    own: Option<Arc<SpiffeId>>,
}

impl ServerTls {
    /// TLS with the materials of this moment.
    pub fn new(config: &config::ServerTls, materials: &Materials) -> Self {
        Self {
            named: Named::new(config.secrets(), materials),
            config: config.clone(),
            ready: OnceLock::new(),
            without_alpn: OnceLock::new(),
        }
    }

    /// True while its materials are these.
    pub fn is_as_in(&self, materials: &Materials) -> bool {
        self.named.is_as_in(materials)
    }

    fn make(&self, alpn: &[String]) -> Result<Served, String> {
        let config::ServerTls { certificates, clients, parameters: written, alpn: _ } = &self.config;
        // One of two certificates is enough to serve.
        let (mut identities, mut failed) = (Vec::new(), None);
        for name in certificates {
            match self.named.get(name).and_then(|material| material.identity()) {
                Ok(identity) => identities.push(identity),
                Err(reason) => failed = Some(reason),
            }
        }
        if let Some(reason) = failed.filter(|_| identities.is_empty()) {
            return Err(reason);
        }
        let clients = match clients {
            None => None,
            Some(clients) => Some((clients.required, demands(&clients.validation, &self.named)?)),
        };
        let own = identities.first().and_then(Identity::principal).map(Arc::new);
        Ok(Served { config: tls::server(identities, clients, &parameters(written, alpn))?, own })
    }

    // A certificate that is shown leads to our roots.
    fn verifies(&self) -> bool {
        let clients = self.config.clients.as_ref().map(|clients| &clients.validation);
        clients.is_some_and(|validation| validation.roots.is_some() && !validation.accept_untrusted)
    }

    /// The handshake with a client. `offered`: the protocols that it offers, as far as they are known.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub async fn accept(&self, stream: Io, offered: &[String]) -> Result<(Io, Peer), String> {
        // Where nothing is in common nothing is agreed on, as in Envoy; rustls would end the handshake.
        let alpn = &self.config.alpn;
        let agrees = alpn.is_empty() || offered.is_empty() || offered.iter().any(|name| alpn.contains(name));
        let ready = if agrees { &self.ready } else { &self.without_alpn };
        let ready = ready.get_or_init(|| self.make(if agrees { alpn } else { &[] })).as_ref().map_err(Clone::clone)?;
        let (io, mut peer) = tls::accept(stream, &ready.config).await.map_err(|error| error.to_string())?;
        peer.local.clone_from(&ready.own);
        if self.verifies() {
            peer.principal = peer.certificate.as_deref().and_then(tls::principal).map(Arc::new);
        }
        Ok((io, peer))
    }
}

/// What a connection to a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load<'a> {
    /// Requests; of this host only, where TLS follows it.
    Requests {
        /// The host.
        host: Option<&'a str>,
        /// They are sent as HTTP/2.
        is_http2: bool,
    },
    /// Bytes, which have no host.
    Bytes,
}

/// A cluster's TLS.
pub struct ClientTls {
    /// Tells connections of one cluster apart that were made under different settings or secrets; never 0.
    pub era: u64,
    config: config::ClientTls,
    named: Named,
    /// What is offered by ALPN for requests, when nothing is said: Envoy's fallback.
    fallback: &'static str,
    /// For bytes, which have no host to be checked, and for requests of both versions.
    ready: [OnceLock<Result<Arc<tls::ClientConfig>, String>>; 3],
    own: OnceLock<Option<Arc<SpiffeId>>>,
}

/// What requests offer that say what they are, in Istio's words and in HTTP's (DR64).
const ANNOUNCED: [[&str; 3]; 2] = [["istio-http/1.1", "istio", "http/1.1"], ["istio-h2", "istio", "h2"]];

impl ClientTls {
    /// TLS with the materials of this moment.
    pub fn new(config: &config::ClientTls, protocol: UpstreamProtocol, materials: &Materials) -> Self {
        static ERAS: AtomicU64 = AtomicU64::new(1);
        Self {
            era: ERAS.fetch_add(1, Ordering::Relaxed),
            named: Named::new(config.secrets(), materials),
            config: config.clone(),
            fallback: match protocol {
                UpstreamProtocol::Http1 => "http/1.1",
                UpstreamProtocol::Http2 => "h2",
                UpstreamProtocol::SameAsDownstream => "",
            },
            ready: Default::default(),
            own: OnceLock::new(),
        }
    }

    /// Which workload we are to hosts.
    pub fn own(&self) -> Option<&Arc<SpiffeId>> {
        let read = || self.named.get(self.config.certificate.as_ref()?).ok()?.identity().ok()?.principal();
        self.own.get_or_init(|| read().map(Arc::new)).as_ref()
    }

    /// True while its materials are these.
    pub fn is_as_in(&self, materials: &Materials) -> bool {
        self.named.is_as_in(materials)
    }

    /// True when connections are made for the host of a request, and serve only that.
    pub fn follows_host(&self) -> bool {
        self.config.sni == Sni::FromHost || self.config.verify_host
    }

    fn make(&self, load: Load<'_>) -> Result<Arc<tls::ClientConfig>, String> {
        let config::ClientTls { certificate, validation, sni, verify_host, parameters: written, alpn, .. } =
            &self.config;
        let identity = certificate.as_ref().map(|name| self.named.get(name)?.identity()).transpose()?;
        let demands = validation.as_ref().map(|validation| demands(validation, &self.named)).transpose()?;
        let naming = Naming { sends_sni: *sni != Sni::Absent, verifies: *verify_host && load != Load::Bytes };
        let alpn = match load {
            Load::Requests { is_http2, .. } if self.config.announces => {
                ANNOUNCED[usize::from(is_http2)].map(str::to_owned).to_vec()
            }
            Load::Requests { .. } if alpn.is_empty() && !self.fallback.is_empty() => vec![self.fallback.to_owned()],
            _ => alpn.clone(),
        };
        tls::client(identity, demands, naming, &parameters(written, &alpn))
    }

    // The certificate of a host leads to our roots.
    fn verifies(&self) -> bool {
        let validation = self.config.validation.as_ref();
        validation.is_some_and(|validation| validation.roots.is_some() && !validation.accept_untrusted)
    }

    /// The handshake with a host: the connection, and which workload is there.
    ///
    /// # Errors
    /// Why there is none, as Envoy gives the reason of a transport's failure.
    pub async fn connect(
        &self,
        stream: Io,
        host: SocketAddr,
        load: Load<'_>,
    ) -> Result<(Io, Option<SpiffeId>), String> {
        let ready = &self.ready[match load {
            Load::Bytes => 0,
            Load::Requests { is_http2: false, .. } => 1,
            Load::Requests { is_http2: true, .. } => 2,
        }];
        let ready = ready.get_or_init(|| self.make(load)).as_ref().map_err(Clone::clone)?;
        let name = match (&self.config.sni, load) {
            (Sni::Name(name), _) => name.clone(),
            (_, Load::Requests { host: Some(name), .. }) => name.to_owned(),
            // An address is never sent as SNI.
            _ => host.ip().to_string(),
        };
        let io = tls::connect(stream, &name, ready).await.map_err(|error| format!("TLS_error:|{error}"))?;
        let there = self.verifies().then(|| tls::peer_of(&io)).flatten();
        Ok((io, there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw23_pins_are_read_in_both_forms() {
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(pin(hex(&colons), &colons), Ok([0xab; 32]));
        assert_eq!(pin(hex(&"ab".repeat(32)), ""), Ok([0xab; 32]));
        assert!(pin(hex("zz"), "zz").is_err());
        assert_eq!(pin(BASE64.decode(BASE64.encode([7; 32])).ok(), ""), Ok([7; 32]));
    }

    #[test]
    fn a_changed_file_makes_its_material_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem").to_string_lossy().into_owned();
        let content = SecretContent::Roots { roots: Source::File(path.clone()), crl: None };
        let secret = Arc::new(Secret { name: "file-root:x".into(), content });
        let secrets = BTreeMap::from([(secret.name.clone(), secret.clone())]);
        let missing = materials(&secrets, &Materials::new());
        assert!(missing["file-root:x"].trust().is_err());
        assert!(!any_stale(&missing));
        std::fs::write(&path, "no root").unwrap();
        assert!(any_stale(&missing));
        let there = materials(&secrets, &missing);
        assert!(!Arc::ptr_eq(&missing["file-root:x"], &there["file-root:x"]));
        assert!(Arc::ptr_eq(&materials(&secrets, &there)["file-root:x"], &there["file-root:x"]));
    }
}
