//! Ports: sockets that listen, and gRPC on the connections they accept, until the end.
//!
//! In: connections, services, how far the end has come. Out: HTTP/2. What is served is the services' business. A connection
//! that is to go is told so (GOAWAY): streams on it stay until they end themselves, and the next is opened elsewhere. Stock
//! Envoys need that, since they open each stream on the connection they have.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::lifetime::Stage;

/// Connections that wait to be accepted. When a control plane comes back every proxy connects at once, and what does
/// not fit here is reset once SYN cookies are out.
const CONNECTIONS_WAITING_MAX: i32 = 4096;
/// The age at which a connection is to go, as a share of that of its streams: before the first of them ends.
const GOES_BEFORE: f64 = 0.85;

/// A socket that listens; `flag` is named when it cannot.
pub(crate) fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    let bound = transport::listen::bind_own(address, CONNECTIONS_WAITING_MAX);
    bound.with_context(|| format!("cannot listen on {address} ({flag})"))
}

/// Serves until the program ends. At each step of the end the connections that there are are to go, and whoever still comes
/// is served: the Service sends proxies here for a while.
pub(crate) async fn serve<IO>(
    mut incoming: impl Stream<Item = io::Result<IO>> + Unpin,
    services: Routes,
    age_max: Option<Duration>,
    mut stages: watch::Receiver<Stage>,
) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    IO::ConnectInfo: Clone + Send + Sync + 'static,
{
    let mut servers = JoinSet::new();
    loop {
        let (accepted, queue) = mpsc::channel(1);
        // When its queue ends a server says GOAWAY to all, and is over with the last of them.
        let server = server(age_max).add_routes(services.clone());
        servers.spawn(server.serve_with_incoming_shutdown(ReceiverStream::new(queue), pending()));
        loop {
            tokio::select! {
                connection = incoming.next() => {
                    let connection = connection.context("the listener is gone")?;
                    if accepted.send(connection).await.is_err() {
                        bail!("the server of xDS stopped");
                    }
                }
                Some(outcome) = servers.join_next() => outcome.context("serve xDS")?.context("serve xDS")?,
                () = next(&mut stages) => break,
            }
        }
    }
}

fn server(age_max: Option<Duration>) -> Server {
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)));
    match age_max {
        Some(age) => server.max_connection_age(age.mul_f64(GOES_BEFORE)),
        None => server,
    }
}

/// Waits until the end has come a step further.
pub(crate) async fn next(stages: &mut watch::Receiver<Stage>) {
    if stages.changed().await.is_err() {
        // The loop is over, and the program with it.
        pending().await
    }
}
