//! What of a request is the key that keeps it at one endpoint (Envoy `RouteAction.HashPolicy`, DR21).

use std::time::Duration;

use serde::Serialize;

/// A part of the key. What a request does not have adds nothing; of several parts each is mixed in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum HashKey {
    /// All values of a header, in any order; the name is lower case.
    Header(String),
    /// A cookie, perhaps made here.
    Cookie(HashCookie),
    /// The client's address, without its port.
    SourceIp,
    /// The first value of a query parameter.
    Query(String),
}

/// A cookie as key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// Its path, when it is made here; may be empty.
    pub path: String,
    /// `None`: only read. Otherwise it is made when the request has none, and lives for so many seconds; 0 is as long
    /// as the browser runs.
    pub ttl: Option<Duration>,
    /// Attributes of a cookie that is made here, name and value; the value may be empty.
    pub attributes: Vec<(String, String)>,
}
