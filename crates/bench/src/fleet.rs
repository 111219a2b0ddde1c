//! A fleet of delta ADS clients in one process, as cheap as they can be: names and versions are read, bodies are not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

/// `DeltaDiscoveryResponse`, as far as a fleet needs it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Light {
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Named>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    removed: Vec<String>,
}

/// `Resource`, without its body.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Named {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    body: bytes::Bytes,
}

/// One response that a client took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Which client.
    pub client: usize,
    /// `C`, `E`, `L`, `R` or `V`.
    pub kind: char,
    /// When.
    pub at: Instant,
    /// Bytes of resources in it.
    pub bytes: usize,
    /// Resources in it.
    pub resources: usize,
}

/// A running fleet; what its clients take comes out of `took`.
pub struct Fleet {
    /// What clients took, as it comes.
    pub took: mpsc::UnboundedReceiver<Took>,
    _tasks: JoinSet<()>,
}

/// Connects `count` clients at once, each over a connection of its own. With `vhds` they take virtual hosts on their own.
pub fn start(control: SocketAddr, count: usize, vhds: bool) -> Fleet {
    let (sender, took) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for client in 0..count {
        let running = run(control, client, vhds, sender.clone());
        tasks.spawn(async move {
            if let Err(error) = running.await {
                eprintln!("client {client}: {error:#}");
            }
        });
    }
    Fleet { took, _tasks: tasks }
}

const PREFIX: &str = "type.googleapis.com/envoy.config.";

fn url(kind: char) -> String {
    let name = match kind {
        'C' => "cluster.v3.Cluster",
        'E' => "endpoint.v3.ClusterLoadAssignment",
        'L' => "listener.v3.Listener",
        'R' => "route.v3.RouteConfiguration",
        _ => "route.v3.VirtualHost",
    };
    format!("{PREFIX}{name}")
}

fn kind_of(type_url: &str) -> char {
    ['C', 'E', 'L', 'R', 'V'].into_iter().find(|kind| url(*kind) == type_url).unwrap_or('?')
}

async fn run(control: SocketAddr, client: usize, vhds: bool, took: mpsc::UnboundedSender<Took>) -> Result<()> {
    let channel = Endpoint::from_shared(format!("http://{control}"))?
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .tcp_nodelay(true)
        .connect()
        .await?;
    let (requests, queue) = mpsc::channel(16);
    let ip = format!("10.1.{}.{}", client / 250, client % 250 + 1);
    let mut metadata =
        serde_json::json!({"NAMESPACE": "bench", "LABELS": {"app": "fleet"}, "INTERCEPTION_MODE": "REDIRECT"});
    if vhds {
        metadata["SLUICE_VHDS"] = true.into();
    }
    let node =
        codec::node::encode(&format!("sidecar~{ip}~fleet-{client}.bench~bench.svc.cluster.local"), "fleet", &metadata);
    let first = DeltaDiscoveryRequest { node: Some(node), type_url: url('C'), ..Default::default() };
    requests.send(first).await?;
    requests.send(DeltaDiscoveryRequest { type_url: url('L'), ..Default::default() }).await?;
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(256 << 20);
    grpc.ready().await?;
    let path =
        PathAndQuery::from_static("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources");
    let codec: tonic_prost::ProstCodec<DeltaDiscoveryRequest, Light> = tonic_prost::ProstCodec::default();
    let mut responses =
        grpc.streaming(tonic::Request::new(ReceiverStream::new(queue)), path, codec).await?.into_inner();
    let mut asked: HashMap<char, bool> = HashMap::new();
    while let Some(response) = responses.message().await? {
        let kind = kind_of(&response.type_url);
        let bytes = response.resources.iter().map(|one| one.body.len() + one.name.len()).sum();
        let _ = took.send(Took { client, kind, at: Instant::now(), bytes, resources: response.resources.len() });
        let ack =
            DeltaDiscoveryRequest { type_url: response.type_url, response_nonce: response.nonce, ..Default::default() };
        requests.send(ack).await?;
        if kind == 'C' {
            let names: Vec<String> = response.resources.into_iter().map(|one| one.name).collect();
            let names = names.into_iter().filter(|name| name.starts_with("outbound|")).collect();
            requests
                .send(DeltaDiscoveryRequest {
                    type_url: url('E'),
                    resource_names_subscribe: names,
                    ..Default::default()
                })
                .await?;
        }
        if kind == 'L' && asked.insert('L', true).is_none() {
            for kind in ['R', 'V'].into_iter().filter(|kind| *kind == 'R' || vhds) {
                let names = vec!["9080".to_owned()];
                requests
                    .send(DeltaDiscoveryRequest {
                        type_url: url(kind),
                        resource_names_subscribe: names,
                        ..Default::default()
                    })
                    .await?;
            }
        }
    }
    anyhow::bail!("the stream ended")
}
