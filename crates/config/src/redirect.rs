//! Answers that send the client elsewhere (Istio VS40 to VS42, Envoy `RedirectAction`).

use serde::Serialize;

/// A redirect; what is `None` stays as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The new host, perhaps with a port.
    pub host: Option<String>,
    /// The new port, never 0.
    pub port: Option<u16>,
    /// The new path.
    pub path: Option<RedirectPath>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// The path of a redirect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RedirectPath {
    /// Instead of the whole path; its own query, if it has one, instead of the client's.
    Whole(String),
    /// Instead of what the route's condition matched; the query stays.
    Matched(String),
}

/// The status codes that a redirect may have.
pub const REDIRECT_CODES: [u16; 5] = [301, 302, 303, 307, 308];
