//! The certificate authority: a root of its own, or an intermediate that was plugged in, with its chain and roots.
//!
//! In: PEM texts under Istio's file names, requests, who the caller is. Out: certificates for exactly that identity. A set
//! of files that does not fit together is refused as a whole, with the reason; nothing is ever signed with it.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use words::SpiffeId;

use crate::bundle::{Bundle, BundleError};
use crate::certificate::{Certificate, CertificateError};
use crate::key::{Key, KeyError};
use crate::request::{Refusal, Request};
use crate::text;

/// How long a root of our own is valid.
pub const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a workload's certificate is valid, when nothing else is said.
pub const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Certificates are valid from so long before their issue: clocks differ.
pub const BACKDATED: Duration = Duration::from_secs(120);
/// The same for a root, which everybody must believe at once.
const ROOT_BACKDATED: Duration = Duration::from_secs(24 * 3600);
/// No certificate is valid for less.
const LEAF_LIFE_MIN: Duration = Duration::from_secs(1);
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// The files of an authority, as in Istio's Secret `cacerts`.
#[derive(Clone, Copy, Default)]
pub struct Files<'a> {
    /// `ca-cert.pem`.
    pub certificate: &'a [u8],
    /// `ca-key.pem`.
    pub key: &'a [u8],
    /// `cert-chain.pem`; may be empty.
    pub chain: &'a [u8],
    /// `root-cert.pem`; may be empty for a root of its own.
    pub roots: &'a [u8],
}

/// Why files make no authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// One is too large.
    #[error("{0} has more than {FILE_BYTES_MAX} bytes")]
    Bytes(&'static str),
    /// The certificate, or one of the chain.
    #[error("{0}: {1}")]
    Certificate(&'static str, CertificateError),
    /// A file without one.
    #[error("{0} has no certificate")]
    None(&'static str),
    /// The key.
    #[error("ca-key.pem: {0}")]
    Key(#[from] KeyError),
    /// They are not a pair.
    #[error("ca-key.pem is not the key of the certificate in ca-cert.pem")]
    Mismatch,
    /// It may not sign.
    #[error("ca-cert.pem is no certificate authority (basicConstraints CA, keyUsage keyCertSign)")]
    NoAuthority,
    /// Its time is over, or has not come.
    #[error("ca-cert.pem is not valid now; it is from {from} to {to} (seconds since 1970)")]
    Time {
        /// Seconds since 1970.
        from: u64,
        /// Seconds since 1970.
        to: u64,
    },
    /// The roots.
    #[error("root-cert.pem: {0}")]
    Roots(#[from] BundleError),
    /// What it signs is not believed by who believes the roots.
    #[error("what ca-cert.pem signs does not lead to root-cert.pem through cert-chain.pem: {0}")]
    Path(String),
    /// A fault of ours or of the system's.
    #[error("cannot sign: {0}")]
    Signing(String),
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, Key>,
    /// What goes between a leaf and a root.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Bundle,
    /// Until when what it signs can be believed.
    not_after: SystemTime,
    serial: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the authority {}", self.serial)
    }
}

/// A workload's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// PEM: the certificate, then what is between it and the root, each a text of its own.
    pub chain: Vec<String>,
    /// PEM of the roots.
    pub roots: String,
    /// Its number, hex.
    pub serial: String,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

/// A certificate for a server of ours, with its key.
#[derive(Debug)]
pub struct Served {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl Authority {
    /// Makes a root of our own: `ca-cert.pem` and `ca-key.pem`.
    pub fn create(trust_domain: &str, now: SystemTime) -> Result<(String, String), AuthorityError> {
        let failed = |error: rcgen::Error| AuthorityError::Signing(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        // A name of its own: while a root is replaced both are there, and a name must not lead to the other's key.
        let number = serial().map_err(AuthorityError::Signing)?;
        let name: String = number.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name.push(DnType::CommonName, format!("Sluice root {name}"));
        params.serial_number = Some(number);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - ROOT_BACKDATED).into();
        params.not_after = (now + ROOT_LIFE).into();
        let made = params.self_signed(&key).map_err(failed)?;
        Ok((made.pem(), key.serialize_pem()))
    }

    /// Reads and checks the files of one.
    pub fn load(files: Files<'_>, now: SystemTime) -> Result<Self, AuthorityError> {
        let (own, own_der) = own(files.certificate)?;
        let key = Key::read(bounded(files.key, "ca-key.pem")?)?;
        if key.spki() != own.spki {
            return Err(AuthorityError::Mismatch);
        }
        if !own.is_authority {
            return Err(AuthorityError::NoAuthority);
        }
        if !own.is_valid_at(now) {
            let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            return Err(AuthorityError::Time { from: seconds(own.not_before), to: seconds(own.not_after) });
        }
        let roots = if is_blank(files.roots) { files.certificate } else { files.roots };
        let intermediates = intermediates(own_der.clone(), bounded(files.chain, "cert-chain.pem")?)?;
        let roots = Bundle::read(roots)?;
        let not_after = own.not_after.min(roots.longest().unwrap_or(own.not_after));
        let not_after = ends(&intermediates).filter(|end| *end > now).fold(not_after, SystemTime::min);
        let made = Self {
            issuer: Issuer::from_ca_cert_der(&own_der, key)
                .map_err(|error| AuthorityError::Signing(error.to_string()))?,
            intermediates,
            roots,
            not_after,
            serial: own.serial,
        };
        made.prove(now)?;
        Ok(made)
    }

    // Whoever believes the roots must believe what is signed: better found out here than by every proxy.
    fn prove(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let served = self
            .serve(&["probe.invalid".to_owned()], LEAF_LIFE, now)
            .map_err(|error| AuthorityError::Signing(error.to_string()))?;
        self.roots.believes(&served.chain, now).map_err(AuthorityError::Path)
    }

    /// Signs a request: for the caller, whatever it asks for, and for at most `life`.
    pub fn sign(&self, request: &str, caller: &SpiffeId, life: Duration, now: SystemTime) -> Result<Issued, Refusal> {
        let request = Request::read(request)?;
        request.check(caller)?;
        let uri = caller.to_string().try_into().map_err(|error: rcgen::Error| Refusal::Signing(error.to_string()))?;
        let (der, not_after) = self.leaf(&request.key, vec![SanType::URI(uri)], life, now)?;
        let serial = Certificate::read(&der).map(|read| read.serial).unwrap_or_default();
        let between = self.intermediates.iter().map(|one| text::certificate(one));
        let chain = std::iter::once(text::certificate(&der)).chain(between).collect();
        Ok(Issued { chain, roots: self.roots.pem(), serial, not_after })
    }

    /// A certificate with a new key for a server of ours; names are DNS names or addresses.
    pub fn serve(&self, names: &[String], life: Duration, now: SystemTime) -> Result<Served, Refusal> {
        let failed = |error: rcgen::Error| Refusal::Signing(error.to_string());
        let names = CertificateParams::new(names).map_err(failed)?.subject_alt_names;
        let key = KeyPair::generate().map_err(failed)?;
        let (leaf, not_after) = self.leaf(&key, names, life, now)?;
        let chain = std::iter::once(leaf).chain(self.intermediates.iter().cloned()).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Served { chain, key, not_after })
    }

    fn leaf(
        &self,
        key: &impl PublicKeyData,
        names: Vec<SanType>,
        life: Duration,
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, SystemTime), Refusal> {
        let not_after = (now + life.max(LEAF_LIFE_MIN)).min(self.not_after);
        if not_after <= now {
            return Err(Refusal::Expired);
        }
        let mut params = CertificateParams::default();
        // Without a subject the names are critical (RFC 5280, section 4.1.2.6), as in Istio's certificates.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.serial_number = Some(serial().map_err(Refusal::Signing)?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = not_after.into();
        let made = params.signed_by(key, &self.issuer).map_err(|error| Refusal::Signing(error.to_string()))?;
        Ok((made.into(), not_after))
    }

    /// What everything that it signs leads to.
    pub fn roots(&self) -> &Bundle {
        &self.roots
    }

    /// Until when it can sign.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Its own certificate's number, hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }
}

fn bounded<'a>(text: &'a [u8], file: &'static str) -> Result<&'a [u8], AuthorityError> {
    if text.len() > FILE_BYTES_MAX { Err(AuthorityError::Bytes(file)) } else { Ok(text) }
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

fn own(text: &[u8]) -> Result<(Certificate, CertificateDer<'static>), AuthorityError> {
    const FILE: &str = "ca-cert.pem";
    let unreadable = |reason| AuthorityError::Certificate(FILE, CertificateError::Unreadable(reason));
    let der = text::certificates(bounded(text, FILE)?).map_err(unreadable)?.into_iter().next();
    let der = der.ok_or(AuthorityError::None(FILE))?;
    let read = Certificate::read(&der).map_err(|error| AuthorityError::Certificate(FILE, error))?;
    Ok((read, der))
}

// The authority's own certificate unless it is a root, then the chain without it; roots are not sent.
fn intermediates(own: CertificateDer<'static>, chain: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    const FILE: &str = "cert-chain.pem";
    let unreadable = |error| AuthorityError::Certificate(FILE, error);
    let mut all = vec![own];
    for der in text::certificates(chain).map_err(|reason| unreadable(CertificateError::Unreadable(reason)))? {
        if !all.contains(&der) {
            all.push(der);
        }
    }
    let mut between = Vec::with_capacity(all.len());
    for der in all {
        if !Certificate::read(&der).map_err(unreadable)?.is_self_issued {
            between.push(der);
        }
    }
    Ok(between)
}

// An old one may lie in the chain unused; whether the rest leads to a root is proved.
fn ends(chain: &[CertificateDer<'_>]) -> impl Iterator<Item = SystemTime> {
    chain.iter().filter_map(|der| Some(Certificate::read(der).ok()?.not_after))
}

// Sixteen random bytes; the first is neither 0 nor negative (RFC 5280, section 4.1.2.2).
fn serial() -> Result<SerialNumber, String> {
    let mut bytes = [0u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no randomness".to_owned())?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests;
