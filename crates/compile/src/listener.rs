//! Pieces that listeners are made of: names, HTTP managers and TCP proxies with Istio's defaults (X51, DP07).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use config::{
    ChainMatch, ClientCertHeader, ClusterChoice, Direction, DnsCache, Filter, FilterChain, HttpCodec, HttpManager,
    Listener, ListenerFilters, Name, RouteSource, ServerHeader, TcpProxy, TransportMatch,
};
use words::Origin;

use crate::mesh::MeshConfig;

/// Chains that a detected or HTTP port sends plaintext HTTP into (X43).
const HTTP_PROTOCOLS: [&str; 2] = ["http/1.1", "h2c"];

/// Never, said with the longest duration that is accepted: on the wire an absent timeout means an hour.
const NEVER: Duration = Duration::from_secs(words::duration::HOURS_MAX * 3600);

/// Every address of a family.
pub(crate) fn any_address(v6: bool) -> IpAddr {
    match v6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Every address of IPv6 beside every address of IPv4, where a pod has both.
pub(crate) fn other_family(address: SocketAddr, dual: bool) -> Option<SocketAddr> {
    let both = dual && address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    both.then(|| SocketAddr::new(any_address(true), address.port()))
}

/// `<bind>_<port>` (X51).
pub(crate) fn name(address: SocketAddr) -> Name {
    format!("{}_{}", address.ip(), address.port()).into()
}

/// A listener without chains that only takes over connections of the capturing one (DP03).
pub(crate) fn captured(address: SocketAddr, origin: Option<Origin>) -> Listener {
    Listener {
        name: name(address),
        address,
        also: None,
        bind_to_port: false,
        use_original_dst: false,
        direction: Direction::Outbound,
        filters: ListenerFilters::default(),
        chains: Vec::new(),
        default_chain: None,
        origin,
    }
}

/// A chain for every connection.
pub(crate) fn chain(name: impl Into<Name>, filter: Filter) -> FilterChain {
    FilterChain { name: name.into(), matches: ChainMatch::default(), tls: None, filter, origin: None }
}

/// Only connections whose first bytes are plaintext HTTP.
pub(crate) fn plaintext_http() -> ChainMatch {
    ChainMatch {
        transport: TransportMatch::Plaintext,
        application_protocols: HTTP_PROTOCOLS.map(str::to_owned).to_vec(),
        ..ChainMatch::default()
    }
}

/// What [`plaintext_http`] needs to know.
pub(crate) fn sniffing() -> ListenerFilters {
    ListenerFilters { tls_inspector: true, http_inspector: true, ..ListenerFilters::default() }
}

/// What an SNI match needs to know.
pub(crate) fn reading_names() -> ListenerFilters {
    ListenerFilters { tls_inspector: true, ..ListenerFilters::default() }
}

/// A TCP proxy to one cluster.
pub(crate) fn tcp(cluster: Name, mesh: &MeshConfig) -> Filter {
    Filter::Tcp(tcp_proxy(cluster.to_string(), ClusterChoice::One(cluster), Bounds::default(), mesh))
}

/// What a DestinationRule says about connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// Without a byte; `None`: an hour, 0: for ever (DR34).
    pub(crate) idle: Option<Duration>,
    /// Whatever it does; `None`: for ever (DR33).
    pub(crate) age: Option<Duration>,
    /// The client's address keeps its connections at one pod (DR21).
    pub(crate) by_source: bool,
}

/// A TCP proxy.
pub(crate) fn tcp_proxy(stat_prefix: String, cluster: ClusterChoice, bounds: Bounds, mesh: &MeshConfig) -> TcpProxy {
    TcpProxy {
        stat_prefix,
        cluster,
        hash_source_ip: bounds.by_source,
        idle_timeout: bounds.idle.map(|idle| if idle.is_zero() { NEVER } else { idle }),
        max_connection_duration: bounds.age,
        dynamic_host: None,
        access_log: mesh.access_logs(),
        authorization: Vec::new(),
    }
}

/// Who an HTTP manager works for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A sidecar's application, outwards.
    Outbound,
    /// A sidecar's application, inwards.
    Inbound,
    /// The edge.
    Gateway,
}

/// An HTTP manager with Istio's settings for its side (DP07, GW29). `cache`: some service has its hosts named by requests.
pub(crate) fn http(
    side: Side,
    stat_prefix: String,
    routes: RouteSource,
    cache: Option<&DnsCache>,
    mesh: &MeshConfig,
) -> Filter {
    Filter::Http(HttpManager {
        stat_prefix,
        routes,
        codec: HttpCodec::Auto,
        use_remote_address: side == Side::Gateway,
        xff_trusted_hops: 0,
        internal_addresses: mesh.internal_addresses.clone(),
        server_header: match side {
            Side::Outbound => ServerHeader::Overwrite("envoy".into()),
            Side::Gateway => ServerHeader::Overwrite("istio-envoy".into()),
            Side::Inbound => ServerHeader::PassThrough,
        },
        websocket: true,
        normalize_path: true,
        generate_request_id: true,
        stream_idle_timeout: mesh.stream_idle_timeout,
        dynamic_hosts: cache.cloned(),
        access_log: mesh.access_logs(),
        client_cert_header: match side {
            Side::Gateway => ClientCertHeader::Set,
            Side::Outbound | Side::Inbound => ClientCertHeader::Remove,
        },
        tracing: None,
        metrics: Vec::new(),
        announces: false,
        authentication: None,
        authorization: Vec::new(),
    })
}
