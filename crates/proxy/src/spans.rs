//! Spans on their way to the collector: a bounded queue per worker, batches, and pauses that grow while nobody takes them.
//!
//! No request waits for any of this. What finds the queue full is dropped and counted; a batch is tried again until it is
//! taken, refused for good, or its collector is no longer there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use balance::Ask;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use transport::body::RequestBody;

use crate::cluster::{bump, socket};
use crate::failure::Failure;
use crate::forward;
use crate::otlp::{self, Export, Resource, ResourceSpans, Scope, ScopeSpans, attribute};
use crate::trace::Tracer;
use crate::upstream::{self, Aim};
use crate::worker::Worker;

/// Spans that wait, per worker.
pub const WAITING_MAX: usize = 4096;
/// Spans of one batch.
pub const BATCH_MAX: usize = 512;
/// A smaller batch is sent after this long.
const SEND_AFTER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The first pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// gRPC codes after which the same may be sent again (OTLP's rules).
const MAY_SUCCEED_LATER: [u16; 7] = [1, 4, 8, 10, 11, 14, 15];

/// The queue of one worker.
#[derive(Default)]
pub struct Spans {
    waiting: RefCell<VecDeque<(Arc<Tracer>, otlp::Span)>>,
    runs: Cell<bool>,
    hurry: Notify,
    /// Spans that the collector has taken.
    pub sent: Cell<u64>,
    /// Spans that found no place, or that the collector refused.
    pub dropped: Cell<u64>,
    /// Batches that were not taken at once.
    pub failed: Cell<u64>,
}

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Later,
    ForGood,
}

impl Spans {
    /// Sends spans, sooner or later.
    pub fn add(&self, worker: &Rc<Worker>, tracer: &Arc<Tracer>, spans: Vec<otlp::Span>) {
        let mut waiting = self.waiting.borrow_mut();
        for span in spans {
            if waiting.len() >= WAITING_MAX {
                bump(&self.dropped);
                continue;
            }
            waiting.push_back((tracer.clone(), span));
        }
        if waiting.len() >= BATCH_MAX {
            self.hurry.notify_one();
        }
        if !waiting.is_empty() && !self.runs.replace(true) {
            spawn_local(run(worker.clone()));
        }
    }

    /// Sends what waits at once: the worker ends soon.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    // The oldest spans for one collector, by tracer.
    fn batch(&self) -> Option<(Arc<Tracer>, Export, u64)> {
        let mut waiting = self.waiting.borrow_mut();
        let slot = waiting.front()?.0.slot;
        let mut by_tracer: Vec<(Arc<Tracer>, Vec<otlp::Span>)> = Vec::new();
        let mut count = 0;
        while count < BATCH_MAX && waiting.front().is_some_and(|(tracer, _)| tracer.slot == slot) {
            let Some((tracer, span)) = waiting.pop_front() else { break };
            count += 1;
            match by_tracer.iter_mut().find(|(known, _)| known.config.service_name == tracer.config.service_name) {
                Some((_, spans)) => spans.push(span),
                None => by_tracer.push((tracer, vec![span])),
            }
        }
        let first = by_tracer.first()?.0.clone();
        let resources = by_tracer.into_iter().map(|(tracer, spans)| resource(&tracer, spans)).collect();
        Some((first, Export { resources }, count as u64))
    }
}

fn resource(tracer: &Tracer, spans: Vec<otlp::Span>) -> ResourceSpans {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![
        attribute("service.name", &tracer.config.service_name),
        attribute("telemetry.sdk.language", "rust"),
        attribute("telemetry.sdk.name", "sluice"),
        attribute("telemetry.sdk.version", version),
    ];
    let scope = Scope { name: "sluice".into(), version: version.into() };
    ResourceSpans { resource: Some(Resource { attributes }), scopes: vec![ScopeSpans { scope: Some(scope), spans }] }
}

// Runs until nothing waits.
async fn run(worker: Rc<Worker>) {
    let spans = &worker.spans;
    if !worker.is_closing() {
        // Either is reason enough to begin.
        let _ = tokio::time::timeout(SEND_AFTER, spans.hurry.notified()).await;
    }
    while let Some((tracer, export, count)) = spans.batch() {
        let framed = otlp::frame(&export);
        let counter = match deliver(&worker, &tracer, framed).await {
            Ok(()) => &spans.sent,
            Err(()) => &spans.dropped,
        };
        counter.set(counter.get() + count);
    }
    spans.runs.set(false);
}

// Tries until the batch is taken; an error when it never will be.
async fn deliver(worker: &Rc<Worker>, tracer: &Tracer, framed: Bytes) -> Result<(), ()> {
    let mut pause = PAUSE_MIN;
    loop {
        let sent = tokio::time::timeout(ANSWER_WITHIN, send(worker, tracer, framed.clone())).await;
        let refused = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refused)) => refused,
            Err(_) => Refused::Later,
        };
        bump(&worker.spans.failed);
        if refused == Refused::ForGood || worker.is_closing() {
            return Err(());
        }
        // Somewhere between half of it and all of it: workers do not come together.
        tokio::time::sleep(pause / 2 + pause.mul_f64(f64::from(worker.draw()) / f64::from(u32::MAX) / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn send(worker: &Rc<Worker>, tracer: &Tracer, framed: Bytes) -> Result<(), Refused> {
    let cluster = worker.cluster(tracer.slot).ok_or(Refused::ForGood)?;
    let plan = cluster.plan.borrow().clone();
    let later = |failure: Failure| {
        tracing::debug!("the collector cannot be reached: {failure:?}");
        Refused::Later
    };
    let picked = cluster.balancer.borrow_mut().pick(&Ask::default(), || worker.draw()).ok_or(Refused::Later)?;
    let address = socket(&cluster.balancer.borrow().host(picked).address).ok_or(Refused::Later)?;
    let active = cluster.balancer.borrow().begin(picked);
    let counters = active.counters().clone();
    let key = forward::key(&plan, address, &tracer.config.authority);
    let aim = Aim { cluster: &cluster, plan: &plan, host: &key, counters: &counters };
    let (mut connection, stream) = upstream::http2(aim).await.map_err(later)?;
    let _guards = forward::attach(aim, active, Some((key.clone(), stream))).map_err(later)?;
    let request = request(tracer, framed).ok_or(Refused::ForGood)?;
    let response = connection.send(request).await.map_err(|error| {
        tracing::debug!("the collector hung up: {error}");
        Refused::Later
    })?;
    if response.status() != 200 {
        return Err(Refused::Later);
    }
    let of_head = crate::headers_grpc_status(response.headers());
    let collected = response.into_body().collect().await.map_err(|_| Refused::Later)?;
    let of_trailers = collected.trailers().and_then(crate::headers_grpc_status);
    judge(of_trailers.or(of_head))
}

fn judge(status: Option<u16>) -> Result<(), Refused> {
    match status {
        Some(0) => Ok(()),
        Some(code) if !MAY_SUCCEED_LATER.contains(&code) => Err(Refused::ForGood),
        _ => Err(Refused::Later),
    }
}

fn request(tracer: &Tracer, framed: Bytes) -> Option<Request<RequestBody>> {
    let mut request = Request::new(RequestBody::Whole(Some(framed)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = otlp::EXPORT.parse().ok()?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
    forward::address(&mut request, &tracer.config.authority, true)?;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer() -> Arc<Tracer> {
        let config = config::Tracing {
            collector: "otlp".into(),
            authority: "otlp".into(),
            service_name: "a.b".into(),
            sampling: config::Share::ALL,
            by_request_id: true,
            upstream_spans: false,
            tags: Vec::new(),
        };
        Arc::new(Tracer::new(&config, 0, config::Direction::Outbound))
    }

    fn counts(worker: &Worker) -> [u64; 3] {
        [&worker.spans.sent, &worker.spans.dropped, &worker.spans.failed].map(Cell::get)
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_what_nobody_takes_is_counted() {
        let local = tokio::task::LocalSet::new();
        let resolvers = crate::resolvers::Resolvers::known(Default::default());
        let worker = Worker::new(Arc::default(), resolvers, transport::network::Network::Sockets, 1);
        local
            .run_until(async {
                worker.spans.add(&worker, &tracer(), vec![otlp::Span::default(); WAITING_MAX + 4]);
                assert_eq!(counts(&worker), [0, 4, 0]);
                // The collector's cluster is gone: nobody will ever take them.
                tokio::time::sleep(SEND_AFTER * 2).await;
                let batches = WAITING_MAX.div_ceil(BATCH_MAX) as u64;
                assert_eq!(counts(&worker), [0, WAITING_MAX as u64 + 4, batches]);
                worker.spans.add(&worker, &tracer(), vec![otlp::Span::default()]);
                assert!(worker.spans.runs.get(), "the next ones are sent again");
            })
            .await;
    }

    #[test]
    fn answers_are_judged_by_otlps_rules() {
        assert_eq!(judge(Some(0)), Ok(()));
        assert_eq!(judge(Some(14)), Err(Refused::Later));
        assert_eq!(judge(Some(3)), Err(Refused::ForGood));
        assert_eq!(judge(None), Err(Refused::Later));
    }
}
