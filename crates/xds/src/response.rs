//! The next message to a client, as references to shared bytes.
//!
//! In: resources and names. Out: pieces of an encoded `DeltaDiscoveryResponse` or `DiscoveryResponse`, made as the socket
//! takes them. Never copies a resource until then, never re-encodes one.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::resource::{RESOURCE_ALIASES, RESOURCE_NAME, bytes_field_len, put_bytes_field, put_bytes_header};
use crate::{Mode, Resource, TypeUrl};

/// A response to send.
#[derive(Clone, Debug)]
pub struct Response {
    /// Which of the two messages it is.
    pub mode: Mode,
    /// The type; none for the empty answer to a URL we do not know.
    pub kind: Option<TypeUrl>,
    /// The type URL as the client wrote it.
    pub type_url: Cow<'static, str>,
    /// `version_info` or `system_version_info`; for people.
    pub version: String,
    /// What the ACK or NACK will name.
    pub nonce: String,
    /// Resources.
    pub resources: Vec<Arc<Resource>>,
    /// Delta: names the client shall no longer hold, or asked for in vain.
    pub removed: Vec<Arc<str>>,
    /// VHDS: on-demand names that exist nowhere, answered by a `Resource` without a body
    /// (Envoy VHDS: "a Resource with the alias and no resource").
    pub absent: Vec<Arc<str>>,
}

impl Response {
    /// The length of the message.
    pub fn encoded_len(&self) -> usize {
        (0..self.pieces()).map(|index| self.piece_len(index)).sum()
    }

    /// The message whole; for tests and for small ones.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        for index in 0..self.pieces() {
            if let Some(shared) = self.put_piece(index, &mut out) {
                out.extend_from_slice(&shared);
            }
        }
        out.freeze()
    }

    /// How many pieces it has: one head, then one per resource and name.
    pub(crate) fn pieces(&self) -> usize {
        1 + self.resources.len() + self.removed.len() + self.absent.len()
    }

    /// Writes a piece; a resource's own bytes are given back instead, to be written after it or passed on shared.
    pub(crate) fn put_piece(&self, index: usize, out: &mut BytesMut) -> Option<Bytes> {
        match self.piece(index) {
            Piece::Head => {
                let (version, url, nonce) = HEAD_TAGS;
                put_bytes_field(version, self.version.as_bytes(), out);
                put_bytes_field(url, self.type_url.as_bytes(), out);
                put_bytes_field(nonce, self.nonce.as_bytes(), out);
                None
            }
            Piece::Resource(resource) => {
                let bytes = self.form(resource);
                put_bytes_header(RESOURCES, bytes.len(), out);
                Some(bytes)
            }
            Piece::Removed(name) => {
                put_bytes_field(DELTA_REMOVED, name.as_bytes(), out);
                None
            }
            Piece::Absent(name) => {
                put_bytes_header(RESOURCES, absent_len(name), out);
                put_bytes_field(RESOURCE_NAME, name.as_bytes(), out);
                put_bytes_field(RESOURCE_ALIASES, name.as_bytes(), out);
                None
            }
        }
    }

    fn piece_len(&self, index: usize) -> usize {
        match self.piece(index) {
            Piece::Head => {
                let (version, url, nonce) = HEAD_TAGS;
                bytes_field_len(version, self.version.len())
                    + bytes_field_len(url, self.type_url.len())
                    + bytes_field_len(nonce, self.nonce.len())
            }
            Piece::Resource(resource) => bytes_field_len(RESOURCES, self.form(resource).len()),
            Piece::Removed(name) => bytes_field_len(DELTA_REMOVED, name.len()),
            Piece::Absent(name) => bytes_field_len(RESOURCES, absent_len(name)),
        }
    }

    fn piece(&self, index: usize) -> Piece<'_> {
        let Some(index) = index.checked_sub(1) else { return Piece::Head };
        let Some(rest) = index.checked_sub(self.resources.len()) else {
            return Piece::Resource(&self.resources[index]);
        };
        match rest.checked_sub(self.removed.len()) {
            None => Piece::Removed(&self.removed[rest]),
            Some(absent) => Piece::Absent(&self.absent[absent]),
        }
    }

    fn form(&self, resource: &Resource) -> Bytes {
        match self.mode {
            Mode::Delta => resource.delta(),
            Mode::Sotw => resource.any(),
        }
    }
}

enum Piece<'a> {
    Head,
    Resource(&'a Resource),
    Removed(&'a str),
    Absent(&'a str),
}

fn absent_len(name: &str) -> usize {
    bytes_field_len(RESOURCE_NAME, name.len()) + bytes_field_len(RESOURCE_ALIASES, name.len())
}

// `version_info` or `system_version_info`, `type_url`, `nonce`: the same tags in both messages.
const HEAD_TAGS: (u32, u32, u32) = (1, 4, 5);
// `resources` is tag 2 in DeltaDiscoveryResponse and in DiscoveryResponse.
const RESOURCES: u32 = 2;
const DELTA_REMOVED: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3 as pb;
    use prost::Message;

    fn response(mode: Mode) -> Response {
        Response {
            mode,
            kind: Some(TypeUrl::VirtualHost),
            type_url: TypeUrl::VirtualHost.url().into(),
            version: "7".into(),
            nonce: "n1".into(),
            resources: vec![Resource::new(TypeUrl::VirtualHost, "80/a", "v1", b"body")],
            removed: Vec::new(),
            absent: Vec::new(),
        }
    }

    #[test]
    fn delta_is_read_by_prost() {
        let mut response = response(Mode::Delta);
        response.removed = vec!["80/b".into()];
        response.absent = vec!["80/c".into()];
        let bytes = response.encode();
        assert_eq!(bytes.len(), response.encoded_len());
        let read = pb::DeltaDiscoveryResponse::decode(bytes).unwrap();
        assert_eq!((read.nonce.as_str(), read.system_version_info.as_str()), ("n1", "7"));
        assert_eq!(read.type_url, TypeUrl::VirtualHost.url());
        assert_eq!(read.removed_resources, ["80/b"]);
        assert_eq!(read.resources[0].resource.as_ref().unwrap().value, b"body");
        assert_eq!((read.resources[1].name.as_str(), read.resources[1].resource.is_none()), ("80/c", true));
        assert_eq!(read.resources[1].aliases, ["80/c"]);
    }

    #[test]
    fn state_of_the_world_is_read_by_prost() {
        let response = response(Mode::Sotw);
        let read = pb::DiscoveryResponse::decode(response.encode()).unwrap();
        assert_eq!((read.nonce.as_str(), read.version_info.as_str()), ("n1", "7"));
        assert_eq!(read.type_url, TypeUrl::VirtualHost.url());
        assert_eq!(read.resources[0].value, b"body");
    }
}
