//! Route tables, virtual hosts and routes (Envoy `route.v3`).

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use config::{Action, ClusterChoice, Forward, Respond, Route, RouteTable, VirtualHost, Weighted};
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::google::protobuf::UInt32Value;
use prost::Message;

use crate::common::{At, Reason, boolean, duration, read_duration, uint32};
use crate::{hash, metadata, retry, route_match};

/// Largest body of a direct response, in bytes (VS43).
const DIRECT_RESPONSE_BYTES_MAX: u32 = 1 << 20;
/// Envoy's timeout for a route that says nothing.
const ENVOY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
// `virtual_hosts` is field 2 of RouteConfiguration, length-delimited.
const VIRTUAL_HOSTS_TAG: u8 = (2 << 3) | 2;

/// A table with its virtual hosts inside. The hosts come encoded: their bytes are spliced in, so that one changed host
/// does not make the others be encoded again.
pub(crate) fn encode_table(table: &RouteTable, hosts: &[Bytes]) -> Bytes {
    let head = frame(table).encode_to_vec();
    let size: usize = hosts.iter().map(|host| host.len() + 11).sum();
    let mut out = BytesMut::with_capacity(head.len() + size);
    out.extend_from_slice(&head);
    for host in hosts {
        out.put_u8(VIRTUAL_HOSTS_TAG);
        prost::encoding::encode_varint(host.len() as u64, &mut out);
        out.extend_from_slice(host);
    }
    out.freeze()
}

/// A table whose virtual hosts are resources of their own.
pub(crate) fn encode_table_vhds(table: &RouteTable) -> Bytes {
    let vhds = pb::Vhds { config_source: Some(crate::common::ads()) };
    pb::RouteConfiguration { vhds: Some(vhds), ..frame(table) }.encode_to_vec().into()
}

/// A table as a message, for listeners that hold it inline.
pub(crate) fn encode_inline(table: &RouteTable) -> pb::RouteConfiguration {
    let hosts = table.virtual_hosts.iter().map(|host| encode_host(host)).collect();
    pb::RouteConfiguration { virtual_hosts: hosts, ..frame(table) }
}

fn frame(table: &RouteTable) -> pb::RouteConfiguration {
    pb::RouteConfiguration {
        name: table.name.to_string(),
        validate_clusters: boolean(false),
        max_direct_response_body_size_bytes: uint32(DIRECT_RESPONSE_BYTES_MAX),
        ignore_port_in_host_matching: table.ignore_port,
        ..Default::default()
    }
}

pub(crate) fn encode_host(host: &VirtualHost) -> pb::VirtualHost {
    let VirtualHost { name, domains, routes, include_attempt_count } = host;
    pb::VirtualHost {
        name: name.to_string(),
        domains: domains.clone(),
        routes: routes.iter().map(encode_route).collect(),
        include_request_attempt_count: *include_attempt_count,
        ..Default::default()
    }
}

fn encode_route(route: &Route) -> pb::Route {
    let Route { name, matches, action, origin, operation } = route;
    let action = match action {
        Action::Forward(forward) => pb::route::Action::Route(encode_forward(forward)),
        Action::Respond(respond) => pb::route::Action::DirectResponse(encode_respond(respond)),
    };
    let decorator =
        (!operation.is_empty()).then(|| pb::Decorator { operation: operation.clone(), ..Default::default() });
    pb::Route {
        name: name.clone(),
        r#match: Some(route_match::encode(matches)),
        metadata: metadata::origin(origin),
        decorator,
        action: Some(action),
        ..Default::default()
    }
}

#[allow(deprecated, reason = "max_grpc_timeout has no replacement that leaves the timeout alone")]
fn encode_forward(forward: &Forward) -> pb::RouteAction {
    let Forward { cluster, timeout, retry, hash } = forward;
    let limit = duration(timeout.unwrap_or(Duration::ZERO));
    pb::RouteAction {
        cluster_specifier: Some(encode_choice(cluster)),
        timeout: Some(limit),
        // Istio caps a client's grpc-timeout by the route's; 0 means the client's own counts (VS48). The newer field,
        // max_stream_duration, would switch the route's timeout off.
        max_grpc_timeout: Some(limit),
        retry_policy: retry.as_ref().map(retry::encode),
        hash_policy: hash.iter().map(hash::encode).collect(),
        ..Default::default()
    }
}

fn encode_choice(choice: &ClusterChoice) -> ClusterSpecifier {
    let many = match choice {
        ClusterChoice::One(name) => return ClusterSpecifier::Cluster(name.to_string()),
        ClusterChoice::Weighted(many) => many,
    };
    let clusters = many.iter().map(|one| pb::weighted_cluster::ClusterWeight {
        name: one.cluster.to_string(),
        weight: uint32(one.weight),
        ..Default::default()
    });
    ClusterSpecifier::WeightedClusters(pb::WeightedCluster { clusters: clusters.collect(), ..Default::default() })
}

fn encode_respond(respond: &Respond) -> pb::DirectResponseAction {
    let body = (!respond.body.is_empty()).then(|| DataSource {
        specifier: Some(data_source::Specifier::InlineString(respond.body.clone())),
        ..Default::default()
    });
    pb::DirectResponseAction { status: respond.status.into(), body, ..Default::default() }
}

/// A table and whether its virtual hosts travel on their own.
pub(crate) fn decode_table(
    table: &pb::RouteConfiguration,
    notes: &mut Vec<String>,
) -> Result<(RouteTable, bool), Reason> {
    let mut hosts = Vec::with_capacity(table.virtual_hosts.len());
    for (index, host) in table.virtual_hosts.iter().enumerate() {
        hosts.push(Arc::new(decode_host(host, notes).at(format!("virtual_hosts[{index}]"))?));
    }
    Ok((
        RouteTable {
            name: table.name.as_str().into(),
            ignore_port: table.ignore_port_in_host_matching,
            virtual_hosts: hosts,
        },
        table.vhds.is_some(),
    ))
}

pub(crate) fn decode_host(host: &pb::VirtualHost, notes: &mut Vec<String>) -> Result<VirtualHost, Reason> {
    if host.require_tls != 0 {
        notes.push(format!("virtual host {:?}: require_tls is not obeyed yet", host.name));
    }
    let mut routes = Vec::with_capacity(host.routes.len());
    for (index, route) in host.routes.iter().enumerate() {
        routes.push(decode_route(route, notes).at(format!("routes[{index}]"))?);
    }
    Ok(VirtualHost {
        name: host.name.as_str().into(),
        domains: host.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        routes,
        include_attempt_count: host.include_request_attempt_count,
    })
}

fn decode_route(route: &pb::Route, notes: &mut Vec<String>) -> Result<Route, Reason> {
    let matches = route.r#match.as_ref().ok_or("no match")?;
    let action = match &route.action {
        Some(pb::route::Action::Route(action)) => Action::Forward(decode_forward(action, notes).at("route")?),
        Some(pb::route::Action::DirectResponse(action)) => {
            Action::Respond(decode_respond(action).at("direct_response")?)
        }
        Some(pb::route::Action::Redirect(_)) => return Err("redirect: not obeyed here yet".into()),
        _ => return Err("no action that is obeyed here".into()),
    };
    let changes_headers = !route.request_headers_to_add.is_empty()
        || !route.request_headers_to_remove.is_empty()
        || !route.response_headers_to_add.is_empty()
        || !route.response_headers_to_remove.is_empty();
    if changes_headers {
        notes.push(format!("route {:?}: header changes are not obeyed yet", route.name));
    }
    if !route.typed_per_filter_config.is_empty() {
        notes.push(format!("route {:?}: filter settings are not obeyed yet", route.name));
    }
    Ok(Route {
        name: route.name.clone(),
        matches: route_match::decode(matches).at("match")?,
        action,
        origin: metadata::read_origin(&route.metadata),
        operation: route.decorator.as_ref().map(|decorator| decorator.operation.clone()).unwrap_or_default(),
    })
}

fn decode_forward(action: &pb::RouteAction, notes: &mut Vec<String>) -> Result<Forward, Reason> {
    if !action.request_mirror_policies.is_empty() {
        notes.push("mirroring is not obeyed yet".into());
    }
    let rewrites =
        !action.prefix_rewrite.is_empty() || action.regex_rewrite.is_some() || action.host_rewrite_specifier.is_some();
    if rewrites {
        notes.push("rewrites are not obeyed yet".into());
    }
    let timeout = match &action.timeout {
        Some(timeout) => read_duration(timeout).at("timeout")?,
        None => ENVOY_TIMEOUT_DEFAULT,
    };
    let retry =
        action.retry_policy.as_ref().map(|policy| retry::decode(policy, notes)).transpose().at("retry_policy")?;
    Ok(Forward {
        cluster: decode_choice(action)?,
        timeout: (!timeout.is_zero()).then_some(timeout),
        retry: retry.filter(|policy| policy.num_retries > 0),
        hash: hash::decode(&action.hash_policy, notes).at("hash_policy")?,
    })
}

fn decode_choice(action: &pb::RouteAction) -> Result<ClusterChoice, Reason> {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Ok(ClusterChoice::One(name.as_str().into())),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let weight = |weight: &Option<UInt32Value>| weight.as_ref().map_or(0, |weight| weight.value);
            let taken = weighted.clusters.iter().filter(|one| weight(&one.weight) > 0);
            let many: Vec<Weighted> =
                taken.map(|one| Weighted { cluster: one.name.as_str().into(), weight: weight(&one.weight) }).collect();
            if many.is_empty() {
                return Err("weighted_clusters: the weights add up to 0".into());
            }
            Ok(ClusterChoice::Weighted(many))
        }
        _ => Err("a cluster choice of a kind that is not obeyed here".into()),
    }
}

fn decode_respond(action: &pb::DirectResponseAction) -> Result<Respond, Reason> {
    let body = match action.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        None => String::new(),
        Some(data_source::Specifier::InlineString(text)) => text.clone(),
        Some(data_source::Specifier::InlineBytes(bytes)) => {
            String::from_utf8(bytes.clone()).map_err(|_| "body: not UTF-8".to_owned())?
        }
        Some(_) => return Err("body: only inline bodies are read".into()),
    };
    let status = u16::try_from(action.status).map_err(|_| format!("status {} is none", action.status))?;
    Ok(Respond { status, body })
}
