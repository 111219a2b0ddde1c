//! Sending a case's call to a proxy's address, as the application beside it would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::case::Call;
use crate::stream::{Dial, Stream};
use crate::wire;

/// Longest that one answer may take; a case that hangs is a failed case.
pub const ANSWER_SECONDS_MAX: u64 = 30;

/// An answer, read whole.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// Status code.
    pub status: u16,
    /// Response headers.
    pub headers: http::HeaderMap,
    /// Response body.
    pub body: Bytes,
    /// Response trailers.
    pub trailers: http::HeaderMap,
    /// It broke off after its head.
    pub broken: bool,
    /// What is known of a connection that carried bytes.
    pub connection: Connection,
}

/// A connection as its client saw it.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// It was refused, or closed before an answer.
    pub closed: bool,
    /// Who a log says the client is.
    pub from: Option<SocketAddr>,
    /// With what the server spoke first.
    pub greeting: Option<String>,
    /// What TLS agreed on.
    pub tls: crate::secured::Agreed,
    /// How long it stayed open after the answer, when that was waited for.
    pub ended_after: Option<Duration>,
    /// The connection itself, when the call holds it.
    pub held: Option<Arc<Stream>>,
}

/// Where a call goes.
#[derive(Clone)]
pub struct Way {
    /// What is dialled.
    pub target: SocketAddr,
    /// Captured on the way.
    pub captured: bool,
    /// Who connects; the system when absent.
    pub by: Option<Arc<dyn Dial>>,
}

impl From<SocketAddr> for Way {
    fn from(target: SocketAddr) -> Self {
        Self { target, captured: false, by: None }
    }
}

impl Way {
    /// Connects, perhaps from an address of the caller's choice.
    pub async fn connect(&self, from: Option<&str>) -> std::io::Result<Stream> {
        let from = from.map(str::parse).transpose().map_err(std::io::Error::other)?;
        if let Some(by) = &self.by {
            return by.dial(self.target, self.captured, from).await;
        }
        let socket = if self.target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if self.captured {
            SockRef::from(&socket).set_mark(crate::netns::MARK)?;
        }
        if let Some(ip) = from {
            socket.bind(SocketAddr::new(ip, 0))?;
        }
        let stream = socket.connect(self.target).await?;
        let local = stream.local_addr().ok();
        Ok(Stream::new(stream, local))
    }
}

/// The host and port of a call's URL.
pub fn authority(call: &Call) -> Result<http::uri::Authority> {
    let (_, url) = call.request.split_once(' ').unwrap_or(("GET", &call.request));
    let uri: http::Uri = url.parse().with_context(|| format!("in request {:?}", call.request))?;
    uri.authority().cloned().with_context(|| format!("no host in request {:?}", call.request))
}

/// Makes the request of a call, addressed by its Host header.
pub fn request(call: &Call) -> Result<Request<Full<Bytes>>> {
    let (method, url) = call.request.split_once(' ').unwrap_or(("GET", &call.request));
    let uri: http::Uri = url.parse().with_context(|| format!("in request {:?}", call.request))?;
    let authority = uri.authority().with_context(|| format!("no host in request {:?}", call.request))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut builder = Request::builder().method(method).uri(path).header("host", authority.as_str());
    for (name, value) in &call.headers {
        builder = builder.header(name, value);
    }
    let body = call.body.clone().unwrap_or_default();
    builder.body(Full::new(Bytes::from(body))).with_context(|| format!("in request {:?}", call.request))
}

/// Sends one call over a connection of its own.
pub async fn send(way: impl Into<Way>, call: &Call) -> Result<Answered> {
    let way = way.into();
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    let answered = async {
        match call.request.split(' ').next() {
            Some("TCP" | "TLS") => crate::bytes::send(&way, call).await,
            _ => match &call.websocket {
                Some(text) => wire::websocket(&way, call, text).await,
                None if !call.raw.is_empty() => wire::raw(&way, call).await,
                None if call.http2 || !call.stream.is_empty() => wire::http2(&way, call).await,
                None => exchange(&way, call).await,
            },
        }
    };
    match tokio::time::timeout(limit, answered).await.context("no answer in time")? {
        // A call that expects to be closed on may be so in any way.
        Err(_) if call.expect.closed == Some(true) => Ok(Answered::closed()),
        other => other,
    }
}

impl Answered {
    /// No answer.
    pub fn closed() -> Self {
        let connection = Connection { closed: true, ..Connection::default() };
        Self { connection, ..Self::default() }
    }
}

/// Sends one call `times` times over `connections` connections at the same time, each with the next as soon as it has
/// an answer. A connection that the proxy closes is made anew.
pub async fn send_many(way: impl Into<Way>, call: &Call) -> Result<Vec<Answered>> {
    let way = way.into();
    let way = &way;
    let one_client = |index: u32| async move {
        let mut answers = Vec::new();
        let mut sender: Option<Sender> = None;
        // As load generators do: each connection has its share.
        for _ in (index..call.times).step_by(call.connections as usize) {
            let mut open = match sender.take().filter(|sender| !sender.is_closed()) {
                Some(open) => open,
                None => connect(way, call).await?,
            };
            open.ready().await?;
            answers.push(answer(&mut open, request(call)?).await?);
            sender = Some(open);
        }
        Ok::<_, anyhow::Error>(answers)
    };
    let clients = futures::future::try_join_all((0..call.connections).map(one_client));
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    let answers = tokio::time::timeout(limit, clients).await.context("no answers in time")??;
    Ok(answers.into_iter().flatten().collect())
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn connect(way: &Way, call: &Call) -> Result<Sender> {
    let mut stream = way.connect(call.from.as_deref()).await.with_context(|| format!("connect to {}", way.target))?;
    if let Some(header) = &call.proxy_protocol {
        let (_, bytes) = crate::bytes::header_of(header, way.target)?;
        stream.write_all(&bytes).await?;
    }
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}

async fn answer(sender: &mut Sender, request: Request<Full<Bytes>>) -> Result<Answered> {
    wire::whole(sender.send_request(request).await?).await
}

/// True for a call over TLS.
pub fn is_https(call: &Call) -> bool {
    call.request.split(' ').any(|word| word.starts_with("https://"))
}

// Over TLS, by what ALPN says.
async fn secured(way: &Way, call: &Call) -> Result<Answered> {
    let stream = way.connect(call.from.as_deref()).await.with_context(|| format!("connect to {}", way.target))?;
    let (stream, tls) = crate::secured::connect(stream, authority(call)?.host(), call).await?;
    let stream = TokioIo::new(stream);
    let mut request = request(call)?;
    let mut answered = if tls.get("alpn").is_some_and(|alpn| alpn == "h2") {
        let (_, url) = call.request.split_once(' ').unwrap_or(("GET", &call.request));
        *request.uri_mut() = url.parse()?;
        request.headers_mut().remove("host");
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        wire::whole(sender.send_request(request).await?).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        wire::whole(sender.send_request(request).await?).await?
    };
    answered.connection.tls = tls;
    Ok(answered)
}

async fn exchange(way: &Way, call: &Call) -> Result<Answered> {
    if is_https(call) {
        return secured(way, call).await;
    }
    answer(&mut connect(way, call).await?, request(call)?).await
}
