//! Whether a peer's certificate is acceptable: chain, names, pins. One set of rules for clients and servers.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, RevocationOptionsBuilder};

use super::{Demands, der, principal};

/// The rules for one side's peers.
pub(super) struct Verifier {
    demands: Demands,
    required: bool,
    verifies_name: bool,
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rules for peers")
    }
}

/// Why a certificate was refused, where rustls has no word for it.
#[derive(Debug)]
struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(why: &'static str) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(why)))))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

impl Verifier {
    pub(super) fn new(demands: Demands, required: bool, verifies_name: bool, provider: Arc<CryptoProvider>) -> Self {
        let roots = demands.trust.iter().flat_map(|trust| trust.roots.subjects());
        Self { hints: roots.collect(), demands, required, verifies_name, provider }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Demands { trust, names, trust_domains, spki, hashes, accept_untrusted } = &self.demands;
        if *accept_untrusted {
            return Ok(());
        }
        if !spki.is_empty() || !hashes.is_empty() {
            let key = der::fields(leaf).map(|fields| sha256(fields.spki));
            if !key.is_some_and(|key| spki.contains(&key)) && !hashes.contains(&sha256(leaf)) {
                return Err(refused("the certificate is not one of those that are pinned"));
            }
        }
        if let Some(trust) = trust {
            let leaf = EndEntityCert::try_from(leaf).map_err(plain)?;
            let lists: Vec<_> = trust.revoked.iter().collect();
            let revocation = match RevocationOptionsBuilder::new(&lists) {
                Ok(builder) => Some(builder.with_status_policy(webpki::UnknownStatusPolicy::Allow).build()),
                // There are no lists.
                Err(_) => None,
            };
            let algorithms = self.provider.signature_verification_algorithms.all;
            leaf.verify_for_usage(algorithms, &trust.roots.roots, between, now, usage, revocation, None)
                .map_err(plain)?;
        }
        if !names.is_empty() || !trust_domains.is_empty() {
            let is_member = || principal(leaf).is_some_and(|id| trust_domains.contains(&id.trust_domain));
            if !has_name(leaf, names)? && !is_member() {
                return Err(refused("none of the certificate's names is accepted"));
            }
        }
        Ok(())
    }
}

// DNS names may be wildcards in the certificate; URIs must be equal.
fn has_name(leaf: &CertificateDer<'_>, names: &[String]) -> Result<bool, Error> {
    let leaf = EndEntityCert::try_from(leaf).map_err(plain)?;
    let fits = |name: &String| match ServerName::try_from(name.as_str()) {
        Ok(name) => leaf.verify_is_valid_for_subject_name(&name).is_ok(),
        Err(_) => leaf.valid_uri_names().any(|uri| uri == name),
    };
    Ok(names.iter().any(fits))
}

// The reasons that people look for, in rustls's words; the others as they are.
fn plain(error: webpki::Error) -> Error {
    use webpki::Error as From;
    Error::InvalidCertificate(match error {
        From::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        From::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        From::UnknownIssuer => CertificateError::UnknownIssuer,
        From::CertRevoked => CertificateError::Revoked,
        From::BadDer | From::BadDerTime => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, between, KeyUsage::client_auth(), now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, between, KeyUsage::server_auth(), now)?;
        if self.verifies_name {
            let leaf = EndEntityCert::try_from(leaf).map_err(plain)?;
            leaf.verify_is_valid_for_subject_name(name)
                .map_err(|_| Error::InvalidCertificate(CertificateError::NotValidForName))?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
