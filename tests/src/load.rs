//! Users who never stop, in the ways that applications talk, and what became of what they said.
//!
//! In: the address of a proxy. Out: counts, and each failure in words. A user whose connection ended before anything was said
//! on it opens another, as every client does; what was begun must end well.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

/// Users of each kind.
const USERS: usize = 2;
/// Messages over one WebSocket.
const MESSAGES: u32 = 200;
/// Longest that anything may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(20);

/// How a user talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection for each GET.
    Fresh,
    /// GETs and POSTs over one HTTP/1 connection, for as long as it stays.
    KeepAlive,
    /// The same over HTTP/2.
    Http2,
    /// Messages over WebSockets.
    WebSocket,
}

/// Every kind.
pub const KINDS: [Kind; 4] = [Kind::Fresh, Kind::KeepAlive, Kind::Http2, Kind::WebSocket];

/// The users of one proxy.
pub struct Load {
    target: SocketAddr,
    good: Cell<u64>,
    bad: RefCell<Vec<String>>,
    is_over: Cell<bool>,
    /// Users that go on.
    users: Cell<usize>,
}

enum Line {
    None,
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
    WebSocket(TokioIo<Upgraded>, u32),
}

impl Load {
    /// Users of `http://reviews:9080/` from now on, on the current `LocalSet`.
    pub fn start(target: SocketAddr) -> Rc<Self> {
        let load = Rc::new(Self {
            target,
            good: Cell::new(0),
            bad: RefCell::default(),
            is_over: Cell::new(false),
            users: Cell::new(USERS * KINDS.len()),
        });
        for kind in KINDS.into_iter().cycle().take(USERS * KINDS.len()) {
            spawn_local(load.clone().user(kind));
        }
        load
    }

    /// Waits until so many more have been answered.
    pub async fn goes_on(&self, more: u64) -> Result<()> {
        let until = self.good.get() + more;
        wait::until("more requests are answered", SOON, || async {
            if self.good.get() >= until { Ok(()) } else { bail!("{} of {until}", self.good.get()) }
        })
        .await
    }

    /// Waits until all users have ended what they began, and are gone.
    pub async fn leave(&self) -> Result<()> {
        self.is_over.set(true);
        wait::until("its users are gone", SOON, || async {
            if self.users.get() == 0 { Ok(()) } else { bail!("{} are there", self.users.get()) }
        })
        .await
    }

    /// What was answered; panics when something was not.
    pub fn verdict(&self) -> u64 {
        self.is_over.set(true);
        let bad = self.bad.borrow();
        assert!(bad.is_empty(), "{} failed, {} did not: {:?}", bad.len(), self.good.get(), &bad[..bad.len().min(5)]);
        self.good.get()
    }

    async fn user(self: Rc<Self>, kind: Kind) {
        let (mut line, mut number) = (Line::None, 0);
        while !self.is_over.get() {
            let stream = match &line {
                Line::Http1(sender) if !sender.is_closed() => None,
                Line::Http2(sender) if !sender.is_closed() => None,
                Line::WebSocket(_, left) if *left > 0 => None,
                _ => match TcpStream::connect(self.target).await {
                    Ok(stream) => Some(stream),
                    Err(error) => {
                        self.bad.borrow_mut().push(format!("{kind:?}: connect: {error}"));
                        continue;
                    }
                },
            };
            number += 1;
            let said = say(kind, &mut line, stream, number);
            match tokio::time::timeout(ANSWER_MAX, said).await {
                Ok(Ok(was_answered)) => self.good.set(self.good.get() + u64::from(was_answered)),
                Ok(Err(error)) => self.bad.borrow_mut().push(format!("{kind:?}: {error:#}")),
                Err(_) => self.bad.borrow_mut().push(format!("{kind:?}: no answer within {ANSWER_MAX:?}")),
            }
        }
        self.users.set(self.users.get() - 1);
    }
}

// One request, or one message; false when nothing could be said on the connection that was there.
async fn say(kind: Kind, line: &mut Line, fresh: Option<TcpStream>, number: u64) -> Result<bool> {
    if let Some(stream) = fresh {
        *line = Line::None;
        *line = open(kind, stream).await?;
    }
    let answer = match line {
        Line::None => bail!("no connection"),
        Line::Http1(sender) => match sender.ready().await {
            Ok(()) => sender.send_request(request(kind, number, "/")?).await,
            Err(_) => return Ok(closed(line)),
        },
        Line::Http2(sender) => match sender.ready().await {
            Ok(()) => sender.send_request(request(kind, number, "http://reviews:9080/")?).await,
            Err(_) => return Ok(closed(line)),
        },
        Line::WebSocket(socket, left) => {
            *left -= 1;
            let outcome = echo(socket, &format!("{number:08}"), *left == 0).await;
            if outcome.is_err() {
                *line = Line::None;
            }
            return outcome.map(|()| true);
        }
    };
    let outcome = match answer {
        // It was never sent: the connection ended at that moment.
        Err(error) if error.is_canceled() => return Ok(closed(line)),
        answer => expect_200(answer?).await,
    };
    if kind == Kind::Fresh || outcome.is_err() {
        *line = Line::None;
    }
    outcome.map(|()| true)
}

fn closed(line: &mut Line) -> bool {
    *line = Line::None;
    false
}

async fn open(kind: Kind, stream: TcpStream) -> Result<Line> {
    let io = TokioIo::new(stream);
    if kind == Kind::Http2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        spawn_local(connection);
        return Ok(Line::Http2(sender));
    }
    let (mut sender, connection) = http1::handshake(io).await?;
    spawn_local(connection.with_upgrades());
    if kind != Kind::WebSocket {
        return Ok(Line::Http1(sender));
    }
    let request = Request::get("/").header("host", "reviews:9080").header("connection", "Upgrade");
    let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
    let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").body(Full::default())?;
    let mut response = sender.send_request(request).await.context("open a WebSocket")?;
    if response.status() != 101 {
        bail!("a WebSocket is answered {}", response.status());
    }
    Ok(Line::WebSocket(TokioIo::new(hyper::upgrade::on(&mut response).await?), MESSAGES))
}

fn request(kind: Kind, number: u64, target: &str) -> Result<Request<Full<Bytes>>> {
    let (method, body) = if number.is_multiple_of(2) { ("POST", "a review") } else { ("GET", "") };
    let method = if kind == Kind::Fresh { "GET" } else { method };
    let request = Request::builder().method(method).uri(target);
    let request = if kind == Kind::Http2 { request } else { request.header("host", "reviews:9080") };
    Ok(request.body(Full::new(Bytes::from(if method == "POST" { body } else { "" })))?)
}

async fn expect_200(response: Response<Incoming>) -> Result<()> {
    let status = response.status();
    let body = response.into_body().collect().await.context("the answer breaks off")?.to_bytes();
    if status == 200 { Ok(()) } else { bail!("{status} {}", String::from_utf8_lossy(&body)) }
}

async fn echo(socket: &mut TokioIo<Upgraded>, text: &str, is_last: bool) -> Result<()> {
    socket.write_all(text.as_bytes()).await.context("say")?;
    let mut heard = vec![0; text.len()];
    socket.read_exact(&mut heard).await.context("hear")?;
    if heard != text.as_bytes() {
        bail!("{text} comes back as {}", String::from_utf8_lossy(&heard));
    }
    if is_last {
        socket.shutdown().await.context("close")?;
    }
    Ok(())
}
