//! New paths and authorities for requests that are sent on (Istio VS45 to VS47; Envoy `prefix_rewrite`, `regex_rewrite`).
//!
//! In: what the configuration says, compiled once, and a path. Out: the new path, with the query as it was.

use std::borrow::Cow;

use config::rewrite::{SubstitutionPart, substitution};
use config::{PathMatch, PathRewrite};
use regex::bytes::{Captures, Regex};

use crate::head::path_end;
use crate::value;

/// A change of the path, ready.
#[derive(Debug)]
pub struct PathChange(How);

#[derive(Debug)]
enum How {
    /// Instead of what the condition matched.
    Matched(String, PathMatch),
    /// Instead of every match in the path.
    Regex(Regex, Vec<SubstitutionPart>),
}

impl PathChange {
    pub(crate) fn new(rewrite: &PathRewrite, matched: &PathMatch) -> Result<Self, String> {
        Ok(Self(match rewrite {
            PathRewrite::Matched(text) => How::Matched(text.clone(), matched.clone()),
            PathRewrite::Regex { pattern, substitution: text } => {
                How::Regex(value::anywhere(pattern)?, substitution(text)?)
            }
        }))
    }

    /// The new path and query. Always begins with a slash: one is put there where the configuration has none, because
    /// HTTP/1.1 has no target without it.
    pub fn apply(&self, path: &str) -> String {
        let new = match &self.0 {
            How::Matched(text, matched) => format!("{text}{}", &path[matched_bytes(matched, path)..]),
            How::Regex(regex, parts) => {
                let (only, rest) = path.split_at(path_end(path));
                match regex.replace_all(only.as_bytes(), |found: &Captures<'_>| fill(parts, found)) {
                    Cow::Borrowed(_) => path.to_owned(),
                    Cow::Owned(new) => String::from_utf8_lossy(&new).into_owned() + rest,
                }
            }
        };
        match new.starts_with('/') {
            true => new,
            false => format!("/{new}"),
        }
    }
}

fn fill(parts: &[SubstitutionPart], found: &Captures<'_>) -> Vec<u8> {
    let part = |part: &SubstitutionPart| match part {
        SubstitutionPart::Literal(text) => text.clone().into_bytes(),
        SubstitutionPart::Group(number) => found.get(*number).map_or_else(Vec::new, |group| group.as_bytes().into()),
    };
    parts.iter().flat_map(part).collect()
}

/// How much of a path a condition that held has matched: its prefix, or all of it but the query (TR49).
pub(crate) fn matched_bytes(condition: &PathMatch, path: &str) -> usize {
    match condition {
        // The condition held, so the path is at least as long, and cut at a letter's edge.
        PathMatch::Prefix(prefix) if path.is_char_boundary(prefix.len()) => prefix.len(),
        _ => path_end(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(text: &str, condition: PathMatch, path: &str) -> String {
        PathChange::new(&PathRewrite::Matched(text.into()), &condition).expect("no regex").apply(path)
    }

    fn regex(pattern: &str, substitution: &str, path: &str) -> String {
        let rewrite = PathRewrite::Regex { pattern: pattern.into(), substitution: substitution.into() };
        PathChange::new(&rewrite, &PathMatch::Prefix("/".into())).expect("a regex").apply(path)
    }

    #[test]
    fn tr49_a_prefix_is_replaced_byte_by_byte() {
        let on = |prefix: &str| PathMatch::Prefix(prefix.into());
        assert_eq!(matched("/v2", on("/api"), "/api/x?q=/api"), "/v2/x?q=/api");
        assert_eq!(matched("/v2", on("/api"), "/apix"), "/v2x");
        assert_eq!(matched("/", on("/api"), "/api/x"), "//x");
        assert_eq!(matched("/", on("/api/"), "/api/x"), "/x");
        assert_eq!(matched("/v2/", on("/api/"), "/api/"), "/v2/");
        assert_eq!(matched("v2", on("/"), "/x"), "/v2x");
    }

    #[test]
    fn tr49_exact_and_regex_conditions_give_the_whole_path_away() {
        assert_eq!(matched("/new", PathMatch::Exact("/old".into()), "/old?q=1"), "/new?q=1");
        assert_eq!(matched("/new", PathMatch::Regex("/o.*".into()), "/old/x?q=1"), "/new?q=1");
    }

    #[test]
    fn vs47_every_match_is_replaced_and_the_query_stays() {
        assert_eq!(regex("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api"), "/v1/api/instance/foo");
        assert_eq!(regex("one", "two", "/xxx/one/yyy/one/zzz?one=1"), "/xxx/two/yyy/two/zzz?one=1");
        assert_eq!(regex("nothing", "x", "/a?b"), "/a?b");
        assert_eq!(regex("^/a(b)?$", r"/\1c", "/a"), "/c");
    }
}
