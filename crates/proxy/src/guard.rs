//! Before a request is routed or a connection is carried: tokens first, then who may ask (DP06). A chain without either
//! has no guard, and nothing is looked at.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use config::{Authentication, Authorization, HttpManager, JwtKeys, Name};
use http::header::WWW_AUTHENTICATE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use policy::{Facts, Keys, Refused, Verdict, Verified};
use serde_json::Value;

use crate::connection::Client;
use crate::failure::Flags;
use crate::headers;
use crate::jwks::Source;
use crate::local_reply::{ReplyBody, reply};
use crate::record::Record;
use crate::worker::Worker;

/// Longest address in a challenge, in bytes (Envoy's).
const REALM_BYTES_MAX: usize = 256;

/// What a chain for requests looks at, ready. Its rules are read where its manager has them.
pub struct Guard {
    tokens: Option<(Authentication, Vec<KeysFrom>)>,
}

enum KeysFrom {
    Here(Result<Arc<Keys>, Refused>),
    Fetched(Source),
}

/// Why a request goes no further.
pub struct Denial {
    status: u16,
    body: String,
    details: String,
    challenge: Option<String>,
}

impl Guard {
    /// The guard of a chain; `None` when there is nothing to look at.
    pub fn new(manager: &HttpManager, slot_of: &mut impl FnMut(&Name) -> u32) -> Option<Box<Self>> {
        if manager.authentication.is_none() && manager.authorization.is_empty() {
            return None;
        }
        let tokens = manager.authentication.clone().map(|authentication| {
            let keys = authentication.issuers.iter().map(|issuer| match &issuer.keys {
                JwtKeys::Inline(text) => KeysFrom::Here(Keys::parse(text).map(Arc::new)),
                JwtKeys::Remote { uri, cluster, timeout } => {
                    KeysFrom::Fetched(Source::new(uri, slot_of(cluster), *timeout))
                }
            });
            let keys = keys.collect();
            (authentication, keys)
        });
        Some(Box::new(Self { tokens }))
    }
}

/// Looks at a request, and takes from it what only we may say. Gives what a valid token says.
///
/// # Errors
/// What its client is told.
pub async fn check(
    guard: &Guard,
    worker: &Rc<Worker>,
    client: &Client,
    manager: &HttpManager,
    request: &mut Request<Incoming>,
    authority: &str,
) -> Result<Option<Value>, Denial> {
    let scheme = if client.tls.is_some() { "https" } else { "http" };
    let mut claims = None;
    if let Some((authentication, keys)) = &guard.tokens {
        if is_preflight(request) {
            policy::verify::unsay(authentication, request.headers_mut());
        } else {
            claims = believe(authentication, keys, worker, request).await.map_err(|refused| {
                let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
                unauthorised(refused, scheme, authority, path)
            })?;
        }
    }
    if manager.authorization.is_empty() {
        return Ok(claims);
    }
    let principal = client.principal();
    let principal_text = principal.map(|id| id.to_string());
    let asked = policy::Request {
        method: request.method().as_str(),
        scheme,
        authority,
        path: request.uri().path_and_query().map_or("/", PathAndQuery::as_str),
        headers: request.headers(),
        claims: claims.as_ref(),
    };
    let facts = Facts {
        principal: principal.map(Arc::as_ref),
        principal_text: principal_text.as_deref(),
        remote: remote(request.headers(), manager, client.peer),
        request: Some(asked),
        ..of_connection(client)
    };
    judge(&manager.authorization, &facts)?;
    Ok(claims)
}

/// Looks at a connection; the reason, in Envoy's words, when it goes no further.
pub fn check_connection(rules: &[Authorization], client: &Client) -> Option<String> {
    if rules.is_empty() {
        return None;
    }
    let principal = client.principal();
    let principal_text = principal.map(|id| id.to_string());
    let facts = Facts {
        principal: principal.map(Arc::as_ref),
        principal_text: principal_text.as_deref(),
        remote: client.peer.map(|peer| peer.ip()),
        ..of_connection(client)
    };
    judge(rules, &facts).err().map(|denial| denial.details)
}

fn of_connection(client: &Client) -> Facts<'_> {
    Facts {
        peer: client.direct.map(|peer| peer.ip()),
        destination: client.dialled.or(client.local),
        server_name: client.server_name(),
        ..Facts::default()
    }
}

fn judge(rules: &[Authorization], facts: &Facts<'_>) -> Result<(), Denial> {
    for stage in rules {
        if let Some(verdict) = policy::tried(stage, facts) {
            tracing::debug!("dry run: {verdict:?}");
        }
    }
    match policy::decide(rules, facts) {
        Verdict::Allowed => Ok(()),
        Verdict::Denied { by } => Err(Denial {
            status: 403,
            body: "RBAC: access denied".into(),
            details: format!("rbac_access_denied_matched_policy[{}]", by.unwrap_or("none")),
            challenge: None,
        }),
    }
}

// What a valid token says, if there is one. Keys are fetched only for a token that lacks nothing else.
async fn believe(
    authentication: &Authentication,
    keys: &[KeysFrom],
    worker: &Rc<Worker>,
    request: &mut Request<Incoming>,
) -> Result<Option<Value>, Refused> {
    if !policy::verify::concerns(authentication, request.headers(), request.uri().query()) {
        return Ok(None);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut fetched: Vec<Option<Result<Arc<Keys>, Refused>>> = vec![None; keys.len()];
    let verified = loop {
        let missing = Cell::new(None);
        let of = |index: usize| match (fetched.get(index).cloned().flatten(), keys.get(index)) {
            (Some(fetched), _) => fetched,
            (None, Some(KeysFrom::Here(keys))) => keys.clone(),
            (None, Some(KeysFrom::Fetched(source))) => worker.keys.known(worker, source).unwrap_or_else(|| {
                missing.set(Some((index, source)));
                Err(Refused::Fetch)
            }),
            (None, None) => Err(Refused::NoKeys),
        };
        let outcome = policy::verify(authentication, request.headers(), request.uri().query(), now, &of);
        match missing.get() {
            None => break outcome?,
            Some((index, source)) => fetched[index] = Some(worker.keys.get(worker, source).await),
        }
    };
    Ok(apply(verified, request))
}

fn apply(verified: Verified, request: &mut Request<Incoming>) -> Option<Value> {
    let Verified { claims, set, drop_headers, drop_params } = verified;
    let headers = request.headers_mut();
    for name in drop_headers {
        headers.remove(name);
    }
    for (name, value) in set {
        headers.insert(name, value);
    }
    if !drop_params.is_empty()
        && let Some(target) = without_params(request.uri(), &drop_params)
    {
        *request.uri_mut() = target;
    }
    claims
}

fn without_params(uri: &http::Uri, names: &[String]) -> Option<http::Uri> {
    let (path, query) = (uri.path(), uri.query()?);
    let is_kept = |pair: &&str| !names.iter().any(|name| pair.split('=').next() == Some(name.as_str()));
    let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    target.parse::<PathAndQuery>().ok().map(http::Uri::from)
}

// Browsers send no tokens with these.
fn is_preflight(request: &Request<Incoming>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(http::header::ORIGIN)
        && request.headers().contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD)
}

// Whose request it is: those in front say it, as far as they are trusted (Envoy's `xff_num_trusted_hops`). At a gateway our
// peer is already at the end of the header.
fn remote(headers: &HeaderMap, manager: &HttpManager, peer: Option<SocketAddr>) -> Option<IpAddr> {
    let peer = peer.map(|peer| peer.ip());
    if manager.use_remote_address && manager.xff_trusted_hops == 0 {
        return peer;
    }
    let last = headers.get_all(headers::FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
    let named = last.and_then(|list| list.rsplit(',').nth(manager.xff_trusted_hops as usize));
    named.and_then(|text| words::host::ip(text.trim())).or(peer)
}

fn unauthorised(refused: Refused, scheme: &str, authority: &str, path: &str) -> Denial {
    let body = refused.message();
    let mut realm = format!("{scheme}://{authority}{path}");
    while realm.len() > REALM_BYTES_MAX {
        realm.pop();
    }
    let error = if refused == Refused::Missing { "" } else { ", error=\"invalid_token\"" };
    Denial {
        status: refused.status(),
        details: format!("jwt_authn_access_denied{{{}}}", body.replace(' ', "_")),
        challenge: Some(format!("Bearer realm=\"{realm}\"{error}")),
        body,
    }
}

impl Denial {
    /// The answer.
    pub fn answer(self, mut record: Box<Record>) -> Response<ReplyBody> {
        let Self { status, body, details, challenge } = self;
        record.details = if challenge.is_some() { "jwt_authn_access_denied" } else { "rbac_access_denied" };
        record.flags = record.flags.with(Flags::UNAUTHORIZED);
        if let Some(head) = &mut record.head {
            head.details = Some(details);
        }
        let mut response = reply(status, body, record);
        if let Some(value) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}
