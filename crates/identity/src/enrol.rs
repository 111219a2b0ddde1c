//! The other side of the authority: a fresh key, and the request for a certificate over it.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use words::SpiffeId;

/// A key without a certificate yet.
pub struct Enrolment {
    /// The private key, PEM (PKCS#8).
    pub key: String,
    /// The request, PEM.
    pub request: String,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key and a request")
    }
}

impl Enrolment {
    /// Makes a key (ECDSA P-256) and a request that names `id`, if it is known.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new(id: Option<&SpiffeId>) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(id) = id {
            let uri = id.to_string().try_into().map_err(|error: rcgen::Error| error.to_string())?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        Ok(Self { key: key.serialize_pem(), request: request.map_err(|error| error.to_string())? })
    }
}
