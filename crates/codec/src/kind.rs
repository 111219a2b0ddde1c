//! The kinds of resources, and reading one of any kind.

use config::{Cluster, Endpoints, Listener, NameTable, RouteTable, Secret, VirtualHost};
use envoy_types::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as PbListener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost as PbVirtualHost};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret as PbSecret;
use prost::Message;

use crate::common::Reason;
use crate::name_table::{self, PbNameTable};
use crate::{cluster, endpoint, listener, route, secret};

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// VHDS.
    VirtualHost,
    /// NDS.
    NameTable,
    /// SDS.
    Secret,
}

impl ResourceKind {
    /// The type URL on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::NameTable => "type.googleapis.com/istio.networking.nds.v1.NameTable",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }
}

/// A resource as a value, with what was not understood and changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A cluster.
    Cluster(Cluster),
    /// The endpoints of a cluster.
    Endpoints(Endpoints),
    /// A listener.
    Listener(Listener),
    /// A route table.
    Route {
        /// The table; without virtual hosts when they travel on their own.
        table: RouteTable,
        /// True when its virtual hosts are VHDS resources.
        vhds: bool,
    },
    /// A virtual host.
    VirtualHost(VirtualHost),
    /// Names and addresses.
    NameTable(NameTable),
    /// A secret.
    Secret(Secret),
}

/// A resource that cannot be obeyed; the text of a NACK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} {name:?}: {reason}")]
pub struct Rejected {
    /// Kind.
    pub kind: ResourceKind,
    /// The resource's name.
    pub name: String,
    /// Path in it and what is wrong there.
    pub reason: String,
}

/// Reads a resource. `name` is the one it was sent under; it is only for messages.
///
/// # Errors
/// What cannot be obeyed at all. What is merely not understood, and can be left out without sending a request where it
/// must not go, is a note.
pub fn decode(kind: ResourceKind, name: &str, body: &[u8]) -> Result<(Decoded, Vec<String>), Rejected> {
    let mut notes = Vec::new();
    let decoded = match kind {
        ResourceKind::Cluster => {
            message::<PbCluster>(body).and_then(|value| cluster::decode(&value, &mut notes)).map(Decoded::Cluster)
        }
        ResourceKind::Endpoints => {
            message::<ClusterLoadAssignment>(body).and_then(|value| endpoint::decode(&value)).map(Decoded::Endpoints)
        }
        ResourceKind::Listener => {
            message::<PbListener>(body).and_then(|value| listener::decode(&value, &mut notes)).map(Decoded::Listener)
        }
        ResourceKind::Route => message::<RouteConfiguration>(body)
            .and_then(|value| route::decode_table(&value, &mut notes))
            .map(|(table, vhds)| Decoded::Route { table, vhds }),
        ResourceKind::VirtualHost => message::<PbVirtualHost>(body)
            .and_then(|value| route::decode_host(&value, &mut notes))
            .map(Decoded::VirtualHost),
        ResourceKind::NameTable => {
            message::<PbNameTable>(body).and_then(|value| name_table::decode(&value)).map(Decoded::NameTable)
        }
        ResourceKind::Secret => message::<PbSecret>(body).and_then(|value| secret::decode(&value)).map(Decoded::Secret),
    };
    decoded.map(|value| (value, notes)).map_err(|reason| Rejected { kind, name: name.to_owned(), reason })
}

fn message<M: Message + Default>(body: &[u8]) -> Result<M, Reason> {
    M::decode(body).map_err(|error| format!("not a message of this type: {error}"))
}
