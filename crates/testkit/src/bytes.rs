//! Calls and pods that carry bytes instead of requests: a line and its answer, or a TLS hello that is answered in
//! plaintext. Both answers are the JSON of [`crate::backend::Seen`] on one line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;

use crate::backend::{Answer, Backend};
use crate::call::{Answered, Connection, Way, authority};
use crate::case::Call;
use crate::hello::Hello;
use crate::secured::{self, Agreed};
use crate::stream::Stream;

/// Longest line or hello read, in bytes.
const BYTES_MAX: usize = 4096;

/// How a TLS record of a handshake begins.
pub const TLS: u8 = 0x16;

/// Serves a connection that does not begin as HTTP; one that does is handed back untouched. `seen` is what is known of it.
pub async fn serve(mut stream: Stream, backend: &Backend, seen_of: &Agreed) -> Option<Stream> {
    if let Some(greeting) = &backend.behaviour.greets {
        stream.write_all(format!("{greeting}\n").as_bytes()).await.ok()?;
    }
    let mut first = vec![0; BYTES_MAX];
    let mut seen = stream.read(&mut first).await.ok()?;
    if let Some(text) = &backend.behaviour.babbles {
        stream.write_all(format!("{text}\n").as_bytes()).await.ok()?;
        // Until the other side has had enough: bytes that nobody has read would reset the connection.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        return None;
    }
    // A hello may come in pieces.
    while first[0] == TLS && seen < BYTES_MAX && seen < 5 + usize::from(u16::from_be_bytes([first[3], first[4]])) {
        match stream.read(&mut first[seen..]).await.ok()? {
            0 => return None,
            more => seen += more,
        }
    }
    if let Some(hello) = Hello::read(&first[..seen]) {
        let facts = [("sni", hello.sni.unwrap_or_default()), ("alpn", hello.alpn.join(","))];
        let facts = facts.map(|(key, value)| (key.to_owned(), value)).into();
        answer(&mut stream, backend.answer_bytes("TLS", facts, b"")).await?;
    } else {
        stream.unread(&first[..seen]);
        if !first[..seen].first()?.is_ascii_lowercase() {
            return Some(stream);
        }
    }
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let read = (&mut stream).take(BYTES_MAX as u64).read_until(b'\n', &mut line).await.ok()?;
        if read == 0 {
            return None;
        }
        let line = line.trim_ascii_end();
        answer(stream.get_mut(), backend.answer_bytes("TCP", seen_of.clone(), line)).await?;
    }
}

async fn answer(stream: &mut Stream, answer: Answer) -> Option<()> {
    let Answer::Respond { delay, body, .. } = answer else { return None };
    tokio::time::sleep(delay).await;
    stream.write_all(format!("{body}\n").as_bytes()).await.ok()?;
    // TLS keeps what its socket did not take.
    stream.flush().await.ok()
}

/// Sends a call; a connection that ends before an answer is an answer too.
pub async fn send(way: &Way, call: &Call) -> Result<Answered> {
    let Ok(stream) = way.connect(call.from.as_deref()).await else { return Ok(Answered::closed()) };
    let mut connection = Connection { from: stream.local, ..Connection::default() };
    let stream = match &call.tls {
        None => stream,
        Some(_) => {
            let Ok((secured, agreed)) = secured::connect(stream, authority(call)?.host(), call).await else {
                return Ok(Answered::closed());
            };
            connection.tls = agreed;
            Stream::new(secured, connection.from)
        }
    };
    let mut stream = BufReader::new(stream);
    if let Some(header) = &call.proxy_protocol {
        let (source, bytes) = header_of(header, way.target)?;
        connection.from = Some(source);
        stream.get_mut().write_all(&bytes).await?;
    }
    if call.listens {
        connection.greeting = line(&mut stream).await;
    }
    // What cannot be written because the other side is gone shows when it is read.
    let _ = stream.get_mut().write_all(&message(call)?).await;
    let _ = stream.get_mut().flush().await;
    let Some(body) = line(&mut stream).await else {
        connection.closed = true;
        return Ok(Answered { connection, ..Answered::closed() });
    };
    if let Some(limit) = call.expect.ends_within_ms {
        let started = Instant::now();
        let ended = tokio::time::timeout(Duration::from_millis(limit), line(&mut stream)).await;
        connection.ended_after = ended.is_ok_and(|more| more.is_none()).then(|| started.elapsed());
    }
    if call.holds {
        connection.held = Some(Arc::new(stream.into_inner()));
    }
    Ok(Answered { status: 200, body: Bytes::from(body), connection, ..Answered::default() })
}

fn message(call: &Call) -> Result<Vec<u8>> {
    let kind = call.request.split(' ').next();
    if kind == Some("TCP") {
        return Ok(format!("{}\n", call.body.as_deref().unwrap_or("hello")).into_bytes());
    }
    let host = authority(call)?.host().to_owned();
    let sni = Some(call.sni.clone().unwrap_or(host)).filter(|sni| !sni.is_empty());
    Ok(Hello { sni, alpn: call.alpn.clone() }.bytes())
}

// A whole line without its end; `None` when the connection ended or broke before.
async fn line(stream: &mut BufReader<Stream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.strip_suffix('\n').map(str::to_owned)
}

/// The bytes of a PROXY protocol header, and the client that it names.
pub fn header_of(text: &str, target: SocketAddr) -> Result<(SocketAddr, Vec<u8>)> {
    let (version, source) = text.split_once(' ').with_context(|| format!("{text:?} is not `v1 ip:port`"))?;
    let source: SocketAddr = source.parse().with_context(|| format!("in proxyProtocol {text:?}"))?;
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (source, target) else { bail!("{text:?}: only IPv4 is sent") };
    let bytes = match version {
        "v1" => format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes(),
        "v2" => [
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
            &from.ip().octets(),
            &to.ip().octets(),
            &from.port().to_be_bytes(),
            &to.port().to_be_bytes(),
        ]
        .concat(),
        other => bail!("proxyProtocol version {other:?} is not v1 or v2"),
    };
    Ok((source, bytes))
}
