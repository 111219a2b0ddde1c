//! What we tell a person about an object: one shape for status, admission answers, `analyze` and logs.
//!
//! A diagnostic is a value. It is never logged and forgotten: whoever makes one returns it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Origin;

/// How bad it is; ordered as `istioctl analyze` orders its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Works, but probably not as meant.
    Warning,
    /// Does not work, or is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Info => "Info",
            Severity::Warning => "Warning",
            Severity::Error => "Error",
        })
    }
}

/// Where in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1; 0 when unknown.
    pub column: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            0 => write!(f, "{}:{}", self.file, self.line),
            column => write!(f, "{}:{}:{column}", self.file, self.line),
        }
    }
}

/// One finding about one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// A stable code: Istio's where it has one (`IST0101`), ours otherwise (`SLU0001`).
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// The object it is about; `None` when not even that could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Origin>,
    /// The field, `spec.http[0].route[1].destination.subset`; empty for the whole object.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub field: String,
    /// One sentence in lower case with the value and what was expected.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fix: Option<String>,
    /// Where it was written, when it came from a file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<Location>,
}

impl Diagnostic {
    /// A finding without fix or location.
    pub fn new(
        code: &str,
        severity: Severity,
        object: Origin,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            severity,
            object: Some(object),
            field: field.into(),
            message: message.into(),
            fix: None,
            location: None,
        }
    }

    /// An error.
    pub fn error(code: &str, object: Origin, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, object, field, message)
    }

    /// A warning.
    pub fn warning(code: &str, object: Origin, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, object, field, message)
    }

    /// The same finding with a proposal.
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The same finding with its place in a file.
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `Error [IST0101] (VirtualService default/reviews reviews.yaml:12) spec.http[0]: text; fix: …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.severity, self.code)?;
        match (&self.object, &self.location) {
            (Some(object), Some(location)) => write!(f, " ({object} {location})")?,
            (Some(object), None) => write!(f, " ({object})")?,
            (None, Some(location)) => write!(f, " ({location})")?,
            (None, None) => {}
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.message)?;
        match &self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_sentence() {
        let found = Diagnostic::error(
            "IST0101",
            Origin::new("VirtualService", "default", "reviews"),
            "spec.http[0].route[0].destination.subset",
            "subset \"v9\" is in no DestinationRule for reviews.default.svc.cluster.local",
        )
        .at(Location { file: "reviews.yaml".into(), line: 12, column: 0 })
        .with_fix("define it or route to v1");
        assert_eq!(
            found.to_string(),
            "Error [IST0101] (VirtualService default/reviews reviews.yaml:12) spec.http[0].route[0].destination.subset: \
             subset \"v9\" is in no DestinationRule for reviews.default.svc.cluster.local; define it or route to v1"
        );
    }
}
