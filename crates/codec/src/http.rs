//! The HTTP connection manager (Envoy `http_connection_manager.v3`).

use std::sync::Arc;

use config::{Cidr, ClientCertHeader, HttpCodec, HttpManager, RouteSource, ServerHeader};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter;

use crate::common::{At, Reason, ads, any, boolean, cidr, duration, is_true, read_cidr, read_duration};
use crate::{
    access_log, alpn, authentication, authorization, cors, dynamic, fault, metrics, rate_limit, route, tracing,
};

const ROUTER: &str = "envoy.filters.http.router";
/// Filters of istiod's that change no routing here: statistics, metadata exchange and features that are off by default.
const HARMLESS: &[&str] = &[
    ROUTER,
    dynamic::HTTP,
    cors::NAME,
    fault::FILTER,
    authentication::FILTER,
    authorization::HTTP_FILTER,
    rate_limit::FILTER,
    "envoy.filters.http.grpc_stats",
    "istio.metadata_exchange",
    metrics::FILTER,
    "istio.alpn",
    "envoy.filters.http.alpn",
    alpn::NAME,
    "envoy.filters.http.grpc_web",
];

pub(crate) fn encode(http: &HttpManager) -> pb::HttpConnectionManager {
    let HttpManager {
        stat_prefix,
        routes,
        codec,
        use_remote_address,
        xff_trusted_hops,
        internal_addresses,
        server_header,
        websocket,
        normalize_path,
        generate_request_id,
        stream_idle_timeout,
        dynamic_hosts,
        access_log,
        client_cert_header,
        tracing,
        metrics,
        announces,
        authentication,
        authorization,
    } = http;
    let (forwarding, details) = encode_client_cert(*client_cert_header);
    let (server_name, transformation) = encode_server(server_header);
    let upgrade = || hcm::UpgradeConfig { upgrade_type: "websocket".into(), ..Default::default() };
    pb::HttpConnectionManager {
        codec_type: encode_codec(*codec) as i32,
        stat_prefix: stat_prefix.clone(),
        route_specifier: Some(encode_routes(routes)),
        http_filters: authentication
            .iter()
            .map(authentication::filter)
            .chain(authorization.iter().map(authorization::http_filter))
            .chain(dynamic_hosts.iter().map(dynamic_filter))
            .chain(announces.then(alpn::filter))
            .chain([rate_limit::filter(), fault::filter(), cors()])
            .chain(metrics::encode(metrics))
            .chain([router()])
            .collect(),
        use_remote_address: boolean(*use_remote_address),
        xff_num_trusted_hops: *xff_trusted_hops,
        internal_address_config: encode_internal(internal_addresses),
        server_name,
        server_header_transformation: transformation as i32,
        upgrade_configs: websocket.then(upgrade).into_iter().collect(),
        normalize_path: boolean(*normalize_path),
        generate_request_id: boolean(*generate_request_id),
        stream_idle_timeout: Some(duration(stream_idle_timeout.unwrap_or_default())),
        access_log: access_log::encode(access_log),
        forward_client_cert_details: forwarding as i32,
        set_current_client_cert_details: details,
        tracing: tracing.as_ref().map(tracing::encode),
        request_id_extension: tracing.as_ref().and_then(tracing::encode_request_id),
        ..Default::default()
    }
}

fn cors() -> pb::HttpFilter {
    pb::HttpFilter {
        name: cors::NAME.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(cors::filter())),
        ..Default::default()
    }
}

// Istio's at gateways: hash, subject, the certificate itself, and its DNS names and URIs.
fn encode_client_cert(
    header: ClientCertHeader,
) -> (hcm::ForwardClientCertDetails, Option<hcm::SetCurrentClientCertDetails>) {
    match header {
        ClientCertHeader::Remove => (hcm::ForwardClientCertDetails::Sanitize, None),
        ClientCertHeader::Set => {
            let all = hcm::SetCurrentClientCertDetails {
                subject: boolean(true),
                cert: true,
                dns: true,
                uri: true,
                ..Default::default()
            };
            (hcm::ForwardClientCertDetails::SanitizeSet, Some(all))
        }
        ClientCertHeader::Append => {
            let named =
                hcm::SetCurrentClientCertDetails { subject: boolean(true), dns: true, uri: true, ..Default::default() };
            (hcm::ForwardClientCertDetails::AppendForward, Some(named))
        }
    }
}

fn router() -> pb::HttpFilter {
    pb::HttpFilter {
        name: ROUTER.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(&Router::default()))),
        ..Default::default()
    }
}

fn dynamic_filter(cache: &config::DnsCache) -> pb::HttpFilter {
    pb::HttpFilter {
        name: dynamic::HTTP.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(dynamic::encode_http(cache))),
        ..Default::default()
    }
}

fn decode_dynamic(filters: &[pb::HttpFilter]) -> Result<Option<config::DnsCache>, Reason> {
    let mut found = filters.iter().filter_map(|filter| match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => dynamic::decode_http(config),
        _ => None,
    });
    found.next().transpose()
}

fn encode_routes(routes: &RouteSource) -> hcm::RouteSpecifier {
    match routes {
        RouteSource::Rds(name) => {
            let rds = pb::Rds { config_source: Some(ads()), route_config_name: name.to_string() };
            hcm::RouteSpecifier::Rds(rds)
        }
        RouteSource::Inline(table) => hcm::RouteSpecifier::RouteConfig(route::encode_inline(table)),
    }
}

// Left out when empty: an empty message makes Envoy take every private address for internal, none makes it take no
// address for that (measured with Envoy 1.40).
fn encode_internal(addresses: &[Cidr]) -> Option<hcm::InternalAddressConfig> {
    let cidr_ranges = || addresses.iter().map(cidr).collect();
    (!addresses.is_empty()).then(|| hcm::InternalAddressConfig { unix_sockets: false, cidr_ranges: cidr_ranges() })
}

fn encode_codec(codec: HttpCodec) -> hcm::CodecType {
    match codec {
        HttpCodec::Auto => hcm::CodecType::Auto,
        HttpCodec::Http1 => hcm::CodecType::Http1,
        HttpCodec::Http2 => hcm::CodecType::Http2,
    }
}

fn encode_server(header: &ServerHeader) -> (String, hcm::ServerHeaderTransformation) {
    match header {
        ServerHeader::Overwrite(name) => (name.clone(), hcm::ServerHeaderTransformation::Overwrite),
        ServerHeader::PassThrough => (String::new(), hcm::ServerHeaderTransformation::PassThrough),
    }
}

pub(crate) fn decode(http: &pb::HttpConnectionManager, notes: &mut Vec<String>) -> Result<HttpManager, Reason> {
    let unread = http.http_filters.iter().filter(|filter| !HARMLESS.contains(&filter.name.as_str()));
    notes.extend(unread.map(|filter| format!("http filter {:?} is not obeyed here", filter.name)));
    let routes = match &http.route_specifier {
        Some(hcm::RouteSpecifier::Rds(rds)) => RouteSource::Rds(rds.route_config_name.as_str().into()),
        Some(hcm::RouteSpecifier::RouteConfig(table)) => {
            RouteSource::Inline(Arc::new(route::decode_table(table, notes).at("route_config")?.0))
        }
        _ => return Err("no routes of a kind that is read".into()),
    };
    let idle = http.stream_idle_timeout.as_ref().map(read_duration).transpose().at("stream_idle_timeout")?;
    let internal = http.internal_address_config.iter().flat_map(|config| &config.cidr_ranges);
    Ok(HttpManager {
        stat_prefix: http.stat_prefix.clone(),
        routes,
        codec: match hcm::CodecType::try_from(http.codec_type) {
            Ok(hcm::CodecType::Http1) => HttpCodec::Http1,
            Ok(hcm::CodecType::Http2) => HttpCodec::Http2,
            Ok(hcm::CodecType::Auto) => HttpCodec::Auto,
            _ => return Err("codec_type: only HTTP/1 and HTTP/2 are spoken here".into()),
        },
        use_remote_address: is_true(&http.use_remote_address, false),
        xff_trusted_hops: http.xff_num_trusted_hops,
        internal_addresses: internal.map(read_cidr).collect::<Result<_, _>>().at("internal_address_config")?,
        server_header: decode_server(http),
        websocket: http
            .upgrade_configs
            .iter()
            .any(|upgrade| upgrade.upgrade_type.eq_ignore_ascii_case("websocket") && is_true(&upgrade.enabled, true)),
        normalize_path: is_true(&http.normalize_path, false),
        generate_request_id: is_true(&http.generate_request_id, true),
        // Envoy's default is 5 minutes; 0 is none.
        stream_idle_timeout: Some(idle.unwrap_or(std::time::Duration::from_secs(300))).filter(|idle| !idle.is_zero()),
        dynamic_hosts: decode_dynamic(&http.http_filters).at("http_filters")?,
        access_log: access_log::decode(&http.access_log, notes)?,
        client_cert_header: match hcm::ForwardClientCertDetails::try_from(http.forward_client_cert_details) {
            Ok(hcm::ForwardClientCertDetails::SanitizeSet) => ClientCertHeader::Set,
            Ok(hcm::ForwardClientCertDetails::AppendForward) => ClientCertHeader::Append,
            // A header that nobody checked is not passed on.
            _ => ClientCertHeader::Remove,
        },
        tracing: tracing::decode(http, notes).at("tracing")?,
        metrics: metrics::decode(&http.http_filters, notes),
        announces: http.http_filters.iter().any(|filter| filter.name == alpn::NAME),
        authentication: decode_authentication(&http.http_filters).at("http_filters")?,
        authorization: decode_authorization(&http.http_filters, notes).at("http_filters")?,
    })
}

fn decode_authentication(filters: &[pb::HttpFilter]) -> Result<Option<config::Authentication>, Reason> {
    let mut found = filters.iter().filter_map(|filter| match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => authentication::decode(config),
        _ => None,
    });
    let first = found.next().transpose()?;
    match found.next() {
        None => Ok(first),
        Some(_) => Err("jwt_authn: only one filter is obeyed here".into()),
    }
}

fn decode_authorization(
    filters: &[pb::HttpFilter],
    notes: &mut Vec<String>,
) -> Result<Vec<config::Authorization>, Reason> {
    let configs = filters.iter().filter_map(|filter| match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => Some(config),
        _ => None,
    });
    configs.filter_map(|config| authorization::decode_http(config, notes)).collect()
}

fn decode_server(http: &pb::HttpConnectionManager) -> ServerHeader {
    match hcm::ServerHeaderTransformation::try_from(http.server_header_transformation) {
        Ok(hcm::ServerHeaderTransformation::PassThrough) => ServerHeader::PassThrough,
        _ if http.server_name.is_empty() => ServerHeader::Overwrite("envoy".into()),
        _ => ServerHeader::Overwrite(http.server_name.clone()),
    }
}
