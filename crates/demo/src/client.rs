//! A request from one service to another.
//!
//! In: how services are reached, the service's name and port, a path, headers to pass on. Out: status and body, or why
//! there is none.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest answer that a service of Bookinfo gives, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How a service reaches the others.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// All by one address, the sidecar's; the Host header says which is meant.
    Sidecar(SocketAddr),
    /// By their names, as in a cluster, where a mesh captures what is sent.
    Names,
}

impl Way {
    async fn connect(self, service: &str) -> Result<TcpStream> {
        match self {
            Self::Sidecar(sidecar) => {
                TcpStream::connect(sidecar).await.with_context(|| format!("connect to the sidecar at {sidecar}"))
            }
            Self::Names => TcpStream::connect(service).await.with_context(|| format!("connect to {service}")),
        }
    }
}

/// Headers that Bookinfo's services pass on: tracing, and who the end user is.
const PASSED_ON: &[&str] = &[
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "traceparent",
    "tracestate",
    "end-user",
    "user-agent",
    "authorization",
    "cookie",
];

/// What of a request's headers goes along to the next service.
pub fn pass_on(from: &HeaderMap) -> HeaderMap {
    PASSED_ON.iter().filter_map(|name| Some((name.parse().ok()?, from.get(*name)?.clone()))).collect()
}

/// Asks `service` (`reviews:9080`) for `path`; an answer that takes longer than `limit` is an error.
pub async fn get(way: Way, service: &str, path: &str, headers: &HeaderMap, limit: Duration) -> Result<(u16, Bytes)> {
    match tokio::time::timeout(limit, exchange(way, service, path, headers)).await {
        Ok(answer) => answer.with_context(|| format!("ask {service} for {path}")),
        Err(_) => bail!("{service} did not answer {path} within {limit:?}"),
    }
}

async fn exchange(way: Way, service: &str, path: &str, headers: &HeaderMap) -> Result<(u16, Bytes)> {
    let stream = way.connect(service).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::get(path).header("host", service).body(Empty::<Bytes>::new())?;
    request.headers_mut().extend(headers.clone());
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    driver.abort();
    Ok((status, body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?.to_bytes()))
}
