//! What is remembered of a request until it is over, for the access log and the metrics.

use std::net::SocketAddr;
use std::rc::Rc;

use config::{Direction, Name};
use tokio::time::Instant;
use words::Origin;

use crate::failure::Flags;
use crate::plan::HttpPlan;
use crate::principals::{Parties, Principal};
use crate::trace::Trace;
use crate::worker::Worker;

/// One request, from its head to the last byte of its answer.
pub struct Record {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The chain that it came by.
    pub plan: std::sync::Arc<HttpPlan>,
    /// When its head was read.
    pub started: Instant,
    /// Its head, kept only when something logs or traces it.
    pub head: Option<Box<Head>>,
    /// `http` or `grpc`, for metrics.
    pub is_grpc: bool,
    /// Status code of the answer; 0 before there is one.
    pub status: u16,
    /// Flags.
    pub flags: Flags,
    /// Envoy's response code details.
    pub details: &'static str,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// Slot of the cluster it was sent to.
    pub cluster: Option<u32>,
    /// Host of the last try: number in the balancer's set, and address.
    pub host: Option<(balance::HostId, SocketAddr)>,
    /// Who takes part.
    pub parties: Parties,
    /// `grpc-status` of the answer.
    pub grpc_status: Option<u16>,
    /// Its span.
    pub trace: Option<Box<Trace>>,
    /// Log and metrics have it, or are not to have it.
    pub is_over: bool,
}

/// What only the access log needs.
#[derive(Default)]
pub struct Head {
    /// `GET`.
    pub method: String,
    /// Path and query as the client sent them.
    pub path: String,
    /// `HTTP/1.1`.
    pub protocol: &'static str,
    /// Authority.
    pub authority: String,
    /// The request's headers.
    pub headers: http::HeaderMap,
    /// The answer's headers.
    pub response_headers: http::HeaderMap,
    /// The route's name.
    pub route: String,
    /// The object behind the route.
    pub origin: Option<Origin>,
    /// The cluster's name.
    pub cluster: Option<Name>,
    /// The upstream's address.
    pub upstream: Option<SocketAddr>,
    /// Our end of the upstream connection.
    pub upstream_local: Option<SocketAddr>,
    /// Our end of the client's connection.
    pub local: Option<SocketAddr>,
    /// The client.
    pub peer: Option<SocketAddr>,
    /// The server name that a TLS client asked for.
    pub server_name: Option<String>,
    /// Envoy's response code details, where they are more than a word.
    pub details: Option<String>,
    /// Why no connection could be made.
    pub transport_failure: String,
}

impl Record {
    /// Which side reports: the caller's proxy (and gateways), or the callee's.
    pub fn is_inbound(&self) -> bool {
        self.plan.direction == Direction::Inbound
    }

    // The collector gets the request's spans.
    fn report(&self, trace: Trace) {
        let Some(head) = self.head.as_ref().filter(|_| trace.is_sampled()) else { return };
        let state = self.cluster.and_then(|slot| self.worker.cluster(slot));
        let name = state.map(|state| state.plan.borrow().config.name.clone());
        let (tracer, spans) = trace.end(self, head, name.as_ref(), &self.worker.identity.node_id);
        self.worker.spans.add(&self.worker, &tracer, spans);
    }

    /// Writes log and metrics. Called once, when nothing more will happen.
    pub fn finish(&mut self, now: Instant) {
        self.is_over = true;
        let worker = self.worker.clone();
        if self.parties.upstream.is_somebody() {
            let cluster = self.cluster.and_then(|slot| worker.cluster(slot));
            let own = cluster.and_then(|cluster| cluster.plan.borrow().tls.as_ref()?.own().cloned());
            self.parties.upstream_local = Principal::of_any(own.as_deref());
        }
        let elapsed = now.saturating_duration_since(self.started);
        worker.metrics.request(&worker, self, elapsed);
        if let Some(trace) = self.trace.take() {
            self.report(*trace);
        }
        if let Some(head) = &self.head {
            for format in &self.plan.logs {
                let Self { status, flags, details, received, sent, parties, .. } = *self;
                let details = head.details.as_deref().unwrap_or(details);
                let line = crate::access_log::Line { status, flags, details, received, sent, head, elapsed, parties };
                worker.log(format, &line);
            }
        }
    }
}

// A request whose client hung up before there was an answer: nobody asks for the rest of it.
impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_over && !std::thread::panicking() {
            self.flags = self.flags.with(Flags::DOWNSTREAM_ENDED);
            self.details = "downstream_remote_disconnect";
            let upstream = self.host.map(|(_, address)| address);
            if let Some(head) = &mut self.head {
                head.upstream = upstream;
            }
            self.finish(Instant::now());
        }
    }
}
