//! A client's connection: which listener, which chain, and then HTTP or bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use transport::exec::LocalExec;
use transport::io::Io;
use transport::proxy_protocol::{self, Begin};
use transport::sniff::{self, Sniffed};
use transport::tls::Peer;
use words::SpiffeId;

use crate::chain::{self, Facts};
use crate::leaving::{Carries, Leaving};
use crate::pipeline;
use crate::plan::{ChainPlan, ListenerPlan, Plan};
use crate::principals::{Parties, Principal};
use crate::tcp;
use crate::tls::ServerTls;
use crate::worker::Worker;

/// How long a client may take to say anything that tells its protocol; then it is carried as bytes (TR84: a server that
/// speaks first must get its turn).
const SNIFF_SECONDS_MAX: u64 = 5;
/// How often a client is looked at that has said too little.
const PEEK_AGAIN_AFTER: Duration = Duration::from_millis(2);
/// How long a handshake may take (Istio's `TransportSocketConnectTimeout`, GW29).
const HANDSHAKE_SECONDS_MAX: u64 = 15;
/// How long a client may take to send a request's head.
const HEAD_SECONDS_MAX: u64 = 60;
/// Largest request head, in bytes (Envoy's 60 KiB).
const HEAD_BYTES_MAX: usize = 60 << 10;
/// Most headers of a request (Envoy's default).
const HEADERS_MAX: usize = 100;
/// HTTP/2 bounds, as Envoy's edge profile has them.
const STREAMS_MAX: u32 = 100;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What is known of a client's connection.
pub struct Client {
    /// Its address, as it or a load balancer in front says.
    pub peer: Option<SocketAddr>,
    /// The address of its connection.
    pub direct: Option<SocketAddr>,
    /// Our end.
    pub local: Option<SocketAddr>,
    /// What it dialled, when it was captured.
    pub dialled: Option<SocketAddr>,
    /// The listener that took it.
    pub listener: usize,
    /// What decided its chain.
    pub facts: Facts,
    /// Who it is, after TLS was terminated here.
    pub tls: Option<Peer>,
    /// It and we by numbers.
    pub parties: Parties,
}

impl Client {
    /// The workload that it is, if it has proved to be one of the mesh.
    pub fn principal(&self) -> Option<&Arc<SpiffeId>> {
        self.tls.as_ref()?.principal.as_ref()
    }

    /// The server name that its TLS hello asked for: seen before the chain was chosen, or by the handshake.
    pub fn server_name(&self) -> Option<&str> {
        match &self.facts.sniffed {
            Sniffed::Tls { sni, .. } => sni.as_deref(),
            _ => self.tls.as_ref()?.server_name.as_deref(),
        }
    }
}

/// No further request on this connection (RFC 9112, 9.6).
const CLOSE: http::HeaderValue = http::HeaderValue::from_static("close");

/// While it is there, the worker has a connection to wait for.
pub struct Busy(Rc<Worker>);

impl Busy {
    /// One connection more.
    pub fn new(worker: &Rc<Worker>) -> Self {
        worker.busy.set(worker.busy.get() + 1);
        crate::cluster::bump(&worker.metrics.downstream_active);
        Self(worker.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(worker) = self;
        worker.busy.set(worker.busy.get() - 1);
        let active = &worker.metrics.downstream_active;
        active.set(active.get() - 1);
    }
}

/// Serves a connection until it ends.
pub async fn serve(worker: Rc<Worker>, slot: usize, mut stream: Io, peer: SocketAddr) {
    crate::cluster::bump(&worker.metrics.downstream_connections);
    let _busy = Busy::new(&worker);
    let plan = worker.plan();
    // What changes from here on concerns this connection, also while it is not let in yet.
    let signs = worker.signs();
    let seen = signs.borrow().listeners;
    let Some(first) = plan.listeners.get(slot).and_then(Option::as_ref) else { return };
    let dialled = match first.config.use_original_dst || first.config.filters.original_dst {
        true => stream.original_destination(),
        false => None,
    };
    let listener = hand_off(&plan, first, dialled);
    let direct = Some(peer);
    let (mut peer, mut local) = (peer, stream.local_address());
    if listener.config.filters.proxy_protocol {
        match announced(&mut stream).await {
            Some(Some((client, reached))) => (peer, local) = (client, Some(reached)),
            Some(None) => {}
            // Envoy closes it too: whoever leaves the header out could claim to be anybody.
            None => return,
        }
    }
    let sniffed = if listener.sniffs { look(&mut stream).await } else { Sniffed::More };
    let facts = Facts { destination: dialled.or(local), sniffed };
    let mut client = Client {
        peer: Some(peer),
        direct,
        local,
        dialled,
        listener: listener.slot,
        facts,
        tls: None,
        parties: Parties::default(),
    };
    let Some(chain) = chain::choose(listener, &client.facts) else { return };
    let mut io = match chain.tls() {
        None => stream,
        Some(tls) => {
            let Some((io, peer)) = secure(tls, stream, &client.facts.sniffed).await else { return };
            client.parties.client = Principal::of_any(peer.principal.as_deref());
            client.parties.local = Principal::of_any(peer.local.as_deref());
            client.tls = Some(peer);
            io
        }
    };
    match chain {
        ChainPlan::Tcp(tcp) => {
            let client = Rc::new(client);
            let leaving = Leaving::new(worker.clone(), client.clone(), Carries::Bytes, signs, seen);
            tcp::serve(worker.clone(), tcp.clone(), io, client, leaving).await;
        }
        ChainPlan::Http(http) => {
            let is_http2 = match http.manager.codec {
                config::HttpCodec::Http1 => false,
                config::HttpCodec::Http2 => true,
                config::HttpCodec::Auto if client.tls.as_ref().is_some_and(|peer| !peer.is_undecided) => {
                    client.tls.as_ref().is_some_and(|peer| peer.is_http2)
                }
                config::HttpCodec::Auto if client.tls.is_some() => look(&mut io).await == Sniffed::Http2,
                config::HttpCodec::Auto if listener.sniffs => client.facts.sniffed == Sniffed::Http2,
                config::HttpCodec::Auto => look(&mut io).await == Sniffed::Http2,
            };
            let client = Rc::new(client);
            let carries = if is_http2 { Carries::Http2 } else { Carries::Http1 };
            let leaving = Leaving::new(worker.clone(), client.clone(), carries, signs, seen);
            let known = pipeline::Known { generation: plan.generation, chain: http.clone(), fits: true };
            let chain = Rc::new(std::cell::RefCell::new(known));
            serve_http((worker.clone(), client, chain), io, is_http2, leaving).await;
        }
    }
}

// `None`: there was no handshake, and the connection is closed.
async fn secure(tls: &ServerTls, stream: Io, sniffed: &Sniffed) -> Option<(Io, Peer)> {
    let offered = if let Sniffed::Tls { alpn, .. } = sniffed { alpn.as_slice() } else { &[] };
    let limit = Duration::from_secs(HANDSHAKE_SECONDS_MAX);
    match tokio::time::timeout(limit, tls.accept(stream, offered)).await {
        Ok(Ok(secured)) => Some(secured),
        Ok(Err(reason)) => {
            tracing::debug!("no handshake with a client: {reason}");
            None
        }
        Err(_) => None,
    }
}

// The listener of the original destination, when there is one: by address, else by port (DP02, DP03).
fn hand_off<'a>(plan: &'a Plan, first: &'a Arc<ListenerPlan>, dialled: Option<SocketAddr>) -> &'a Arc<ListenerPlan> {
    let Some(dialled) = dialled.filter(|_| first.config.use_original_dst) else { return first };
    let any: std::net::IpAddr = match dialled {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let slot =
        plan.by_destination.get(&dialled).or_else(|| plan.by_destination.get(&SocketAddr::new(any, dialled.port())));
    slot.and_then(|slot| plan.listeners.get(*slot)?.as_ref()).unwrap_or(first)
}

// The PROXY protocol's header: whom it names, if it names any; `None` when there is none. Takes it off the connection.
async fn announced(stream: &mut Io) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let looking = async {
        let mut buffer = vec![0; 256];
        loop {
            let seen = stream.peek(&mut buffer).await.ok().filter(|seen| *seen > 0)?;
            match proxy_protocol::look(&buffer[..seen]) {
                Begin::Header { length, ends } => {
                    buffer.resize(length, 0);
                    stream.read_exact(&mut buffer).await.ok()?;
                    return Some(ends);
                }
                Begin::Other => return None,
                Begin::More if seen == buffer.len() => {
                    let more = (seen * 2).min(proxy_protocol::PEEK_BYTES_MAX);
                    if more == seen {
                        return None;
                    }
                    buffer.resize(more, 0);
                }
                // `peek` is ready as long as there is anything: wait for the rest without spinning.
                Begin::More => tokio::time::sleep(PEEK_AGAIN_AFTER).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(SNIFF_SECONDS_MAX), looking).await.ok()?
}

async fn look(stream: &mut Io) -> Sniffed {
    let looking = async {
        let mut buffer = vec![0; 512];
        loop {
            let seen = match stream.peek(&mut buffer).await {
                Ok(0) | Err(_) => return Sniffed::Other,
                Ok(seen) => seen,
            };
            match sniff::look(&buffer[..seen]) {
                Sniffed::More if seen == buffer.len() && seen < sniff::PEEK_BYTES_MAX => buffer.resize(seen * 2, 0),
                // `peek` is ready as long as there is anything: wait for the rest without spinning.
                Sniffed::More if seen < buffer.len() => tokio::time::sleep(PEEK_AGAIN_AFTER).await,
                Sniffed::More => return Sniffed::Other,
                found => return found,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(SNIFF_SECONDS_MAX), looking).await.unwrap_or(Sniffed::Other)
}

type Known = (Rc<Worker>, Rc<Client>, pipeline::Chain);

// Speaks HTTP on a connection until it ends, or until it has to go and nothing is under way on it.
async fn serve_http(known: Known, io: Io, is_http2: bool, mut leaving: Leaving) {
    let (worker, client, chain) = known.clone();
    let service = service_fn(move |request| {
        let (worker, client, chain) = (worker.clone(), client.clone(), chain.clone());
        async move {
            let (discourages, known) = (worker.clone(), chain.clone());
            let mut response = pipeline::respond(worker, client, chain, request).await;
            let goes = !is_http2 && (discourages.discourages() || !known.borrow().fits);
            if goes && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(http::header::CONNECTION, CLOSE);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let outcome = if is_http2 {
        let mut server = hyper::server::conn::http2::Builder::new(LocalExec);
        server
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES_MAX as u32);
        let connection = std::pin::pin!(server.serve_connection(TokioIo::new(io), service));
        leaving.attend(connection, |connection| connection.graceful_shutdown()).await
    } else {
        let mut server = hyper::server::conn::http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(Some(Duration::from_secs(HEAD_SECONDS_MAX)))
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .preserve_header_case(false);
        let connection = std::pin::pin!(server.serve_connection(TokioIo::new(io), service).with_upgrades());
        leaving.attend(connection, |connection| connection.graceful_shutdown()).await
    };
    if let Some(Err(error)) = outcome {
        tracing::debug!("client connection ended: {error}");
        if !is_http2 && error.is_parse() {
            let (worker, client, chain) = known;
            pipeline::unread(&worker, &client, &chain, error.is_parse_too_large());
        }
    }
}
