//! The resource types, in make-before-break order.

/// A resource type. Additions and changes go out in this order, removals in the reverse order, so that nothing ever
/// refers to what the client does not hold (xDS protocol, "eventual consistency considerations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TypeUrl {
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
}

impl TypeUrl {
    /// Every type, in order.
    pub const ALL: [TypeUrl; 5] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Route, Self::VirtualHost];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`TypeUrl::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The URL on the wire.
    pub fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
        }
    }

    /// `CDS` and so on.
    pub fn short(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoints => "EDS",
            Self::Listener => "LDS",
            Self::Route => "RDS",
            Self::VirtualHost => "VHDS",
        }
    }

    /// The type of a URL; `None` for one that is not served.
    pub fn parse(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// True for the types whose first subscription without names means everything, and whose state of the world is
    /// always sent whole.
    pub fn is_wildcard_by_default(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}
