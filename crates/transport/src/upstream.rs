//! A connection to an upstream that carries requests: HTTP/1.1 one at a time, HTTP/2 many.
//!
//! An HTTP/1.1 connection is driven by whoever uses it: the task of the request polls it together with the answer, and
//! nobody polls it while it is idle. So a request never wakes a second task. HTTP/2 connections are shared, and have a
//! task of their own.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::exec::LocalExec;
use crate::io::Io;
use crate::pool::Key;

/// Largest response head read, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Largest HTTP/2 header list read, in bytes.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// HTTP/2 windows.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// An HTTP/1.1 connection.
pub struct Http1 {
    /// Whom it serves.
    pub key: Key,
    sender: http1::SendRequest<RequestBody>,
    driver: Pin<Box<http1::Connection<TokioIo<Io>, RequestBody>>>,
    /// Requests it has carried.
    pub carried: u32,
    /// When it was made.
    pub born: Instant,
    /// When it was last given back.
    pub idle_since: Instant,
    /// Our end.
    pub local: Option<std::net::SocketAddr>,
    /// Whatever the caller wants to know of the other end.
    pub peer: u32,
    // Last: it is let go when the connection has been closed.
    _held: Held,
}

/// What is held for as long as a connection is open.
pub type Held = Box<dyn std::any::Any>;

impl Http1 {
    /// Speaks HTTP/1.1 on a connection. `held` is dropped when it has ended. Boxed: a connection changes hands several
    /// times with every request.
    pub async fn new(io: Io, key: Key, now: Instant, held: Held) -> io::Result<Box<Self>> {
        let local = io.local_address();
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX.max(64 << 10));
        let (sender, driver) = builder.handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
        let driver = Box::pin(driver);
        Ok(Box::new(Self { key, sender, driver, carried: 0, born: now, idle_since: now, local, peer: 0, _held: held }))
    }

    /// True when an idle connection can take a request. Looks at the socket: a peer that has closed is noticed here.
    pub fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.driver.as_mut().poll(cx).is_pending() && self.sender.is_ready()
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// hyper's; [`hyper::Error::is_canceled`] when nothing of the request was sent.
    pub async fn send(
        mut self: Box<Self>,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Box<Self>), hyper::Error> {
        self.carried += 1;
        let answer = {
            // Apart, as the driver is polled while the answer is waited for.
            let this = &mut *self;
            let mut answer = pin!(this.sender.send_request(request));
            let driver = &mut this.driver;
            std::future::poll_fn(|cx| {
                // The driver moves the bytes; its own end shows in the answer.
                let _ = driver.as_mut().poll(cx);
                answer.as_mut().poll(cx)
            })
            .await?
        };
        Ok((answer, self))
    }

    /// True when the connection may carry another request after its answer has been read.
    pub fn is_reusable(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.driver.as_mut().poll(&mut cx).is_pending() && self.sender.is_ready()
    }
}

/// An HTTP/2 connection; clones share it.
#[derive(Clone)]
pub struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    pub(crate) life: Rc<Life>,
    /// Our end.
    pub local: Option<std::net::SocketAddr>,
    /// Whatever the caller wants to know of the other end.
    pub peer: u32,
}

/// What decides how long an HTTP/2 connection is used.
pub(crate) struct Life {
    pub(crate) born: Instant,
    pub(crate) idle_since: Cell<Instant>,
    pub(crate) carried: Cell<u32>,
    pub(crate) active: Cell<u32>,
}

/// A stream of an HTTP/2 connection; it counts until it is dropped.
pub struct Stream(Rc<Life>);

impl Drop for Stream {
    fn drop(&mut self) {
        let Self(life) = self;
        life.active.set(life.active.get().saturating_sub(1));
        if life.active.get() == 0 {
            life.idle_since.set(Instant::now());
        }
    }
}

impl Http2 {
    /// Speaks HTTP/2 with prior knowledge on a connection. `keepalive` is the time between pings and the time that an
    /// answer may take. `held` is dropped when the connection has ended.
    pub async fn new(io: Io, now: Instant, keepalive: Option<(Duration, Duration)>, held: Held) -> io::Result<Self> {
        let local = io.local_address();
        let mut builder = http2::Builder::new(LocalExec);
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST_BYTES_MAX);
        if let Some((interval, timeout)) = keepalive {
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(interval)
                .keep_alive_timeout(timeout)
                .keep_alive_while_idle(true);
        }
        let (sender, driver) = builder.handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // Its end shows in every request on it.
            let _ = driver.await;
            drop(held);
        });
        let life = Life { born: now, idle_since: Cell::new(now), carried: Cell::default(), active: Cell::default() };
        Ok(Self { sender, life: Rc::new(life), local, peer: 0 })
    }

    /// Counts one more stream.
    pub(crate) fn begin(&self) -> Stream {
        let life = &self.life;
        life.carried.set(life.carried.get().saturating_add(1));
        life.active.set(life.active.get() + 1);
        Stream(life.clone())
    }

    /// True while it takes requests.
    pub fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// hyper's.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

/// The body of an answer, with the connection that it comes over, if that is not driven elsewhere.
pub struct ResponseBody {
    incoming: Incoming,
    connection: Option<Box<Http1>>,
}

impl ResponseBody {
    /// A body that drives its HTTP/1.1 connection, or one of an HTTP/2 connection.
    pub fn new(incoming: Incoming, connection: Option<Box<Http1>>) -> Self {
        Self { incoming, connection }
    }

    /// The connection, once the body has been read to its end.
    pub fn take_connection(&mut self) -> Option<Box<Http1>> {
        self.connection.take()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some(connection) = &mut this.connection {
            // As in `send`: the driver's end shows in the body.
            let _ = connection.driver.as_mut().poll(cx);
        }
        Pin::new(&mut this.incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// One request on a connection of its own that may be taken over (WebSocket): the answer, and a task that drives.
/// `held` is dropped when nobody drives any more.
///
/// # Errors
/// hyper's.
pub async fn send_upgrade(
    io: Io,
    request: Request<RequestBody>,
    held: Held,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, driver) = http1::Builder::new().handshake(TokioIo::new(io)).await?;
    // RequestBody holds what only this thread may touch, so the connection stays here.
    tokio::task::spawn_local(async move {
        let _ = driver.with_upgrades().await;
        drop(held);
    });
    sender.send_request(request).await
}
