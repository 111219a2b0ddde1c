//! Other ways of calling than a plain HTTP/1.1 request: HTTP/2 with trailers, messages that wait for their echo, and a
//! WebSocket.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures::channel::mpsc;
use http::header::{CONNECTION, HOST, UPGRADE};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::call::{Answered, Way, request};
use crate::case::Call;

/// Largest answer read of a WebSocket.
const SOCKET_BYTES_MAX: usize = 64 << 10;

/// Largest answer read of bytes sent as they are.
const RAW_BYTES_MAX: u64 = 1 << 20;

/// Sends lines as they are, and reads until the other side closes, or the answer has its length.
pub async fn raw(way: &Way, call: &Call) -> Result<Answered> {
    let mut stream =
        way.connect(call.from.as_deref()).await.with_context(|| format!("connect to proxy {}", way.target))?;
    let text: String = call.raw.iter().map(|line| format!("{line}\r\n")).collect();
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    let mut got = Vec::new();
    stream.take(RAW_BYTES_MAX).read_to_end(&mut got).await?;
    let text = String::from_utf8_lossy(&got).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<http::HeaderName>()?, value.parse()?);
    }
    let body = Bytes::from(body.to_owned());
    Ok(Answered { status: status.context("no status")?, headers, body, ..Answered::default() })
}

/// Sends a call over HTTP/2 with prior knowledge. The messages of `stream` go one after the other, each when the echo
/// of the one before has come.
pub async fn http2(way: &Way, call: &Call) -> Result<Answered> {
    let stream = way.connect(call.from.as_deref()).await.with_context(|| format!("connect to proxy {}", way.target))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // Ends with its sender.
    tokio::spawn(connection);
    let (head, body) = request(call)?.into_parts();
    let authority = head.headers[HOST].to_str()?.to_owned();
    let mut request = Request::from_parts(head, ());
    *request.uri_mut() = format!("http://{authority}{}", request.uri()).parse()?;
    request.headers_mut().remove(HOST);
    if let Some(other) = &call.other_host {
        request.headers_mut().insert(HOST, other.parse()?);
    }
    let (send, receive) = mpsc::unbounded::<Result<Frame<Bytes>, std::convert::Infallible>>();
    let body: BoxBody<Bytes, std::convert::Infallible> = match call.stream.is_empty() {
        true => body.boxed(),
        false => StreamBody::new(receive).boxed(),
    };
    let mut messages = call.stream.iter();
    let mut next = |send: &mpsc::UnboundedSender<_>| {
        let message = messages.next()?;
        // Nobody listens any more when the answer is over.
        let _ = send.unbounded_send(Ok(Frame::data(Bytes::from(message.clone()))));
        Some(message.len())
    };
    let mut wanted = next(&send).unwrap_or(0);
    let response = sender.send_request(request.map(|()| body)).await?;
    let (head, mut body) = response.into_parts();
    let mut send = Some(send).filter(|_| !call.stream.is_empty());
    let (mut got, mut trailers) = (BytesMut::new(), http::HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => got.extend_from_slice(&data),
            Err(other) => trailers.extend(other.into_trailers().unwrap_or_default()),
        }
        if got.len() >= wanted
            && let Some(open) = &send
        {
            tokio::time::sleep(Duration::from_millis(call.pause_ms)).await;
            match next(open) {
                Some(more) => wanted += more,
                None => send = None,
            }
        }
    }
    Ok(Answered {
        status: head.status.as_u16(),
        headers: head.headers,
        body: got.freeze(),
        trailers,
        ..Answered::default()
    })
}

/// Opens a WebSocket, says `text` and hears it back. The bytes are those of a connection, without frames: proxies do not
/// look into them. An answer other than 101 is returned as it is.
pub async fn websocket(way: &Way, call: &Call, text: &str) -> Result<Answered> {
    let stream = way.connect(call.from.as_deref()).await.with_context(|| format!("connect to proxy {}", way.target))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let mut request = request(call)?;
    for (name, value) in [(CONNECTION, "Upgrade"), (UPGRADE, "websocket")] {
        request.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    for (name, value) in [("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")] {
        request.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    let mut response = sender.send_request(request).await?;
    if response.status() != 101 {
        return whole(response).await;
    }
    let upgrade = hyper::upgrade::on(&mut response);
    let mut socket = TokioIo::new(upgrade.await?);
    tokio::time::sleep(Duration::from_millis(call.pause_ms)).await;
    socket.write_all(text.as_bytes()).await?;
    let mut heard = BytesMut::new();
    while !heard.ends_with(text.as_bytes()) {
        if socket.read_buf(&mut heard).await? == 0 || heard.len() > SOCKET_BYTES_MAX {
            bail!("the socket gave {:?} and no echo of {text:?}", String::from_utf8_lossy(&heard));
        }
    }
    socket.shutdown().await?;
    let (head, _) = response.into_parts();
    Ok(Answered { status: 101, headers: head.headers, body: heard.freeze(), ..Answered::default() })
}

/// Reads an answer to its end, or to where it breaks off.
pub async fn whole(response: hyper::Response<Incoming>) -> Result<Answered> {
    let (head, mut body) = response.into_parts();
    let (mut got, mut trailers, mut broken) = (BytesMut::new(), http::HeaderMap::new(), false);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => got.extend_from_slice(&data),
            Ok(Err(other)) => trailers.extend(other.into_trailers().unwrap_or_default()),
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    let (status, body) = (head.status.as_u16(), got.freeze());
    Ok(Answered { status, headers: head.headers, body, trailers, broken, ..Answered::default() })
}
