//! Pods of a case as real servers on loopback addresses: HTTP/1.1 and HTTP/2 with prior knowledge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;
use http::header::UPGRADE;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::backend::{Answer, Backend};
use crate::case::{PortTls, Stranger};
use crate::secured::Agreed;
use crate::stream::Stream;
use crate::world::World;

/// Running pods; dropping it stops them.
pub struct Servers {
    /// Every pod with its counters.
    pub backends: Vec<Arc<Backend>>,
    _tasks: JoinSet<()>,
}

/// An address at which a pod or a stranger is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address.
    pub address: SocketAddr,
    /// Who answers.
    pub backend: Arc<Backend>,
    /// It speaks TLS there.
    pub tls: Option<PortTls>,
}

/// Where everybody of a world is, and everybody; who refuses connections is nowhere.
pub fn places(world: &World) -> (Vec<Place>, Vec<Arc<Backend>>) {
    let (mut places, mut backends) = (Vec::new(), Vec::new());
    for pod in &world.pods {
        let backend = Arc::new(Backend::new(&pod.name, pod.behaviour.clone()));
        let ports = pod.ports.iter().filter(|_| !pod.behaviour.refuses);
        places.extend(ports.map(|(port, _)| Place {
            address: SocketAddr::new(pod.ip, *port),
            backend: backend.clone(),
            tls: pod.tls.get(port).cloned(),
        }));
        backends.push(backend);
    }
    for Stranger { name, address, behaviour } in &world.strangers {
        let backend = Arc::new(Backend::new(name, behaviour.clone()));
        places.push(Place { address: *address, backend: backend.clone(), tls: None });
        backends.push(backend);
    }
    (places, backends)
}

/// Starts every pod of a world that does not refuse connections, and its strangers.
pub async fn start(world: &World) -> Result<Servers> {
    let mut tasks = JoinSet::new();
    let (places, backends) = places(world);
    for Place { address, backend, tls } in places {
        if backend.behaviour.unreachable {
            tasks.spawn(leave_unanswered(full(address)?));
            continue;
        }
        let listener = TcpListener::bind(address).await.with_context(|| format!("{} at {address}", backend.name))?;
        tasks.spawn(accept(listener, backend, tls));
    }
    Ok(Servers { backends, _tasks: tasks })
}

/// A listener that accepts nobody, with as many connections as it has room for: further ones are not answered.
fn full(address: SocketAddr) -> Result<(TcpListener, Vec<std::net::TcpStream>)> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(address).with_context(|| format!("bind {address}"))?;
    let listener = socket.listen(1)?;
    let wait = std::time::Duration::from_millis(50);
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, wait) {
        waiting.push(stream);
    }
    Ok((listener, waiting))
}

async fn leave_unanswered(_full: (TcpListener, Vec<std::net::TcpStream>)) {
    std::future::pending().await
}

async fn accept(listener: TcpListener, backend: Arc<Backend>, tls: Option<PortTls>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let local = stream.local_addr().ok();
        connections.spawn(serve(Stream::new(stream, local), backend.clone(), tls.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves a connection until it ends.
pub async fn serve(stream: Stream, backend: Arc<Backend>, tls: Option<PortTls>) {
    match tls {
        None => carry(stream, backend, Agreed::new()).await,
        Some(tls) if tls.permissive => permissive(stream, backend, &tls).await,
        Some(tls) => secured(stream, backend, &tls).await,
    }
}

// As a proxy of the mesh takes connections: by TLS, or in plaintext.
async fn permissive(mut stream: Stream, backend: Arc<Backend>, tls: &PortTls) {
    let mut first = [0];
    let Ok(1) = stream.read(&mut first).await else { return };
    stream.unread(&first);
    if first[0] != crate::bytes::TLS {
        return carry(stream, backend, Agreed::new()).await;
    }
    let local = stream.local;
    let Ok((stream, seen)) = crate::secured::accept(stream, tls).await else { return };
    carry(Stream::new(stream, local), backend, seen).await;
}

// Bytes or requests; `seen` is what is known of the connection.
async fn carry(stream: Stream, backend: Arc<Backend>, seen: Agreed) {
    let Some(stream) = crate::bytes::serve(stream, &backend, &seen).await else { return };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(seen.clone());
        respond(backend.clone(), request)
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // A client that goes away, or a reset that the case asks for, ends the connection; nothing to report.
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

async fn secured(stream: Stream, backend: Arc<Backend>, tls: &PortTls) {
    // A client that does not shake hands is the matter of the case.
    let Ok((stream, seen)) = crate::secured::accept(stream, tls).await else { return };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(seen.clone());
        respond(backend.clone(), request)
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

/// Names the pod where the answer's body does not.
pub const POD: &str = "x-pod";

/// How a pod breaks off.
#[derive(Debug)]
enum Broken {
    Reset,
    // hyper tells the client the reason.
    Refused(h2::Error),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off, as the case asks")
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Broken::Reset => None,
            Broken::Refused(error) => Some(error),
        }
    }
}

type Reply = BoxBody<Bytes, Broken>;

async fn respond(backend: Arc<Backend>, mut request: Request<Incoming>) -> Result<Response<Reply>, Broken> {
    if request.headers().contains_key(UPGRADE) && backend.behaviour.status.is_none() {
        return switch(&backend, &mut request);
    }
    let (head, body) = request.into_parts();
    if backend.behaviour.echoes {
        backend.answer(&head, &[]);
        let response = Response::builder().header(POD, &backend.name);
        return response.body(body.map_err(|_| Broken::Reset).boxed()).map_err(|_| Broken::Reset);
    }
    let body = body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
    match backend.answer(&head, &body) {
        Answer::Reset => Err(Broken::Reset),
        Answer::Refuse => Err(Broken::Refused(h2::Error::from(h2::Reason::REFUSED_STREAM))),
        Answer::Respond { status, headers, delay, body, trailers, stall } => {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let mut response = Response::builder().status(status).header("content-type", "application/json");
            for (name, value) in &headers {
                response = response.header(name, value);
            }
            response.body(paced(body.into(), stall, &trailers)).map_err(|_| Broken::Reset)
        }
    }
}

// The body in two halves with a pause between them, and what comes after it.
fn paced(body: Bytes, stall: Duration, trailers: &BTreeMap<String, String>) -> Reply {
    if stall.is_zero() && trailers.is_empty() {
        return Full::new(body).map_err(|never| match never {}).boxed();
    }
    let rest = body.slice(body.len() / 2..);
    let first = body.slice(..body.len() / 2);
    let read = |(name, value): (&String, &String)| Some((name.parse().ok()?, value.parse().ok()?));
    let trailers: HeaderMap = trailers.iter().filter_map(read).collect();
    let frames =
        futures::stream::once(async move { Ok(Frame::data(first)) }).chain(futures::stream::once(async move {
            tokio::time::sleep(stall).await;
            Ok(Frame::data(rest))
        }));
    let end = futures::stream::iter((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers))));
    BodyExt::boxed(StreamBody::new(frames.chain(end)))
}

// A WebSocket: says what it saw of the handshake, then repeats whatever it hears.
fn switch(backend: &Arc<Backend>, request: &mut Request<Incoming>) -> Result<Response<Reply>, Broken> {
    let upgrade = hyper::upgrade::on(&mut *request);
    let mut head = Request::new(());
    head.headers_mut().clone_from(request.headers());
    head.uri_mut().clone_from(request.uri());
    backend.answer(&head.into_parts().0, &[]);
    tokio::spawn(async move {
        // A client that goes away ends it.
        if let Ok(upgraded) = upgrade.await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        }
    });
    let response = Response::builder().status(101).header("connection", "upgrade").header(UPGRADE, "websocket");
    let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
    response.header(POD, &backend.name).body(empty).map_err(|_| Broken::Reset)
}

/// A server that answers every connection with what `respond` gives; for suites that need no pods.
pub async fn echo(address: SocketAddr, name: &'static str) -> Result<Servers> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("{name} at {address}"))?;
    let backend = Arc::new(Backend::new(name, Default::default()));
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, backend.clone(), None));
    Ok(Servers { backends: vec![backend], _tasks: tasks })
}
