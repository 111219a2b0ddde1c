//! A request, from its head to the head of its answer, on one screen.
//!
//! checks → path → ids and forwarding headers → route → answer here, or forward (`forward.rs`) → answer's headers

use std::borrow::Cow;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::header::HOST;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use routing::Decision;
use tokio::time::Instant;

use crate::actions::{self, Chosen, CrossOrigin};
use crate::chain;
use crate::connection::Client;
use crate::failure::Flags;
use crate::local_reply::{ReplyBody, reply};
use crate::plan::{ChainPlan, HttpPlan};
use crate::principals::Parties;
use crate::record::{Head, Record};
use crate::trace::Trace;
use crate::worker::Worker;
use crate::{fault, forward, grpc, guard, headers, internal, normalize, rate_limit, upgrade};

/// The chain of a connection.
pub type Chain = Rc<RefCell<Known>>;

/// What is known of a connection's chain.
pub struct Known {
    /// The plan that it was chosen by.
    pub generation: u64,
    /// What it says.
    pub chain: Arc<HttpPlan>,
    /// True while the connection would be let in again.
    pub fits: bool,
}

/// Answers a request. A panic costs this request only.
pub async fn respond(
    worker: Rc<Worker>,
    client: Rc<Client>,
    chain: Chain,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let plan = current(&worker, &client, &chain);
    // Boxed: the future is some kilobytes, and hyper moves what it is given.
    let answer = Box::pin(serve(worker.clone(), client, plan.clone(), request));
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            crate::cluster::bump(&worker.metrics.panics);
            tracing::error!("a request made us panic; it is answered 500, nothing else is touched");
            let record = new_record(&worker, &plan, Instant::now());
            reply(500, "internal error", Box::new(record))
        }
    }
}

/// Remembers a request that could not be read, and that was answered for us.
pub fn unread(worker: &Rc<Worker>, client: &Client, chain: &Chain, too_large: bool) {
    let plan = current(worker, client, chain);
    let mut record = new_record(worker, &plan, Instant::now());
    (record.status, record.flags) = (if too_large { 431 } else { 400 }, Flags::DOWNSTREAM_PROTOCOL);
    record.details = if too_large { "http1.headers_too_large" } else { "http1.codec_error" };
    if !plan.logs.is_empty() {
        let local = client.dialled.or(client.local);
        record.head = Some(Box::new(Head { protocol: "HTTP/1.1", local, peer: client.peer, ..Head::default() }));
    }
    record.finish(Instant::now());
}

// A connection stays with its chain; what the chain says is of the newest plan.
fn current(worker: &Worker, client: &Client, chain: &Chain) -> Arc<HttpPlan> {
    let plan = worker.plan();
    let mut known = chain.borrow_mut();
    if known.generation != plan.generation {
        known.generation = plan.generation;
        let newer = chain::still(&plan, client);
        // What is gone serves its connections as it last did, until they are.
        known.fits = matches!(newer, Some(ChainPlan::Http(_)));
        if let Some(ChainPlan::Http(newer)) = newer {
            known.chain = newer.clone();
        }
    }
    known.chain.clone()
}

pub(crate) fn new_record(worker: &Rc<Worker>, plan: &Arc<HttpPlan>, now: Instant) -> Record {
    Record {
        worker: worker.clone(),
        plan: plan.clone(),
        started: now,
        head: None,
        is_grpc: false,
        status: 0,
        flags: Flags::default(),
        details: "via_upstream",
        received: 0,
        sent: 0,
        cluster: None,
        host: None,
        parties: Parties::default(),
        grpc_status: None,
        trace: None,
        is_over: false,
    }
}

async fn serve(
    worker: Rc<Worker>,
    client: Rc<Client>,
    plan: Arc<HttpPlan>,
    mut request: Request<Incoming>,
) -> Response<ReplyBody> {
    let mut record = Box::new(new_record(&worker, &plan, Instant::now()));
    record.parties = client.parties;
    let authority = match admit(&mut request) {
        Ok(authority) => authority,
        Err((status, details)) => {
            record.flags = Flags::DOWNSTREAM_PROTOCOL;
            record.details = details;
            return finish(&plan, reply(status, "", record));
        }
    };
    record.is_grpc = grpc::is_grpc(request.headers());
    if !plan.logs.is_empty() || plan.changes.is_some() {
        record.head = Some(Box::new(head_of(&request, &authority, &client)));
    }
    let manager = &plan.manager;
    let seen = headers::Seen::in_request(request.headers());
    let wants_upgrade = seen.hop_by_hop && headers::is_websocket(request.headers());
    let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    if seen.hop_by_hop {
        headers::strip_hop_by_hop(request.headers_mut());
    }
    let scheme = if client.tls.is_some() { "https" } else { "http" };
    let trusted = manager.use_remote_address.then_some(manager.xff_trusted_hops);
    headers::forwarded(request.headers_mut(), scheme, trusted, client.peer.map(|peer| peer.ip()));
    if seen.client_cert || client.tls.is_some() {
        headers::client_cert(request.headers_mut(), manager.client_cert_header, client.tls.as_ref());
    }
    internal::screen(request.headers_mut(), manager, client.peer.map(|peer| peer.ip()), seen.envoy);
    if manager.generate_request_id {
        // An edge believes nobody from outside about it either (measured with Envoy 1.40).
        if manager.use_remote_address && !request.headers().contains_key(internal::INTERNAL) {
            request.headers_mut().remove(headers::REQUEST_ID);
        }
        headers::request_id(request.headers_mut(), || (worker.draw64(), worker.draw64()));
    }
    if let Some(tracer) = &plan.tracer {
        record.trace = Trace::begin(tracer, request.headers_mut(), || worker.draw64());
        if record.head.is_none() && record.trace.as_ref().is_some_and(|trace| trace.is_sampled()) {
            record.head = Some(Box::new(head_of(&request, &authority, &client)));
        }
    }
    if let Some(head) = &mut record.head {
        head.headers = request.headers().clone();
    }
    let response = act(Arrived { worker: &worker, client: &client, plan: &plan, upgrade }, request, authority, record);
    finish(&plan, response.await)
}

/// A request that passed the checks comes with this.
struct Arrived<'a> {
    worker: &'a Rc<Worker>,
    client: &'a Rc<Client>,
    plan: &'a Arc<HttpPlan>,
    /// The client's connection, where it asks for another protocol.
    upgrade: Option<OnUpgrade>,
}

// Route, and do what the route says.
async fn act(
    arrived: Arrived<'_>,
    mut request: Request<Incoming>,
    authority: String,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    let Arrived { worker, client, plan, .. } = arrived;
    let mut claims = None;
    if let Some(guard) = &plan.guard {
        match Box::pin(guard::check(guard, worker, client, &plan.manager, &mut request, &authority)).await {
            Ok(said) => claims = said,
            Err(denial) => return denial.answer(record),
        }
    }
    let head = routing::Head {
        method: request.method().as_str(),
        scheme: if client.tls.is_some() { "https" } else { "http" },
        authority: &authority,
        path: request.uri().path_and_query().map_or("/", |path| path.as_str()),
        headers: request.headers(),
        claims: claims.as_ref(),
    };
    let decision = plan.router.decide(&head, || worker.draw());
    if let Some(route) = decision.route() {
        note_route(&mut record, route);
    }
    let mut limits = decision.limits().peekable();
    let verdict = match limits.peek() {
        None => None,
        Some(_) => rate_limit::take(limits, &worker.plan().buckets, request.headers(), client),
    };
    if let Some(verdict) = verdict.filter(|verdict| !verdict.is_allowed()) {
        (record.flags, record.details) = (Flags::RATE_LIMITED, rate_limit::REFUSED);
        let mut response = reply(429, rate_limit::REFUSED, record);
        verdict.mark(response.headers_mut());
        return response;
    }
    if let Decision::Forward { forward: config::Forward { fault: Some(fault), .. }, cluster, .. } = &decision {
        record.cluster = Some(cluster.slot);
        if let Some(status) = Box::pin(fault::inject(fault, worker, &mut record)).await {
            return fault::answer(status, record);
        }
    }
    let actions = decision.actions();
    let allowed = match actions::cross_origin(actions, &request) {
        CrossOrigin::Silent => None,
        CrossOrigin::Mark(allowed) => Some(allowed),
        CrossOrigin::Preflight(headers) => {
            record.details = "cors_response";
            let mut response = reply(200, "", record);
            response.headers_mut().extend(headers);
            return response;
        }
    };
    let route = decision.route().map_or("", |route| &route.name);
    let chosen = Chosen { client, route, cluster: None, actions, of_cluster: None };
    let mut response = match decision {
        Decision::NoHost | Decision::NoRoute { .. } => {
            (record.flags, record.details) = (Flags::NO_ROUTE, "route_not_found");
            reply(404, "", record)
        }
        Decision::RequireTls { .. } => {
            record.details = "direct_response";
            actions::answer(301, Bytes::new(), Some(routing::redirect::to_https(&head)), None, record)
        }
        Decision::Redirect { route, redirect, .. } => {
            record.details = "direct_response";
            let location = routing::redirect::location(redirect, &route.matches, &head);
            let back = chosen.back(&request, &authority);
            actions::answer(redirect.status, Bytes::new(), Some(location), back.as_ref(), record)
        }
        Decision::Respond { respond, .. } => {
            record.details = "direct_response";
            let back = chosen.back(&request, &authority);
            actions::answer(respond.status, respond.body.clone(), None, back.as_ref(), record)
        }
        Decision::Forward { host, forward, cluster, mirrors, .. } => {
            let to = To { forward, cluster, mirrors, counts_attempts: host.include_attempt_count };
            send(arrived, chosen, to, request, authority, record).await
        }
    };
    if let Some(allowed) = allowed {
        allowed.mark(response.headers_mut());
    }
    if let Some(verdict) = verdict {
        verdict.mark(response.headers_mut());
    }
    response
}

/// Where a request goes.
struct To<'a> {
    forward: &'a config::Forward,
    cluster: routing::Target<'a>,
    mirrors: &'a [u32],
    counts_attempts: bool,
}

async fn send(
    arrived: Arrived<'_>,
    chosen: Chosen<'_>,
    to: To<'_>,
    mut request: Request<Incoming>,
    mut authority: String,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    let Arrived { worker, client, plan, upgrade } = arrived;
    let To { forward, cluster, mirrors, counts_attempts } = to;
    let chosen = Chosen { cluster: Some(cluster.name), of_cluster: cluster.actions, ..chosen };
    let Ok(back) = chosen.up(&mut request, &mut authority, &mut record) else {
        record.details = "path_rewrite_failed";
        return reply(500, "", record);
    };
    let mission = forward::Mission {
        worker,
        client,
        forward,
        cluster,
        mirrors,
        authority: &authority,
        counts_attempts,
        back: back.as_ref(),
    };
    if let Some(trace) = &record.trace {
        trace.inject(request.headers_mut());
    }
    match upgrade.filter(|_| plan.manager.websocket) {
        Some(upgrade) => Box::pin(upgrade::serve(mission, request, upgrade, record)).await,
        // Boxed once more: what follows is most of the future, and each caller on the way moves what it awaits.
        None => Box::pin(forward::send(mission, request, record)).await,
    }
}

fn note_route(record: &mut Record, route: &config::Route) {
    if let Some(head) = &mut record.head {
        head.route.clone_from(&route.name);
        head.origin.clone_from(&route.origin);
    }
    if let Some(trace) = &mut record.trace {
        trace.name(&route.operation);
    }
}

// The head checks: what cannot be routed is refused here. Gives the authority, and leaves a request in origin form.
fn admit(request: &mut Request<Incoming>) -> Result<String, (u16, &'static str)> {
    if request.version() < Version::HTTP_11 {
        return Err((426, "low_version"));
    }
    if request.method() == Method::CONNECT {
        return Err((404, "connect_not_allowed"));
    }
    // Absolute form (a client that treats us as a proxy) and HTTP/2 carry the authority in the target; RFC 9112 3.2.2.
    let authority = match request.uri().authority() {
        // A Host beside it is another word for the same, and whoever is behind us would take it for the truth.
        Some(authority) => {
            let authority = authority.as_str().to_owned();
            request.headers_mut().remove(HOST);
            authority
        }
        None => {
            let mut hosts = request.headers().get_all(HOST).iter();
            match (hosts.next().map(|host| host.to_str()), hosts.next()) {
                (Some(Ok(host)), None) if !host.is_empty() => host.to_owned(),
                (_, Some(_)) => return Err((400, "http1.multiple_hosts")),
                _ => return Err((400, "missing_host_header")),
            }
        }
    };
    if authority.contains('@') {
        return Err((400, "http1.invalid_host"));
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with('/') && request.method() != Method::OPTIONS {
        return Err((400, "http1.invalid_url"));
    }
    let normal = normalize::normalize(path).ok_or((400, "path_normalization_failed"))?;
    let is_plain = matches!(normal, Cow::Borrowed(_)) && request.uri().authority().is_none();
    if !is_plain {
        let target = normal.parse::<http::uri::PathAndQuery>().map_err(|_| (400, "http1.invalid_url"))?;
        *request.uri_mut() = http::Uri::from(target);
    }
    Ok(authority)
}

fn head_of(request: &Request<Incoming>, authority: &str, client: &Client) -> Head {
    Head {
        method: request.method().to_string(),
        path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        protocol: if request.version() == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
        authority: authority.to_owned(),
        local: client.dialled.or(client.local),
        peer: client.peer,
        ..Head::default()
    }
}

fn finish(plan: &HttpPlan, mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    headers::server(response.headers_mut(), plan.server.as_ref());
    response
}
