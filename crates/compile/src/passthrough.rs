//! Connections to destinations that no service has (DP02, VS75): let through or refused.

use std::net::SocketAddr;

use config::{
    BLACKHOLE_CLUSTER, ChainMatch, Direction, FilterChain, Listener, ListenerFilters, Name, PASSTHROUGH_CLUSTER,
};

use crate::class::Class;
use crate::listener;
use crate::mesh::{MeshConfig, OutboundTrafficPolicy};

/// What becomes of connections and requests that no service is known for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unknown {
    /// They go where the application dialled.
    Through,
    /// They are refused.
    Refused,
    /// They go to this cluster (SC16).
    To(Name),
}

impl Unknown {
    /// As the mesh says.
    pub(crate) fn of(policy: OutboundTrafficPolicy) -> Self {
        match policy {
            OutboundTrafficPolicy::AllowAny => Self::Through,
            OutboundTrafficPolicy::RegistryOnly => Self::Refused,
        }
    }
}

/// Where opaque bytes for unknown destinations go.
pub(crate) fn unknown_chain(name: &str, unknown: &Unknown, mesh: &MeshConfig) -> FilterChain {
    let cluster = match unknown {
        Unknown::Through => PASSTHROUGH_CLUSTER.into(),
        Unknown::Refused => BLACKHOLE_CLUSTER.into(),
        Unknown::To(cluster) => cluster.clone(),
    };
    listener::chain(name, listener::tcp(cluster, mesh))
}

/// The listener that iptables sends outbound connections to. It hands each to the listener of its destination; what is
/// left is unknown. Who dials it directly would go round in circles and is refused.
pub(crate) fn virtual_outbound(class: &Class, unknown: &Unknown, mesh: &MeshConfig) -> Listener {
    let address = SocketAddr::new(listener::any_address(class.v6), mesh.proxy_listen_port);
    let mut guard = listener::chain("virtualOutbound-blackhole", listener::tcp(BLACKHOLE_CLUSTER.into(), mesh));
    guard.matches = ChainMatch { destination_port: Some(mesh.proxy_listen_port), ..ChainMatch::default() };
    Listener {
        name: "virtualOutbound".into(),
        address,
        also: listener::other_family(address, class.dual),
        bind_to_port: true,
        use_original_dst: true,
        direction: Direction::Outbound,
        filters: ListenerFilters { original_dst: true, ..ListenerFilters::default() },
        chains: vec![guard],
        default_chain: Some(unknown_chain("virtualOutbound-catchall-tcp", unknown, mesh)),
        origin: None,
    }
}
