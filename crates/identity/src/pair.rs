//! Whether a certificate and a key belong together.
//!
//! In: PEM texts as people put them into a Secret. Out: nothing, or what is wrong, without anything of the key.

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::certificate::{Certificate, CertificateError};

/// Why a certificate and a key are no pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// No certificate can be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The text holds none.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// The text is no private key in PEM.
    #[error("there is no private key that can be read (PEM: PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    NoKey,
    /// A server's certificate signs nobody: this would be the key of a whole mesh on a gateway.
    #[error("the certificate is that of a certificate authority (basicConstraints CA with keyUsage keyCertSign)")]
    Authority,
    /// The key is that of another certificate.
    #[error("the private key is not that of the certificate")]
    Mismatch,
}

/// Checks a chain, the leaf first, and its key. A key of a kind that we cannot use may be one that the proxy can: it passes.
pub fn check_pair(chain: &[u8], key: &[u8]) -> Result<(), PairError> {
    let chain = Certificate::read_all(chain)?;
    let leaf = chain.first().ok_or(PairError::NoCertificate)?;
    // What `openssl req -x509` makes says "CA" and nothing of signing; people serve with it.
    if leaf.is_authority && leaf.has_cert_sign {
        return Err(PairError::Authority);
    }
    // The error could quote the input.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PairError::NoKey)?;
    let Ok(key) = rustls::crypto::ring::sign::any_supported_type(&key) else { return Ok(()) };
    match key.public_key() {
        Some(public) if public.as_ref() != leaf.spki => Err(PairError::Mismatch),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::Authority;

    #[test]
    fn a_key_fits_its_own_certificate_only() {
        let make = || Authority::create("cluster.local", SystemTime::now()).unwrap();
        let authority = make();
        let leaf = || {
            let params = rcgen::CertificateParams::new(["shop.example.com".to_owned()]).unwrap();
            let key = rcgen::KeyPair::generate().unwrap();
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let ((chain, key), (_, other)) = (leaf(), leaf());
        let check = |chain: &str, key: &str| check_pair(chain.as_bytes(), key.as_bytes());
        assert_eq!(check(&chain, &key), Ok(()));
        assert_eq!(check(&chain, &other), Err(PairError::Mismatch));
        assert_eq!(check(&authority.0, &authority.1), Err(PairError::Authority));
        // As `openssl req -x509` writes it without more.
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pair = rcgen::KeyPair::generate().unwrap();
        assert_eq!(check(&params.self_signed(&pair).unwrap().pem(), &pair.serialize_pem()), Ok(()));
        assert_eq!(check(&chain, "no key"), Err(PairError::NoKey));
        assert_eq!(check(&chain, &chain), Err(PairError::NoKey));
        assert!(check("no certificate", &key).is_err());
        assert!(check(&key, &key).is_err());
        let broken = chain.replacen("MI", "MA", 1);
        assert!(matches!(check(&broken, &key), Err(PairError::Certificate(_))), "{:?}", check(&broken, &key));
    }
}
