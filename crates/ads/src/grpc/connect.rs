//! The client's end: one delta stream to a control plane.

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

use crate::limits::RESPONSE_BYTES_MAX;

/// Requests between us and the socket; a client sends few, and each is small.
const REQUESTS_QUEUED_MAX: usize = 64;
/// Longest that connecting may take.
const CONNECT_SECONDS_MAX: u64 = 5;
/// A connection that does not answer a ping for this long is dead.
const KEEPALIVE_SECONDS: u64 = 30;

/// One stream.
pub struct ClientStream {
    /// Requests to send.
    pub requests: mpsc::Sender<DeltaDiscoveryRequest>,
    /// Responses as they come.
    pub responses: Streaming<DeltaDiscoveryResponse>,
}

/// Opens a stream. `first` must hold the first requests: a server may wait for them before it answers at all.
///
/// # Errors
/// A sentence that names the address and the reason.
pub async fn connect(url: &str, first: Vec<DeltaDiscoveryRequest>) -> Result<ClientStream, String> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .http2_keep_alive_interval(Duration::from_secs(KEEPALIVE_SECONDS))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let channel = endpoint.connect().await.map_err(|error| format!("control plane {url} cannot be reached: {}", root(&error)))?;
    let (requests, queue) = mpsc::channel(REQUESTS_QUEUED_MAX);
    for request in first {
        // The queue is longer than there are types.
        requests.send(request).await.map_err(|_| format!("control plane {url}: the stream closed at once"))?;
    }
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let answer = client.delta_aggregated_resources(ReceiverStream::new(queue)).await;
    let responses = answer.map_err(|status| format!("control plane {url} refuses the stream: {}", words(&status)))?.into_inner();
    Ok(ClientStream { requests, responses })
}

/// A status in words.
pub(super) fn words(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}

// The innermost cause says what a person can act on ("connection refused"), the outer ones only that it failed.
fn root(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
