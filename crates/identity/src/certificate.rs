//! What a certificate says: whose it is, from when to when, what it may be used for.
//!
//! In: DER or PEM. Out: plain values, or a reason. It does not say whether the certificate is to be believed.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use words::SpiffeId;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::text;

/// Largest certificate that is read, in bytes of DER.
const BYTES_MAX: usize = 64 << 10;

/// A certificate, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Lower-case hex, without colons.
    pub serial: String,
    /// Not valid before.
    pub not_before: SystemTime,
    /// Not valid after.
    pub not_after: SystemTime,
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// It may sign others.
    pub is_authority: bool,
    /// It says that its key signs certificates (keyUsage keyCertSign).
    pub has_cert_sign: bool,
    /// Issuer and subject are the same.
    pub is_self_issued: bool,
    /// The public key (SubjectPublicKeyInfo, DER).
    pub(crate) spki: Vec<u8>,
}

/// Why a certificate says nothing, or not who its owner is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is no certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// An id is exactly one URI (SPIFFE X509-SVID, section 2).
    #[error("the certificate has {0} URI names; an identity has exactly one")]
    Uris(usize),
    /// The URI is no id of a workload.
    #[error("the certificate is for {0:?}, which is no spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    NoId(String),
}

impl Certificate {
    /// Reads one in DER; bytes behind it are an error.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let unreadable = |reason: &str| CertificateError::Unreadable(reason.to_owned());
        if der.len() > BYTES_MAX {
            return Err(CertificateError::Unreadable(format!("{} bytes are more than {BYTES_MAX}", der.len())));
        }
        let (rest, read) = X509Certificate::from_der(der).map_err(|error| unreadable(&error.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable("there are bytes behind it"));
        }
        let names = read.subject_alternative_name().map_err(|_| unreadable("its names are not well-formed"))?;
        let constraints = read.basic_constraints().map_err(|_| unreadable("its constraints are not well-formed"))?;
        let usage = read.key_usage().map_err(|_| unreadable("its key usage is not well-formed"))?;
        let usage = usage.map(|usage| usage.value.key_cert_sign());
        let mut made = Self {
            serial: read.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: at(read.validity().not_before.timestamp()),
            not_after: at(read.validity().not_after.timestamp()),
            uris: Vec::new(),
            dns: Vec::new(),
            ips: Vec::new(),
            is_authority: constraints.is_some_and(|constraints| constraints.value.ca) && usage.unwrap_or(true),
            has_cert_sign: usage == Some(true),
            is_self_issued: read.subject().as_raw() == read.issuer().as_raw(),
            spki: read.public_key().raw.to_vec(),
        };
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => made.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => made.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => made.ips.extend(ip(bytes)),
                _ => {}
            }
        }
        Ok(made)
    }

    /// Reads every certificate of a PEM text.
    pub fn read_all(pem: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let all = text::certificates(pem).map_err(CertificateError::Unreadable)?;
        all.iter().map(|der| Self::read(der)).collect()
    }

    /// Whose it is.
    pub fn id(&self) -> Result<SpiffeId, CertificateError> {
        let [uri] = &self.uris[..] else { return Err(CertificateError::Uris(self.uris.len())) };
        SpiffeId::parse(uri).ok_or_else(|| CertificateError::NoId(uri.chars().take(256).collect()))
    }

    /// True between its two times.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

fn at(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let read = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    read.unwrap_or(UNIX_EPOCH)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn with(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".into(), "10.0.0.1".into()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn an_id_is_exactly_one_uri() {
        let good = "spiffe://cluster.local/ns/default/sa/reviews";
        let read = |uris: &[&str]| Certificate::read(&with(uris)).unwrap().id();
        assert_eq!(read(&[good]).unwrap().to_string(), good);
        assert_eq!(read(&[]), Err(CertificateError::Uris(0)));
        assert_eq!(read(&[good, good]), Err(CertificateError::Uris(2)));
        assert!(matches!(read(&["spiffe://cluster.local/ns/default"]), Err(CertificateError::NoId(_))));
        assert!(matches!(read(&["https://cluster.local/ns/default/sa/a"]), Err(CertificateError::NoId(_))));
    }

    #[test]
    fn names_and_times_are_read() {
        let read = Certificate::read(&with(&[])).unwrap();
        assert_eq!((&read.dns[..], &read.ips[..]), (&["a.example".to_owned()][..], &["10.0.0.1".parse().unwrap()][..]));
        assert!(!read.is_authority && read.is_self_issued && read.not_before < read.not_after);
        let mut longer = with(&[]);
        longer.push(0);
        assert!(Certificate::read(&longer).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::read(&bytes);
            let _ = Certificate::read_all(&bytes);
        }

        #[test]
        fn a_broken_certificate_never_panics(at in 0usize..400, byte: u8) {
            let mut der = with(&["spiffe://cluster.local/ns/default/sa/a"]);
            let at = at % der.len();
            der[at] = byte;
            let _ = Certificate::read(&der).map(|read| read.id());
        }
    }
}
