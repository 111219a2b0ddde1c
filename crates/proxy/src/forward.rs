//! Sending a request to its cluster: pick, connect, send, and try again where the policy asks for it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use balance::{Ask, HostId};
use config::{Discovery, EndpointAddress, Forward, RetryPolicy, UpstreamProtocol};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use routing::Target;
use transport::body::{Replayable, RequestBody};
use transport::io::Io;
use transport::upstream::{Http1, Http2, ResponseBody};

use crate::actions::WayBack;
use crate::cluster::{ClusterState, bump, socket};
use crate::connection::Client;
use crate::failure::{Failure, Flags};
use crate::hash::{self, Hashed};
use crate::local_reply::{Guards, Home, ReplyBody};
use crate::plan::ClusterPlan;
use crate::record::Record;
use crate::worker::Worker;
use crate::{actions, headers, headers_grpc_status};

/// Bytes of a request's body that are kept so that it can be sent again.
pub const REPLAY_BYTES_MAX: usize = 64 << 10;

/// Where a request goes, and on whose behalf.
pub struct Mission<'a> {
    /// The worker.
    pub worker: &'a Rc<Worker>,
    /// The client's connection.
    pub client: &'a Client,
    /// The route's action.
    pub forward: &'a Forward,
    /// The cluster drawn.
    pub cluster: Target<'a>,
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
    connection: Option<Http1>,
    local: Option<SocketAddr>,
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
    let is_http2_client = request.version() == Version::HTTP_2;
    let (parts, body) = request.into_parts();
    record.received = body.size_hint().exact().unwrap_or(0);
    let hashed = mission.hashed(&cluster, &parts, &record);
    let tries = Tries { mission: &mission, cluster: &cluster, parts, is_http2_client, hash: hashed.key };
    let timeout = mission.forward.timeout;
    let outcome = match timeout {
        None => tries.run(body, &mut record).await,
        Some(limit) => match tokio::time::timeout(limit, tries.run(body, &mut record)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                bump(&cluster.counts.timeouts);
                Err((Failure::Timeout, false))
            }
        },
    };
    match outcome {
        Err((failure, retried)) => failed(&failure, retried, mission.back, record),
        Ok((mut answered, guards)) => {
            hashed.tell(answered.response.headers_mut());
            answer(answered, guards, &cluster, mission.back, record)
        }
    }
}

// Measured with Envoy 1.40: what a rule does to answers it does to these too.
fn failed(
    failure: &Failure,
    retried: bool,
    back: Option<&WayBack<'_>>,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    let told = failure.tell(retried);
    record.flags = record.flags.with(told.flags);
    record.details = told.details;
    if let (Some(head), Failure::Connect(reason)) = (&mut record.head, failure) {
        head.transport_failure = format!("delayed connect error: {reason}");
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
    let Answered { response, connection, local } = answered;
    let (mut parts, incoming) = response.into_parts();
    record.status = parts.status.as_u16();
    record.grpc_status = headers_grpc_status(&parts.headers);
    if let Some(class) = cluster.counts.classes.get(usize::from(record.status / 100)) {
        bump(class);
    }
    headers::strip_hop_by_hop(&mut parts.headers);
    let waited = record.started.elapsed().as_millis() as u64;
    parts.headers.insert(headers::SERVICE_TIME, headers::number(waited));
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
    let home = record.host.filter(|_| connection.is_some()).map(|(_, host)| Home {
        cluster: cluster.clone(),
        host,
        requests_max: cluster.plan.borrow().config.max_requests_per_connection,
    });
    let body = ReplyBody::upstream(ResponseBody::new(incoming, connection), record, home, guards);
    Response::from_parts(parts, body)
}

struct Tries<'a> {
    mission: &'a Mission<'a>,
    cluster: &'a Rc<ClusterState>,
    parts: http::request::Parts,
    is_http2_client: bool,
    hash: Option<u64>,
}

/// The body for one try, and whether there may be another.
enum Supply {
    None,
    Once(Option<Incoming>),
    Again(Replayable),
}

impl Supply {
    fn new(body: Incoming, policy: Option<&RetryPolicy>) -> Self {
        if body.is_end_stream() {
            return Self::None;
        }
        let too_large = body.size_hint().exact().is_some_and(|bytes| bytes > REPLAY_BYTES_MAX as u64);
        match policy {
            Some(_) if !too_large => Self::Again(Replayable::new(body, REPLAY_BYTES_MAX)),
            _ => Self::Once(Some(body)),
        }
    }

    fn take(&mut self) -> Option<RequestBody> {
        match self {
            Self::None => Some(RequestBody::Empty),
            Self::Once(body) => body.take().map(RequestBody::Stream),
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

impl Tries<'_> {
    async fn run(&self, body: Incoming, record: &mut Record) -> Result<(Answered, Guards), (Failure, bool)> {
        let policy = self.mission.forward.retry.as_ref();
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
                record.flags = record.flags.with(Flags::RETRIES_EXHAUSTED);
                return outcome.map_err(|failure| (failure, tries > 1));
            }
            if retry_permit.is_none() {
                retry_permit = self.cluster.plan.borrow().limits.retries.take();
                if retry_permit.is_none() {
                    record.flags = record.flags.with(Flags::UPSTREAM_OVERFLOW);
                    return outcome.map_err(|failure| (failure, tries > 1));
                }
            }
            drop(outcome);
            bump(&self.cluster.counts.retries);
            if let (true, Some((_, address))) = (policy.avoid_previous_hosts, record.host) {
                tried.push(EndpointAddress::Socket(address));
            }
            tokio::time::sleep(balance::backoff::wait(policy.backoff_base, tries, self.mission.worker.draw())).await;
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
        let (id, address) = self.pick(&plan, tried)?;
        record.host = Some((id, address));
        let request_permit = plan.limits.requests.take().ok_or_else(|| {
            bump(&cluster.counts.overflows);
            Failure::Overflow
        })?;
        bump(&cluster.counts.requests);
        bump(&cluster.counts.active);
        let active = cluster.balancer.borrow().begin(id);
        let guards = Guards { active, request: request_permit, cluster: cluster.clone() };
        let answered = self.exchange(supply, &plan, address, number);
        let limit = self.mission.forward.retry.as_ref().and_then(|policy| policy.per_try_timeout);
        let outcome = match limit {
            None => answered.await,
            Some(limit) => tokio::time::timeout(limit, answered).await.unwrap_or_else(|_| {
                bump(&cluster.counts.timeouts);
                Err(Failure::TryTimeout)
            }),
        };
        let counters = guards.active.counters();
        let is_error = outcome.as_ref().map_or(true, |answered| answered.response.status().is_server_error());
        if is_error {
            bump(&counters.errors);
        }
        outcome.map(|answered| (answered, guards))
    }

    fn pick(&self, plan: &ClusterPlan, tried: &[EndpointAddress]) -> Result<(HostId, SocketAddr), Failure> {
        if matches!(plan.config.discovery, Discovery::OriginalDst) {
            // Without capture there is nothing that was dialled.
            let dialled = self.mission.client.dialled.or_else(|| self.authority_address());
            return dialled.map(|address| (HostId::OUTSIDE, address)).ok_or(Failure::NoHost);
        }
        let attempts = self.mission.forward.retry.as_ref().map_or(0, |policy| policy.host_selection_attempts);
        let mut balancer = self.cluster.balancer.borrow_mut();
        let ask = Ask { tried, attempts, hash: self.hash, now: self.mission.worker.millis_for(plan) };
        let id = balancer.pick(&ask, || self.mission.worker.draw()).ok_or_else(|| {
            bump(&self.cluster.counts.none_healthy);
            Failure::NoHost
        })?;
        let address = socket(&balancer.host(id).address).ok_or(Failure::NoHost)?;
        Ok((id, address))
    }

    fn authority_address(&self) -> Option<SocketAddr> {
        let (host, port) = words::host::split_port(self.mission.authority);
        Some(SocketAddr::new(words::host::ip(host)?, port.unwrap_or(80)))
    }

    async fn exchange(
        &self,
        supply: &mut Supply,
        plan: &ClusterPlan,
        host: SocketAddr,
        number: u32,
    ) -> Result<Answered, Failure> {
        let is_http2 = match plan.config.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::SameAsDownstream => self.is_http2_client,
        };
        if is_http2 {
            let mut connection = self.http2(plan, host).await?;
            let request = self.request(supply, number, true).ok_or(Failure::ClientBody)?;
            let local = connection.local;
            let response = connection.send(request).await.map_err(|error| failure_of(&error))?;
            return Ok(Answered { response, connection: None, local });
        }
        let idle = self.idle(host).await;
        let connection = match idle {
            Some(connection) => connection,
            None => Http1::new(self.connect(plan, host).await?, Instant::now()).await.map_err(|_| Failure::Ended)?,
        };
        let request = self.request(supply, number, false).ok_or(Failure::ClientBody)?;
        let local = connection.local;
        let (response, connection) = connection.send(request).await.map_err(|error| failure_of(&error))?;
        Ok(Answered { response, connection: Some(connection), local })
    }

    async fn idle(&self, host: SocketAddr) -> Option<Http1> {
        let idle_max = self.cluster.idle_max();
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(self.cluster.pool.borrow_mut().take(host, idle_max, Instant::now(), cx))
        })
        .await
    }

    async fn http2(&self, plan: &ClusterPlan, host: SocketAddr) -> Result<Http2, Failure> {
        if let Some(connection) = self.cluster.pool.borrow_mut().shared(host) {
            return Ok(connection);
        }
        let connection = Http2::new(self.connect(plan, host).await?).await.map_err(|_| Failure::Ended)?;
        self.cluster.pool.borrow_mut().share(host, connection.clone());
        Ok(connection)
    }

    pub(crate) async fn connect(&self, plan: &ClusterPlan, host: SocketAddr) -> Result<Io, Failure> {
        connect(self.cluster, plan, host).await
    }

    fn request(&self, supply: &mut Supply, number: u32, is_http2: bool) -> Option<Request<RequestBody>> {
        let body = supply.take()?;
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.headers_mut() = self.parts.headers.clone();
        *request.uri_mut() = self.parts.uri.clone();
        if self.mission.counts_attempts {
            request.headers_mut().insert(headers::ATTEMPT_COUNT, headers::number(number.into()));
        }
        address(&mut request, self.mission.authority, is_http2)?;
        Some(request)
    }
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

/// A new connection to a host, within the cluster's bounds and timeout.
pub async fn connect(cluster: &ClusterState, plan: &ClusterPlan, host: SocketAddr) -> Result<Io, Failure> {
    let _pending = plan.limits.pending.take().ok_or_else(|| {
        bump(&cluster.counts.overflows);
        Failure::Overflow
    })?;
    bump(&cluster.counts.connections);
    let options = ClusterState::connect_options(plan);
    let limit: Duration = plan.config.connect_timeout;
    let failed = |failure| {
        bump(&cluster.counts.connect_failures);
        failure
    };
    match tokio::time::timeout(limit, transport::io::connect(host, &options)).await {
        Ok(Ok(stream)) => Ok(Io::Tcp(stream)),
        Ok(Err(error)) => Err(failed(Failure::Connect(plain(&error)))),
        Err(_) => Err(failed(Failure::ConnectTimeout)),
    }
}

// `Connection refused`, without the number that Rust adds.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn failure_of(error: &hyper::Error) -> Failure {
    let h2_reason = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .and_then(h2::Error::reason);
    match h2_reason {
        Some(h2::Reason::REFUSED_STREAM) => Failure::Refused,
        Some(_) => Failure::Reset,
        None if error.is_user() || error.is_body_write_aborted() => Failure::ClientBody,
        None => Failure::Ended,
    }
}

fn wants_another(policy: &RetryPolicy, outcome: &Result<(Answered, Guards), Failure>) -> bool {
    let asked = match outcome {
        Err(failure) => failure.outcome(),
        Ok((answered, _)) => Some(balance::retry::Outcome::Status {
            code: answered.response.status().as_u16(),
            grpc_status: headers_grpc_status(answered.response.headers()),
        }),
    };
    asked.is_some_and(|outcome| balance::retry::wants_retry(policy, outcome))
}
