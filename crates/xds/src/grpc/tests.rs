//! The tonic edge over loopback sockets, with tonic's own client and with ours. Conditions have deadlines; nothing sleeps.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::Server;

use super::*;
use crate::client::Update;
use crate::{Layer, Resource};

/// A control plane on a loopback port; dropping it closes every stream.
struct ControlPlane {
    address: SocketAddr,
    events: mpsc::Receiver<StreamEvent>,
    task: JoinHandle<()>,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ControlPlane {
    async fn start() -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap()).await
    }

    async fn listen(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (queue, events) = mpsc::channel(crate::limits::EVENT_QUEUE);
        let service = Server::builder().add_service(AdsServer::new(queue));
        let task = tokio::spawn(async { service.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        Self { address, events, task }
    }

    /// Ends and frees the port; streams end with their wishes.
    async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.is_err());
    }

    async fn connected(&mut self) -> (Box<Node>, watch::Sender<Wish>, StreamStatus) {
        loop {
            if let StreamEvent::Connected { node, wish, status, .. } = soon(self.events.recv()).await.unwrap() {
                return (node, wish, status);
            }
        }
    }

    async fn until(&mut self, mut found: impl FnMut(&StreamEvent) -> bool) -> StreamEvent {
        loop {
            let event = soon(self.events.recv()).await.unwrap();
            if found(&event) {
                return event;
            }
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn client(&self) -> Client {
        let node = Node { id: "me".into(), ..Node::default() };
        connect(ClientOptions { address: self.url(), dial: plaintext(&self.url()), node, jitter: Box::new(|| 0) })
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

fn target(resources: &[(TypeUrl, &str, &str, usize)]) -> Target {
    let resource = |(kind, name, version, size): &(TypeUrl, &str, &str, usize)| {
        Resource::new(*kind, *name, version, &vec![b'x'; *size])
    };
    Target { layers: vec![Layer::new(resources.iter().map(resource))] }
}

async fn take(client: &mut Client) -> Update {
    let update = soon(client.updates.recv()).await.unwrap();
    client.commands.send(Command::Answer(update.kind, update.nonce.clone(), None)).await.unwrap();
    update
}

fn names(update: &Update) -> Vec<&str> {
    update.upserts.iter().map(|upsert| upsert.name.as_str()).collect()
}

fn delta(kind: TypeUrl) -> DeltaDiscoveryRequest {
    let node = Some(Node { id: "me".into(), ..Node::default() });
    DeltaDiscoveryRequest { node, type_url: kind.url().into(), ..Default::default() }
}

#[tokio::test]
async fn our_client_takes_a_configuration_and_its_changes() {
    let mut control = ControlPlane::start().await;
    let mut client = control.client();
    let (node, wish, status) = control.connected().await;
    assert_eq!(node.id, "me");
    // Larger than a frame and than a flow-control window of HTTP/2's default.
    wish.send_replace(Wish::Hold(target(&[(TypeUrl::Cluster, "a", "1", 3 << 20), (TypeUrl::Listener, "l", "1", 10)])));
    let clusters = take(&mut client).await;
    assert_eq!((names(&clusters), clusters.upserts[0].body.len()), (vec!["a"], 3 << 20));
    assert_eq!(names(&take(&mut client).await), ["l"]);
    client.commands.send(Command::Want(TypeUrl::Route, BTreeSet::from(["r".to_owned()]))).await.unwrap();
    assert_eq!(take(&mut client).await.removed, ["r"]);
    wish.send_replace(Wish::Hold(target(&[(TypeUrl::Cluster, "a", "1", 3 << 20), (TypeUrl::Route, "r", "1", 10)])));
    assert_eq!(names(&take(&mut client).await), ["r"]);
    assert_eq!(take(&mut client).await.removed, ["l"]);
    control.until(|event| matches!(event, StreamEvent::Acked { kind: TypeUrl::Listener, .. })).await;
    control.until(|event| matches!(event, StreamEvent::Acked { kind: TypeUrl::Listener, .. })).await;
    assert!(status.read().iter().all(crate::TypeStatus::is_synced));
}

#[tokio::test]
async fn a_client_that_comes_back_is_sent_the_difference() {
    let mut control = ControlPlane::start().await;
    let address = control.address;
    let mut client = control.client();
    let (_, wish, _) = control.connected().await;
    wish.send_replace(Wish::Hold(target(&[(TypeUrl::Cluster, "a", "1", 10), (TypeUrl::Cluster, "b", "1", 10)])));
    assert_eq!(names(&take(&mut client).await), ["a", "b"]);
    assert_eq!(take(&mut client).await.kind, TypeUrl::Listener);
    // Dropping the wish ends the stream; then the whole control plane is another one.
    drop(wish);
    control.stop().await;
    let mut control = ControlPlane::listen(address).await;
    let (_, wish, _) = control.connected().await;
    wish.send_replace(Wish::Hold(target(&[(TypeUrl::Cluster, "a", "1", 10), (TypeUrl::Cluster, "b", "2", 10)])));
    assert_eq!(names(&take(&mut client).await), ["b"]);
}

#[tokio::test]
async fn a_refusal_reaches_the_control_plane_in_the_clients_words() {
    let mut control = ControlPlane::start().await;
    let mut client = control.client();
    let (_, wish, _) = control.connected().await;
    wish.send_replace(Wish::Hold(target(&[(TypeUrl::Cluster, "a", "1", 10)])));
    let update = soon(client.updates.recv()).await.unwrap();
    let refusal = Command::Answer(update.kind, update.nonce, Some("a: no".into()));
    client.commands.send(refusal).await.unwrap();
    let event = control.until(|event| matches!(event, StreamEvent::Nacked { .. })).await;
    let StreamEvent::Nacked { kind: TypeUrl::Cluster, error, .. } = event else { panic!("{event:?}") };
    assert_eq!(error, "a: no");
}

#[tokio::test]
async fn a_refused_client_is_told_why() {
    let mut control = ControlPlane::start().await;
    let mut client = AggregatedDiscoveryServiceClient::connect(control.url()).await.unwrap();
    let mut responses = client
        .delta_aggregated_resources(tokio_stream::StreamExt::chain(
            tokio_stream::iter([delta(TypeUrl::Cluster)]),
            tokio_stream::pending(),
        ))
        .await
        .unwrap()
        .into_inner();
    let (_, wish, _) = control.connected().await;
    wish.send_replace(Wish::Refuse("who are you?".into()));
    let status = soon(responses.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "who are you?"));
    control.until(|event| matches!(event, StreamEvent::Disconnected { .. })).await;
}

#[tokio::test]
async fn a_first_request_without_a_node_is_an_error() {
    let control = ControlPlane::start().await;
    let mut client = AggregatedDiscoveryServiceClient::connect(control.url()).await.unwrap();
    let nobody = DeltaDiscoveryRequest { node: None, ..delta(TypeUrl::Cluster) };
    let mut responses = client.delta_aggregated_resources(tokio_stream::iter([nobody])).await.unwrap().into_inner();
    assert_eq!(soon(responses.message()).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn state_of_the_world_is_served_to_tonics_client() {
    let mut control = ControlPlane::start().await;
    let mut client = AggregatedDiscoveryServiceClient::connect(control.url()).await.unwrap();
    let node = Some(Node { id: "me".into(), ..Node::default() });
    let first = DiscoveryRequest { node, type_url: TypeUrl::Cluster.url().into(), ..Default::default() };
    let (requests, queue) = mpsc::channel(4);
    requests.send(first.clone()).await.unwrap();
    let queue = tokio_stream::wrappers::ReceiverStream::new(queue);
    let mut responses = client.stream_aggregated_resources(queue).await.unwrap().into_inner();
    let (_, wish, _) = control.connected().await;
    wish.send_replace(Wish::Hold(target(&[(TypeUrl::Cluster, "a", "1", 10), (TypeUrl::Cluster, "b", "1", 10)])));
    let both = soon(responses.message()).await.unwrap().unwrap();
    assert_eq!((both.resources.len(), both.type_url.as_str()), (2, TypeUrl::Cluster.url()));
    requests.send(DiscoveryRequest { response_nonce: both.nonce, node: None, ..first }).await.unwrap();
    wish.send_replace(Wish::Hold(target(&[(TypeUrl::Cluster, "a", "1", 10)])));
    assert_eq!(soon(responses.message()).await.unwrap().unwrap().resources.len(), 1);
}

#[tokio::test]
async fn many_large_first_pushes_all_get_their_turn() {
    let mut control = ControlPlane::start().await;
    // Each takes more than half of what may be under way at once.
    let sizes: Vec<String> = (0..12).map(|at| format!("c{at}")).collect();
    let large: Vec<_> = sizes.iter().map(|name| (TypeUrl::Cluster, name.as_str(), "1", 3 << 20)).collect();
    let large = target(&large);
    assert!(large.bytes() * 2 > crate::limits::ADMISSION_BYTES_MAX);
    let mut clients: Vec<Client> = (0..4).map(|_| control.client()).collect();
    let mut wishes = Vec::new();
    for _ in &clients {
        let (_, wish, _) = control.connected().await;
        wish.send_replace(Wish::Hold(large.clone()));
        wishes.push(wish);
    }
    let drain = tokio::spawn(async move { while control.events.recv().await.is_some() {} });
    let whole = clients.iter_mut().map(|client| async {
        let mut held = 0;
        while held < 12 {
            held += take(client).await.upserts.len();
        }
    });
    futures::future::join_all(whole).await;
    drain.abort();
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let reason = soon(plaintext(&url)()).await.unwrap_err();
    assert!(reason.contains("refused"), "{reason}");
    assert!(soon(plaintext("not a url")()).await.unwrap_err().contains("not an address"));
}
