//! Asking over HTTP: one request, one JSON answer, bounded.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest that an answer may take.
const ANSWER_SECONDS_MAX: u64 = 30;
/// Largest answer read: the dump of a proxy in a large mesh.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// GETs `path` from `base` (`http://host:port`); what does not answer 200 is an error that says what was asked.
pub async fn get(base: &str, path: &str) -> Result<Bytes> {
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let (status, body) = tokio::time::timeout(limit, exchange(base, path))
        .await
        .with_context(|| format!("{url} did not answer within {limit:?}"))?
        .with_context(|| format!("cannot ask {url}"))?;
    if status != 200 {
        bail!("{url} answered {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

async fn exchange(base: &str, path: &str) -> Result<(u16, Bytes)> {
    let with_scheme = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
    let uri: http::Uri = with_scheme.parse().context("not an address; write http://host:port")?;
    let host = uri.host().context("no host in the address")?;
    let port = uri.port_u16().unwrap_or(80);
    if uri.scheme_str() != Some("http") {
        bail!("only http:// is spoken here");
    }
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    over(stream, &format!("{host}:{port}"), path).await
}

/// GETs `path` over an open connection; `host` is the name of who is at its end.
pub async fn over<S>(stream: S, host: &str, path: &str) -> Result<(u16, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    driver.abort();
    Ok((status, body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?.to_bytes()))
}
