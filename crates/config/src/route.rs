//! Route tables: virtual hosts by domain, and in each an ordered list of routes, first match wins
//! (Envoy `config.route.v3`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use words::Origin;

use crate::{CorsPolicy, Fault, HashKey, HeaderChanges, Name, RateLimit, Redirect, RetryPolicy, Rewrite, Share};

/// A named table that an HTTP filter chain routes by (RDS).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RouteTable {
    /// The RDS name: `9080`, `http.80`, `http_proxy`, or the inbound cluster's name for an inline table.
    pub name: Name,
    /// The port that a client sends in the authority is not compared (X14). False for the table of the explicit
    /// listener, whose domains have ports (X15).
    pub ignore_port: bool,
    /// Virtual hosts; no domain stands in two of them.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
}

/// The routes of a set of domains.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct VirtualHost {
    /// `<host>:<port>`, or `allow_any`, `block_all`, `blackhole:<port>` (X53).
    pub name: Name,
    /// Exact domains, `*.suffix`, or `*`; lower case; matched without the port that a client sends, unless the
    /// domain itself has one.
    pub domains: Vec<String>,
    /// In the order in which they are tried.
    pub routes: Vec<Route>,
    /// Send `x-envoy-attempt-count` to the upstream (VS77).
    pub include_attempt_count: bool,
    /// A request that did not come over TLS is answered 301 to https, whatever the routes say (GW19).
    pub require_tls: bool,
    /// What all requests to these domains need a token of.
    pub limits: Vec<RateLimit>,
}

/// A match and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Route {
    /// `default`, or the VirtualService's `<route.name>[.<match.name>]` (X54); may be empty.
    pub name: String,
    /// All conditions must hold.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// What happens to a request that matches.
    pub action: Action,
    /// The VirtualService that wrote the rule; `None` for defaults.
    pub origin: Option<Origin>,
    /// Span and metrics name, `reviews.default.svc.cluster.local:9080/*` (X54).
    pub operation: String,
    /// Changes of headers; they happen whatever the action is.
    pub headers: Option<Box<HeaderChanges>>,
    /// Cross-origin rules.
    pub cors: Option<Box<CorsPolicy>>,
    /// Name of statistics of its own; empty for none (VS24).
    pub stat_prefix: String,
    /// What requests of this rule need a token of, besides those of the virtual host.
    pub limits: Vec<RateLimit>,
}

/// Conditions on a request's head; all must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RouteMatch {
    /// On the path, without the query.
    pub path: PathMatch,
    /// Compare exact and prefix paths without case (VS19: never a regex).
    pub ignore_case: bool,
    /// On headers; pseudo headers by their HTTP/2 names (`:method`, `:scheme`, `:authority`).
    pub headers: Vec<HeaderMatch>,
    /// On query parameters.
    pub query: Vec<QueryMatch>,
    /// On what the request's valid token says (VS16).
    pub claims: Vec<ClaimMatch>,
}

/// A condition on a claim: a text, or a list with such a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ClaimMatch {
    /// Names of members, from the outside in; at least one.
    pub path: Vec<String>,
    /// The text.
    pub value: ValueMatch,
    /// It must not hold; a claim that is not there does not hold.
    pub invert: bool,
}

impl RouteMatch {
    /// Matches every request.
    pub fn any() -> Self {
        let path = PathMatch::Prefix("/".into());
        Self { path, ignore_case: false, headers: Vec::new(), query: Vec::new(), claims: Vec::new() }
    }

    /// True when no request can fail this match (VS74).
    pub fn is_catch_all(&self) -> bool {
        let path = match &self.path {
            PathMatch::Prefix(prefix) => prefix == "/" || prefix.is_empty(),
            PathMatch::Regex(regex) => regex == ".*",
            PathMatch::Exact(_) => false,
        };
        path && self.headers.is_empty() && self.query.is_empty() && self.claims.is_empty()
    }
}

/// A condition on the path without its query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PathMatch {
    /// Byte prefix: `/foo` matches `/foobar` (TR40).
    Prefix(String),
    /// The whole path.
    Exact(String),
    /// RE2 syntax; the whole path must match (TR41).
    Regex(String),
}

/// A condition on one header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderMatch {
    /// Lower case, or a pseudo header.
    pub name: String,
    /// What its value must be. Of several values of one header each is looked at on its own, and one is enough
    /// (measured with Envoy 1.40).
    pub value: ValueMatch,
    /// True: the request must *not* match (VS17).
    pub invert: bool,
    /// True: an absent header counts as an empty value (VS17). Otherwise a condition on an absent header's value fails,
    /// inverted or not, and only [`ValueMatch::Present`] can be inverted to absence (measured with Envoy 1.40).
    pub missing_is_empty: bool,
}

/// A condition on one query parameter; the first occurrence counts, values are compared as sent (not decoded).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct QueryMatch {
    /// The key.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

/// A condition on a string.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ValueMatch {
    /// There is a value, whatever it is (TR42).
    Present,
    /// The whole value, with case.
    Exact(String),
    /// The beginning of the value.
    Prefix(String),
    /// The end of the value.
    Suffix(String),
    /// Some part of the value.
    Contains(String),
    /// RE2 syntax, the whole value.
    Regex(String),
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// Send it to an upstream.
    Forward(Forward),
    /// Answer it here.
    Respond(Respond),
    /// Send the client elsewhere.
    Redirect(Redirect),
}

/// Send the request to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Forward {
    /// Where to.
    pub cluster: ClusterChoice,
    /// From the end of the request to the end of the response; `None`: unlimited, Istio's default (VS48, TR02).
    pub timeout: Option<Duration>,
    /// `None`: a failed try is the answer.
    pub retry: Option<RetryPolicy>,
    /// What keeps a request at one endpoint, for clusters that choose so; empty for any endpoint (DR21).
    pub hash: Vec<HashKey>,
    /// Changes of path and authority.
    pub rewrite: Option<Box<Rewrite>>,
    /// What goes wrong on purpose; `None`: nothing (VS50).
    pub fault: Option<Fault>,
    /// Who gets a copy of the request, besides (VS51, VS52).
    pub mirrors: Vec<Mirror>,
}

/// A copy of a request whose answer nobody waits for (Envoy `RequestMirrorPolicy`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Mirror {
    /// Where it goes. The name may be of a cluster that does not exist: then there is no copy.
    pub cluster: Name,
    /// Of how many requests.
    pub share: Share,
    /// The authority of the copy gets `-shadow` behind its host name, so that logs tell it from the original.
    pub shadow_host: bool,
}

/// One cluster, or several by weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ClusterChoice {
    /// Always this one. The name may be of a cluster that does not exist: such a request is answered 503, flag NC.
    One(Name),
    /// One of them, in proportion to the weights; their sum is at least 1.
    Weighted(Vec<Weighted>),
}

/// A cluster with its share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Weighted {
    /// The cluster.
    pub cluster: Name,
    /// Its share of the sum of all weights; at least 1.
    pub weight: u32,
    /// Changes of headers for its requests, made before those of the route.
    pub headers: Option<Box<HeaderChanges>>,
    /// The authority that its requests get; the route's own rewrite wins.
    pub authority: Option<String>,
}

impl Weighted {
    /// A cluster with its share and nothing else.
    pub fn new(cluster: Name, weight: u32) -> Self {
        Self { cluster, weight, headers: None, authority: None }
    }
}

/// Answer without an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Respond {
    /// The status code, 200 to 599.
    pub status: u16,
    /// The body, at most 1 MiB; empty for none.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
}

fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}

impl Route {
    /// A route that does its action and nothing else.
    pub fn new(name: impl Into<String>, matches: RouteMatch, action: Action) -> Self {
        Self {
            name: name.into(),
            matches,
            action,
            origin: None,
            operation: String::new(),
            headers: None,
            cors: None,
            stat_prefix: String::new(),
            limits: Vec::new(),
        }
    }
}

impl Forward {
    /// To one cluster, without any bound.
    pub fn to(cluster: ClusterChoice) -> Self {
        Self { cluster, timeout: None, retry: None, hash: Vec::new(), rewrite: None, fault: None, mirrors: Vec::new() }
    }
}

impl ClusterChoice {
    /// The names of all clusters that may be chosen.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        let (one, many) = match self {
            ClusterChoice::One(name) => (Some(name), [].as_slice()),
            ClusterChoice::Weighted(many) => (None, many.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|weighted| &weighted.cluster))
    }
}
