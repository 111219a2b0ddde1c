//! Sending a request to its cluster: pick, connect, send, and try again where the policy asks for it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use balance::{Active, Ask, HostId, Report};
use config::{Discovery, EndpointAddress, Forward, RetryPolicy, UpstreamProtocol};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Request, Response, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use routing::Target;
use tokio::time::Instant;
use transport::body::{Replayable, RequestBody};
use transport::io::Io;
use transport::pool::Key;
use transport::source::{Arrival, Source};
use transport::upstream::{Http1, ResponseBody, Stream};

use crate::actions::WayBack;
use crate::cluster::{ClusterState, bump, socket, uptime};
use crate::connection::Client;
use crate::failure::{Failure, Flags};
use crate::hash::{self, Hashed};
use crate::local_reply::{Guards, ReplyBody, Watched};
use crate::plan::ClusterPlan;
use crate::principals::Principal;
use crate::record::Record;
use crate::timeout::{Bounds, Watch};
use crate::tls::Load;
use crate::trace::{self, Told};
use crate::upstream::{self, Aim};
use crate::worker::Worker;
use crate::{actions, headers, headers_grpc_status, mirror, outlier, retry};

/// Bytes of a request's body that are kept so that it can be sent again.
pub const REPLAY_BYTES_MAX: usize = 64 << 10;

/// Where a request goes, and on whose behalf.
pub struct Mission<'a> {
    /// The worker.
    pub worker: &'a Rc<Worker>,
    /// The client's connection.
    pub client: &'a Rc<Client>,
    /// The route's action.
    pub forward: &'a Forward,
    /// The cluster drawn.
    pub cluster: Target<'a>,
    /// The clusters that get copies, by number, in the order of the action's mirrors.
    pub mirrors: &'a [u32],
    /// The authority.
    pub authority: &'a str,
    /// Tell the upstream which try it is.
    pub counts_attempts: bool,
    /// What is done to the answer; `None` for nothing.
    pub back: Option<&'a WayBack<'a>>,
}

impl Mission<'_> {
    /// The key that keeps the request at one host of a cluster; nothing where the cluster does not ask for it.
    pub fn hashed(&self, cluster: &ClusterState, parts: &http::request::Parts, record: &Record) -> Hashed {
        if self.forward.hash.is_empty() || !cluster.plan.borrow().config.lb.is_by_hash() {
            return Hashed::default();
        }
        let source = hash::Source { parts, authority: self.authority, client: self.client, plan: &record.plan };
        hash::request(&self.forward.hash, &source)
    }
}

/// What a try gave.
pub struct Answered {
    response: Response<Incoming>,
    connection: Option<Box<Http1>>,
    local: Option<SocketAddr>,
    peer: u32,
}

/// Sends a request, and gives the answer or says why there is none.
pub async fn send(mission: Mission<'_>, request: Request<Incoming>, mut record: Box<Record>) -> Response<ReplyBody> {
    record.cluster = Some(mission.cluster.slot);
    if let Some(head) = &mut record.head {
        head.cluster = Some(mission.cluster.name.clone());
    }
    let Some(cluster) = mission.worker.cluster(mission.cluster.slot) else {
        return failed(&Failure::NoCluster, false, mission.back, record);
    };
    let (mut parts, body) = request.into_parts();
    record.received = body.size_hint().exact().unwrap_or(0);
    let mut body = (!body.is_end_stream()).then(|| Source::new(body));
    let manager = &record.plan.manager;
    let may_ask = !manager.internal_addresses.is_empty();
    let bounds = Bounds::of(mission.forward, &mut parts.headers, record.is_grpc, may_ask);
    let policy = retry::policy(mission.forward.retry.as_ref(), &mut parts.headers, may_ask);
    let mut watched = watch(&bounds, manager.stream_idle_timeout, body.as_mut());
    if !mission.mirrors.is_empty() && cluster.has_host() {
        mirror::send(&mission, &record.plan, &parts, &mut body, &bounds);
    }
    let hashed = mission.hashed(&cluster, &parts, &record);
    let started = record.started;
    let tries = Tries { mission: &mission, cluster: &cluster, parts, bounds, policy, started, hash: hashed.key };
    let outcome = {
        // Pinned once: each place that awaits it would have room for one of its own.
        let mut run = pin!(tries.run(body, &mut record));
        match &mut watched {
            None => run.as_mut().await,
            Some(watched) => tokio::select! {
                biased;
                outcome = run.as_mut() => outcome,
                cut = &mut watched.watch => Err((cut.into(), false)),
            },
        }
    };
    match outcome {
        Err((failure, retried)) => {
            if failure == Failure::Timeout {
                bump(&cluster.counts.timeouts);
                note_timeout(&cluster, &record);
            }
            failed(&failure, retried, mission.back, record)
        }
        Ok((mut answered, guards)) => {
            hashed.tell(answered.response.headers_mut());
            answer(answered, guards, &cluster, mission.back, record).map(|body| body.watched(watched))
        }
    }
}

// `None` when nothing bounds the request in time.
fn watch(bounds: &Bounds, idle: Option<Duration>, body: Option<&mut Source>) -> Option<Box<Watched>> {
    if bounds.whole.is_none() && idle.is_none() {
        return None;
    }
    let arrival = body.map_or_else(|| Arrival::new(true), Source::watch);
    let watch = Watch::new(bounds.whole, idle, arrival.clone());
    Some(Box::new(Watched { watch, arrival }))
}

/// Sends a copy of a request once, and reads its answer to the end. True when there was one.
pub async fn send_copy(
    mission: &Mission<'_>,
    cluster: &Rc<ClusterState>,
    mut record: Box<Record>,
    parts: http::request::Parts,
    body: RequestBody,
) -> bool {
    let hash = mission.hashed(cluster, &parts, &record).key;
    let tries = Tries::unbounded(mission, cluster, parts, None, hash);
    let Ok((answered, guards)) = tries.once(&mut Supply::Once(Some(body)), &[], 1, &mut record).await else {
        return false;
    };
    if let Some(class) = cluster.counts.classes.get(usize::from(answered.response.status().as_u16() / 100)) {
        bump(class);
    }
    let Answered { response, connection, local: _, peer: _ } = answered;
    let home = connection.is_some().then(|| cluster.clone());
    let mut body = ReplyBody::unwanted(ResponseBody::new(response.into_body(), connection), home, guards);
    loop {
        match body.frame().await {
            None => return true,
            Some(Ok(_)) => {}
            Some(Err(_)) => return false,
        }
    }
}

// The try that was under way has taken too long, whatever its host was about to answer.
fn note_timeout(cluster: &Rc<ClusterState>, record: &Record) {
    let plan = cluster.plan.borrow().clone();
    if let (Some(detector), Some((id, address))) = (&plan.outlier, record.host)
        && detector.is_at(id.0, &EndpointAddress::Socket(address))
    {
        outlier::note(cluster, detector, id, Failure::Timeout.report());
    }
}

/// The answer to a request that failed.
///
/// Measured with Envoy 1.40: what a rule does to answers it does to these too.
pub fn failed(
    failure: &Failure,
    retried: bool,
    back: Option<&WayBack<'_>>,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    let told = failure.tell(retried);
    record.flags = record.flags.with(told.flags);
    record.details = told.details;
    match (&mut record.head, failure) {
        (Some(head), Failure::Connect(reason)) => head.transport_failure = format!("delayed connect error: {reason}"),
        (Some(head), Failure::Tls(reason)) => head.transport_failure.clone_from(reason),
        _ => {}
    }
    let mut response = actions::answer(told.status, told.body.into(), None, back, record);
    if *failure == Failure::Overflow {
        response.headers_mut().insert(headers::OVERLOADED, HeaderValue::from_static("true"));
    }
    response
}

fn answer(
    answered: Answered,
    guards: Guards,
    cluster: &Rc<ClusterState>,
    back: Option<&WayBack<'_>>,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    let Answered { response, connection, local, peer } = answered;
    record.parties.upstream = Principal::from_number(peer);
    let (mut parts, incoming) = response.into_parts();
    record.status = parts.status.as_u16();
    record.grpc_status = headers_grpc_status(&parts.headers);
    if let Some(class) = cluster.counts.classes.get(usize::from(record.status / 100)) {
        bump(class);
    }
    headers::strip_hop_by_hop(&mut parts.headers);
    let waited = record.started.elapsed().as_millis() as u64;
    parts.headers.insert(headers::SERVICE_TIME, headers::number(waited));
    if record.trace.is_some() {
        trace::strip(&mut parts.headers);
    }
    if let Some(back) = back {
        back.change(&mut parts.headers, record.status, &record, record.host.map(|(_, address)| address));
    }
    if let Some(head) = &mut record.head {
        head.response_headers = parts.headers.clone();
        head.upstream = record.host.map(|(_, address)| address);
        head.upstream_local = local;
    }
    // The version is that of each side's own connection.
    parts.version = Version::HTTP_11;
    let home = connection.is_some().then(|| cluster.clone());
    let body = ReplyBody::upstream(ResponseBody::new(incoming, connection), record, home, guards);
    Response::from_parts(parts, body)
}

/// The tries of one request.
pub(crate) struct Tries<'a> {
    mission: &'a Mission<'a>,
    cluster: &'a Rc<ClusterState>,
    pub(crate) parts: http::request::Parts,
    bounds: Bounds,
    policy: Option<Cow<'a, RetryPolicy>>,
    started: Instant,
    hash: Option<u64>,
}

/// Which try it is, and what its host is told of its span.
#[derive(Clone, Copy)]
struct Numbered {
    number: u32,
    told: Option<Told>,
}

/// The body for one try, and whether there may be another.
enum Supply {
    None,
    Once(Option<RequestBody>),
    Again(Replayable),
}

impl Supply {
    fn new(body: Option<Source>, policy: Option<&RetryPolicy>) -> Self {
        let Some(body) = body else { return Self::None };
        let too_large = body.size_hint().exact().is_some_and(|bytes| bytes > REPLAY_BYTES_MAX as u64);
        match policy {
            Some(_) if !too_large => Self::Again(Replayable::new(body, REPLAY_BYTES_MAX)),
            _ => Self::Once(Some(RequestBody::Stream(body))),
        }
    }

    fn take(&mut self) -> Option<RequestBody> {
        match self {
            Self::None => Some(RequestBody::Empty),
            Self::Once(body) => body.take(),
            Self::Again(body) => body.read(),
        }
    }

    // A body that was never read can still be sent, whatever it is.
    fn has_more(&self) -> bool {
        match self {
            Self::None => true,
            Self::Once(body) => body.is_some(),
            Self::Again(body) => body.is_whole(),
        }
    }
}

impl<'a> Tries<'a> {
    /// Tries without bounds in time; those of an upgrade.
    pub(crate) fn unbounded(
        mission: &'a Mission<'a>,
        cluster: &'a Rc<ClusterState>,
        parts: http::request::Parts,
        policy: Option<&'a RetryPolicy>,
        hash: Option<u64>,
    ) -> Self {
        let policy = policy.map(Cow::Borrowed);
        Self { mission, cluster, parts, bounds: Bounds::default(), policy, started: Instant::now(), hash }
    }

    async fn run(&self, body: Option<Source>, record: &mut Record) -> Result<(Answered, Guards), (Failure, bool)> {
        let policy = self.policy.as_deref();
        let mut supply = Supply::new(body, policy);
        let mut tried: Vec<EndpointAddress> = Vec::new();
        let mut tries = 0;
        let mut retry_permit = None;
        loop {
            tries += 1;
            let outcome = self.once(&mut supply, &tried, tries, record).await;
            if let Supply::Again(body) = &supply {
                record.received = record.received.max(body.bytes() as u64);
            }
            let Some(policy) = policy.filter(|_| supply.has_more()) else {
                return outcome.map_err(|failure| (failure, tries > 1));
            };
            if !wants_another(policy, &outcome) {
                if tries > 1 && outcome.is_ok() {
                    bump(&self.cluster.counts.retry_successes);
                }
                return outcome.map_err(|failure| (failure, tries > 1));
            }
            if tries > policy.num_retries {
                bump(&self.cluster.counts.retries_exhausted);
                record.flags = record.flags.with(Flags::RETRIES_EXHAUSTED);
                return outcome.map_err(|failure| (failure, tries > 1));
            }
            if retry_permit.is_none() {
                retry_permit = self.cluster.plan.borrow().limits.retry(uptime);
                if retry_permit.is_none() {
                    bump(&self.cluster.counts.retry_overflows);
                    record.flags = record.flags.with(Flags::UPSTREAM_OVERFLOW);
                    return outcome.map_err(|failure| (failure, tries > 1));
                }
            }
            drop(outcome);
            bump(&self.cluster.counts.retries);
            let remembers = policy.avoid_previous_hosts || policy.previous_priorities.is_some();
            if let (true, Some((_, address))) = (remembers, record.host) {
                tried.push(EndpointAddress::Socket(address));
            }
            let wait = balance::backoff::wait(policy.backoff_base, tries, self.mission.worker.draw());
            Box::pin(tokio::time::sleep(wait)).await;
        }
    }

    // One try: a host, a place below the bounds, a connection, the request, the head of the answer.
    async fn once(
        &self,
        supply: &mut Supply,
        tried: &[EndpointAddress],
        number: u32,
        record: &mut Record,
    ) -> Result<(Answered, Guards), Failure> {
        let cluster = self.cluster;
        let plan = cluster.plan.borrow().clone();
        let (id, address) = self.host(&plan, tried).await?;
        record.host = Some((id, address));
        let active = cluster.balancer.borrow().begin(id);
        let counters = active.counters().clone();
        let key = key(&plan, address, self.mission.authority);
        let aim = Aim { cluster, plan: &plan, host: &key, counters: &counters };
        let told = record.trace.as_mut().and_then(|trace| trace.begin_try(|| self.mission.worker.draw64()));
        let mut answered = pin!(self.exchange(supply, aim, active, Numbered { number, told }));
        let outcome = match self.bounds.per_try {
            None => answered.as_mut().await,
            Some(limit) => tokio::time::timeout(limit, answered.as_mut()).await.unwrap_or_else(|_| {
                bump(&cluster.counts.try_timeouts);
                bump(&cluster.counts.timeouts);
                Err(Failure::TryTimeout)
            }),
        };
        if told.is_some()
            && let Some(trace) = &mut record.trace
        {
            let came_to = outcome.as_ref().map(|(answered, _)| answered.response.status().as_u16());
            trace.tried(Some(address), came_to.map_err(|failure| failure.tell(false).flags));
        }
        let is_error = outcome.as_ref().map_or(true, |(answered, _)| answered.response.status().is_server_error());
        if is_error {
            bump(&counters.errors);
        }
        if let Some(detector) = &plan.outlier {
            outlier::note(cluster, detector, id, self.report(&outcome));
        }
        outcome
    }

    // What a try says of its host; nothing when it never got that far.
    fn report(&self, outcome: &Result<(Answered, Guards), Failure>) -> Option<Report> {
        match outcome {
            Ok((answered, _)) => Some(outlier::of_answer(&answered.response)),
            Err(failure) => failure.report(),
        }
    }

    /// The host of the next try.
    pub(crate) async fn host(
        &self,
        plan: &ClusterPlan,
        tried: &[EndpointAddress],
    ) -> Result<(HostId, SocketAddr), Failure> {
        match &plan.config.discovery {
            Discovery::Dynamic(cache) => Box::pin(named(self.mission, plan, cache)).await,
            _ => self.pick(plan, tried),
        }
    }

    fn pick(&self, plan: &ClusterPlan, tried: &[EndpointAddress]) -> Result<(HostId, SocketAddr), Failure> {
        if matches!(plan.config.discovery, Discovery::OriginalDst) {
            // Without capture there is nothing that was dialled.
            let dialled = self.mission.client.dialled.or_else(|| self.authority_address());
            return dialled.map(|address| (HostId::OUTSIDE, at_port(plan, address))).ok_or(Failure::NoHost);
        }
        let attempts = self.policy.as_ref().map_or(0, |policy| policy.host_selection_attempts);
        if let Some(detector) = &plan.outlier {
            outlier::follow(self.mission.worker, self.cluster, detector);
        }
        let mut balancer = self.cluster.balancer.borrow_mut();
        if let Some(id) = self.elsewhere(&balancer, tried) {
            let address = socket(&balancer.host(id).address).ok_or(Failure::NoHost)?;
            return Ok((id, address));
        }
        let avoids = self.policy.as_ref().is_some_and(|policy| policy.avoid_previous_hosts);
        let tried = if avoids { tried } else { &[] };
        let ask = Ask { tried, attempts, hash: self.hash, now: self.mission.worker.millis_for(plan) };
        let id = balancer.pick(&ask, || self.mission.worker.draw()).ok_or_else(|| {
            bump(&self.cluster.counts.none_healthy);
            Failure::NoHost
        })?;
        let address = socket(&balancer.host(id).address).ok_or(Failure::NoHost)?;
        Ok((id, address))
    }

    // After every so many tries, the priorities of all of them are left aside (VS84).
    fn elsewhere(&self, balancer: &balance::Balancer, tried: &[EndpointAddress]) -> Option<HostId> {
        let frequency = self.policy.as_ref()?.previous_priorities? as usize;
        let counted = tried.len() - tried.len().checked_rem(frequency)?;
        (counted > 0).then(|| balancer.elsewhere(&tried[..counted], || self.mission.worker.draw()))?
    }

    fn authority_address(&self) -> Option<SocketAddr> {
        let (host, port) = words::host::split_port(self.mission.authority);
        Some(SocketAddr::new(words::host::ip(host)?, port.unwrap_or(80)))
    }

    async fn exchange(
        &self,
        supply: &mut Supply,
        aim: Aim<'_>,
        active: Active,
        number: Numbered,
    ) -> Result<(Answered, Guards), Failure> {
        let is_http2 = match aim.plan.config.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::SameAsDownstream => self.parts.version == Version::HTTP_2,
        };
        if is_http2 {
            let (mut connection, stream) = upstream::http2(aim).await?;
            let guards = attach(aim, active, Some((aim.host.clone(), stream)))?;
            let request = self.request(supply, number, true).ok_or(Failure::ClientBody)?;
            let (local, peer) = (connection.local, connection.peer);
            let response = connection.send(request).await.map_err(|error| failure_of(&error))?;
            return Ok((Answered { response, connection: None, local, peer }, guards));
        }
        let connection = upstream::http1(aim).await?;
        let guards = match attach(aim, active, None) {
            Ok(guards) => guards,
            Err(failure) => {
                aim.cluster.give(connection, Instant::now());
                return Err(failure);
            }
        };
        let request = self.request(supply, number, false).ok_or(Failure::ClientBody)?;
        let (local, peer) = (connection.local, connection.peer);
        let (response, connection) = connection.send(request).await.map_err(|error| failure_of(&error))?;
        Ok((Answered { response, connection: Some(connection), local, peer }, guards))
    }

    fn request(&self, supply: &mut Supply, numbered: Numbered, is_http2: bool) -> Option<Request<RequestBody>> {
        let Numbered { number, told } = numbered;
        let body = supply.take()?;
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.headers_mut() = self.parts.headers.clone();
        *request.uri_mut() = self.parts.uri.clone();
        if self.mission.counts_attempts {
            request.headers_mut().insert(headers::ATTEMPT_COUNT, headers::number(number.into()));
        }
        if let Some(told) = told {
            told.inject(request.headers_mut());
        }
        let elapsed = if number > 1 { self.started.elapsed() } else { Duration::ZERO };
        self.bounds.announce(request.headers_mut(), elapsed);
        address(&mut request, self.mission.authority, is_http2)?;
        Some(request)
    }
}

/// The host that a request names (SE09): the authority's, at its port or at the service's.
async fn named(
    mission: &Mission<'_>,
    plan: &ClusterPlan,
    cache: &config::DnsCache,
) -> Result<(HostId, SocketAddr), Failure> {
    let (host, port) = words::host::split_port(mission.authority);
    let of_service = || plan.config.service.as_ref().map_or(80, |service| service.port);
    let found = mission.worker.hosts.find(host, port.unwrap_or_else(of_service), cache.hosts_max).await?;
    Ok((HostId::OUTSIDE, found))
}

/// The dialled address, with another port where the cluster says one (SE03).
pub fn at_port(plan: &ClusterPlan, dialled: SocketAddr) -> SocketAddr {
    SocketAddr::new(dialled.ip(), plan.config.original_port.unwrap_or(dialled.port()))
}

/// Puts the authority where the protocol has it: the Host header, or the target of HTTP/2.
pub fn address(request: &mut Request<RequestBody>, authority: &str, is_http2: bool) -> Option<()> {
    if !is_http2 {
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, HeaderValue::from_str(authority).ok()?);
        }
        return Some(());
    }
    request.headers_mut().remove(HOST);
    if request.body().size_hint().exact() == Some(0) {
        request.headers_mut().remove(CONTENT_LENGTH);
    }
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    let uri = http::Uri::builder().scheme("http").authority(authority).path_and_query(path).build().ok()?;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    Some(())
}

/// Whom a connection serves: where TLS follows the request's host, only that one.
pub fn key(plan: &ClusterPlan, host: SocketAddr, authority: &str) -> Key {
    let follows = plan.tls.as_ref().is_some_and(|tls| tls.follows_host());
    let name = follows.then(|| words::host::split_port(authority).0.into());
    Key { host, name, era: plan.era(host) }
}

/// A request that has a connection: now it counts, and needs a place below the bound on requests (DR36).
pub fn attach(aim: Aim<'_>, active: Active, stream: Option<(Key, Stream)>) -> Result<Guards, Failure> {
    let counts = &aim.cluster.counts;
    let request = aim.plan.limits.requests.take().ok_or_else(|| {
        bump(&counts.overflows);
        Failure::Overflow
    })?;
    aim.plan.limits.begin(uptime);
    bump(&counts.requests);
    bump(&counts.active);
    Ok(Guards { active, request, cluster: aim.cluster.clone(), stream: stream.map(Box::new) })
}

/// A new connection to a host, within the cluster's timeout, and which workload is there.
pub async fn connect(
    cluster: &ClusterState,
    plan: &ClusterPlan,
    host: SocketAddr,
    load: Load<'_>,
) -> Result<(Io, Principal), Failure> {
    bump(&cluster.counts.connections);
    let options = ClusterState::connect_options(plan);
    let limit: Duration = plan.config.connect_timeout;
    let failed = |failure| {
        bump(&cluster.counts.connect_failures);
        failure
    };
    let connecting = async {
        let connected = match pipe(plan, host) {
            Some(path) => cluster.network.connect_path(path).await,
            None => cluster.network.connect(host, &options).await,
        };
        let io = connected.map_err(|error| Failure::Connect(plain(&error)))?;
        match plan.tls_to(host) {
            Some(tls) if !transport::pipe::is_stand_in(host) => {
                let (io, there) = tls.connect(io, host, load).await.map_err(Failure::Tls)?;
                Ok((io, Principal::of_any(there.as_ref())))
            }
            _ => Ok((io, Principal::default())),
        }
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(outcome) => outcome.map_err(failed),
        Err(_) => Err(failed(Failure::ConnectTimeout)),
    }
}

// The Unix socket that an address stands for.
fn pipe(plan: &ClusterPlan, host: SocketAddr) -> Option<&str> {
    if !transport::pipe::is_stand_in(host) {
        return None;
    }
    plan.hosts.hosts().iter().find_map(|one| match &one.address {
        EndpointAddress::Pipe(path) if transport::pipe::stand_in(path) == host => Some(path.as_str()),
        _ => None,
    })
}

// `Connection refused`, without the number that Rust adds.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn failure_of(error: &hyper::Error) -> Failure {
    let h2_error = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    match h2_error.and_then(h2::Error::reason) {
        Some(h2::Reason::REFUSED_STREAM) => Failure::Refused,
        // What we found, not what the upstream says of us.
        Some(h2::Reason::PROTOCOL_ERROR) if h2_error.is_some_and(h2::Error::is_library) => Failure::Protocol,
        Some(_) => Failure::Reset,
        None if error.is_parse() => Failure::Protocol,
        None if error.is_canceled() => Failure::Unsent,
        None if error.is_user() || error.is_body_write_aborted() => Failure::ClientBody,
        None => Failure::Ended,
    }
}

fn wants_another(policy: &RetryPolicy, outcome: &Result<(Answered, Guards), Failure>) -> bool {
    let asked = match outcome {
        Err(failure) => failure.outcome(),
        Ok((answered, _)) if answered.response.headers().contains_key(headers::RATE_LIMITED) => {
            Some(balance::retry::Outcome::RateLimited)
        }
        Ok((answered, _)) => Some(balance::retry::Outcome::Status {
            code: answered.response.status().as_u16(),
            grpc_status: headers_grpc_status(answered.response.headers()),
        }),
    };
    asked.is_some_and(|outcome| balance::retry::wants_retry(policy, outcome))
}
