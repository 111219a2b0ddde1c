//! Roots: the certificates that everything must lead to. Several at a time while a root is replaced: first all trust the old
//! one and the new one, then certificates are signed under the new one, then the old one goes.

use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::certificate::Certificate;
use crate::text;

/// Largest text of roots that is read, in bytes.
pub const BUNDLE_BYTES_MAX: usize = 1 << 20;
/// Most roots of a bundle.
pub const ROOTS_MAX: usize = 64;

/// Roots, each once, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    roots: Vec<CertificateDer<'static>>,
}

/// Why a text is no bundle of roots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Too much text.
    #[error("{0} bytes of root certificates are more than {BUNDLE_BYTES_MAX}")]
    Bytes(usize),
    /// Too many.
    #[error("{0} root certificates are more than {ROOTS_MAX}")]
    Count(usize),
    /// None.
    #[error("there is no root certificate")]
    Empty,
    /// One of them.
    #[error("root certificate {0}: {1}")]
    Root(usize, String),
}

impl Bundle {
    /// Reads PEM text.
    pub fn read(pem: &[u8]) -> Result<Self, BundleError> {
        if pem.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::Bytes(pem.len()));
        }
        let mut bundle = Self::default();
        for (at, der) in text::certificates(pem).map_err(|error| BundleError::Root(0, error))?.into_iter().enumerate() {
            let read = Certificate::read(&der).map_err(|error| BundleError::Root(at, error.to_string()))?;
            // Old roots, of version 1, have no constraints at all: those are for whoever put them here to judge.
            if !read.is_authority && !read.is_self_issued {
                return Err(BundleError::Root(at, "it is no certificate authority".into()));
            }
            bundle.add(der);
        }
        match bundle.roots.len() {
            0 => Err(BundleError::Empty),
            count if count > ROOTS_MAX => Err(BundleError::Count(count)),
            _ => Ok(bundle),
        }
    }

    fn add(&mut self, root: CertificateDer<'static>) {
        if !self.roots.contains(&root) {
            self.roots.push(root);
        }
    }

    /// These and those, each once; at most [`ROOTS_MAX`].
    pub fn with(mut self, other: &Self) -> Self {
        other.roots.iter().for_each(|root| self.add(root.clone()));
        self.roots.truncate(ROOTS_MAX);
        self
    }

    /// These without those.
    pub fn without(mut self, other: &Self) -> Self {
        self.roots.retain(|root| !other.roots.contains(root));
        self
    }

    /// Those of `other` that are not here.
    pub fn lacks(&self, other: &Self) -> usize {
        other.roots.iter().filter(|root| !self.roots.contains(root)).count()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// As PEM text.
    pub fn pem(&self) -> String {
        self.roots.iter().map(|root| text::certificate(root)).collect()
    }

    /// When the first of them is over.
    pub fn expires(&self) -> Option<SystemTime> {
        self.roots.iter().filter_map(|root| Some(Certificate::read(root).ok()?.not_after)).min()
    }

    /// When the last of them is over.
    pub fn longest(&self) -> Option<SystemTime> {
        self.roots.iter().filter_map(|root| Some(Certificate::read(root).ok()?.not_after)).max()
    }

    /// An error unless a server's chain, the leaf first, leads here now.
    pub fn believes(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), String> {
        self.believes_for(webpki::KeyUsage::server_auth(), chain, now)
    }

    /// The same of a client's.
    pub fn believes_client(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), String> {
        self.believes_for(webpki::KeyUsage::client_auth(), chain, now)
    }

    fn believes_for(
        &self,
        usage: webpki::KeyUsage,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), String> {
        let Some((leaf, between)) = chain.split_first() else { return Err("there is no certificate".into()) };
        let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|error| error.to_string())?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(since);
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        let roots = self.store().roots;
        let found = leaf.verify_for_usage(algorithms, &roots, between, time, usage, None, None);
        found.map(drop).map_err(|error| match error {
            // Without the time of now: the same reason is the same sentence.
            webpki::Error::CertExpired { .. } => "a certificate of the chain has expired".to_owned(),
            webpki::Error::CertNotValidYet { .. } => "a certificate of the chain is not valid yet".to_owned(),
            other => other.to_string(),
        })
    }

    /// The same of PEM text.
    pub fn believes_pem(&self, chain: &str, now: SystemTime) -> Result<(), String> {
        self.believes(&text::certificates(chain.as_bytes())?, now)
    }

    /// For rustls.
    pub fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.roots.iter().cloned());
        store
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::authority::Authority;

    fn root() -> String {
        Authority::create("cluster.local", UNIX_EPOCH + Duration::from_secs(1_800_000_000)).unwrap().0
    }

    #[test]
    fn each_root_is_there_once_and_in_order() {
        let (old, new) = (root(), root());
        let both = Bundle::read(format!("{old}{new}{old}").as_bytes()).unwrap();
        assert_eq!((both.len(), both.pem()), (2, format!("{old}{new}")));
        let only = Bundle::read(new.as_bytes()).unwrap();
        assert_eq!(only.lacks(&both), 1);
        assert_eq!(both.clone().without(&only).pem(), old);
        assert_eq!(only.with(&both).pem(), format!("{new}{old}"));
        assert_eq!(both.store().len(), 2);
    }

    #[test]
    fn what_is_no_root_is_named() {
        assert_eq!(Bundle::read(b""), Err(BundleError::Empty));
        assert_eq!(Bundle::read(&vec![b'a'; BUNDLE_BYTES_MAX + 1]), Err(BundleError::Bytes(BUNDLE_BYTES_MAX + 1)));
        let broken = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", root());
        assert!(matches!(Bundle::read(broken.as_bytes()), Err(BundleError::Root(1, _))));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "(-----BEGIN CERTIFICATE-----\n|[A-Za-z0-9=]{0,20}\n|-----END CERTIFICATE-----\n|.{0,5}){0,8}") {
            let _ = Bundle::read(text.as_bytes());
        }
    }
}
