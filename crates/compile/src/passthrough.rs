//! Connections to destinations that no service has (DP02, VS75): let through or refused.

use std::net::SocketAddr;

use config::{BLACKHOLE_CLUSTER, ChainMatch, Direction, FilterChain, Listener, ListenerFilters, PASSTHROUGH_CLUSTER};

use crate::listener;
use crate::mesh::{MeshConfig, OutboundTrafficPolicy};

/// Where opaque bytes for unknown destinations go.
pub(crate) fn unknown_chain(name: &str, policy: OutboundTrafficPolicy, mesh: &MeshConfig) -> FilterChain {
    let cluster = match policy {
        OutboundTrafficPolicy::AllowAny => PASSTHROUGH_CLUSTER,
        OutboundTrafficPolicy::RegistryOnly => BLACKHOLE_CLUSTER,
    };
    listener::chain(name, listener::tcp(cluster.into(), mesh))
}

/// The listener that iptables sends outbound connections to. It hands each to the listener of its destination; what is
/// left is unknown. Who dials it directly would go round in circles and is refused.
pub(crate) fn virtual_outbound(v6: bool, policy: OutboundTrafficPolicy, mesh: &MeshConfig) -> Listener {
    let address = SocketAddr::new(listener::any_address(v6), mesh.proxy_listen_port);
    let mut guard = listener::chain("virtualOutbound-blackhole", listener::tcp(BLACKHOLE_CLUSTER.into(), mesh));
    guard.matches = ChainMatch { destination_port: Some(mesh.proxy_listen_port), ..ChainMatch::default() };
    Listener {
        name: "virtualOutbound".into(),
        address,
        bind_to_port: true,
        use_original_dst: true,
        direction: Direction::Outbound,
        filters: ListenerFilters { original_dst: true, ..ListenerFilters::default() },
        chains: vec![guard],
        default_chain: Some(unknown_chain("virtualOutbound-catchall-tcp", policy, mesh)),
        origin: None,
    }
}
