//! The control plane's end and the proxy's end of an xDS stream, with every message encoded and decoded between them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use codec::{Encoder, Options, ResourceKind};
use compile::Layer;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use xds::client::{ClientSession, Heard};
use xds::grpc::{Client, Command};
use xds::{Mode, Node, Request, Resource, Session, StreamStatus, Target, TypeUrl};

/// Messages on their way.
const QUEUE: usize = 64;

/// The control plane's end.
pub struct Server {
    targets: mpsc::Sender<(Target, oneshot::Sender<()>)>,
    encoder: RefCell<Encoder>,
    known: RefCell<Vec<(Arc<Layer>, Arc<xds::Layer>)>>,
    /// What the proxy was sent, and what it said.
    pub status: StreamStatus,
}

impl Server {
    /// Has the proxy hold these layers, sooner or later.
    pub async fn publish(&self, layers: &[Arc<Layer>]) {
        let layers = layers.iter().map(|layer| self.encode(layer)).collect();
        let (taken, wait) = oneshot::channel();
        // The wire ends with the proxy, which shows in all that follows.
        let _ = self.targets.send((Target { layers }, taken)).await;
        let _ = wait.await;
    }

    fn encode(&self, layer: &Arc<Layer>) -> Arc<xds::Layer> {
        if let Some((_, known)) = self.known.borrow().iter().find(|(known, _)| Arc::ptr_eq(known, layer)) {
            return known.clone();
        }
        let all = self.encoder.borrow_mut().snapshot(&layer.snapshot, Options { vhds: true });
        let resource =
            |one: &Arc<codec::Encoded>| Resource::new(kind(one.kind), one.name.clone(), &one.version, &one.body);
        let made = xds::Layer::new(all.iter().map(resource));
        self.known.borrow_mut().push((layer.clone(), made.clone()));
        made
    }
}

/// Both ends of a new stream.
pub fn connect(node: Node) -> (Client, Server) {
    let (updates, updates_out) = mpsc::channel(QUEUE);
    let (commands_in, commands) = mpsc::channel(QUEUE);
    let status = StreamStatus::default();
    let server = Session::new(Mode::Delta, status.clone());
    let mut client = ClientSession::new(node);
    let requests = client.reconnect().into();
    let (targets_in, targets) = mpsc::channel(1);
    tokio::task::spawn_local(Wire { server, client, requests, updates, commands, targets }.run());
    let server = Server { targets: targets_in, encoder: RefCell::default(), known: RefCell::default(), status };
    (Client::of(updates_out, commands_in), server)
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

fn far() -> Instant {
    Instant::now() + std::time::Duration::from_secs(3600)
}

/// Both ends.
struct Wire {
    server: Session,
    client: ClientSession,
    requests: VecDeque<DeltaDiscoveryRequest>,
    updates: mpsc::Sender<xds::client::Update>,
    commands: mpsc::Receiver<Command>,
    targets: mpsc::Receiver<(Target, oneshot::Sender<()>)>,
}

impl Wire {
    async fn run(mut self) {
        loop {
            self.move_messages().await;
            let deadline = self.server.deadline().map_or_else(far, Instant::from_std);
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    // The proxy is gone.
                    let Some(command) = command else { return };
                    self.requests.extend(match command {
                        Command::Want(kind, names) => self.client.want(kind, names),
                        Command::Answer(kind, nonce, refusal) => self.client.answer(kind, &nonce, refusal),
                    });
                }
                Some((target, taken)) = self.targets.recv() => {
                    self.server.set_target(target);
                    // Who published may have gone.
                    let _ = taken.send(());
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
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
