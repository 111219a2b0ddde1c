//! Pods of a case as real servers on loopback addresses: HTTP/1.1 and HTTP/2 with prior knowledge.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::backend::{Answer, Backend};
use crate::case::Stranger;
use crate::world::World;

/// Running pods; dropping it stops them.
pub struct Servers {
    /// Every pod with its counters.
    pub backends: Vec<Arc<Backend>>,
    _tasks: JoinSet<()>,
}

/// Starts every pod of a world that does not refuse connections, and its strangers.
pub async fn start(world: &World) -> Result<Servers> {
    let mut tasks = JoinSet::new();
    let mut backends = Vec::new();
    for pod in &world.pods {
        let backend = Arc::new(Backend::new(&pod.name, pod.behaviour.clone()));
        backends.push(backend.clone());
        if pod.behaviour.refuses {
            continue;
        }
        for (port, _) in &pod.ports {
            let address = SocketAddr::new(pod.ip, *port);
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("pod {} at {address}", pod.name))?;
            tasks.spawn(accept(listener, backend.clone()));
        }
    }
    for Stranger { name, address, behaviour } in &world.strangers {
        let backend = Arc::new(Backend::new(name, behaviour.clone()));
        backends.push(backend.clone());
        let listener = TcpListener::bind(address).await.with_context(|| format!("{name} at {address}"))?;
        tasks.spawn(accept(listener, backend));
    }
    Ok(Servers { backends, _tasks: tasks })
}

async fn accept(listener: TcpListener, backend: Arc<Backend>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let backend = backend.clone();
        connections.spawn(async move {
            let Some(stream) = crate::bytes::serve(stream, &backend).await else { return };
            let service = service_fn(move |request| respond(backend.clone(), request));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that goes away, or a reset that the case asks for, ends the connection; nothing to report.
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset, as the case asks")
    }
}

impl std::error::Error for Reset {}

async fn respond(backend: Arc<Backend>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Reset> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
    match backend.answer(&head, &body) {
        Answer::Reset => Err(Reset),
        Answer::Respond { status, headers, delay, body } => {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let mut response = Response::builder().status(status).header("content-type", "application/json");
            for (name, value) in &headers {
                response = response.header(name, value);
            }
            response.body(Full::new(Bytes::from(body))).map_err(|_| Reset)
        }
    }
}

/// A server that answers every connection with what `respond` gives; for suites that need no pods.
pub async fn echo(address: SocketAddr, name: &'static str) -> Result<Servers> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("{name} at {address}"))?;
    let backend = Arc::new(Backend::new(name, Default::default()));
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, backend.clone()));
    Ok(Servers { backends: vec![backend], _tasks: tasks })
}
