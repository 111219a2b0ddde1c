//! The cheapest possible client and backend, so that what is measured is the proxy: fixed bytes, keep-alive, no parsing
//! beyond the end of a head and a known length.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A backend that answers every request with `body` bytes; runs until it is dropped.
pub async fn backend(address: SocketAddr, body: usize) -> Result<JoinSet<()>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("backend at {address}"))?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body}\r\n\r\n");
    let answer: Vec<u8> = head.into_bytes().into_iter().chain(std::iter::repeat_n(b'x', body)).collect();
    let answer: &'static [u8] = answer.leak();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            connections.spawn(async move {
                let mut buffer = vec![0; 16 << 10];
                let mut filled = 0;
                loop {
                    match stream.read(&mut buffer[filled..]).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => filled += read,
                    }
                    if buffer[..filled].ends_with(b"\r\n\r\n") {
                        filled = 0;
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok(tasks)
}

/// What a run of the client gave.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Requests answered 200 with a whole body.
    pub requests: u64,
    /// How long it took.
    pub wall: Duration,
    /// Time of each request, in microseconds, sorted.
    pub latencies_us: Vec<u32>,
}

/// Sends `requests` requests over `connections` keep-alive connections, as fast as answers come.
pub async fn closed(
    target: SocketAddr,
    host: &str,
    path: &str,
    connections: usize,
    requests: u64,
    body: usize,
) -> Result<Ran> {
    let text = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\naccept: */*\r\nx-one: 1\r\nx-two: 2\r\n\r\n"
    );
    let request: &'static [u8] = text.into_bytes().leak();
    let each = requests / connections as u64;
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(one_connection(target, request, each, body));
    }
    let mut latencies_us = Vec::with_capacity(requests as usize);
    while let Some(done) = tasks.join_next().await {
        latencies_us.extend(done??);
    }
    let wall = started.elapsed();
    latencies_us.sort_unstable();
    Ok(Ran { requests: latencies_us.len() as u64, wall, latencies_us })
}

async fn one_connection(target: SocketAddr, request: &'static [u8], count: u64, body: usize) -> Result<Vec<u32>> {
    let mut stream = TcpStream::connect(target).await.with_context(|| format!("connect to {target}"))?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 << 10];
    let mut latencies = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let sent = Instant::now();
        stream.write_all(request).await?;
        let (mut filled, mut whole) = (0, usize::MAX);
        while filled < whole {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                bail!("the proxy closed a connection");
            }
            filled += read;
            if whole == usize::MAX
                && let Some(head) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n")
            {
                if !buffer.starts_with(b"HTTP/1.1 200") {
                    bail!("not 200: {}", String::from_utf8_lossy(&buffer[..head]));
                }
                whole = head + 4 + body;
            }
        }
        latencies.push(sent.elapsed().as_micros() as u32);
    }
    Ok(latencies)
}
