//! Secrets: keys, certificates and roots, by the names that TLS settings have for them (Envoy SDS).
//!
//! What is inside never shows in `Debug` or `Serialize`.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Name;

/// A secret (`transport_sockets.tls.v3.Secret`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Secret {
    /// The SDS name: `kubernetes://shop-cert`, `kubernetes://shop-cert-cacert`, `file-cert:/chain~/key`, `file-root:/ca`.
    pub name: Name,
    /// What it holds.
    pub content: SecretContent,
}

/// What a secret holds, as PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum SecretContent {
    /// A certificate and what it needs.
    Certificate {
        /// The certificate, and those between it and the root.
        chain: Source,
        /// Its private key.
        key: Source,
    },
    /// What peers' certificates must lead to.
    Roots {
        /// Root certificates.
        roots: Source,
        /// Revocation lists, if any.
        crl: Option<Source>,
    },
}

/// Where PEM text is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Here.
    Inline(Arc<[u8]>),
    /// In a file of the proxy's machine, read again when it changes.
    File(String),
    /// The roots that the proxy's machine trusts.
    System,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("[redacted]"),
            Self::File(path) => write!(f, "file {path}"),
            Self::System => f.write_str("system"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_never_shows() {
        let source = || Source::Inline(b"sesame".as_slice().into());
        let content = SecretContent::Certificate { chain: source(), key: source() };
        let secret = Secret { name: "kubernetes://a".into(), content };
        let shown = format!("{secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert!(!shown.contains("sesame") && !shown.contains("115"), "{shown}");
        assert!(shown.contains("[redacted]"));
    }
}
