//! A request's head as the router reads it.

use http::HeaderMap;

/// What a decision may depend on. Borrowed from the request; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `GET`.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// As the client sent it, perhaps with a port.
    pub authority: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// What the request's valid token says.
    pub claims: Option<&'a serde_json::Value>,
}

impl<'a> Head<'a> {
    /// The path without query and fragment: what path conditions see.
    pub fn path_only(&self) -> &'a str {
        &self.path[..path_end(self.path)]
    }

    /// The query without its `?`; empty when there is none.
    pub fn query(&self) -> &'a str {
        let end = self.path_only().len();
        let Some(query) = self.path[end..].strip_prefix('?') else { return "" };
        &query[..query.find('#').unwrap_or(query.len())]
    }

    /// A query parameter's first value, as sent (Envoy compares without decoding); empty for a bare key.
    pub fn query_parameter(&self, name: &str) -> Option<&'a str> {
        self.query().split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }
}

/// Where the query or the fragment begins.
pub(crate) fn path_end(path: &str) -> usize {
    path.find(['?', '#']).unwrap_or(path.len())
}
