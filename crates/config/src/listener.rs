//! Listeners: an address, the chains that a connection may fall into, and what a chain does
//! (Envoy `config.listener.v3`, the HTTP connection manager and the TCP proxy).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use words::Origin;

use crate::{
    AccessLog, Authentication, Authorization, ClusterChoice, DnsCache, DynamicHost, MetricRule, Name, RouteTable,
    ServerTls, Tracing,
};

/// One listener, by Istio's name: `virtualOutbound`, `0.0.0.0_9080`, `10.0.0.1_3306` (X51).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Listener {
    /// The LDS name.
    pub name: Name,
    /// Where it listens, or, when it does not bind, which original destinations it takes over.
    pub address: SocketAddr,
    /// The same of the other family, where a pod has both (Envoy `additional_addresses`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub also: Option<SocketAddr>,
    /// False: connections come from the listener with [`Listener::use_original_dst`] (DP03).
    pub bind_to_port: bool,
    /// True: a connection is handed to the listener of its original destination, if there is one (DP02).
    pub use_original_dst: bool,
    /// Whose traffic it carries.
    pub direction: Direction,
    /// What is looked at before a chain is chosen.
    pub filters: ListenerFilters,
    /// The chains; the most specific match wins, never the order.
    pub chains: Vec<FilterChain>,
    /// For a connection that no chain matches; `None`: it is closed.
    pub default_chain: Option<FilterChain>,
    /// The object that asked for it; `None` for what every proxy has.
    pub origin: Option<Origin>,
}

impl Listener {
    /// Where it listens: its address, and that of the other family.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        [Some(self.address), self.also].into_iter().flatten()
    }
}

/// Which way traffic goes, seen from the workload (`traffic_direction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Direction {
    /// To the application.
    Inbound,
    /// From the application, and everything at a gateway.
    Outbound,
}

/// Listener filters: what is learned of a connection before its chain is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ListenerFilters {
    /// Ask the kernel for the address that was dialled (`SO_ORIGINAL_DST`).
    pub original_dst: bool,
    /// Read SNI and ALPN from a TLS ClientHello.
    pub tls_inspector: bool,
    /// Tell HTTP/1 and HTTP/2 from other plaintext.
    pub http_inspector: bool,
    /// Every connection begins with a PROXY protocol header, version 1 or 2, which says who the client is; one without
    /// is closed (Istio `gatewayTopology.proxyProtocol`).
    pub proxy_protocol: bool,
}

/// A match on a connection and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct FilterChain {
    /// For people; `virtualOutbound-catchall-tcp` and the like (X51).
    pub name: Name,
    /// When it is chosen.
    #[serde(rename = "match")]
    pub matches: ChainMatch,
    /// TLS is terminated before anything else; `None`: the bytes are taken as they come.
    pub tls: Option<ServerTls>,
    /// What it does.
    pub filter: Filter,
    /// The object that asked for it.
    pub origin: Option<Origin>,
}

/// Conditions on a connection; an empty list or `None` matches all. Specificity decides in Envoy's order:
/// destination port, destination address, server name, transport, application protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ChainMatch {
    /// The original destination port.
    pub destination_port: Option<u16>,
    /// Ranges of the original destination address.
    pub destination_ranges: Vec<Cidr>,
    /// SNI, exact or `*.suffix`.
    pub server_names: Vec<String>,
    /// What the first bytes say.
    pub transport: TransportMatch,
    /// ALPN, or the plaintext protocols `http/1.1` and `h2c` that the HTTP inspector finds.
    pub application_protocols: Vec<String>,
}

/// Plaintext, TLS, or either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum TransportMatch {
    /// Either.
    #[default]
    Any,
    /// `raw_buffer`.
    Plaintext,
    /// `tls`.
    Tls,
}

/// An address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Cidr {
    /// Any address in it.
    pub address: IpAddr,
    /// Leading bits that count: up to 32 or 128.
    pub prefix_len: u8,
}

/// What a chain does with its connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Filter {
    /// Speak HTTP and route each request.
    Http(HttpManager),
    /// Carry the bytes.
    Tcp(TcpProxy),
}

/// The HTTP connection manager.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HttpManager {
    /// Prefix of its stats, `outbound_0.0.0.0_9080`.
    pub stat_prefix: String,
    /// Where its routes come from.
    pub routes: RouteSource,
    /// What clients may speak.
    pub codec: HttpCodec,
    /// True at gateways: the peer's address is the client's, and is appended to `x-forwarded-for` (GW29).
    pub use_remote_address: bool,
    /// Trusted proxies in front, when `use_remote_address` (mesh `gatewayTopology.numTrustedProxies`).
    pub xff_trusted_hops: u32,
    /// Requests from here are internal: their `x-envoy-*` headers are obeyed, those of all others are dropped. Empty:
    /// no request is (Envoy `internal_address_config`).
    pub internal_addresses: Vec<Cidr>,
    /// The `server` response header.
    pub server_header: ServerHeader,
    /// Let `Upgrade: websocket` through (DP07).
    pub websocket: bool,
    /// `.` and `..` and doubled encodings in paths are resolved before routing (DP07, path normalisation BASE).
    pub normalize_path: bool,
    /// Make an `x-request-id` when there is none.
    pub generate_request_id: bool,
    /// Close a stream on which nothing moved; `None`: never, Istio's default.
    pub stream_idle_timeout: Option<Duration>,
    /// Some route leads to a cluster whose hosts are named by requests ([`crate::Discovery::Dynamic`]).
    pub dynamic_hosts: Option<DnsCache>,
    /// A line per request.
    pub access_log: Vec<AccessLog>,
    /// What becomes of `x-forwarded-client-cert`.
    pub client_cert_header: ClientCertHeader,
    /// Spans; `None`: none, and trace headers pass untouched.
    pub tracing: Option<Tracing>,
    /// What is different of Istio's metrics.
    pub metrics: Vec<MetricRule>,
    /// Clusters with [`crate::ClientTls::announces`] may be reached from here. Only Envoy needs to be told.
    pub announces: bool,
    /// Whose tokens are believed; `None`: tokens are not looked at. Before [`HttpManager::authorization`].
    pub authentication: Option<Authentication>,
    /// Who may ask, in the order in which it is looked at, before a request is routed (DP06).
    pub authorization: Vec<Authorization>,
}

/// What becomes of `x-forwarded-client-cert` (`forward_client_cert_details`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum ClientCertHeader {
    /// Nobody is believed: it is removed.
    #[default]
    Remove,
    /// It is removed, and says who the client is when the client has shown a certificate (GW29).
    Set,
    /// The one of a client that has shown a certificate is kept, and says who that client is behind what it said; of
    /// others it is removed (Istio's inbound, DP07).
    Append,
}

/// Where an HTTP connection manager's routes come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RouteSource {
    /// The table of this name.
    Rds(Name),
    /// Given here (inbound).
    Inline(Arc<RouteTable>),
}

/// What clients may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum HttpCodec {
    /// HTTP/1.1, or HTTP/2 with prior knowledge, by the first bytes.
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// What becomes of the `server` response header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ServerHeader {
    /// Always this: `envoy` on outbound in Istio, `istio-envoy` at gateways.
    Overwrite(String),
    /// The upstream's, untouched; Istio's inbound.
    PassThrough,
}

/// Carry bytes to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TcpProxy {
    /// Prefix of its stats.
    pub stat_prefix: String,
    /// Where to.
    pub cluster: ClusterSplit,
    /// The client's address keeps its connections at one endpoint, for clusters that choose so (DR21).
    pub hash_source_ip: bool,
    /// Close after this long without a byte either way; `None`: 1 h.
    pub idle_timeout: Option<Duration>,
    /// The cluster's host is the one that the ClientHello names ([`crate::Discovery::Dynamic`]).
    pub dynamic_host: Option<DynamicHost>,
    /// Close a client's connection after this long, whatever it does; `None`: never (DR33).
    pub max_connection_duration: Option<Duration>,
    /// A line per connection.
    pub access_log: Vec<AccessLog>,
    /// Who may connect, in the order in which it is looked at.
    pub authorization: Vec<Authorization>,
}

/// One cluster or several by weight; the same choice as for requests.
pub type ClusterSplit = ClusterChoice;

impl Cidr {
    /// The range of one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix_len: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Reads `10.0.0.0/8` or a bare address; `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((address, bits)) = text.split_once('/') else { return text.parse().ok().map(Self::host) };
        let (address, prefix_len): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        (prefix_len <= Self::host(address).prefix_len).then_some(Self { address, prefix_len })
    }

    /// The same range with the bits that do not count at 0.
    pub fn masked(self) -> Self {
        let bits = u32::from(self.prefix_len);
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
                std::net::Ipv4Addr::from(u32::from(v4) & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
                std::net::Ipv6Addr::from(u128::from(v6) & mask).into()
            }
        };
        Self { address, ..self }
    }

    /// True when the address is in the range; families never mix.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn bits(address: IpAddr) -> u128 {
            match address {
                IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
                IpAddr::V6(v6) => u128::from(v6),
            }
        }
        if self.address.is_ipv4() != address.is_ipv4() {
            return false;
        }
        let differing = bits(self.address) ^ bits(address);
        self.prefix_len == 0 || differing >> (128 - u32::from(self.prefix_len)) == 0
    }
}

impl Listener {
    /// Every chain, the default one last.
    pub fn all_chains(&self) -> impl Iterator<Item = &FilterChain> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// The secrets that its chains name.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        self.all_chains().filter_map(|chain| chain.tls.as_ref()).flat_map(ServerTls::secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_contains() {
        let net = Cidr::parse("10.1.0.0/16").unwrap();
        assert!(net.contains("10.1.2.3".parse().unwrap()));
        assert!(!net.contains("10.2.0.0".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        assert!(Cidr::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Cidr::parse("2001:2::/48").unwrap().contains("2001:2::5".parse().unwrap()));
        assert_eq!(Cidr::parse("10.1.2.3/16").unwrap().masked(), net);
        assert_eq!(Cidr::parse("10.1.2.3/0").unwrap().masked(), Cidr::parse("0.0.0.0/0").unwrap());
        assert_eq!(Cidr::parse("2001:2::5/32").unwrap().masked(), Cidr::parse("2001:2::/32").unwrap());
        assert_eq!(Cidr::parse("10.0.0.0/33"), None);
        assert_eq!(Cidr::parse("x"), None);
    }
}
