//! The client's end: a task that keeps one delta stream to the control plane open.
//!
//! In: how to connect, commands. Out: updates on a bounded queue. A stream that ends is opened again after a pause that grows;
//! what is held stays held, and is told to the server. An unreachable control plane is one message, not one per attempt.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codegen::Service;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::client::{Backoff, ClientSession, Heard, Update};
use crate::limits::{
    BACKOFF_RESET, CLIENT_QUEUE, CONNECT_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, RESPONSE_BYTES_MAX,
};
use crate::{Node, TypeUrl};

/// Opens a connection. The error is a sentence that names the reason.
pub type Dial = Box<dyn FnMut() -> BoxFuture<'static, Result<Opened, String>> + Send>;

/// An open connection.
pub struct Opened {
    /// To the control plane.
    pub channel: Channel,
    /// The value of the `authorization` header, for who shows a token.
    pub authorization: Option<MetadataValue<Ascii>>,
    /// Set once the server has answered: it takes what it was shown.
    pub taken: Arc<AtomicBool>,
}

/// How a client connects.
pub struct ClientOptions {
    /// The control plane, for messages.
    pub address: String,
    /// Opens a connection to it.
    pub dial: Dial,
    /// Who we are.
    pub node: Node,
    /// Uniform numbers, for the jitter of the pauses.
    pub jitter: Box<dyn FnMut() -> u32 + Send>,
}

/// What the owner tells its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Wants exactly these names of a type.
    Want(TypeUrl, BTreeSet<String>),
    /// Answers an update, by type and nonce: taken, or refused with a reason. Every update must be answered.
    Answer(TypeUrl, String, Option<String>),
}

/// A running client. Dropping it ends its task.
#[derive(Debug)]
pub struct Client {
    /// Updates, in order.
    pub updates: mpsc::Receiver<Update>,
    /// Commands, in order: what an update makes us want goes before its answer.
    pub commands: mpsc::Sender<Command>,
    task: Option<JoinHandle<()>>,
}

impl Client {
    /// One whose other end is somebody else's business: who has it gives updates and takes commands.
    pub fn of(updates: mpsc::Receiver<Update>, commands: mpsc::Sender<Command>) -> Self {
        Self { updates, commands, task: None }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an open connection")
    }
}

/// A connection without TLS to `http://host:port`.
pub fn plaintext(address: &str) -> Dial {
    let address = address.to_owned();
    Box::new(move || {
        let address = address.clone();
        Box::pin(async move {
            let endpoint =
                Endpoint::from_shared(address.clone()).map_err(|error| format!("not an address: {error}"))?;
            let channel = tuned(endpoint).connect().await.map_err(|error| innermost(&error))?;
            Ok(Opened { channel, authorization: None, taken: Arc::default() })
        })
    })
}

/// A connection to `address` by who can make one: TLS, or anything else that carries bytes.
///
/// # Errors
/// A sentence that names the reason.
pub async fn over<C>(address: &str, connector: C) -> Result<Channel, String>
where
    C: Service<Uri> + Send + 'static,
    C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin,
    C::Future: Send,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    Box<dyn std::error::Error + Send + Sync>: From<C::Error>,
{
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| format!("not an address: {error}"))?;
    tuned(endpoint).connect_with_connector(connector).await.map_err(|error| innermost(&error))
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        // A whole configuration in a few round trips.
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
}

/// Starts a client; the task ends when the [`Client`] is dropped.
pub fn connect(options: ClientOptions) -> Client {
    let (update_queue, updates) = mpsc::channel(CLIENT_QUEUE);
    let (commands, command_queue) = mpsc::channel(CLIENT_QUEUE);
    let ClientOptions { address, dial, node, jitter } = options;
    let keeper = Keeper {
        address,
        dial,
        jitter,
        session: ClientSession::new(node),
        updates: update_queue,
        commands: command_queue,
    };
    Client { updates, commands, task: Some(tokio::spawn(keeper.run())) }
}

struct Keeper {
    address: String,
    dial: Dial,
    jitter: Box<dyn FnMut() -> u32 + Send>,
    session: ClientSession,
    updates: mpsc::Sender<Update>,
    commands: mpsc::Receiver<Command>,
}

/// Why a stream is over.
enum End {
    /// The owner is gone.
    Owner,
    /// The stream, for this reason.
    Stream(String),
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut said = None;
        loop {
            let opened = Instant::now();
            let mut was_open = false;
            let End::Stream(reason) = self.stream(&mut was_open).await else { return };
            if was_open && opened.elapsed() >= BACKOFF_RESET {
                backoff.reset();
            }
            // One message per reason: an outage of an hour is not a thousand lines.
            if was_open || said.as_ref() != Some(&reason) {
                tracing::warn!("control plane {}: {reason}; the last configuration stays, trying again", self.address);
                said = Some(reason);
            }
            let pause = backoff.next((self.jitter)());
            if !self.wait(pause).await {
                return;
            }
        }
    }

    /// Waits, and until every update is answered (see [`ClientSession::reconnect`]); false if the owner is gone.
    async fn wait(&mut self, pause: Duration) -> bool {
        let pause = sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause, if self.session.is_answered() => return true,
                command = self.commands.recv() => match command {
                    Some(command) => _ = self.obey(command),
                    None => return false,
                }
            }
        }
    }

    fn obey(&mut self, command: Command) -> Option<DeltaDiscoveryRequest> {
        match command {
            Command::Want(kind, names) => self.session.want(kind, names),
            Command::Answer(kind, nonce, refusal) => self.session.answer(kind, &nonce, refusal),
        }
    }

    async fn stream(&mut self, was_open: &mut bool) -> End {
        let Opened { channel, authorization, taken } = match (self.dial)().await {
            Ok(opened) => opened,
            Err(reason) => return End::Stream(format!("cannot be reached: {reason}")),
        };
        // Unbounded, but what goes in answers an update or a command, and both are bounded.
        let (requests, queue) = mpsc::unbounded_channel();
        for first in self.session.reconnect() {
            let _ = requests.send(first);
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let mut request = tonic::Request::new(UnboundedReceiverStream::new(queue));
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", authorization);
        }
        let mut responses = match client.delta_aggregated_resources(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return End::Stream(words(&status)),
        };
        *was_open = true;
        tracing::info!("control plane {}: connected", self.address);
        let updates = self.updates.clone();
        // An update the owner has no room for yet; no response is read meanwhile, so nothing piles up.
        let mut waiting: Option<Update> = None;
        loop {
            let request = tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return End::Owner,
                },
                slot = updates.reserve(), if waiting.is_some() => {
                    let (Ok(slot), Some(update)) = (slot, waiting.take()) else { return End::Owner };
                    slot.send(update);
                    None
                }
                response = responses.message(), if waiting.is_none() => match response {
                    Ok(Some(response)) => {
                        taken.store(true, Ordering::Relaxed);
                        match self.session.on_response(response) {
                            Heard::Update(update) => {
                                waiting = Some(update);
                                None
                            }
                            Heard::Refused(request) => Some(*request),
                            Heard::Ignored => None,
                        }
                    }
                    Ok(None) => return End::Stream("the stream was closed".into()),
                    Err(status) => return End::Stream(words(&status)),
                },
            };
            if let Some(request) = request {
                // If the stream is gone, its responses say so.
                let _ = requests.send(request);
            }
        }
    }
}

fn words(status: &Status) -> String {
    match (status.code(), status.message()) {
        (Code::PermissionDenied | Code::Unauthenticated, message) => format!("refuses us: {message}"),
        (code, "") => code.description().to_owned(),
        (_, message) => message.to_owned(),
    }
}

// The innermost cause is what a person can act on ("connection refused"); the outer ones only say that it failed.
fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}
