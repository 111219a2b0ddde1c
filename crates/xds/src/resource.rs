//! One named resource, encoded once and shared by every stream that sends it.
//!
//! In: kind, name, version, the message's bytes. Out: one buffer which is the delta form (`discovery.v3.Resource`), of which
//! the `Any` (the state-of-the-world form) and the message itself are the tail. Never decodes the message.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::TypeUrl;

/// A resource and its encodings. Two resources of one kind and name are the same if their versions are.
#[derive(PartialEq, Eq)]
pub struct Resource {
    /// The type.
    pub kind: TypeUrl,
    /// The name, unique within the type.
    pub name: Arc<str>,
    /// Opaque; equal versions, equal content.
    pub version: Arc<str>,
    /// Other names it is found by.
    pub aliases: Box<[Arc<str>]>,
    delta: Bytes,
    any_at: usize,
    body_at: usize,
}

impl Resource {
    /// Encodes a resource. `version` is opaque: equal versions mean equal content.
    pub fn new(kind: TypeUrl, name: impl Into<Arc<str>>, version: &str, body: &[u8]) -> Arc<Self> {
        Self::with_aliases(kind, name, version, Vec::new(), body)
    }

    /// As [`Resource::new`], with the other names that an on-demand subscription finds it by (VHDS: `<table>/<domain>`).
    pub fn with_aliases(
        kind: TypeUrl,
        name: impl Into<Arc<str>>,
        version: &str,
        aliases: Vec<Arc<str>>,
        body: &[u8],
    ) -> Arc<Self> {
        let (name, version) = (name.into(), Arc::<str>::from(version));
        let any_len = bytes_field_len(ANY_TYPE_URL, kind.url().len()) + bytes_field_len(ANY_VALUE, body.len());
        let mut delta = BytesMut::with_capacity(
            bytes_field_len(RESOURCE_NAME, name.len())
                + bytes_field_len(RESOURCE_VERSION, version.len())
                + aliases.iter().map(|alias| bytes_field_len(RESOURCE_ALIASES, alias.len())).sum::<usize>()
                + bytes_field_len(RESOURCE_RESOURCE, any_len),
        );
        put_bytes_field(RESOURCE_NAME, name.as_bytes(), &mut delta);
        put_bytes_field(RESOURCE_VERSION, version.as_bytes(), &mut delta);
        for alias in &aliases {
            put_bytes_field(RESOURCE_ALIASES, alias.as_bytes(), &mut delta);
        }
        // The Any last, and the value last in it: so both are slices of the one buffer.
        put_bytes_header(RESOURCE_RESOURCE, any_len, &mut delta);
        let any_at = delta.len();
        put_bytes_field(ANY_TYPE_URL, kind.url().as_bytes(), &mut delta);
        put_bytes_header(ANY_VALUE, body.len(), &mut delta);
        let body_at = delta.len();
        delta.put_slice(body);
        Arc::new(Self { kind, name, version, aliases: aliases.into(), delta: delta.freeze(), any_at, body_at })
    }

    /// The message.
    pub fn body(&self) -> Bytes {
        self.delta.slice(self.body_at..)
    }

    /// An encoded `google.protobuf.Any`, as state of the world sends it.
    pub fn any(&self) -> Bytes {
        self.delta.slice(self.any_at..)
    }

    /// An encoded `envoy.service.discovery.v3.Resource`, as delta sends it.
    pub fn delta(&self) -> Bytes {
        self.delta.clone()
    }

    /// Bytes on the wire, near enough.
    pub fn size(&self) -> usize {
        self.delta.len()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{} ({} bytes)", self.kind, self.name, self.version, self.body().len())
    }
}

/// A field of wire type 2: its key and length.
pub(crate) fn put_bytes_header(tag: u32, len: usize, out: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// A field of wire type 2.
pub(crate) fn put_bytes_field(tag: u32, value: &[u8], out: &mut BytesMut) {
    put_bytes_header(tag, value.len(), out);
    out.put_slice(value);
}

/// How long [`put_bytes_field`] will be.
pub(crate) fn bytes_field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

// envoy.service.discovery.v3.Resource
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_RESOURCE: u32 = 2;
pub(crate) const RESOURCE_NAME: u32 = 3;
pub(crate) const RESOURCE_ALIASES: u32 = 4;
// google.protobuf.Any
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3 as pb;
    use prost::Message;

    #[test]
    fn the_hand_encoded_forms_are_read_by_prost() {
        let aliases = vec![Arc::from("80/a.example")];
        let resource = Resource::with_aliases(TypeUrl::VirtualHost, "80/a", "v1", aliases, b"body");
        let delta = pb::Resource::decode(resource.delta()).unwrap();
        assert_eq!((delta.name.as_str(), delta.version.as_str()), ("80/a", "v1"));
        assert_eq!(delta.aliases, ["80/a.example"]);
        let any = delta.resource.unwrap();
        assert_eq!((any.type_url.as_str(), any.value.as_slice()), (TypeUrl::VirtualHost.url(), &b"body"[..]));
        assert_eq!(any.encode_to_vec(), resource.any());
        assert_eq!(resource.body(), "body");
    }
}
