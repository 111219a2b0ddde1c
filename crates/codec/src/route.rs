//! Route tables, virtual hosts and routes (Envoy `route.v3`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use config::{Action, ClusterChoice, Forward, RateLimit, Respond, Route, RouteTable, VirtualHost, Weighted};
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::common::{At, Reason, boolean, duration, read_duration, uint32};
use crate::header_changes::Written;
use crate::{cors, fault, hash, header_changes, metadata, mirror, rate_limit, redirect, retry, rewrite, route_match};

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
    let VirtualHost { name, domains, routes, include_attempt_count, require_tls, limits } = host;
    let tls = match require_tls {
        true => pb::virtual_host::TlsRequirementType::All,
        false => pb::virtual_host::TlsRequirementType::None,
    };
    pb::VirtualHost {
        name: name.to_string(),
        domains: domains.clone(),
        routes: routes.iter().map(|route| encode_route(route, limits)).collect(),
        include_request_attempt_count: *include_attempt_count,
        require_tls: tls as i32,
        rate_limits: rate_limit::actions(host),
        typed_per_filter_config: setting(rate_limit::FILTER, rate_limit::encode(limits.iter())).collect(),
        ..Default::default()
    }
}

// What is set on a route takes the place of what is set on its virtual host, so the host's limits come along.
fn encode_route(route: &Route, of_host: &[RateLimit]) -> pb::Route {
    let Route { name, matches, action, origin, operation, headers, cors, stat_prefix, limits } = route;
    let mut settings: HashMap<_, _> = match action {
        Action::Forward(Forward { fault: Some(fault), .. }) => fault::encode(fault),
        Action::Forward(_) | Action::Redirect(_) | Action::Respond(_) => HashMap::new(),
    };
    settings.extend(setting(cors::NAME, cors.as_ref().map(|policy| cors::encode(policy))));
    let all = of_host.iter().filter(|_| !limits.is_empty()).chain(limits);
    settings.extend(setting(rate_limit::FILTER, rate_limit::encode(all)));
    let action = match action {
        Action::Forward(forward) => pb::route::Action::Route(encode_forward(forward)),
        Action::Respond(respond) => pb::route::Action::DirectResponse(encode_respond(respond)),
        Action::Redirect(to) => pb::route::Action::Redirect(redirect::encode(to)),
    };
    let changes = header_changes::encode(headers.as_deref());
    let decorator =
        (!operation.is_empty()).then(|| pb::Decorator { operation: operation.clone(), ..Default::default() });
    pb::Route {
        name: name.clone(),
        r#match: Some(route_match::encode(matches)),
        metadata: metadata::origin(origin),
        decorator,
        action: Some(action),
        request_headers_to_add: changes.request_add,
        request_headers_to_remove: changes.request_remove,
        response_headers_to_add: changes.response_add,
        response_headers_to_remove: changes.response_remove,
        typed_per_filter_config: settings,
        stat_prefix: stat_prefix.clone(),
        ..Default::default()
    }
}

fn setting(filter: &str, value: Option<Any>) -> impl Iterator<Item = (String, Any)> {
    value.map(|value| (filter.to_owned(), value)).into_iter()
}

#[allow(deprecated, reason = "max_grpc_timeout has no replacement that leaves the timeout alone")]
fn encode_forward(forward: &Forward) -> pb::RouteAction {
    let Forward { cluster, timeout, retry, hash, rewrite, fault: _, mirrors } = forward;
    let limit = duration(timeout.unwrap_or(Duration::ZERO));
    let mut action = pb::RouteAction {
        cluster_specifier: Some(encode_choice(cluster)),
        timeout: Some(limit),
        // Istio caps a client's grpc-timeout by the route's; 0 means the client's own counts (VS48). The newer field,
        // max_stream_duration, would switch the route's timeout off.
        max_grpc_timeout: Some(limit),
        retry_policy: retry.as_ref().map(retry::encode),
        hash_policy: hash.iter().map(hash::encode).collect(),
        request_mirror_policies: mirrors.iter().map(mirror::encode).collect(),
        ..Default::default()
    };
    rewrite::encode(rewrite.as_deref(), &mut action);
    action
}

fn encode_choice(choice: &ClusterChoice) -> ClusterSpecifier {
    let many = match choice {
        ClusterChoice::One(name) => return ClusterSpecifier::Cluster(name.to_string()),
        ClusterChoice::Weighted(many) => many,
    };
    let clusters = many.iter().map(encode_weighted).collect();
    ClusterSpecifier::WeightedClusters(pb::WeightedCluster { clusters, ..Default::default() })
}

fn encode_weighted(one: &Weighted) -> ClusterWeight {
    let Weighted { cluster, weight, headers, authority } = one;
    let changes = header_changes::encode(headers.as_deref());
    ClusterWeight {
        name: cluster.to_string(),
        weight: uint32(*weight),
        request_headers_to_add: changes.request_add,
        request_headers_to_remove: changes.request_remove,
        response_headers_to_add: changes.response_add,
        response_headers_to_remove: changes.response_remove,
        host_rewrite_specifier: authority.clone().map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    }
}

fn encode_respond(respond: &Respond) -> pb::DirectResponseAction {
    let specifier = match std::str::from_utf8(&respond.body) {
        Ok(text) => data_source::Specifier::InlineString(text.to_owned()),
        Err(_) => data_source::Specifier::InlineBytes(respond.body.to_vec()),
    };
    let body = (!respond.body.is_empty()).then(|| DataSource { specifier: Some(specifier), ..Default::default() });
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
    let require_tls = match pb::virtual_host::TlsRequirementType::try_from(host.require_tls) {
        Ok(pb::virtual_host::TlsRequirementType::None) => false,
        Ok(pb::virtual_host::TlsRequirementType::All) => true,
        _ => return Err("require_tls: only NONE and ALL are obeyed here".into()),
    };
    let limits = rate_limit::decode(host.typed_per_filter_config.get(rate_limit::FILTER), notes).at("rate limit")?;
    let mut routes = Vec::with_capacity(host.routes.len());
    for (index, route) in host.routes.iter().enumerate() {
        let mut route = decode_route(route, notes).at(format!("routes[{index}]"))?;
        route.limits.retain(|limit| !limits.contains(limit));
        routes.push(route);
    }
    Ok(VirtualHost {
        name: host.name.as_str().into(),
        domains: host.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        routes,
        include_attempt_count: host.include_request_attempt_count,
        require_tls,
        limits,
    })
}

fn decode_route(route: &pb::Route, notes: &mut Vec<String>) -> Result<Route, Reason> {
    let matches = route.r#match.as_ref().ok_or("no match")?;
    let action = match &route.action {
        Some(pb::route::Action::Route(action)) => {
            let fault = fault::decode(&route.typed_per_filter_config, notes).at("typed_per_filter_config")?;
            Action::Forward(Forward { fault, ..decode_forward(action, notes).at("route")? })
        }
        Some(pb::route::Action::DirectResponse(action)) => {
            Action::Respond(decode_respond(action).at("direct_response")?)
        }
        Some(pb::route::Action::Redirect(action)) => Action::Redirect(redirect::decode(action, notes).at("redirect")?),
        _ => return Err("no action that is obeyed here".into()),
    };
    let read = [cors::NAME, fault::FILTER, rate_limit::FILTER];
    let unread = route.typed_per_filter_config.keys().filter(|name| !read.contains(&name.as_str()));
    notes.extend(unread.map(|name| format!("route {:?}: settings of filter {name:?} are not obeyed here", route.name)));
    let changes = Written {
        request_add: &route.request_headers_to_add,
        request_remove: &route.request_headers_to_remove,
        response_add: &route.response_headers_to_add,
        response_remove: &route.response_headers_to_remove,
    };
    Ok(Route {
        name: route.name.clone(),
        matches: route_match::decode(matches).at("match")?,
        action,
        origin: metadata::read_origin(&route.metadata),
        operation: route.decorator.as_ref().map(|decorator| decorator.operation.clone()).unwrap_or_default(),
        headers: header_changes::decode(&changes, notes)?,
        cors: cors::decode(&route.typed_per_filter_config, notes).at("typed_per_filter_config")?,
        stat_prefix: route.stat_prefix.clone(),
        limits: rate_limit::decode(route.typed_per_filter_config.get(rate_limit::FILTER), notes).at("rate limit")?,
    })
}

fn decode_forward(action: &pb::RouteAction, notes: &mut Vec<String>) -> Result<Forward, Reason> {
    let timeout = match &action.timeout {
        Some(timeout) => read_duration(timeout).at("timeout")?,
        None => ENVOY_TIMEOUT_DEFAULT,
    };
    let retry =
        action.retry_policy.as_ref().map(|policy| retry::decode(policy, notes)).transpose().at("retry_policy")?;
    let mut mirrors = Vec::with_capacity(action.request_mirror_policies.len());
    for (index, policy) in action.request_mirror_policies.iter().enumerate() {
        mirrors.extend(mirror::decode(policy, notes).at(format!("request_mirror_policies[{index}]"))?);
    }
    Ok(Forward {
        cluster: decode_choice(action, notes)?,
        timeout: (!timeout.is_zero()).then_some(timeout),
        retry: retry.filter(|policy| policy.num_retries > 0),
        hash: hash::decode(&action.hash_policy, notes).at("hash_policy")?,
        rewrite: rewrite::decode(action, notes)?,
        fault: None,
        mirrors,
    })
}

fn decode_choice(action: &pb::RouteAction, notes: &mut Vec<String>) -> Result<ClusterChoice, Reason> {
    let weighted = match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => return Ok(ClusterChoice::One(name.as_str().into())),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => weighted,
        _ => return Err("a cluster choice of a kind that is not obeyed here".into()),
    };
    let mut many = Vec::with_capacity(weighted.clusters.len());
    for one in &weighted.clusters {
        let weight = one.weight.as_ref().map_or(0, |weight| weight.value);
        if weight > 0 {
            many.push(decode_weighted(one, weight, notes).at("weighted_clusters")?);
        }
    }
    match many.is_empty() {
        true => Err("weighted_clusters: the weights add up to 0".into()),
        false => Ok(ClusterChoice::Weighted(many)),
    }
}

fn decode_weighted(one: &ClusterWeight, weight: u32, notes: &mut Vec<String>) -> Result<Weighted, Reason> {
    let changes = Written {
        request_add: &one.request_headers_to_add,
        request_remove: &one.request_headers_to_remove,
        response_add: &one.response_headers_to_add,
        response_remove: &one.response_headers_to_remove,
    };
    let authority = one.host_rewrite_specifier.as_ref().map(|specifier| match specifier {
        cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(name) => name.clone(),
    });
    Ok(Weighted {
        cluster: one.name.as_str().into(),
        weight,
        headers: header_changes::decode(&changes, notes)?,
        authority,
    })
}

fn decode_respond(action: &pb::DirectResponseAction) -> Result<Respond, Reason> {
    let body = match action.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        None => Bytes::new(),
        Some(data_source::Specifier::InlineString(text)) => text.clone().into(),
        Some(data_source::Specifier::InlineBytes(bytes)) => bytes.clone().into(),
        Some(_) => return Err("body: only inline bodies are read".into()),
    };
    let status = u16::try_from(action.status).map_err(|_| format!("status {} is none", action.status))?;
    Ok(Respond { status, body })
}
