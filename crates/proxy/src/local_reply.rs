//! The body type of everything that we answer, and answers of our own.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use transport::source::Arrival;
use transport::upstream::ResponseBody;

use crate::cluster::ClusterState;
use crate::failure::Flags;
use crate::record::Record;
use crate::timeout::{Cut, Watch};
use crate::{grpc, headers};

/// The body of an answer. Whatever becomes of it, the request's record is finished when it is dropped.
pub struct ReplyBody {
    inner: Inner,
    record: Option<Box<Record>>,
    /// Where the connection goes back to when the answer has been read.
    home: Option<Rc<ClusterState>>,
    guards: Option<Guards>,
    // Cuts the answer off when it takes too long.
    watch: Option<Box<Watched>>,
    whole: bool,
}

/// What cuts an answer off, and what tells it that something moved.
pub struct Watched {
    /// Cuts it off.
    pub watch: Watch,
    /// Is told of every frame.
    pub arrival: Rc<Arrival>,
}

/// Why an answer broke off after its head.
#[derive(Debug)]
pub enum ReplyError {
    /// The upstream broke off.
    Upstream(hyper::Error),
    /// We did, because it took too long.
    Cut,
}

impl std::fmt::Display for ReplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReplyError::Upstream(error) => error.fmt(f),
            ReplyError::Cut => f.write_str("the answer took too long"),
        }
    }
}

impl std::error::Error for ReplyError {}

enum Inner {
    Ours(Option<Bytes>),
    Upstream(ResponseBody),
}

/// Held while a request is under way at an upstream: the host's count, and places below bounds.
pub struct Guards {
    /// The host's active count.
    pub active: balance::Active,
    /// A place below `max_requests`.
    pub request: balance::limits::Permit,
    /// The cluster's active count goes down with this.
    pub cluster: Rc<ClusterState>,
    /// The stream of a shared connection, and its host.
    pub stream: Option<Box<(transport::pool::Key, transport::upstream::Stream)>>,
}

impl Drop for Guards {
    fn drop(&mut self) {
        if let Some((host, stream)) = self.stream.take().map(|stream| *stream) {
            drop(stream);
            self.cluster.waiting.offer_streams(&host, 1);
        }
        let active = &self.cluster.counts.active;
        active.set(active.get().saturating_sub(1));
    }
}

impl ReplyBody {
    /// An upstream's body.
    pub fn upstream(body: ResponseBody, record: Box<Record>, home: Option<Rc<ClusterState>>, guards: Guards) -> Self {
        Self {
            inner: Inner::Upstream(body),
            record: Some(record),
            home,
            guards: Some(guards),
            watch: None,
            whole: false,
        }
    }

    /// The body of an answer that nobody wants: it is read, and its connection used again.
    pub fn unwanted(body: ResponseBody, home: Option<Rc<ClusterState>>, guards: Guards) -> Self {
        let inner = Inner::Upstream(body);
        Self { inner, record: None, home, guards: Some(guards), watch: None, whole: false }
    }

    /// The same answer, cut off when it takes too long.
    pub fn watched(mut self, watch: Option<Box<Watched>>) -> Self {
        self.watch = watch;
        self
    }

    /// No body, and nothing to finish: the bytes after an upgrade are not a body.
    pub fn empty() -> Self {
        Self { inner: Inner::Ours(None), record: None, home: None, guards: None, watch: None, whole: true }
    }

    fn on_end(&mut self) {
        self.whole = true;
        if let (Some(home), Inner::Upstream(body)) = (self.home.take(), &mut self.inner)
            && let Some(connection) = body.take_connection()
        {
            // Before who waits gets the connection, there must be room for another request.
            self.guards = None;
            home.give(connection, Instant::now());
        }
        self.guards = None;
        self.finish();
    }

    // Nobody gets the rest: the upstream's connection goes with it.
    fn on_break(&mut self, flags: Flags, details: &'static str) {
        if let Some(record) = &mut self.record {
            record.flags = record.flags.with(flags);
            record.details = details;
        }
        self.whole = true;
        self.guards = None;
        self.finish();
    }

    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let Some(watched) = &mut self.watch else { return Poll::Pending };
        let cut = std::task::ready!(Pin::new(&mut watched.watch).poll(cx));
        self.watch = None;
        match cut {
            Cut::Timeout => self.on_break(Flags::UPSTREAM_TIMEOUT, "response_timeout"),
            Cut::Idle { .. } => self.on_break(Flags::STREAM_IDLE, "stream_idle_timeout"),
        }
        Poll::Ready(Some(Err(ReplyError::Cut)))
    }

    fn finish(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.finish(Instant::now());
        }
    }
}

/// An answer of our own. A gRPC client gets it in gRPC's form.
pub fn reply(status: u16, body: impl Into<Bytes>, mut record: Box<Record>) -> Response<ReplyBody> {
    let body: Bytes = body.into();
    if record.is_grpc {
        return reply_grpc(grpc::code_of(status), &String::from_utf8_lossy(&body), record);
    }
    record.status = status;
    record.sent = body.len() as u64;
    let has_body = !body.is_empty();
    let mut response = Response::new(ReplyBody {
        inner: Inner::Ours(Some(body).filter(|_| has_body)),
        record: Some(record),
        home: None,
        guards: None,
        watch: None,
        whole: !has_body,
    });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if has_body {
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

/// A gRPC answer of our own: 200, and the code where trailers would have it.
pub fn reply_grpc(code: u16, message: &str, mut record: Box<Record>) -> Response<ReplyBody> {
    record.status = 200;
    record.grpc_status = Some(code);
    let mut response = Response::new(ReplyBody {
        inner: Inner::Ours(None),
        record: Some(record),
        home: None,
        guards: None,
        watch: None,
        whole: true,
    });
    *response.headers_mut() = grpc_headers(code, message);
    response
}

/// The headers of a gRPC answer of our own.
pub fn grpc_headers(code: u16, message: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(grpc::MEDIA_TYPE));
    headers.insert(grpc::STATUS, headers::number(code.into()));
    if let Some(message) = grpc::message(message).filter(|message| !message.is_empty()) {
        headers.insert(grpc::MESSAGE, message);
    }
    headers
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.inner {
            Inner::Ours(bytes) => {
                this.whole = true;
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Inner::Upstream(body) => Pin::new(body).poll_frame(cx),
        };
        let Poll::Ready(polled) = polled else { return this.poll_watch(cx) };
        match &polled {
            None => this.on_end(),
            Some(Ok(frame)) => {
                if let Some(watched) = &this.watch {
                    watched.arrival.touch();
                }
                if let Some(record) = &mut this.record {
                    if let Some(data) = frame.data_ref() {
                        record.sent += data.len() as u64;
                    } else if let Some(trailers) = frame.trailers_ref() {
                        record.grpc_status = crate::headers_grpc_status(trailers).or(record.grpc_status);
                    }
                }
                // A body of known length ends with its last byte: hyper does not ask again.
                if !this.whole
                    && let Inner::Upstream(body) = &this.inner
                    && body.is_end_stream()
                {
                    this.on_end();
                }
            }
            Some(Err(_)) => this.on_break(
                Flags::UPSTREAM_CONNECTION_ENDED,
                "upstream_reset_after_response_started{connection_termination}",
            ),
        }
        Poll::Ready(polled.map(|frame| frame.map_err(ReplyError::Upstream)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Ours(bytes) => bytes.is_none(),
            Inner::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Ours(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Upstream(body) => body.size_hint(),
        }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        // An answer without a body is whole as it is; hyper never polls it.
        let is_empty = matches!(&self.inner, Inner::Upstream(body) if body.is_end_stream());
        if !self.whole && is_empty {
            self.on_end();
        }
        if let Some(record) = &mut self.record
            && !self.whole
        {
            record.flags = record.flags.with(Flags::DOWNSTREAM_ENDED);
            record.details = "downstream_remote_disconnect";
        }
        self.finish();
    }
}
