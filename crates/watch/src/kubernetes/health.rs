//! How a kind is, and what there is to say about it.
//!
//! In: the outcome of attempts. Out: findings, with the remedy. Pure.

use words::{Diagnostic, Severity};

use super::Part;

/// The server does not know a kind.
pub const MISSING_KIND: &str = "SLU0020";
/// We may not read a kind.
pub const FORBIDDEN_KIND: &str = "SLU0021";

/// How a kind is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Listed, and watched.
    Live,
    /// The server does not know it; that counts as none being there.
    Missing,
    /// We may not read it.
    Forbidden(String),
    /// The server cannot be reached, or does not answer as it should.
    Down(String),
}

impl Health {
    /// What there is to say about the kind itself.
    pub(crate) fn finding(&self, part: &Part) -> Option<Diagnostic> {
        let (kind, plural, group) = (part.kind, part.kind.plural(), part.kind.group());
        let role = if part.namespace.is_some() { "Role of that namespace" } else { "ClusterRole" };
        let (code, severity, message, fix) = match self {
            Health::Live | Health::Down(_) => return None,
            Health::Missing => (
                MISSING_KIND,
                Severity::Warning,
                format!("the API server knows no {plural}.{group}; the mesh runs without any {kind}"),
                "apply the CustomResourceDefinitions".to_owned(),
            ),
            Health::Forbidden(message) => (
                FORBIDDEN_KIND,
                Severity::Error,
                format!("{} may not be read: {message}", part.words()),
                format!("allow the verbs get, list and watch on {plural} in API group {group:?} in a {role}"),
            ),
        };
        let (code, field) = (code.to_owned(), String::new());
        Some(Diagnostic { code, severity, object: None, field, message, fix: Some(fix), location: None })
    }
}
