//! The resource types this mesh speaks, in the order in which they are made.
//!
//! In: a type URL. Out: a closed enum. The order of the variants is make before break: what is named comes before what
//! names it (xDS protocol, "Eventual consistency considerations").

use std::fmt;

use serde::{Serialize, Serializer};

/// A resource type. `Ord` is the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeUrl {
    /// Keys and certificates; asked for by name when a cluster or listener needs them, so nothing waits for them here.
    Secret,
    /// Filter configuration that listeners ask for by name.
    ExtensionConfig,
    /// Names and addresses for the proxy's DNS answers (Istio's NDS); nothing waits for them.
    NameTable,
    /// Clusters.
    Cluster,
    /// The endpoints of one cluster.
    Endpoints,
    /// Listeners.
    Listener,
    /// Route tables.
    Route,
    /// Virtual hosts on their own, named `<route table>/<virtual host>`.
    VirtualHost,
}

impl TypeUrl {
    /// How many types there are; the length of every by-type array.
    pub const COUNT: usize = 8;

    /// Every type, in sending order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Secret,
        Self::ExtensionConfig,
        Self::NameTable,
        Self::Cluster,
        Self::Endpoints,
        Self::Listener,
        Self::Route,
        Self::VirtualHost,
    ];

    /// The types that wait for each other. xDS protocol, "Eventual consistency considerations": CDS, EDS, LDS, RDS, then
    /// VHDS.
    pub const ORDERED: [Self; 5] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Route, Self::VirtualHost];

    /// The URL on the wire.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::ExtensionConfig => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::NameTable => "type.googleapis.com/istio.networking.nds.v1.NameTable",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
        }
    }

    /// The short name people use.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Secret => "SDS",
            Self::ExtensionConfig => "ECDS",
            Self::NameTable => "NDS",
            Self::Cluster => "CDS",
            Self::Endpoints => "EDS",
            Self::Listener => "LDS",
            Self::Route => "RDS",
            Self::VirtualHost => "VHDS",
        }
    }

    /// The type of a URL, if we know it.
    pub fn parse(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// True for the types whose first request without names means "everything", and whose state-of-the-world response
    /// must hold everything (xDS protocol, "How the client specifies what resources to return"). Istio's agent asks for
    /// its one name table so.
    pub const fn is_wildcard_by_default(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::NameTable)
    }

    /// Its place in [`TypeUrl::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl Serialize for TypeUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_back_and_the_order_is_the_index() {
        for (position, kind) in TypeUrl::ALL.into_iter().enumerate() {
            assert_eq!(TypeUrl::parse(kind.url()), Some(kind));
            assert_eq!(kind.index(), position);
        }
        assert_eq!(TypeUrl::parse("istio.io/debug/syncz"), None);
    }
}
