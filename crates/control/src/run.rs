//! Wiring: sockets, the source, and the loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use watch::kubernetes::{Access, LeaseStore, Options};
use xds::grpc::AdsServer;

use crate::args::Args;
use crate::control::Control;
use crate::event::Event;
use crate::events::Recorder;
use crate::http::{self, Pages};
use crate::leader::{self, Candidacy, Leadership};
use crate::metrics::Metrics;

/// Events that wait for the loop; senders wait when there are more.
const EVENTS_WAITING_MAX: usize = 4096;
/// After a publication, changes are collected this long before the next one. The first change of a burst never waits.
const BETWEEN_PUBLICATIONS: Duration = Duration::from_millis(3);
/// Connections that wait to be accepted. When a control plane comes back every proxy connects at once, and what does
/// not fit here is reset once SYN cookies are out.
const CONNECTIONS_WAITING_MAX: u32 = 4096;
/// Events taken before the loop looks whether a publication is due.
const EVENTS_AT_ONCE_MAX: usize = 1024;

/// Runs the control plane until SIGTERM or Ctrl-C, or until its source breaks for good.
pub async fn run(args: Args) -> Result<()> {
    let xds_listener = bind(args.xds_address, "--xds-address")?;
    let http_listener = bind(args.http_address, "--http-address")?;
    let replica = args.replica();
    let source = source(&args).await?;
    let (_leadership, candidacy) = stand(&args, &source, &replica);
    let _recorder = recorder(&args, &source, &replica);
    let (events, queue) = mpsc::channel(EVENTS_WAITING_MAX);
    let metrics = Arc::new(Metrics::new());
    tokio::spawn(forward_source(watch::spawn(source)?, events.clone()));
    tokio::spawn(http::serve(http_listener, Pages { events: events.clone(), metrics: metrics.clone() }));
    let server = tokio::spawn(serve_xds(xds_listener, events));
    tracing::info!(xds = %args.xds_address, http = %args.http_address, "listening");
    let control = Control::new(args.mesh(), args.serve_secrets, metrics, replica);
    let outcome = tokio::select! {
        outcome = drive(control, queue) => outcome,
        outcome = server => outcome.context("the xDS server stopped")?,
        () = interrupted() => {
            tracing::info!("stopping");
            Ok(())
        }
    };
    if let Some(candidacy) = candidacy {
        candidacy.release().await;
    }
    outcome
}

// Without an API server nobody writes, and nobody leads.
fn stand(args: &Args, source: &watch::Source, replica: &str) -> (Leadership, Option<Candidacy>) {
    match source {
        watch::Source::Kubernetes(client, _) if !args.read_only => {
            let store = LeaseStore::new(client.clone(), &args.root_namespace, leader::LEASE);
            let (leadership, candidacy) = leader::spawn(store, replica.to_owned());
            (leadership, Some(candidacy))
        }
        _ => (Leadership::never(), None),
    }
}

// Any replica may say what it saw: it has a word for one object each, and no two say the same.
fn recorder(args: &Args, source: &watch::Source, replica: &str) -> Recorder {
    match source {
        watch::Source::Kubernetes(client, _) if !args.read_only => Recorder::new(client.clone(), replica.to_owned()),
        _ => Recorder::silent(),
    }
}

fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(CONNECTIONS_WAITING_MAX)
    });
    bound.with_context(|| format!("cannot listen on {address} ({flag})"))
}

async fn source(args: &Args) -> Result<watch::Source> {
    if let Some(dir) = &args.config_dir {
        return Ok(watch::Source::Directory(dir.clone()));
    }
    let access = Access { kubeconfig: args.kubeconfig.clone(), context: args.context.clone() };
    let client = watch::kubernetes::connect(access).await?;
    let options = match args.serve_secrets {
        true => Options::default().with_secrets(),
        false => Options::default(),
    };
    Ok(watch::Source::Kubernetes(client, options))
}

async fn forward_source(mut source: mpsc::Receiver<watch::Event>, events: mpsc::Sender<Event>) {
    while let Some(event) = source.recv().await {
        if events.send(Event::Source(event)).await.is_err() {
            return;
        }
    }
    // The loop is gone only when the program ends.
    let _ = events.send(Event::SourceEnded).await;
}

async fn serve_xds(listener: TcpListener, events: mpsc::Sender<Event>) -> Result<()> {
    let (streams, mut queue) = mpsc::channel(EVENTS_WAITING_MAX);
    let forward = async move {
        while let Some(event) = queue.recv().await {
            if events.send(Event::Stream(event)).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(forward);
    let incoming = TcpListenerStream::new(listener);
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(AdsServer::new(streams))
        .serve_with_incoming(incoming)
        .await
        .context("serve xDS")
}

/// The loop: take what happened, publish when something changed.
async fn drive(mut control: Control, mut queue: mpsc::Receiver<Event>) -> Result<()> {
    let mut not_before = tokio::time::Instant::now();
    let mut waiting = Vec::with_capacity(EVENTS_AT_ONCE_MAX);
    loop {
        tokio::select! {
            taken = queue.recv_many(&mut waiting, EVENTS_AT_ONCE_MAX) => {
                if taken == 0 {
                    return Ok(());
                }
                for event in waiting.drain(..) {
                    take(&mut control, event)?;
                }
            }
            () = tokio::time::sleep_until(not_before), if control.is_dirty() => {}
        }
        if control.is_dirty() && tokio::time::Instant::now() >= not_before {
            control.publish(Instant::now());
            not_before = tokio::time::Instant::now() + BETWEEN_PUBLICATIONS;
        }
    }
}

fn take(control: &mut Control, event: Event) -> Result<()> {
    let now = Instant::now();
    match event {
        Event::Source(event) => control.on_source(event, now),
        Event::SourceEnded => bail!("the source of configuration stopped"),
        Event::Stream(event) => control.on_stream(event, now),
        Event::Question(question) => {
            // Who asked may have gone.
            let _ = question.answer.send(control.answer(&question.about, now));
        }
    }
    Ok(())
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(error) => {
            tracing::warn!("SIGTERM cannot be caught: {error}");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
