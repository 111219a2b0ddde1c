//! A response, made of resources that are encoded already: the bytes are only joined.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::resource::field;
use crate::server::Mode;
use crate::{Resource, TypeUrl};

/// A response ready to be written.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its type.
    pub kind: TypeUrl,
    /// Its nonce.
    pub nonce: String,
    /// Resources in it.
    pub resources: Vec<Arc<Resource>>,
    /// Names that are gone; only in delta.
    pub removed: Vec<Arc<str>>,
    pub(crate) mode: Mode,
}

// Both messages have `resources` as field 2.
const RESOURCES: u32 = 2;

impl Frame {
    /// Bytes on the wire, about.
    pub fn size(&self) -> usize {
        let part = |resource: &Arc<Resource>| self.part(resource).len();
        let resources: usize = self.resources.iter().map(|resource| part(resource) + 1 + encoded_len_varint(part(resource) as u64)).sum();
        resources + self.removed.iter().map(|name| name.len() + 4).sum::<usize>() + 128
    }

    fn part<'a>(&self, resource: &'a Arc<Resource>) -> &'a Bytes {
        match self.mode {
            Mode::Delta => &resource.delta,
            Mode::Sotw => &resource.any,
        }
    }

    /// Writes the message: `DeltaDiscoveryResponse`, or `DiscoveryResponse`.
    pub fn encode(&self, out: &mut impl BufMut) {
        let mut small = BytesMut::with_capacity(192);
        // The version of the whole; each resource has its own in delta.
        field(&mut small, 1, self.nonce.as_bytes());
        out.put_slice(&small);
        for resource in &self.resources {
            let bytes = self.part(resource);
            encode_key(RESOURCES, WireType::LengthDelimited, out);
            encode_varint(bytes.len() as u64, out);
            out.put_slice(bytes);
        }
        small.clear();
        field(&mut small, 4, self.kind.url().as_bytes());
        field(&mut small, 5, self.nonce.as_bytes());
        out.put_slice(&small);
        for name in self.removed.iter().filter(|_| self.mode == Mode::Delta) {
            small.clear();
            field(&mut small, 6, name.as_bytes());
            out.put_slice(&small);
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use prost::Message;

    use super::*;

    #[test]
    fn frames_are_what_prost_reads() {
        let resources = vec![Resource::new(TypeUrl::Route, "r".into(), "1", b"x")];
        let mut frame = Frame { kind: TypeUrl::Route, nonce: "7".into(), resources, removed: vec!["gone".into()], mode: Mode::Delta };
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        let delta = DeltaDiscoveryResponse::decode(bytes.as_ref()).unwrap();
        assert_eq!((delta.nonce.as_str(), delta.type_url.as_str()), ("7", TypeUrl::Route.url()));
        assert_eq!((delta.resources[0].name.as_str(), delta.removed_resources[0].as_str()), ("r", "gone"));
        frame.mode = Mode::Sotw;
        bytes.clear();
        frame.encode(&mut bytes);
        let sotw = DiscoveryResponse::decode(bytes.as_ref()).unwrap();
        assert_eq!((sotw.version_info.as_str(), sotw.resources[0].value.as_slice()), ("7", b"x".as_slice()));
    }
}
