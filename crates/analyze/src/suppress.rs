//! Findings that are not wanted: by name (`IST0101=VirtualService reviews.default`), or by an object's annotation.

use words::{Diagnostic, Origin};

/// Codes, by commas, that are not reported for an object; `*` for all.
pub const ANNOTATION: &str = "galley.istio.io/analyze-suppress";

/// One code for one object, or for all that a pattern names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The code.
    pub code: String,
    /// `Kind name.namespace`; `*` stands for any letters, also none.
    pub resource: String,
}

impl Suppression {
    /// Reads `CODE=Kind name.namespace`; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is not CODE=RESOURCE, such as \"IST0101=VirtualService reviews.default\"");
        let (code, resource) = text.split_once('=').ok_or_else(expected)?;
        let is_code = code.len() > 3 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_code || resource.trim().is_empty() {
            return Err(expected());
        }
        Ok(Self { code: code.to_owned(), resource: resource.trim().to_owned() })
    }

    fn takes(&self, found: &Diagnostic) -> bool {
        let Some(object) = &found.object else { return false };
        self.code == found.code && matches(&self.resource, &name(object))
    }
}

/// True when one of them takes the finding.
pub(crate) fn any(suppressions: &[Suppression], found: &Diagnostic) -> bool {
    suppressions.iter().any(|suppression| suppression.takes(found))
}

/// True when an annotation's codes hold one.
pub(crate) fn annotated(annotation: &str, code: &str) -> bool {
    annotation.split(',').map(str::trim).any(|entry| entry == "*" || entry == code)
}

fn name(object: &Origin) -> String {
    match object.namespace.is_empty() {
        true => format!("{} {}", object.kind, object.name),
        false => format!("{} {}.{}", object.kind, object.name, object.namespace),
    }
}

// Greedy from the left is enough for `*` alone: the first place where a part fits leaves most for the rest.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("Pod a.b", "Pod a.b"));
        assert!(!matches("Pod a", "Pod a.b"));
        assert!(matches("Pod *.testing", "Pod x.testing"));
        assert!(!matches("Pod *.testing", "Pod x.testing2"));
        assert!(matches("*", "Service x.y"));
        assert!(matches("*a*b*", "xxaxxbxx") && !matches("*b*a*", "xxaxxb"));
        assert!(!matches("ab*b", "ab"));
    }

    #[test]
    fn what_is_no_suppression_is_refused() {
        assert!(Suppression::parse("IST0101=VirtualService a.b").is_ok());
        for bad in ["", "IST0101", "IST0101=", "=a", "a b=c"] {
            assert!(Suppression::parse(bad).is_err(), "{bad}");
        }
    }
}
