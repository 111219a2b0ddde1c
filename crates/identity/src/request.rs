//! Requests for certificates (PKCS#10): who sends one shows that it has the key, and asks for nothing else.
//!
//! In: PEM text from anybody. Out: a public key that may be certified, or a [`Refusal`]. What the request says of names is
//! never taken over: it is only compared with who the caller is, so that a mistake does not pass unseen.

use rcgen::SubjectPublicKeyInfo;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use words::SpiffeId;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::{FromDer, GeneralName};
use x509_parser::public_key::PublicKey;

/// Largest request, in bytes of text.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// RSA keys that are certified, in bits: below is weak, above costs every peer too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Why no certificate is given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too much text.
    #[error("the request has {0} bytes, more than {REQUEST_BYTES_MAX}")]
    Bytes(usize),
    /// Not one request in PEM.
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
    /// It was not made by who has the key.
    #[error("the request is not signed by the key that it names")]
    Signature,
    /// SHA-1 and the like.
    #[error("the request is signed with {0}, which is not accepted; expected SHA-256 or better with RSA or ECDSA")]
    Algorithm(String),
    /// Weak, huge, or of another kind.
    #[error("the key is {0}; expected ECDSA P-256 or P-384, or RSA with {min} to {max} bits", min = RSA_BITS.start(), max = RSA_BITS.end())]
    Key(String),
    /// It wants to sign others.
    #[error("the request asks for a certificate authority")]
    Authority,
    /// It wants to be somebody else.
    #[error("the request asks for {asked}; the caller is {caller}")]
    Names {
        /// What it asks for.
        asked: String,
        /// Who sent it.
        caller: String,
    },
    /// The authority cannot sign any more.
    #[error("the certificate authority's own certificate has expired")]
    Expired,
    /// A fault of ours.
    #[error("signing failed: {0}")]
    Signing(String),
}

impl Refusal {
    /// One word, for a metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "too_large",
            Self::Unreadable(_) => "unreadable",
            Self::Signature => "signature",
            Self::Algorithm(_) => "algorithm",
            Self::Key(_) => "key",
            Self::Authority => "authority",
            Self::Names { .. } => "names",
            Self::Expired => "expired",
            Self::Signing(_) => "signing",
        }
    }
}

/// A request that was signed by the key that it names.
#[derive(Debug)]
pub struct Request {
    pub(crate) key: SubjectPublicKeyInfo,
    names: Vec<String>,
}

impl Request {
    /// Reads one in PEM.
    pub fn read(pem: &str) -> Result<Self, Refusal> {
        if pem.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::Bytes(pem.len()));
        }
        let unreadable = |reason: &str| Refusal::Unreadable(reason.to_owned());
        let mut all = CertificateSigningRequestDer::pem_slice_iter(pem.as_bytes());
        let der = match (all.next(), all.next()) {
            (Some(Ok(der)), None) => der,
            (Some(Ok(_)), Some(_)) => return Err(unreadable("there is more than one")),
            _ => return Err(unreadable("expected PEM with one CERTIFICATE REQUEST")),
        };
        let (rest, read) = X509CertificationRequest::from_der(&der).map_err(|error| unreadable(&error.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable("there are bytes behind it"));
        }
        check_algorithm(&read)?;
        let info = &read.certification_request_info;
        check_key(info.subject_pki.parsed())?;
        read.verify_signature().map_err(|_| Refusal::Signature)?;
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|_| Refusal::Key("of an unknown kind".into()))?;
        Ok(Self { key, names: names(&read)? })
    }

    /// An error unless it asks for nothing, or just for who the caller is.
    pub fn check(&self, caller: &SpiffeId) -> Result<(), Refusal> {
        let id = caller.to_string();
        match self.names.iter().find(|name| **name != id) {
            None => Ok(()),
            Some(other) => Err(Refusal::Names { asked: other.chars().take(256).collect(), caller: id }),
        }
    }
}

fn check_algorithm(read: &X509CertificationRequest<'_>) -> Result<(), Refusal> {
    let algorithm = &read.signature_algorithm.algorithm;
    let good = [
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
    ];
    match good.contains(algorithm) {
        true => Ok(()),
        false => Err(Refusal::Algorithm(algorithm.to_id_string().chars().take(64).collect())),
    }
}

fn check_key<E>(key: Result<PublicKey<'_>, E>) -> Result<(), Refusal> {
    match key {
        Ok(PublicKey::RSA(key)) => {
            // Leading zeros are no strength.
            let digits = key.modulus.iter().skip_while(|byte| **byte == 0).count();
            match RSA_BITS.contains(&(digits * 8)) {
                true => Ok(()),
                false => Err(Refusal::Key(format!("RSA with {} bits", digits * 8))),
            }
        }
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 | 384 => Ok(()),
            bits => Err(Refusal::Key(format!("ECDSA with {bits} bits"))),
        },
        Ok(_) => Err(Refusal::Key("neither RSA nor ECDSA".into())),
        Err(_) => Err(Refusal::Key("not well-formed".into())),
    }
}

// Every name asked for, and a refusal for what no workload may ask for.
fn names(read: &X509CertificationRequest<'_>) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    for extension in read.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => return Err(Refusal::Authority),
            ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
                return Err(Refusal::Authority);
            }
            ParsedExtension::SubjectAlternativeName(asked) => {
                names.extend(asked.general_names.iter().map(|name| match name {
                    GeneralName::URI(uri) => (*uri).to_owned(),
                    other => format!("{other}"),
                }));
            }
            ParsedExtension::ParseError { .. } => {
                return Err(Refusal::Unreadable("an extension is not well-formed".into()));
            }
            _ => {}
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
