//! Which object somebody wrote caused this: carried from the manifest to the access log.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The object that a node of configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The Kubernetes kind, `VirtualService`.
    pub kind: Arc<str>,
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl Origin {
    /// An origin from its three parts.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// The path that Istio writes into `filter_metadata.istio.config`, such as
    /// `/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews` (feature X55).
    pub fn config_path(&self) -> String {
        let Self { kind, namespace, name } = self;
        format!("/apis/networking.istio.io/v1/namespaces/{namespace}/{}/{name}", kebab_case(kind))
    }

    /// The inverse of [`Origin::config_path`]; `None` when the text is not of that form.
    pub fn from_config_path(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix("/apis/")?.split('/');
        let (_group, _version) = (parts.next()?, parts.next()?);
        if parts.next()? != "namespaces" {
            return None;
        }
        let (namespace, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        if !kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
            return None;
        }
        parts.next().is_none().then(|| Self::new(&camel_case(kind), namespace, name))
    }
}

impl fmt::Display for Origin {
    /// `VirtualService default/reviews`, the form of `istioctl analyze`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

fn kebab_case(kind: &str) -> String {
    let mut out = String::with_capacity(kind.len() + 2);
    for (index, letter) in kind.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

fn camel_case(kind: &str) -> String {
    kind.split('-').filter(|word| !word.is_empty()).fold(String::new(), |mut out, word| {
        out.push_str(&word[..1].to_ascii_uppercase());
        out.push_str(&word[1..]);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_path_reads_back() {
        let origin = Origin::new("VirtualService", "default", "reviews");
        assert_eq!(origin.config_path(), "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews");
        assert_eq!(Origin::from_config_path(&origin.config_path()), Some(origin));
        assert_eq!(Origin::from_config_path("/apis/a/b"), None);
        assert_eq!(Origin::from_config_path("/apis/g/v1/namespaces/n/é-kind/x").map(|o| o.name.to_string()), None);
    }
}
