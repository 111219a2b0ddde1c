//! One rule's conditions, compiled once: regexes built, header names parsed.

use std::borrow::Cow;

use config::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
use http::HeaderName;
use regex::Regex;

use crate::Head;

/// The first condition of a rule that a request does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The path.
    Path,
    /// The header of this name.
    Header(String),
    /// The query parameter of this name.
    Query(String),
}

/// A rule's conditions.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub(crate) path: Path,
    headers: Vec<Header>,
    query: Vec<(String, Value)>,
}

/// A condition on the path.
#[derive(Debug)]
pub(crate) enum Path {
    Exact(String),
    ExactIgnoringCase(String),
    Prefix(String),
    PrefixIgnoringCase(String),
    Regex(Regex),
}

#[derive(Debug)]
struct Header {
    name: Name,
    value: Value,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Debug)]
enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Field(HeaderName),
    // A name that no header can have: never present.
    Impossible(String),
}

#[derive(Debug)]
enum Value {
    Present,
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

// Istio and Envoy match regexes against the whole value (TR41).
fn whole(regex: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{regex})$")).map_err(|error| format!("the regex {regex:?} does not compile: {error}"))
}

impl Value {
    fn new(value: &ValueMatch) -> Result<Self, String> {
        Ok(match value {
            ValueMatch::Present => Self::Present,
            ValueMatch::Exact(text) => Self::Exact(text.clone()),
            ValueMatch::Prefix(text) => Self::Prefix(text.clone()),
            ValueMatch::Suffix(text) => Self::Suffix(text.clone()),
            ValueMatch::Contains(text) => Self::Contains(text.clone()),
            ValueMatch::Regex(regex) => Self::Regex(whole(regex)?),
        })
    }

    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Suffix(text) => value.ends_with(text.as_str()),
            Self::Contains(text) => value.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl Header {
    fn new(header: &HeaderMatch) -> Result<Self, String> {
        let HeaderMatch { name, value, invert, missing_is_empty } = header;
        let name = match name.as_str() {
            ":method" => Name::Method,
            ":scheme" => Name::Scheme,
            ":authority" => Name::Authority,
            ":path" => Name::Path,
            field => field.parse().map_or_else(|_| Name::Impossible(field.to_owned()), Name::Field),
        };
        Ok(Self { name, value: Value::new(value)?, invert: *invert, missing_is_empty: *missing_is_empty })
    }

    fn holds(&self, head: &Head<'_>) -> bool {
        let value = match self.value_in(head) {
            None if self.missing_is_empty => Some(Cow::Borrowed("")),
            value => value,
        };
        // Envoy: an absent header fails the condition, so an inverted condition on it holds.
        value.is_some_and(|value| self.value.holds(&value)) != self.invert
    }

    fn value_in<'a>(&self, head: &Head<'a>) -> Option<Cow<'a, str>> {
        match &self.name {
            Name::Method => Some(Cow::Borrowed(head.method)),
            Name::Scheme => Some(Cow::Borrowed(head.scheme)),
            Name::Authority => Some(Cow::Borrowed(head.authority)),
            Name::Path => Some(Cow::Borrowed(head.path)),
            // `host` is the authority, whatever the protocol version.
            Name::Field(name) if *name == http::header::HOST => Some(Cow::Borrowed(head.authority)),
            Name::Field(name) => joined(head, name),
            Name::Impossible(_) => None,
        }
    }

    fn name(&self) -> String {
        match &self.name {
            Name::Method => ":method".into(),
            Name::Scheme => ":scheme".into(),
            Name::Authority => ":authority".into(),
            Name::Path => ":path".into(),
            Name::Field(name) => name.to_string(),
            Name::Impossible(name) => name.clone(),
        }
    }
}

// Several values of one header count as one, joined with a comma (Envoy's header matching).
fn joined<'a>(head: &Head<'a>, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = head.headers.get_all(name).iter();
    let first = String::from_utf8_lossy(values.next()?.as_bytes());
    Some(values.fold(first, |all, value| Cow::Owned(format!("{all},{}", String::from_utf8_lossy(value.as_bytes())))))
}

impl Path {
    fn new(path: &PathMatch, ignore_case: bool) -> Result<Self, String> {
        Ok(match (path, ignore_case) {
            (PathMatch::Exact(text), false) => Self::Exact(text.clone()),
            (PathMatch::Exact(text), true) => Self::ExactIgnoringCase(text.clone()),
            (PathMatch::Prefix(text), false) => Self::Prefix(text.clone()),
            (PathMatch::Prefix(text), true) => Self::PrefixIgnoringCase(text.clone()),
            (PathMatch::Regex(regex), _) => Self::Regex(whole(regex)?),
        })
    }

    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::ExactIgnoringCase(text) => path.eq_ignore_ascii_case(text),
            Self::Prefix(text) => path.starts_with(text.as_str()),
            Self::PrefixIgnoringCase(text) => {
                path.as_bytes().get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
            }
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

impl Matcher {
    pub(crate) fn new(matches: &RouteMatch) -> Result<Self, String> {
        let RouteMatch { path, ignore_case, headers, query } = matches;
        let parameter = |QueryMatch { name, value }: &QueryMatch| Ok((name.clone(), Value::new(value)?));
        Ok(Self {
            path: Path::new(path, *ignore_case)?,
            headers: headers.iter().map(Header::new).collect::<Result<_, String>>()?,
            query: query.iter().map(parameter).collect::<Result<_, String>>()?,
        })
    }

    /// True when nothing but the path is asked.
    pub(crate) fn is_path_only(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty()
    }

    /// True when all conditions hold.
    pub(crate) fn holds(&self, head: &Head<'_>, path: &str) -> bool {
        self.path.holds(path) && self.rest_holds(head)
    }

    /// True when the conditions besides the path hold.
    pub(crate) fn rest_holds(&self, head: &Head<'_>) -> bool {
        self.headers.iter().all(|header| header.holds(head))
            && self.query.iter().all(|(name, value)| head.query_parameter(name).is_some_and(|got| value.holds(got)))
    }

    /// The first condition that does not hold.
    pub(crate) fn miss(&self, head: &Head<'_>, path: &str) -> Option<Miss> {
        if !self.path.holds(path) {
            return Some(Miss::Path);
        }
        let header = self.headers.iter().find(|header| !header.holds(head)).map(|header| Miss::Header(header.name()));
        let query = || {
            let fails =
                |(name, value): &&(String, Value)| !head.query_parameter(name).is_some_and(|got| value.holds(got));
            self.query.iter().find(fails).map(|(name, _)| Miss::Query(name.clone()))
        };
        header.or_else(query)
    }
}
