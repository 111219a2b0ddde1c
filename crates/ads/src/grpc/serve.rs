//! The ADS service for tonic's router: both variants, and nothing else.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::Events;
use super::codec::{FrameCodec, Incoming};
use super::stream::Task;
use crate::limits::{COLD_KIB_MAX, REQUEST_BYTES_MAX, RESPONSES_QUEUED_MAX};
use crate::{Frame, Mode};

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`.
#[derive(Clone)]
pub struct AdsServer {
    events: Events,
    cold: Arc<Semaphore>,
    next: Arc<AtomicU64>,
}

impl AdsServer {
    /// A service that reports to `events`.
    pub fn new(events: Events) -> Self {
        Self { events, cold: Arc::new(Semaphore::new(COLD_KIB_MAX as usize)), next: Arc::default() }
    }
}

impl NamedService for AdsServer {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for AdsServer
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    B::Data: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let mode = match request.uri().path().rsplit('/').next() {
            Some("DeltaAggregatedResources") => Mode::Delta,
            Some("StreamAggregatedResources") => Mode::Sotw,
            _ => return Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        };
        let method = Method { server: self.clone(), mode };
        Box::pin(async move {
            let mut grpc = Grpc::new(FrameCodec(mode)).max_decoding_message_size(REQUEST_BYTES_MAX);
            grpc = grpc.max_encoding_message_size(usize::MAX);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Method {
    server: AdsServer,
    mode: Mode,
}

impl StreamingService<Incoming> for Method {
    type Response = Frame;
    type ResponseStream = ReceiverStream<Result<Frame, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Incoming>>) -> Self::Future {
        let (out, frames) = mpsc::channel(RESPONSES_QUEUED_MAX);
        let task = Task {
            id: self.server.next.fetch_add(1, Ordering::Relaxed),
            mode: self.mode,
            events: self.server.events.clone(),
            cold: self.server.cold.clone(),
            out,
        };
        tokio::spawn(task.run(request.into_inner()));
        Box::pin(async move { Ok(Response::new(ReceiverStream::new(frames))) })
    }
}
