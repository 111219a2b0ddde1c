//! SPIFFE ids of workloads: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the form that Istio gives
//! certificates (SPIFFE-ID, section 2; Istio `security/pkg` naming).
//!
//! Read strictly: what is not exactly of this form is nobody. Two ids are equal only when every byte is.

use std::fmt;

/// Longest id that is read, in bytes (SPIFFE-ID, section 2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// Who a workload is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    /// `cluster.local`.
    pub trust_domain: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

impl SpiffeId {
    /// Reads an id; `None` for anything that is not exactly of the form.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return None;
        }
        let mut parts = text.strip_prefix("spiffe://")?.split('/');
        let trust_domain = parts.next().filter(|part| is_name(part))?;
        let namespace = parts.next().filter(|part| *part == "ns").and(parts.next()).filter(|part| is_name(part))?;
        let service_account =
            parts.next().filter(|part| *part == "sa").and(parts.next()).filter(|part| is_name(part))?;
        parts.next().is_none().then(|| Self {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })
    }

    /// As policies and metrics write it, without the scheme: `cluster.local/ns/default/sa/reviews`.
    pub fn principal(&self) -> String {
        format!("{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "spiffe://{}", self.principal())
    }
}

// The letters of Kubernetes names and of trust domains; never `.` and `..` alone, `%`, `?`, `#` or `*`.
fn is_name(part: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = part.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SpiffeId;

    #[test]
    fn an_id_is_read_and_written_as_it_was() {
        let text = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
        let id = SpiffeId::parse(text).expect("is one");
        assert_eq!(
            (&*id.trust_domain, &*id.namespace, &*id.service_account),
            ("cluster.local", "default", "bookinfo-reviews")
        );
        assert_eq!(id.to_string(), text);
        assert_eq!(id.principal(), "cluster.local/ns/default/sa/bookinfo-reviews");
    }

    #[test]
    fn what_only_looks_like_one_is_nobody() {
        for text in [
            "",
            "spiffe://",
            "SPIFFE://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b/",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local//ns/a/sa/b",
            "spiffe://cluster.local/ns//sa/b",
            "spiffe://cluster.local/sa/b/ns/a",
            "spiffe://cluster.local/ns/a%2fb/sa/c",
            "spiffe://cluster.local/ns/../sa/c",
            "spiffe://cluster.local/ns/a/sa/*",
            "spiffe://cluster.local/ns/a/sa/b\0",
            "spiffe://cluster.local/ns/a/sa/b?x",
            "spiffe://user@cluster.local/ns/a/sa/b",
            "spiffe://cluster.local:80/ns/a/sa/b",
        ] {
            assert_eq!(SpiffeId::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_only_exact_ids_are_read(text in ".{0,80}") {
            if let Some(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
