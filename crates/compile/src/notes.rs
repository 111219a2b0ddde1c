//! Collects what is to be said about one object while it is lowered. The codes of findings live here.
//!
//! Istio's codes are used where it has one; ours start with `SLU`.

use words::{Diagnostic, Origin, Severity};

/// A field of a later feature: accepted, not obeyed yet.
pub(crate) const NOT_OBEYED: &str = "SLU0100";
/// A rule that cannot be served is left out; the rest of the object is served.
pub(crate) const RULE_LEFT_OUT: &str = "SLU0101";
/// A value that cannot be used is replaced by the default.
pub(crate) const VALUE_IGNORED: &str = "SLU0102";
/// A listener that another one keeps from being made.
pub(crate) const LISTENER_CONFLICT: &str = "SLU0103";
/// A host that an older object of the same scope has.
pub(crate) const HOST_TAKEN: &str = "SLU0104";
/// A rule that no request reaches, because a rule of another object stands before it.
pub(crate) const NEVER_REACHED: &str = "SLU0110";
/// Something referred to is not there.
pub(crate) const NOT_FOUND: &str = "IST0101";
/// Two VirtualServices for one mesh host.
pub(crate) const CONFLICTING_MESH_HOSTS: &str = "IST0109";
/// No host of the Gateway takes a host of the VirtualService.
pub(crate) const HOST_NOT_IN_GATEWAY: &str = "IST0132";
/// A DestinationRule for no known service.
pub(crate) const UNKNOWN_RULE_HOST: &str = "IST0174";

/// Findings about one object.
#[derive(Debug)]
pub(crate) struct Notes {
    origin: Origin,
    found: Vec<Diagnostic>,
}

impl Notes {
    /// None so far.
    pub(crate) fn about(origin: &Origin) -> Self {
        Self { origin: origin.clone(), found: Vec::new() }
    }

    /// The findings, in the order found.
    pub(crate) fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }

    /// A finding.
    pub(crate) fn add(&mut self, code: &str, severity: Severity, field: impl Into<String>, message: impl Into<String>) {
        self.found.push(Diagnostic::new(code, severity, self.origin.clone(), field, message));
    }

    /// A field that later versions will obey.
    pub(crate) fn not_obeyed(&mut self, set: bool, field: impl FnOnce() -> String) {
        if set {
            let field = field();
            let name = field.rsplit('.').next().unwrap_or_default().to_owned();
            self.add(NOT_OBEYED, Severity::Warning, field, format!("{name} is not obeyed yet"));
        }
    }

    /// A value that is replaced by the default.
    pub(crate) fn ignored(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(VALUE_IGNORED, Severity::Error, field, message);
    }

    /// A rule that is not served.
    pub(crate) fn left_out(&mut self, reason: LeftOut) {
        self.add(RULE_LEFT_OUT, Severity::Error, reason.field, format!("{}; the rule is left out", reason.message));
    }
}

/// Why a rule cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Where.
    pub(crate) field: String,
    /// Why.
    pub(crate) message: String,
}

impl LeftOut {
    /// A reason.
    pub(crate) fn because(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}
