//! One rule's conditions, compiled once: regexes built, header names parsed.
//!
//! There is one evaluation of them, [`Matcher::failing`]; the decision asks whether anything failed, `explain` what.

use config::{ClaimMatch, HeaderMatch, PathMatch, QueryMatch, RouteMatch};
use http::HeaderName;
use regex::bytes::Regex;
use serde_json::Value as Json;

use crate::Head;
use crate::value::{Value, whole};

/// The first condition of a rule that a request does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The path.
    Path,
    /// The header of this name.
    Header(String),
    /// The query parameter of this name.
    Query(String),
    /// The claim of this name.
    Claim(String),
}

/// The first condition that fails, by its place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failing {
    Path,
    Header(usize),
    Query(usize),
    Claim(usize),
}

/// A rule's conditions.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub(crate) path: Path,
    headers: Box<[Header]>,
    query: Box<[(Box<str>, Value)]>,
    claims: Box<[Claim]>,
}

/// A condition on a claim, compiled.
#[derive(Debug)]
struct Claim {
    path: Vec<String>,
    value: Value,
    invert: bool,
}

impl Claim {
    fn new(claim: &ClaimMatch) -> Result<Self, String> {
        let ClaimMatch { path, value, invert } = claim;
        Ok(Self { path: path.clone(), value: Value::new(value)?, invert: *invert })
    }

    fn holds(&self, head: &Head<'_>) -> bool {
        let found = head.claims.and_then(|claims| self.path.iter().try_fold(claims, |claim, name| claim.get(name)));
        let fits = |text: &str| !text.is_empty() && self.value.holds(text.as_bytes());
        let holds = match found {
            Some(Json::String(text)) => fits(text),
            Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).any(fits),
            _ => false,
        };
        holds != self.invert
    }
}

/// A condition on the path.
#[derive(Debug)]
pub(crate) enum Path {
    Exact(Box<str>),
    ExactIgnoringCase(Box<str>),
    Prefix(Box<str>),
    PrefixIgnoringCase(Box<str>),
    // The regex and its text.
    Regex(Regex, Box<str>),
}

/// A condition on a header by itself, compiled.
#[derive(Debug)]
pub struct HeaderCondition(Header);

impl HeaderCondition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// A sentence about a regex that does not compile.
    pub fn new(header: &HeaderMatch) -> Result<Self, String> {
        Header::new(header).map(Self)
    }

    /// True when a request meets it.
    pub fn holds(&self, head: &Head<'_>) -> bool {
        self.0.holds(head)
    }
}

#[derive(Debug)]
struct Header {
    name: Box<str>,
    source: Source,
    value: Value,
    invert: bool,
    missing_is_empty: bool,
}

/// Where a header's value stands.
#[derive(Debug)]
enum Source {
    Method,
    Scheme,
    Authority,
    Path,
    Field(HeaderName),
    // A name that no header can have: never present.
    Nowhere,
}

impl Source {
    fn new(name: &str) -> Self {
        match name {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            // Measured with Envoy 1.40: a condition on `host` is one on the authority, whatever the protocol version.
            ":authority" | "host" => Self::Authority,
            ":path" => Self::Path,
            field => field.parse().map_or(Self::Nowhere, Self::Field),
        }
    }
}

impl Header {
    fn new(header: &HeaderMatch) -> Result<Self, String> {
        let HeaderMatch { name, value, invert, missing_is_empty } = header;
        Ok(Self {
            name: name.as_str().into(),
            source: Source::new(name),
            value: Value::new(value)?,
            invert: *invert,
            missing_is_empty: *missing_is_empty,
        })
    }

    fn holds(&self, head: &Head<'_>) -> bool {
        let any = match &self.source {
            Source::Method => self.any_of(Some(head.method)),
            Source::Scheme => self.any_of(Some(head.scheme)),
            Source::Authority => self.any_of((!head.authority.is_empty()).then_some(head.authority)),
            Source::Path => self.any_of(Some(head.path)),
            Source::Field(name) => self.any_of(head.headers.get_all(name)),
            Source::Nowhere => self.any_of(None::<&str>),
        };
        any.unwrap_or(match (&self.value, self.missing_is_empty) {
            (value, true) => value.holds(b""),
            (Value::Present, false) => false,
            // Envoy `HeaderMatcher.treat_missing_header_as_empty`: a condition on the value of an absent header fails,
            // inverted or not. Only presence can be inverted to absence.
            (_, false) => self.invert,
        }) != self.invert
    }

    // Whether any of the values meets the condition; `None` when there is no value.
    //
    // Measured with Envoy 1.40: each value is looked at on its own, and an inverted condition holds when none meets it.
    // Older ones joined the values with a comma first, which let a second value hide the first from a policy.
    fn any_of<T: AsRef<[u8]>>(&self, values: impl IntoIterator<Item = T>) -> Option<bool> {
        let mut values = values.into_iter().peekable();
        values.peek()?;
        Some(values.any(|value| self.value.holds(value.as_ref())))
    }
}

impl Path {
    fn new(path: &PathMatch, ignore_case: bool) -> Result<Self, String> {
        let boxed = |text: &String| text.as_str().into();
        Ok(match (path, ignore_case) {
            (PathMatch::Exact(text), false) => Self::Exact(boxed(text)),
            (PathMatch::Exact(text), true) => Self::ExactIgnoringCase(boxed(text)),
            (PathMatch::Prefix(text), false) => Self::Prefix(boxed(text)),
            (PathMatch::Prefix(text), true) => Self::PrefixIgnoringCase(boxed(text)),
            // VS19: never a regex.
            (PathMatch::Regex(regex), _) => Self::Regex(whole(regex)?, boxed(regex)),
        })
    }

    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => *path == **text,
            Self::ExactIgnoringCase(text) => path.eq_ignore_ascii_case(text),
            // A byte prefix: `/api` is one of `/apix` (TR40).
            Self::Prefix(text) => path.starts_with(&**text),
            Self::PrefixIgnoringCase(text) => {
                path.as_bytes().get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
            }
            Self::Regex(regex, _) => regex.is_match(path.as_bytes()),
        }
    }
}

impl Matcher {
    pub(crate) fn new(matches: &RouteMatch) -> Result<Self, String> {
        let RouteMatch { path, ignore_case, headers, query, claims } = matches;
        let parameter = |QueryMatch { name, value }: &QueryMatch| Ok((name.as_str().into(), Value::new(value)?));
        Ok(Self {
            path: Path::new(path, *ignore_case)?,
            headers: headers.iter().map(Header::new).collect::<Result<_, String>>()?,
            query: query.iter().map(parameter).collect::<Result<_, String>>()?,
            claims: claims.iter().map(Claim::new).collect::<Result<_, String>>()?,
        })
    }

    /// The first condition that does not hold; `path_known` when the path is known to hold.
    pub(crate) fn failing(&self, head: &Head<'_>, path: &str, path_known: bool) -> Option<Failing> {
        if !path_known && !self.path.holds(path) {
            return Some(Failing::Path);
        }
        if let Some(place) = self.headers.iter().position(|header| !header.holds(head)) {
            return Some(Failing::Header(place));
        }
        // Envoy compares the first occurrence, as sent; an absent parameter never holds.
        let holds = |(name, value): &(Box<str>, Value)| {
            head.query_parameter(name).is_some_and(|sent| value.holds(sent.as_bytes()))
        };
        if let Some(place) = self.query.iter().position(|parameter| !holds(parameter)) {
            return Some(Failing::Query(place));
        }
        self.claims.iter().position(|claim| !claim.holds(head)).map(Failing::Claim)
    }

    /// The same for people.
    pub(crate) fn miss(&self, head: &Head<'_>, path: &str) -> Option<Miss> {
        self.failing(head, path, false).map(|failing| match failing {
            Failing::Path => Miss::Path,
            Failing::Header(place) => Miss::Header(self.headers[place].name.to_string()),
            Failing::Query(place) => Miss::Query(self.query[place].0.to_string()),
            Failing::Claim(place) => Miss::Claim(self.claims[place].path.join(".")),
        })
    }
}
