//! The explicit-proxy listener: applications name it as their HTTP proxy, or send it requests with a Host header. Needs
//! no iptables and sees no dialled address; its table has all HTTP services on all ports.

use std::net::SocketAddr;

use config::{DnsCache, Listener, RouteSource};

use crate::listener::{self, Side};
use crate::mesh::MeshConfig;
use crate::route_table::EXPLICIT;

/// The listener at an address.
pub(crate) fn listener(address: SocketAddr, cache: Option<&DnsCache>, mesh: &MeshConfig) -> Listener {
    let mut made = listener::captured(address, None);
    made.bind_to_port = true;
    let routes = RouteSource::Rds(EXPLICIT.into());
    let http = listener::http(Side::Outbound, format!("outbound_{}", made.name), routes, cache, mesh);
    made.chains.push(listener::chain(made.name.clone(), http));
    made
}
