//! What a rule does to a request on its way up, and to its answer on the way back: rewrites, header changes, CORS.
//!
//! In: what the router compiled (`routing::actions`), and the request. Out: the changed request, and a [`WayBack`] that
//! changes the answer. A request of a rule that does none of this comes here with `None` and nothing happens.

use std::net::SocketAddr;

use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use routing::cors::{Cors, Verdict};
use routing::header_changes::{Changes, Edits, Facts};
use routing::{Actions, ClusterActions};

use crate::access_log;
use crate::connection::Client;
use crate::grpc;
use crate::local_reply::{ReplyBody, grpc_headers, reply};
use crate::record::Record;

/// `x-envoy-original-path`: the path before it was rewritten.
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// What happens to an answer, whoever gives it.
pub struct WayBack<'a> {
    edits: Vec<&'a Edits>,
    route: &'a str,
    cluster: Option<&'a str>,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    protocol: &'static str,
    /// The request's head, kept only where a value asks for it.
    head: Option<Box<KeptHead>>,
}

struct KeptHead {
    method: String,
    path: String,
    authority: String,
    headers: HeaderMap,
}

/// What a rewrite made of a path or an authority cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTarget;

/// Whose request it is, and what was chosen for it.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    /// The client's connection.
    pub client: &'a Client,
    /// The route's name.
    pub route: &'a str,
    /// The cluster, if the request goes to one.
    pub cluster: Option<&'a str>,
    /// What the rule does.
    pub actions: Option<&'a Actions>,
    /// What its cluster does; before the rule (Envoy's order).
    pub of_cluster: Option<&'a ClusterActions>,
}

impl<'a> Chosen<'a> {
    /// Changes a request, and says what happens to its answer. `None`: nothing is done to either.
    ///
    /// # Errors
    /// The rewritten target is none.
    pub fn up<B>(
        &self,
        request: &mut Request<B>,
        authority: &mut String,
        record: &mut Record,
    ) -> Result<Option<WayBack<'a>>, BadTarget> {
        if self.actions.is_none() && self.of_cluster.is_none() {
            return Ok(None);
        }
        let protocol = protocol(request);
        for changes in self.changes().filter(|changes| !changes.request.is_empty()) {
            let path = request.uri().clone();
            let method = request.method().clone();
            let started = || access_log::start_time(record.started.elapsed());
            let facts = Facts {
                method: method.as_str(),
                scheme: "http",
                authority,
                path: path.path_and_query().map_or("/", PathAndQuery::as_str),
                started: Some(&started),
                ..self.facts(protocol)
            };
            changes.request.change_request(request.headers_mut(), &facts);
        }
        if let Some(path) = self.actions.and_then(|actions| actions.path.as_ref()) {
            rewrite_path(path, request)?;
        }
        let new = self.actions.and_then(|actions| actions.authority.as_ref());
        if let Some(new) = new.or_else(|| self.of_cluster.and_then(|actions| actions.authority.as_ref())) {
            authority.clone_from(new);
            request.headers_mut().insert(HOST, HeaderValue::from_str(new).map_err(|_| BadTarget)?);
        }
        if let Some(head) = &mut record.head {
            head.headers = request.headers().clone();
            head.authority.clone_from(authority);
        }
        Ok(Some(self.way_back(request, authority)))
    }

    /// What happens to the answer of a request that goes nowhere.
    pub fn back<B>(&self, request: &Request<B>, authority: &str) -> Option<WayBack<'a>> {
        self.actions.is_some().then(|| self.way_back(request, authority))
    }

    fn way_back<B>(&self, request: &Request<B>, authority: &str) -> WayBack<'a> {
        let edits: Vec<&Edits> =
            self.changes().map(|changes| &changes.response).filter(|edits| !edits.is_empty()).collect();
        let head = edits.iter().any(|edits| edits.reads_request()).then(|| {
            Box::new(KeptHead {
                method: request.method().to_string(),
                path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
                authority: authority.to_owned(),
                headers: request.headers().clone(),
            })
        });
        let Facts { peer, local, protocol, .. } = self.facts(protocol(request));
        let protocol = if protocol == "HTTP/2" { "HTTP/2" } else { "HTTP/1.1" };
        WayBack { edits, route: self.route, cluster: self.cluster, peer, local, protocol, head }
    }

    // The cluster's changes are made first, so that the rule's win (Envoy's order).
    fn changes(&self) -> impl Iterator<Item = &'a Changes> {
        let of_cluster = self.of_cluster.and_then(|actions| actions.headers.as_ref());
        of_cluster.into_iter().chain(self.actions.and_then(|actions| actions.headers.as_ref()))
    }

    fn facts<'b>(&self, protocol: &'b str) -> Facts<'b>
    where
        'a: 'b,
    {
        let local = self.client.dialled.or(self.client.local);
        Facts { protocol, peer: self.client.peer, local, cluster: self.cluster, route: self.route, ..Facts::default() }
    }
}

fn protocol<B>(request: &Request<B>) -> &'static str {
    match request.version() {
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn rewrite_path<B>(change: &routing::rewrite::PathChange, request: &mut Request<B>) -> Result<(), BadTarget> {
    let before = request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
    let target = PathAndQuery::try_from(change.apply(&before)).map_err(|_| BadTarget)?;
    request.headers_mut().insert(ORIGINAL_PATH, HeaderValue::from_str(&before).map_err(|_| BadTarget)?);
    *request.uri_mut() = Uri::from(target);
    Ok(())
}

impl WayBack<'_> {
    /// Changes an answer's headers; `upstream` is who gave it.
    pub fn change(&self, headers: &mut HeaderMap, status: u16, record: &Record, upstream: Option<SocketAddr>) {
        let started = || access_log::start_time(record.started.elapsed());
        let head = self.head.as_deref();
        let facts = Facts {
            method: head.map_or("", |head| &head.method),
            scheme: if head.is_some() { "http" } else { "" },
            authority: head.map_or("", |head| &head.authority),
            path: head.map_or("", |head| &head.path),
            protocol: self.protocol,
            peer: self.peer,
            local: self.local,
            upstream,
            cluster: self.cluster,
            route: self.route,
            status: Some(status),
            started: Some(&started),
            request: head.map(|head| &head.headers),
            response: None,
        };
        for edits in &self.edits {
            edits.change_response(headers, &facts);
        }
    }
}

/// An answer of our own, changed as its rule says.
pub fn answer(
    status: u16,
    body: bytes::Bytes,
    location: Option<String>,
    back: Option<&WayBack<'_>>,
    record: Box<Record>,
) -> Response<ReplyBody> {
    let mut headers = HeaderMap::new();
    if record.is_grpc {
        headers = grpc_headers(grpc::code_of(status), &String::from_utf8_lossy(&body));
    }
    if let Some(value) = location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        headers.insert(LOCATION, value);
    }
    if let Some(back) = back {
        back.change(&mut headers, status, &record, None);
    }
    // As Envoy: said last, and only where the rule says nothing.
    if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    let mut response = reply(status, body, record);
    *response.headers_mut() = headers;
    response
}

/// An origin that may read the answer, with the rules that allow it.
pub struct Allowed<'a>(&'a Cors, HeaderValue);

/// What the rules say of a request: it may be a preflight that is answered here.
pub enum CrossOrigin<'a> {
    /// Nothing.
    Silent,
    /// The answer is to be marked.
    Mark(Allowed<'a>),
    /// Answered with these headers.
    Preflight(HeaderMap),
}

/// Judges a request by the rules of its route, if it has any.
pub fn cross_origin<'a, B>(actions: Option<&'a Actions>, request: &Request<B>) -> CrossOrigin<'a> {
    let Some(cors) = actions.and_then(|actions| actions.cors.as_ref()) else { return CrossOrigin::Silent };
    match cors.judge(request.method().as_str(), request.headers()) {
        Verdict::Other => CrossOrigin::Silent,
        Verdict::Allowed(origin) => CrossOrigin::Mark(Allowed(cors, origin)),
        Verdict::Answer(headers) => CrossOrigin::Preflight(headers),
    }
}

impl Allowed<'_> {
    /// Says in an answer that the origin may read it.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let Self(cors, origin) = self;
        cors.mark(origin, headers);
    }
}
