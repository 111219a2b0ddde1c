//! Changes of path and authority before a request is sent on (Istio VS45 to VS47, Envoy `RouteAction`).

use serde::Serialize;

/// What becomes of a request's target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Rewrite {
    /// The path; the query stays.
    pub path: Option<PathRewrite>,
    /// The new authority.
    pub authority: Option<String>,
}

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PathRewrite {
    /// Put in the place of what the route's condition matched: the prefix, or the whole path for exact and regex
    /// conditions (TR49). Never empty.
    Matched(String),
    /// Every match of a regex is replaced.
    Regex {
        /// RE2 syntax.
        pattern: String,
        /// With `\0` to `\9` for groups.
        substitution: String,
    },
}

impl Rewrite {
    /// Boxed, or nothing where nothing is changed.
    pub fn into_option(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// A piece of a substitution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubstitutionPart {
    /// As it is.
    Literal(String),
    /// What a group matched; 0 is the whole match.
    Group(usize),
}

/// Splits a substitution in RE2's syntax: `\1` is a group, `\\` a backslash.
///
/// # Errors
/// A backslash before anything else.
pub fn substitution(text: &str) -> Result<Vec<SubstitutionPart>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            literal.push(letter);
            continue;
        }
        match letters.next() {
            Some('\\') => literal.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                if !literal.is_empty() {
                    parts.push(SubstitutionPart::Literal(std::mem::take(&mut literal)));
                }
                parts.push(SubstitutionPart::Group(usize::from(digit as u8 - b'0')));
            }
            Some(other) => return Err(format!("\\{other} in {text:?} is no group; write \\\\ for a backslash")),
            None => return Err(format!("{text:?} ends with a backslash")),
        }
    }
    if !literal.is_empty() {
        parts.push(SubstitutionPart::Literal(literal));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vs47_groups_are_written_with_a_backslash() {
        let literal = |text: &str| SubstitutionPart::Literal(text.into());
        assert_eq!(
            substitution(r"/a\1-\\\0"),
            Ok(vec![literal("/a"), SubstitutionPart::Group(1), literal(r"-\"), SubstitutionPart::Group(0)])
        );
        assert!(substitution(r"\x").is_err());
        assert!(substitution(r"\").is_err());
    }
}
