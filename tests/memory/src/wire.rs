//! The control plane's end and the proxy's end of an xDS stream, with every message encoded and decoded between them.

use std::collections::VecDeque;
use std::sync::Arc;

use codec::{Encoder, Options, ResourceKind};
use compile::Layer;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use xds::client::{ClientSession, Heard};
use xds::grpc::{Client, Command};
use xds::{Mode, Node, Request, Resource, Session, StreamStatus, Target, TypeUrl};

/// Messages on their way.
const QUEUE: usize = 64;

/// A client that is given compiled layers, and what it said of them.
pub fn connect(layers: &[Arc<Layer>], node: Node) -> (Client, StreamStatus) {
    let (updates, updates_out) = mpsc::channel(QUEUE);
    let (commands_in, commands) = mpsc::channel(QUEUE);
    let status = StreamStatus::default();
    let mut server = Session::new(Mode::Delta, status.clone());
    server.set_target(encode(layers));
    let mut client = ClientSession::new(node);
    let requests = client.reconnect().into();
    tokio::task::spawn_local(Wire { server, client, requests, updates, commands }.run());
    (Client::of(updates_out, commands_in), status)
}

fn encode(layers: &[Arc<Layer>]) -> Target {
    let mut encoder = Encoder::default();
    let mut layer = |layer: &Arc<Layer>| {
        let all = encoder.snapshot(&layer.snapshot, Options { vhds: true });
        xds::Layer::new(all.iter().map(|one| Resource::new(kind(one.kind), one.name.clone(), &one.version, &one.body)))
    };
    Target { layers: layers.iter().map(&mut layer).collect() }
}

fn kind(kind: ResourceKind) -> TypeUrl {
    match kind {
        ResourceKind::Cluster => TypeUrl::Cluster,
        ResourceKind::Endpoints => TypeUrl::Endpoints,
        ResourceKind::Listener => TypeUrl::Listener,
        ResourceKind::Route => TypeUrl::Route,
        ResourceKind::VirtualHost => TypeUrl::VirtualHost,
        ResourceKind::NameTable => TypeUrl::NameTable,
        ResourceKind::Secret => TypeUrl::Secret,
    }
}

/// Both ends.
struct Wire {
    server: Session,
    client: ClientSession,
    requests: VecDeque<DeltaDiscoveryRequest>,
    updates: mpsc::Sender<xds::client::Update>,
    commands: mpsc::Receiver<Command>,
}

impl Wire {
    async fn run(mut self) {
        loop {
            self.move_messages().await;
            let command = match self.server.deadline() {
                None => self.commands.recv().await,
                Some(deadline) => match tokio::time::timeout_at(deadline.into(), self.commands.recv()).await {
                    Ok(command) => command,
                    Err(_) => continue,
                },
            };
            // The proxy is gone.
            let Some(command) = command else { return };
            self.requests.extend(match command {
                Command::Want(kind, names) => self.client.want(kind, names),
                Command::Answer(kind, nonce, refusal) => self.client.answer(kind, &nonce, refusal),
            });
        }
    }

    async fn move_messages(&mut self) {
        let now = Instant::now().into_std();
        while let Some(request) = self.requests.pop_front() {
            let bytes = request.encode_to_vec();
            let request = DeltaDiscoveryRequest::decode(bytes.as_slice()).expect("our own message");
            self.server.on_request(&Request::delta(request).0, now);
        }
        while let Some(response) = self.server.poll(now) {
            let response = DeltaDiscoveryResponse::decode(response.encode()).expect("our own message");
            if let Heard::Update(update) = self.client.on_response(response) {
                // The proxy is gone: its end shows in `run`.
                let _ = self.updates.send(update).await;
            }
        }
    }
}
