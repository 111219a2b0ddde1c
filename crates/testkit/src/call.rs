//! Sending a case's call to a proxy's address, as the application beside it would.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::case::Call;

/// Longest that one answer may take; a case that hangs is a failed case.
pub const ANSWER_SECONDS_MAX: u64 = 30;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Status code.
    pub status: u16,
    /// Response headers.
    pub headers: http::HeaderMap,
    /// Response body.
    pub body: Bytes,
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
pub async fn send(proxy: SocketAddr, call: &Call) -> Result<Answered> {
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    tokio::time::timeout(limit, exchange(proxy, call.from.as_deref(), request(call)?))
        .await
        .context("no answer in time")?
}

/// Sends one call `times` times over `connections` connections at the same time, each with the next as soon as it has
/// an answer. A connection that the proxy closes is made anew.
pub async fn send_many(proxy: SocketAddr, call: &Call) -> Result<Vec<Answered>> {
    let one_client = |index: u32| async move {
        let mut answers = Vec::new();
        let mut sender: Option<Sender> = None;
        // As load generators do: each connection has its share.
        for _ in (index..call.times).step_by(call.connections as usize) {
            let mut open = match sender.take().filter(|sender| !sender.is_closed()) {
                Some(open) => open,
                None => connect(proxy, call.from.as_deref()).await?,
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

async fn connect(proxy: SocketAddr, from: Option<&str>) -> Result<Sender> {
    let connecting = async {
        let Some(from) = from else { return TcpStream::connect(proxy).await };
        let socket = tokio::net::TcpSocket::new_v4()?;
        let ip: std::net::IpAddr = from.parse().map_err(std::io::Error::other)?;
        socket.bind(SocketAddr::new(ip, 0))?;
        socket.connect(proxy).await
    };
    let stream = connecting.await.with_context(|| format!("connect to proxy {proxy}"))?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}

async fn answer(sender: &mut Sender, request: Request<Full<Bytes>>) -> Result<Answered> {
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answered { status: head.status.as_u16(), headers: head.headers, body })
}

async fn exchange(proxy: SocketAddr, from: Option<&str>, request: Request<Full<Bytes>>) -> Result<Answered> {
    answer(&mut connect(proxy, from).await?, request).await
}
