//! Clusters (Envoy `cluster.v3.Cluster`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use config::{Cluster, Discovery, Http2Bounds, Http2Keepalive, Sni, TcpKeepalive, Thresholds, UpstreamProtocol};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options as protocol;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf as google;

use crate::common::{At, Reason, ads, any, duration, read_any, read_duration, read_positive, socket_address, uint32};
use crate::{balancing, budget, dynamic, endpoint, metadata, outlier, tls};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Envoy's connect timeout for a cluster that says nothing.
const ENVOY_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions of many proxies for one name are spread over this (SE07).
const DNS_JITTER: Duration = Duration::from_millis(100);
/// Envoy's bound where a threshold says nothing.
const ENVOY_THRESHOLD: u32 = 1024;
/// Envoy's panic threshold for a cluster that says nothing.
const ENVOY_PANIC_PERCENT: u32 = 50;
/// Envoy's bound on retries where a threshold says nothing.
const ENVOY_RETRIES: u32 = 3;

pub(crate) fn encode(cluster: &Cluster) -> pb::Cluster {
    let Cluster {
        name,
        discovery,
        lb,
        balancing,
        connect_timeout,
        protocol: _,
        idle_timeout: _,
        max_connection_duration: _,
        http2: _,
        max_requests_per_connection: _,
        tcp_keepalive,
        thresholds,
        outlier,
        panic_percent,
        source_address,
        source_address_v6,
        original_port,
        tls,
        service,
        origin,
    } = cluster;
    let mut out = pb::Cluster {
        name: name.to_string(),
        connect_timeout: Some(duration(*connect_timeout)),
        circuit_breakers: Some(encode_thresholds(thresholds)),
        typed_extension_protocol_options: HashMap::from([(HTTP_OPTIONS.to_owned(), any(&encode_http(cluster)))]),
        upstream_bind_config: source_address.map(|source| encode_source(source, *source_address_v6)),
        upstream_connection_options: tcp_keepalive.as_ref().map(encode_keepalive),
        outlier_detection: outlier.as_ref().map(outlier::encode),
        // Said also when it is 0, which is not Envoy's default (DR53).
        common_lb_config: Some(pb::cluster::CommonLbConfig {
            locality_config_specifier: balancing::encode_locality(balancing.locality),
            healthy_panic_threshold: Some(Percent { value: f64::from(*panic_percent) }),
            ..Default::default()
        }),
        transport_socket: tls.as_ref().filter(|tls| !tls.marked_only).map(tls::encode_client),
        transport_socket_matches: tls.iter().filter(|tls| tls.marked_only).flat_map(tls::encode_matches).collect(),
        metadata: metadata::cluster(origin, service, tls.as_ref().is_some_and(|tls| tls.announces)),
        lb_config: original_port.map(encode_original_port),
        ..Default::default()
    };
    balancing::encode(*lb, balancing, &mut out);
    encode_discovery(discovery, &mut out);
    out
}

fn encode_discovery(discovery: &Discovery, out: &mut pb::Cluster) {
    #[allow(deprecated, reason = "Envoy 1.40 still reads it, and older ones know nothing else")]
    let mut dns = |kind, endpoints| {
        out.load_assignment = Some(endpoint::encode(endpoints));
        out.respect_dns_ttl = true;
        out.dns_refresh_rate = Some(duration(dynamic::REFRESH));
        out.dns_jitter = Some(duration(DNS_JITTER));
        out.dns_lookup_family = pb::cluster::DnsLookupFamily::V4Preferred as i32;
        kind
    };
    let kind = match discovery {
        Discovery::Eds(name) => {
            out.eds_cluster_config =
                Some(pb::cluster::EdsClusterConfig { eds_config: Some(ads()), service_name: name.to_string() });
            DiscoveryType::Eds
        }
        Discovery::Static(endpoints) => {
            out.load_assignment = Some(endpoint::encode(endpoints));
            DiscoveryType::Static
        }
        Discovery::StrictDns(endpoints) => dns(DiscoveryType::StrictDns, endpoints),
        Discovery::LogicalDns(endpoints) => dns(DiscoveryType::LogicalDns, endpoints),
        Discovery::OriginalDst => DiscoveryType::OriginalDst,
        Discovery::Dynamic(cache) => {
            out.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(dynamic::encode_cluster(cache)));
            return;
        }
    };
    out.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
}

fn encode_original_port(port: u16) -> pb::cluster::LbConfig {
    pb::cluster::LbConfig::OriginalDstLbConfig(pb::cluster::OriginalDstLbConfig {
        upstream_port_override: uint32(port.into()),
        ..Default::default()
    })
}

fn decode_original_port(cluster: &pb::Cluster) -> Result<Option<u16>, Reason> {
    let Some(pb::cluster::LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config else { return Ok(None) };
    let port = config.upstream_port_override.as_ref().map(|port| u16::try_from(port.value));
    port.transpose().map_err(|_| "upstream_port_override is above 65535".into())
}

fn encode_thresholds(thresholds: &Thresholds) -> pb::CircuitBreakers {
    let Thresholds { max_connections, max_pending_requests, max_requests, max_retries, retry_budget } = *thresholds;
    let one = pb::circuit_breakers::Thresholds {
        max_connections: uint32(max_connections),
        max_pending_requests: uint32(max_pending_requests),
        max_requests: uint32(max_requests),
        max_retries: uint32(max_retries),
        retry_budget: retry_budget.as_ref().map(budget::encode),
        track_remaining: true,
        ..Default::default()
    };
    pb::CircuitBreakers { thresholds: vec![one], ..Default::default() }
}

fn encode_http(cluster: &Cluster) -> upstream::HttpProtocolOptions {
    let explicit = |config| {
        let config = protocol::ExplicitHttpConfig { protocol_config: Some(config) };
        protocol::UpstreamProtocolOptions::ExplicitHttpConfig(config)
    };
    let spoken = match cluster.protocol {
        UpstreamProtocol::Http1 => {
            explicit(protocol::explicit_http_config::ProtocolConfig::HttpProtocolOptions(Default::default()))
        }
        UpstreamProtocol::Http2 => {
            let bounds = encode_http2(&cluster.http2);
            explicit(protocol::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(bounds))
        }
        UpstreamProtocol::SameAsDownstream => {
            let both = protocol::UseDownstreamHttpConfig {
                http_protocol_options: Some(Default::default()),
                http2_protocol_options: Some(encode_http2(&cluster.http2)),
                ..Default::default()
            };
            protocol::UpstreamProtocolOptions::UseDownstreamProtocolConfig(both)
        }
    };
    let common = core::HttpProtocolOptions {
        idle_timeout: cluster.idle_timeout.map(duration),
        max_connection_duration: cluster.max_connection_duration.map(duration),
        max_requests_per_connection: cluster.max_requests_per_connection.and_then(uint32),
        ..Default::default()
    };
    let by_host = cluster.tls.as_ref().map(|tls| core::UpstreamHttpProtocolOptions {
        auto_sni: tls.sni == Sni::FromHost,
        auto_san_validation: tls.verify_host,
        ..Default::default()
    });
    upstream::HttpProtocolOptions {
        common_http_protocol_options: Some(common),
        upstream_http_protocol_options: by_host.filter(|auto| auto.auto_sni || auto.auto_san_validation),
        upstream_protocol_options: Some(spoken),
        outlier_detection: cluster.outlier.as_ref().and_then(outlier::encode_codes),
        ..Default::default()
    }
}

fn encode_http2(bounds: &Http2Bounds) -> core::Http2ProtocolOptions {
    let Http2Bounds { max_concurrent_streams, keepalive } = *bounds;
    let settings = |one: Http2Keepalive| core::KeepaliveSettings {
        interval: Some(duration(one.interval)),
        timeout: Some(duration(one.timeout)),
        ..Default::default()
    };
    core::Http2ProtocolOptions {
        max_concurrent_streams: max_concurrent_streams.and_then(uint32),
        connection_keepalive: keepalive.map(settings),
        ..Default::default()
    }
}

fn encode_source(source: IpAddr, other: Option<Ipv6Addr>) -> core::BindConfig {
    let from = |source| socket_address(SocketAddr::new(source, 0));
    core::BindConfig {
        source_address: Some(from(source)),
        extra_source_addresses: other
            .map(|other| core::ExtraSourceAddress { address: Some(from(other.into())), ..Default::default() })
            .into_iter()
            .collect(),
        ..Default::default()
    }
}

fn encode_keepalive(keepalive: &TcpKeepalive) -> pb::UpstreamConnectionOptions {
    let TcpKeepalive { probes, time_seconds, interval_seconds } = *keepalive;
    let options = core::TcpKeepalive {
        keepalive_probes: probes.and_then(uint32),
        keepalive_time: time_seconds.and_then(uint32),
        keepalive_interval: interval_seconds.and_then(uint32),
    };
    pb::UpstreamConnectionOptions { tcp_keepalive: Some(options), ..Default::default() }
}

pub(crate) fn decode(cluster: &pb::Cluster, notes: &mut Vec<String>) -> Result<Cluster, Reason> {
    note_unread(cluster, notes);
    let http = match cluster.typed_extension_protocol_options.get(HTTP_OPTIONS) {
        Some(options) => read_any::<upstream::HttpProtocolOptions>(options).transpose()?.unwrap_or_default(),
        None => legacy_http(cluster),
    };
    let auto = http.upstream_http_protocol_options.as_ref();
    let matched = tls::read_matches(&cluster.transport_socket_matches);
    let socket = matched.or(cluster.transport_socket.as_ref());
    let tls = socket.map(|socket| tls::decode_client(socket, auto)).transpose().at("transport_socket")?.flatten();
    let tls = tls.map(|tls| config::ClientTls {
        announces: metadata::read_announces(&cluster.metadata),
        marked_only: matched.is_some(),
        ..tls
    });
    let common = http.common_http_protocol_options.unwrap_or_default();
    let bind = cluster.upstream_bind_config.as_ref();
    let source = bind.and_then(|bind| bind.source_address.as_ref());
    let other = bind.and_then(|bind| bind.extra_source_addresses.first()?.address.as_ref());
    let connect_timeout = match &cluster.connect_timeout {
        Some(timeout) => read_duration(timeout).at("connect_timeout")?,
        None => ENVOY_CONNECT_TIMEOUT,
    };
    let options = cluster.upstream_connection_options.as_ref();
    Ok(Cluster {
        name: cluster.name.as_str().into(),
        discovery: decode_discovery(cluster)?,
        lb: balancing::decode_lb(cluster)?,
        balancing: balancing::decode(cluster, notes)?,
        connect_timeout,
        protocol: decode_protocol(&http),
        idle_timeout: common.idle_timeout.as_ref().map(read_duration).transpose().at("idle_timeout")?,
        max_connection_duration: read_positive(&common.max_connection_duration).at("max_connection_duration")?,
        http2: decode_http2(&http).at("http2_protocol_options")?,
        max_requests_per_connection: positive(&common.max_requests_per_connection),
        tcp_keepalive: options.and_then(|options| options.tcp_keepalive.as_ref()).map(decode_keepalive),
        thresholds: decode_thresholds(cluster.circuit_breakers.as_ref()).at("circuit_breakers")?,
        outlier: cluster
            .outlier_detection
            .as_ref()
            .map(|one| outlier::decode(one, http.outlier_detection.as_ref(), notes))
            .transpose()
            .at("outlier_detection")?,
        panic_percent: decode_panic(cluster),
        source_address: source.and_then(|source| source.address.parse().ok()),
        source_address_v6: other.and_then(|other| other.address.parse().ok()),
        original_port: decode_original_port(cluster).at("original_dst_lb_config")?,
        tls,
        service: metadata::read_service(&cluster.metadata),
        origin: metadata::read_origin(&cluster.metadata),
    })
}

fn note_unread(cluster: &pb::Cluster, notes: &mut Vec<String>) {
    let matches = &cluster.transport_socket_matches;
    let unread = [
        ("transport_socket_matches", !matches.is_empty() && tls::read_matches(matches).is_none()),
        ("health_checks", !cluster.health_checks.is_empty()),
    ];
    let unread = unread.iter().filter(|(_, set)| *set);
    notes.extend(unread.map(|(field, _)| format!("cluster {:?}: {field} is not obeyed yet", cluster.name)));
}

#[allow(deprecated, reason = "older control planes still send the fields outside of the typed options")]
fn legacy_http(cluster: &pb::Cluster) -> upstream::HttpProtocolOptions {
    use protocol::explicit_http_config::ProtocolConfig;
    let config = match cluster.http2_protocol_options.is_some() {
        true => ProtocolConfig::Http2ProtocolOptions(Default::default()),
        false => ProtocolConfig::HttpProtocolOptions(Default::default()),
    };
    let explicit = protocol::ExplicitHttpConfig { protocol_config: Some(config) };
    let mut common = cluster.common_http_protocol_options.unwrap_or_default();
    common.max_requests_per_connection = common.max_requests_per_connection.or(cluster.max_requests_per_connection);
    upstream::HttpProtocolOptions {
        common_http_protocol_options: Some(common),
        upstream_protocol_options: Some(protocol::UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    }
}

fn decode_discovery(cluster: &pb::Cluster) -> Result<Discovery, Reason> {
    let kind = match &cluster.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(*kind).map_err(|_| format!("discovery type {kind} is not known"))?
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return dynamic::decode_cluster(custom).at("cluster_type").map(Discovery::Dynamic);
        }
    };
    let given = || {
        let mut given = cluster.load_assignment.as_ref().map(endpoint::decode).transpose().at("load_assignment")?;
        if let Some(endpoints) = given.as_mut().filter(|endpoints| endpoints.cluster.is_empty()) {
            endpoints.cluster = cluster.name.as_str().into();
        }
        let empty = config::Endpoints { cluster: cluster.name.as_str().into(), localities: Vec::new() };
        Ok::<_, Reason>(given.unwrap_or(empty))
    };
    Ok(match kind {
        DiscoveryType::Eds => {
            let service = cluster.eds_cluster_config.as_ref().map(|eds| eds.service_name.as_str()).unwrap_or_default();
            Discovery::Eds(if service.is_empty() { cluster.name.as_str() } else { service }.into())
        }
        DiscoveryType::Static => Discovery::Static(given()?),
        DiscoveryType::StrictDns => Discovery::StrictDns(given()?),
        DiscoveryType::LogicalDns => Discovery::LogicalDns(given()?),
        DiscoveryType::OriginalDst => Discovery::OriginalDst,
    })
}

fn decode_protocol(http: &upstream::HttpProtocolOptions) -> UpstreamProtocol {
    use protocol::UpstreamProtocolOptions as Options;
    use protocol::explicit_http_config::ProtocolConfig;
    match &http.upstream_protocol_options {
        Some(Options::UseDownstreamProtocolConfig(_)) => UpstreamProtocol::SameAsDownstream,
        Some(Options::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => UpstreamProtocol::Http2,
            _ => UpstreamProtocol::Http1,
        },
        _ => UpstreamProtocol::Http1,
    }
}

fn decode_http2(http: &upstream::HttpProtocolOptions) -> Result<Http2Bounds, Reason> {
    use protocol::UpstreamProtocolOptions as Options;
    use protocol::explicit_http_config::ProtocolConfig;
    let options = match &http.upstream_protocol_options {
        Some(Options::UseDownstreamProtocolConfig(both)) => both.http2_protocol_options.as_ref(),
        Some(Options::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(options)) => Some(options),
            _ => None,
        },
        _ => None,
    };
    let Some(options) = options else { return Ok(Http2Bounds::default()) };
    let keepalive = match &options.connection_keepalive {
        None => None,
        Some(keepalive) => {
            let timeout = read_positive(&keepalive.timeout).at("timeout")?;
            let interval = read_positive(&keepalive.interval).at("interval")?;
            interval.zip(timeout).map(|(interval, timeout)| Http2Keepalive { interval, timeout })
        }
    };
    Ok(Http2Bounds { max_concurrent_streams: positive(&options.max_concurrent_streams), keepalive })
}

fn decode_panic(cluster: &pb::Cluster) -> u32 {
    let said = cluster.common_lb_config.as_ref().and_then(|common| common.healthy_panic_threshold.as_ref());
    said.map_or(ENVOY_PANIC_PERCENT, |percent| percent.value.clamp(0.0, 100.0) as u32)
}

fn positive(value: &Option<google::UInt32Value>) -> Option<u32> {
    value.as_ref().map(|value| value.value).filter(|value| *value > 0)
}

fn decode_keepalive(keepalive: &core::TcpKeepalive) -> TcpKeepalive {
    let value = |value: &Option<google::UInt32Value>| value.as_ref().map(|value| value.value);
    TcpKeepalive {
        probes: value(&keepalive.keepalive_probes),
        time_seconds: value(&keepalive.keepalive_time),
        interval_seconds: value(&keepalive.keepalive_interval),
    }
}

fn decode_thresholds(breakers: Option<&pb::CircuitBreakers>) -> Result<Thresholds, Reason> {
    // Priority DEFAULT (0) is the one that requests have.
    let one = breakers.and_then(|breakers| breakers.thresholds.iter().find(|one| one.priority == 0));
    let value = |value: Option<&google::UInt32Value>, default| value.map_or(default, |value| value.value);
    let retry_budget = one.and_then(|one| one.retry_budget.as_ref());
    Ok(Thresholds {
        max_connections: value(one.and_then(|one| one.max_connections.as_ref()), ENVOY_THRESHOLD),
        max_pending_requests: value(one.and_then(|one| one.max_pending_requests.as_ref()), ENVOY_THRESHOLD),
        max_requests: value(one.and_then(|one| one.max_requests.as_ref()), ENVOY_THRESHOLD),
        max_retries: value(one.and_then(|one| one.max_retries.as_ref()), ENVOY_RETRIES),
        retry_budget: retry_budget.map(budget::decode).transpose().at("retry_budget")?,
    })
}
