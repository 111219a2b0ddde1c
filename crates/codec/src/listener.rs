//! Listeners and their filter chains (Envoy `listener.v3`).

use std::net::SocketAddr;

use config::{ChainMatch, Cidr, Direction, Filter, FilterChain, Listener, ListenerFilters, TcpProxy, TransportMatch};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as PbTcpProxy;
use envoy_types::pb::google::protobuf::Any;

use crate::common::{
    At, Reason, address, any, boolean, cidr, is_true, read_any, read_cidr, read_socket_address, uint32,
};
use crate::{authorization, dynamic, http, metadata, tcp, tls};

const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";
const TLS_INSPECTOR: &str = "envoy.filters.listener.tls_inspector";
const HTTP_INSPECTOR: &str = "envoy.filters.listener.http_inspector";
const PROXY_PROTOCOL: &str = "envoy.filters.listener.proxy_protocol";
const HTTP: &str = "envoy.filters.network.http_connection_manager";
const TCP: &str = "envoy.filters.network.tcp_proxy";

pub(crate) fn encode(listener: &Listener) -> pb::Listener {
    let Listener {
        name,
        address: place,
        also,
        bind_to_port,
        use_original_dst,
        direction,
        filters,
        chains,
        default_chain,
        origin,
    } = listener;
    let direction = match direction {
        Direction::Inbound => core::TrafficDirection::Inbound,
        Direction::Outbound => core::TrafficDirection::Outbound,
    };
    pb::Listener {
        name: name.to_string(),
        address: Some(address(*place)),
        additional_addresses: also.iter().map(|also| additional(*also)).collect(),
        bind_to_port: (!bind_to_port).then(|| boolean(false)).flatten(),
        use_original_dst: use_original_dst.then(|| boolean(true)).flatten(),
        traffic_direction: direction as i32,
        listener_filters: encode_filters(*filters),
        // A client that says nothing (server-first protocols) must still get its connection (TR84).
        listener_filters_timeout: Some(Default::default()),
        continue_on_listener_filters_timeout: true,
        filter_chains: chains.iter().map(encode_chain).collect(),
        default_filter_chain: default_chain.as_ref().map(encode_chain),
        metadata: metadata::origin(origin),
        ..Default::default()
    }
}

fn additional(place: SocketAddr) -> pb::AdditionalAddress {
    pb::AdditionalAddress { address: Some(address(place)), ..Default::default() }
}

fn decode_address(place: Option<&core::Address>) -> Result<SocketAddr, Reason> {
    match place.and_then(|address| address.address.as_ref()) {
        Some(core::address::Address::SocketAddress(socket)) => read_socket_address(socket),
        _ => Err("only socket addresses are read".into()),
    }
}

fn encode_filters(filters: ListenerFilters) -> Vec<pb::ListenerFilter> {
    let ListenerFilters { original_dst, tls_inspector, http_inspector, proxy_protocol } = filters;
    let filter = |name: &str, config: Any| pb::ListenerFilter {
        name: name.into(),
        config_type: Some(pb::listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    // The header comes before anything that can be inspected.
    let all = [
        proxy_protocol.then(|| filter(PROXY_PROTOCOL, any(&ProxyProtocol::default()))),
        original_dst.then(|| filter(ORIGINAL_DST, any(&OriginalDst {}))),
        tls_inspector.then(|| filter(TLS_INSPECTOR, any(&TlsInspector::default()))),
        http_inspector.then(|| filter(HTTP_INSPECTOR, any(&HttpInspector {}))),
    ];
    all.into_iter().flatten().collect()
}

fn encode_chain(chain: &FilterChain) -> pb::FilterChain {
    let FilterChain { name, matches, tls, filter, origin } = chain;
    let (filter_name, config) = match filter {
        Filter::Http(manager) => (HTTP, any(&http::encode(manager))),
        Filter::Tcp(proxy) => (TCP, any(&tcp::encode(proxy))),
    };
    let sni = match filter {
        Filter::Tcp(TcpProxy { dynamic_host: Some(host), .. }) => Some((dynamic::SNI, dynamic::encode_sni(host))),
        Filter::Tcp(_) | Filter::Http(_) => None,
    };
    let guards = match filter {
        Filter::Tcp(tcp) => tcp.authorization.as_slice(),
        Filter::Http(_) => &[],
    };
    let guards = guards.iter().map(|one| (authorization::NETWORK_FILTER, authorization::network_filter(one)));
    let filters = guards.chain(sni).chain([(filter_name, config)]).map(|(name, config)| pb::Filter {
        name: name.into(),
        config_type: Some(pb::filter::ConfigType::TypedConfig(config)),
    });
    pb::FilterChain {
        name: name.to_string(),
        filter_chain_match: (*matches != ChainMatch::default()).then(|| encode_match(matches)),
        filters: filters.collect(),
        transport_socket: tls.as_ref().map(tls::encode_server),
        metadata: metadata::origin(origin),
        ..Default::default()
    }
}

fn encode_match(matches: &ChainMatch) -> pb::FilterChainMatch {
    let ChainMatch { destination_port, destination_ranges, server_names, transport, application_protocols } = matches;
    pb::FilterChainMatch {
        destination_port: destination_port.and_then(|port| uint32(port.into())),
        prefix_ranges: destination_ranges.iter().map(cidr).collect(),
        server_names: server_names.clone(),
        transport_protocol: match transport {
            TransportMatch::Any => String::new(),
            TransportMatch::Plaintext => "raw_buffer".into(),
            TransportMatch::Tls => "tls".into(),
        },
        application_protocols: application_protocols.clone(),
        ..Default::default()
    }
}

pub(crate) fn decode(listener: &pb::Listener, notes: &mut Vec<String>) -> Result<Listener, Reason> {
    let place = decode_address(listener.address.as_ref()).at("address")?;
    let more = listener.additional_addresses.iter().map(|more| decode_address(more.address.as_ref()));
    let more = more.collect::<Result<Vec<_>, _>>().at("additional_addresses")?;
    if more.len() > 1 {
        notes.push(format!("listener {}: of additional_addresses only the first is taken", listener.name));
    }
    let mut chains = Vec::with_capacity(listener.filter_chains.len());
    for (index, chain) in listener.filter_chains.iter().enumerate() {
        chains.push(decode_chain(chain, notes).at(format!("filter_chains[{index}]"))?);
    }
    let default = listener.default_filter_chain.as_ref().map(|chain| decode_chain(chain, notes)).transpose();
    #[allow(deprecated, reason = "older control planes still send it")]
    let legacy_bind = listener.deprecated_v1.as_ref().is_none_or(|v1| is_true(&v1.bind_to_port, true));
    Ok(Listener {
        name: listener.name.as_str().into(),
        address: place,
        also: more.first().copied(),
        bind_to_port: is_true(&listener.bind_to_port, true) && legacy_bind,
        use_original_dst: is_true(&listener.use_original_dst, false),
        direction: match core::TrafficDirection::try_from(listener.traffic_direction) {
            Ok(core::TrafficDirection::Inbound) => Direction::Inbound,
            _ => Direction::Outbound,
        },
        filters: decode_filters(&listener.listener_filters, notes)?,
        chains,
        default_chain: default.at("default_filter_chain")?,
        origin: metadata::read_origin(&listener.metadata),
    })
}

fn decode_filters(filters: &[pb::ListenerFilter], notes: &mut Vec<String>) -> Result<ListenerFilters, Reason> {
    let mut read = ListenerFilters::default();
    for filter in filters {
        let kind = match &filter.config_type {
            Some(pb::listener_filter::ConfigType::TypedConfig(config)) => config.type_url.as_str(),
            _ => "",
        };
        if kind.ends_with("OriginalDst") || filter.name == ORIGINAL_DST {
            read.original_dst = true;
        } else if kind.ends_with("TlsInspector") || filter.name == TLS_INSPECTOR {
            read.tls_inspector = true;
        } else if kind.ends_with("HttpInspector") || filter.name == HTTP_INSPECTOR {
            read.http_inspector = true;
        } else if kind.ends_with("ProxyProtocol") || filter.name == PROXY_PROTOCOL {
            read.proxy_protocol = true;
        } else {
            notes.push(format!("listener filter {:?} is not obeyed here", filter.name));
        }
    }
    Ok(read)
}

fn decode_chain(chain: &pb::FilterChain, notes: &mut Vec<String>) -> Result<FilterChain, Reason> {
    let tls = chain.transport_socket.as_ref().map(tls::decode_server).transpose().at("transport_socket")?.flatten();
    let (mut filter, mut dynamic_host, mut guards) = (None, None, Vec::new());
    for one in &chain.filters {
        let Some(pb::filter::ConfigType::TypedConfig(config)) = &one.config_type else { continue };
        if let Some(manager) = read_any::<HttpConnectionManager>(config) {
            filter = Some(Filter::Http(http::decode(&manager?, notes).at("http")?));
        } else if let Some(proxy) = read_any::<PbTcpProxy>(config) {
            filter = Some(Filter::Tcp(tcp::decode(&proxy?, notes).at("tcp")?));
        } else if let Some(host) = dynamic::decode_sni(config) {
            dynamic_host = Some(host.at("sni_dynamic_forward_proxy")?);
        } else if let Some(guard) = authorization::decode_network(config, notes) {
            guards.push(guard?);
        } else {
            notes.push(format!("network filter {:?} is not obeyed here", one.name));
        }
    }
    match &mut filter {
        Some(Filter::Tcp(proxy)) => (proxy.dynamic_host, proxy.authorization) = (dynamic_host, guards),
        _ if !guards.is_empty() => return Err("rbac: before HTTP it is not obeyed here".into()),
        _ => {}
    }
    let matches = chain.filter_chain_match.as_ref().map(decode_match).transpose().at("filter_chain_match")?;
    Ok(FilterChain {
        name: chain.name.as_str().into(),
        matches: matches.unwrap_or_default(),
        tls,
        filter: filter.ok_or("no HTTP connection manager and no TCP proxy")?,
        origin: metadata::read_origin(&chain.metadata),
    })
}

fn decode_match(matches: &pb::FilterChainMatch) -> Result<ChainMatch, Reason> {
    let unread = !matches.source_prefix_ranges.is_empty()
        || !matches.direct_source_prefix_ranges.is_empty()
        || !matches.source_ports.is_empty()
        || matches.source_type != 0;
    if unread {
        return Err("conditions on the source are not obeyed here".into());
    }
    let port = matches.destination_port.as_ref().map(|port| u16::try_from(port.value));
    let ranges: Result<Vec<Cidr>, Reason> = matches.prefix_ranges.iter().map(read_cidr).collect();
    Ok(ChainMatch {
        destination_port: port.transpose().map_err(|_| "destination_port is above 65535".to_owned())?,
        destination_ranges: ranges.at("prefix_ranges")?,
        server_names: matches.server_names.clone(),
        transport: match matches.transport_protocol.as_str() {
            "" => TransportMatch::Any,
            "raw_buffer" => TransportMatch::Plaintext,
            "tls" => TransportMatch::Tls,
            other => return Err(format!("transport_protocol {other:?} is not known")),
        },
        application_protocols: matches.application_protocols.clone(),
    })
}
