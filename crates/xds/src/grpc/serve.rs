//! The ADS service for tonic's router: both variants, and nothing else.
//!
//! In: HTTP requests. Out: a body fed by a stream task. Requests are decoded by prost, responses are joined from bytes that
//! exist already ([`super::body`]). Says nothing about who may connect: the owner decides by the `Connected` event.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use futures::StreamExt;
use prost::Message;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Status, metadata};
use tonic_prost::ProstCodec;

use super::Events;
use super::admission::Admission;
use super::body::ResponseBody;
use super::stream::Task;
use crate::limits::{REQUEST_BYTES_MAX, RESPONSE_QUEUE};
use crate::server::Request;
use crate::{Mode, Node};

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`. Must be called inside a tokio runtime.
#[derive(Clone, Debug)]
pub struct AdsServer {
    events: Events,
    admission: Admission,
    next: Arc<AtomicU64>,
}

impl AdsServer {
    /// A service that reports to `events`.
    pub fn new(events: Events) -> Self {
        Self { events, admission: Admission::default(), next: Arc::default() }
    }

    fn open(&self, mode: Mode, request: http::Request<Body>) -> Body {
        let (head, body) = request.into_parts();
        let (out, responses) = mpsc::channel(RESPONSE_QUEUE);
        let task = Task {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            mode,
            events: self.events.clone(),
            admission: self.admission.clone(),
            out,
        };
        // The task ends with its stream: when the body of the request or of the response is gone.
        match mode {
            Mode::Delta => {
                let requests = decoded::<DeltaDiscoveryRequest>(body).map(|one| one.map(Request::delta));
                tokio::spawn(task.run(Box::new(head), requests));
            }
            Mode::Sotw => {
                let requests = decoded::<DiscoveryRequest>(body).map(|one| one.map(Request::sotw));
                tokio::spawn(task.run(Box::new(head), requests));
            }
        }
        Body::new(ResponseBody::new(responses))
    }
}

/// A request, and the node if it carries one.
pub(super) type Incoming = (Request, Option<Node>);

fn decoded<T: Message + Default + Send + 'static>(body: Body) -> Streaming<T> {
    let decoder = ProstCodec::<(), T>::default().decoder();
    Streaming::new_request(decoder, body, None, Some(REQUEST_BYTES_MAX))
}

impl NamedService for AdsServer {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<http::Request<Body>> for AdsServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mode = match request.uri().path().rsplit('/').next() {
            Some("DeltaAggregatedResources") => Mode::Delta,
            Some("StreamAggregatedResources") => Mode::Sotw,
            _ => return ready(Ok(Status::unimplemented("aggregated discovery has no such method").into_http())),
        };
        let mut response = http::Response::new(self.open(mode, request));
        response.headers_mut().insert(http::header::CONTENT_TYPE, metadata::GRPC_CONTENT_TYPE);
        ready(Ok(response))
    }
}
