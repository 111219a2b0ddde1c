//! tonic codecs: requests are decoded by prost, responses are joined from bytes that are there already.

use bytes::Buf;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::server::Request;
use crate::{Frame, Mode};

/// A request with the node it may carry.
pub(crate) struct Incoming {
    pub(crate) request: Request,
    pub(crate) node: Option<envoy_types::pb::envoy::config::core::v3::Node>,
}

#[derive(Clone, Copy)]
pub(crate) struct FrameCodec(pub(crate) Mode);

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = Incoming;
    type Encoder = FrameEncoder;
    type Decoder = RequestDecoder;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> RequestDecoder {
        RequestDecoder(self.0)
    }
}

pub(crate) struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(frame.size());
        frame.encode(out);
        Ok(())
    }
}

pub(crate) struct RequestDecoder(Mode);

impl Decoder for RequestDecoder {
    type Item = Incoming;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Incoming>, Status> {
        let bad = |error| Status::invalid_argument(format!("not a discovery request: {error}"));
        let bytes = bytes.copy_to_bytes(bytes.remaining());
        Ok(Some(match self.0 {
            Mode::Delta => delta(DeltaDiscoveryRequest::decode(bytes).map_err(bad)?),
            Mode::Sotw => sotw(DiscoveryRequest::decode(bytes).map_err(bad)?),
        }))
    }
}

fn delta(request: DeltaDiscoveryRequest) -> Incoming {
    let node = request.node;
    let request = Request {
        type_url: request.type_url,
        names: request.resource_names_subscribe,
        unsubscribe: request.resource_names_unsubscribe,
        initial_versions: request.initial_resource_versions.into_iter().collect(),
        nonce: request.response_nonce,
        error: request.error_detail.map(|status| status.message),
    };
    Incoming { request, node }
}

fn sotw(request: DiscoveryRequest) -> Incoming {
    let node = request.node;
    let request = Request {
        type_url: request.type_url,
        names: request.resource_names,
        nonce: request.response_nonce,
        error: request.error_detail.map(|status| status.message),
        ..Request::default()
    };
    Incoming { request, node }
}
