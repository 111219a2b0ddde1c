//! A private key that signs certificates: what rustls can read, as rcgen wants it.
//!
//! In: PEM text (PKCS#8, PKCS#1 or SEC1). Out: signatures. It never shows.

use std::fmt;
use std::sync::Arc;

use rcgen::{PublicKeyData, SignatureAlgorithm, SubjectPublicKeyInfo};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// Why a key cannot be used. Nothing of it is in the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, encrypted, or of an unknown form.
    #[error("there is no private key that can be read (PEM: PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    Unreadable,
    /// Neither RSA nor ECDSA on P-256 or P-384.
    #[error("the private key is of a kind that is not used here; expected ECDSA P-256 or P-384, or RSA from 2048 bits")]
    Kind,
}

/// A private key.
pub(crate) struct Key {
    signs: Arc<dyn rustls::sign::SigningKey>,
    scheme: SignatureScheme,
    public: SubjectPublicKeyInfo,
    spki: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a private key")
    }
}

impl Key {
    pub(crate) fn read(pem: &[u8]) -> Result<Self, KeyError> {
        // The errors could quote the input.
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::Unreadable)?;
        let signs = rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| KeyError::Kind)?;
        let spki = signs.public_key().ok_or(KeyError::Kind)?.as_ref().to_vec();
        let public = SubjectPublicKeyInfo::from_der(&spki).map_err(|_| KeyError::Kind)?;
        let scheme = match public.algorithm() {
            one if *one == rcgen::PKCS_ECDSA_P256_SHA256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            one if *one == rcgen::PKCS_ECDSA_P384_SHA384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            one if *one == rcgen::PKCS_RSA_SHA256 => SignatureScheme::RSA_PKCS1_SHA256,
            _ => return Err(KeyError::Kind),
        };
        Ok(Self { signs, scheme, public, spki })
    }

    /// The public key (SubjectPublicKeyInfo, DER).
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer = self.signs.choose_scheme(&[self.scheme]).ok_or(rcgen::Error::RemoteKeyError)?;
        signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
