//! Findings of one analyzer, as they are made: the level comes from the code.

use words::{Diagnostic, Origin, Severity};

use crate::codes;

/// Findings so far.
#[derive(Default)]
pub(crate) struct Found(pub(crate) Vec<Diagnostic>);

impl Found {
    /// A finding, and what to do about it.
    pub(crate) fn add(
        &mut self,
        code: &str,
        object: &Origin,
        field: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        debug_assert!(codes::of(code).is_some(), "{code} is in no row of codes::ALL");
        let severity = codes::of(code).map_or(Severity::Error, |row| row.level);
        self.0.push(Diagnostic::new(code, severity, object.clone(), field, message).with_fix(fix));
    }
}
