//! TLS of the secure ports: who we are to others, and whom we believe, at every moment; and the handshakes.
//!
//! In: what the keeper of the authority publishes (`ca.rs`). Out: connections that have shown who we are, with what the other
//! end has shown. Who serves something asks for [`Secure::serving`] at each connection, so a new certificate needs no restart.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use identity::{Authority, Certificate};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use transport::door::{Bounds, Door, Guest, Place};
use words::SpiffeId;

/// Who may be at 15012: a proxy has one connection or two. All come at once when a control plane comes back; those of
/// another cluster may all come from one address.
pub(crate) const PROXIES: Bounds = Bounds {
    connections: 16_384,
    of_one_source: 2048,
    silence: Duration::from_secs(10),
    stall: Duration::from_secs(60),
};
/// Who may be at 15017: API servers.
pub(crate) const API_SERVERS: Bounds =
    Bounds { connections: 256, of_one_source: 64, silence: Duration::from_secs(10), stall: Duration::from_secs(30) };
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Accepted connections that wait for their server.
const ACCEPTED_MAX: usize = 64;

/// What the secure ports serve with, at a moment.
pub struct Serving {
    /// Signs.
    pub authority: Arc<Authority>,
    /// PEM of what everybody must believe: the roots of workloads, and the `caBundle` of webhooks.
    pub roots: Arc<str>,
    /// For 15012: HTTP/2, and clients may show a certificate under the roots.
    pub xds: Arc<ServerConfig>,
    /// For 15017: HTTP/2 and HTTP/1.1, clients show nothing.
    pub webhooks: Arc<ServerConfig>,
    /// When the certificate is to be made anew.
    pub renew_at: SystemTime,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.authority)
    }
}

/// Follows what is served with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Secure {
    pub(crate) now: watch::Receiver<Option<Arc<Serving>>>,
}

impl Secure {
    /// What is served with now; `None` until there is an authority.
    pub fn serving(&self) -> Option<Arc<Serving>> {
        self.now.borrow().clone()
    }

    /// The changes, of the roots and of the certificate.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Serving>>> {
        self.now.clone()
    }
}

/// Makes both configurations: one certificate with these names, whose `life` begins now.
pub(crate) fn serving(
    authority: Arc<Authority>,
    names: &[String],
    life: Duration,
    now: SystemTime,
    draw: f64,
) -> Result<Serving, String> {
    let served = authority.serve(names, life, now).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(authority.roots().store());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())?;
    let make = |clients: Option<Arc<_>>, alpn: &[&[u8]]| {
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(clients),
            None => builder.with_no_client_auth(),
        };
        let made = builder.with_single_cert(served.chain.clone(), served.key.clone_key());
        let mut made = made.map_err(|error| error.to_string())?;
        made.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        // A resumed session would not show the client's certificate again, which may have expired since.
        made.session_storage = Arc::new(NoServerSessionStorage {});
        made.send_tls13_tickets = 0;
        Ok::<_, String>(Arc::new(made))
    };
    Ok(Serving {
        roots: authority.roots().pem().into(),
        xds: make(Some(clients), &[b"h2"])?,
        webhooks: make(None, &[b"h2", b"http/1.1"])?,
        renew_at: identity::rotation::renew_at(now, served.not_after, draw),
        authority,
    })
}

/// Who is at the other end, as far as the connection shows.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whose certificate it has shown, or what is wrong with that one; `None` if it has shown none.
    pub shown: Option<Result<SpiffeId, String>>,
    /// The certificate with what is between it and a root. The handshake has checked it by the roots and the time of then.
    pub chain: Arc<[CertificateDer<'static>]>,
}

impl Peer {
    /// One that has shown this chain; the leaf first.
    pub(crate) fn new(address: SocketAddr, chain: &[CertificateDer<'_>]) -> Self {
        let shown = chain.first().map(|leaf| {
            let read = Certificate::read(leaf).and_then(|read| read.id());
            read.map_err(|error| error.to_string())
        });
        Self { address, shown, chain: chain.iter().map(|one| one.clone().into_owned()).collect() }
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct SecureStream {
    stream: Guest<TlsStream<TcpStream>>,
    peer: Peer,
}

impl SecureStream {
    fn new(stream: TlsStream<TcpStream>, address: SocketAddr, place: Place) -> Self {
        let peer = Peer::new(address, stream.get_ref().1.peer_certificates().unwrap_or_default());
        Self { stream: place.guard(stream), peer }
    }
}

/// Accepts connections and makes their handshakes; a slow or hostile one holds nobody up. A connection has its place from
/// the beginning to its end, whether anybody serves it yet or not. `pick` chooses the configuration.
pub fn accept(
    listener: TcpListener,
    secure: Secure,
    bounds: Bounds,
    pick: fn(&Serving) -> &Arc<ServerConfig>,
) -> ReceiverStream<io::Result<SecureStream>> {
    let (accepted, incoming) = mpsc::channel(ACCEPTED_MAX);
    tokio::spawn(async move {
        let door = Door::new(listener, bounds);
        loop {
            let (stream, address, place) = tokio::select! {
                () = accepted.closed() => return,
                found = door.accept() => found,
            };
            let (accepted, secure) = (accepted.clone(), secure.clone());
            tokio::spawn(async move {
                let shaken = tokio::select! {
                    () = place.ended() => return,
                    shaken = tokio::time::timeout(HANDSHAKE_MAX, shake(stream, secure, pick)) => shaken,
                };
                match shaken {
                    // Its server is gone only when the program ends.
                    Ok(Ok(stream)) => _ = accepted.send(Ok(SecureStream::new(stream, address, place))).await,
                    // Somebody looked whether the port is open.
                    Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        tracing::debug!(%address, "no TLS connection: {error}");
                    }
                    Ok(Err(error)) => tracing::warn!(%address, "no TLS connection: {error}"),
                    Err(_) => tracing::warn!(%address, "no TLS connection: no handshake within {HANDSHAKE_MAX:?}"),
                }
            });
        }
    });
    ReceiverStream::new(incoming)
}

async fn shake(
    stream: TcpStream,
    secure: Secure,
    pick: fn(&Serving) -> &Arc<ServerConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut now = secure.changes();
    let serving = now.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
    let serving = serving.ok_or_else(|| io::Error::other("there is no authority"))?;
    stream.set_nodelay(true)?;
    TlsAcceptor::from(pick(&serving).clone()).accept(stream).await
}

impl Connected for SecureStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
