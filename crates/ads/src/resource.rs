//! One named resource, encoded once and shared by every stream that sends it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::TypeUrl;

/// A resource in both forms that the protocol knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its type.
    pub kind: TypeUrl,
    /// Its name.
    pub name: Arc<str>,
    /// What it says, in short: equal versions, equal content.
    pub version: Arc<str>,
    /// `envoy.service.discovery.v3.Resource`, encoded: an element of `DeltaDiscoveryResponse.resources`.
    pub(crate) delta: Bytes,
    /// `google.protobuf.Any`, encoded: an element of `DiscoveryResponse.resources`. A part of `delta`.
    pub(crate) any: Bytes,
}

impl Resource {
    /// A resource from its encoded message.
    pub fn new(kind: TypeUrl, name: Arc<str>, version: &str, body: &[u8]) -> Arc<Self> {
        let any = any(kind.url(), body);
        let mut delta = BytesMut::with_capacity(any.len() + name.len() + version.len() + 16);
        field(&mut delta, 1, version.as_bytes());
        field(&mut delta, 3, name.as_bytes());
        field(&mut delta, 2, &any);
        let delta = delta.freeze();
        // The Any stands at the end of the larger message: both forms share one allocation.
        let any = delta.slice(delta.len() - any.len()..);
        Arc::new(Self { kind, name, version: version.into(), any, delta })
    }

    /// Bytes it takes on a delta stream.
    pub fn size(&self) -> usize {
        self.delta.len()
    }
}

fn any(url: &str, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(url.len() + body.len() + 16);
    field(&mut out, 1, url.as_bytes());
    field(&mut out, 2, body);
    out.freeze()
}

/// Appends a length-delimited field.
pub(crate) fn field(out: &mut BytesMut, tag: u32, value: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::Resource as Pb;
    use prost::Message;

    use super::*;

    #[test]
    fn both_forms_are_what_prost_reads() {
        let resource = Resource::new(TypeUrl::Cluster, "a".into(), "v1", b"body");
        let read = Pb::decode(resource.delta.as_ref()).unwrap();
        assert_eq!((read.name.as_str(), read.version.as_str()), ("a", "v1"));
        let any = read.resource.unwrap();
        assert_eq!((any.type_url.as_str(), any.value.as_slice()), (TypeUrl::Cluster.url(), b"body".as_slice()));
        assert_eq!(any.encode_to_vec(), resource.any.as_ref());
    }
}
