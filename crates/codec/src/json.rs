//! Values as the JSON that Envoy's `config_dump` shows, so that people and tools read what they know.
//!
//! In: a value of `config`. Out: the fields that we set, under Envoy's names; defaults are left out as there.

mod action;
mod policy;

use std::time::Duration;

use config::{
    Action, ChainMatch, ClientTls, Cluster, ClusterChoice, Discovery, Endpoint, EndpointAddress, Endpoints, Filter,
    FilterChain, Forward, HashKey, HeaderMatch, Health, HttpManager, Listener, Name, PathMatch, QueryMatch,
    RetryPolicy, Route, RouteMatch, RouteSource, RouteTable, Secret, SecretContent, ServerTls, Snapshot, Sni, Source,
    TransportMatch, UpstreamProtocol, ValueMatch, VirtualHost,
};
use serde_json::{Value, json};
use words::Origin;

use crate::ResourceKind;

/// A whole snapshot in the form of Envoy's `config_dump`; `version` gives the version of a resource.
pub fn config_dump(snapshot: &Snapshot, version: impl Fn(ResourceKind, &Name) -> String) -> Value {
    let Snapshot { listeners, routes, clusters, endpoints, names, secrets } = snapshot;
    let entry = |kind, name: &Name, key: &str, value: Value| json!({"version_info": version(kind, name), key: value});
    let section = |name: &str, list: &str, entries: Vec<Value>| json!({"@type": format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump"), list: entries});
    let clusters = clusters.iter().map(|(name, one)| entry(ResourceKind::Cluster, name, "cluster", cluster(one)));
    let listeners = listeners.iter().map(|(name, one)| {
        let state = entry(ResourceKind::Listener, name, "listener", listener(one));
        json!({"name": name.as_ref(), "active_state": state})
    });
    let secrets = secrets.iter().map(|(name, one)| {
        let mut state = entry(ResourceKind::Secret, name, "secret", secret(one));
        state["name"] = json!(name.as_ref());
        state
    });
    let routes = routes.iter().map(|(name, one)| entry(ResourceKind::Route, name, "route_config", route_table(one)));
    let endpoints = endpoints.iter();
    let endpoints =
        endpoints.map(|(name, one)| entry(ResourceKind::Endpoints, name, "endpoint_config", self::endpoints(one)));
    let mut configs = vec![
        section("Clusters", "dynamic_active_clusters", clusters.collect()),
        section("Listeners", "dynamic_listeners", listeners.collect()),
        section("Routes", "dynamic_route_configs", routes.collect()),
        section("Endpoints", "dynamic_endpoint_configs", endpoints.collect()),
        section("Secrets", "dynamic_active_secrets", secrets.collect()),
    ];
    // Envoy has no such section; Istio's agent keeps the table to itself.
    configs.extend(names.as_ref().map(|table| {
        let table: serde_json::Map<String, Value> =
            table.names.iter().map(|(name, info)| (name.clone(), json!(info.addresses))).collect();
        let version = version(ResourceKind::NameTable, &config::NAME_TABLE.into());
        json!({"@type": ResourceKind::NameTable.type_url(), "version_info": version, "table": table})
    }));
    json!({"configs": configs})
}

fn typed(kind: ResourceKind, mut value: Value) -> Value {
    value["@type"] = json!(kind.type_url());
    value
}

fn seconds(duration: Duration) -> Value {
    json!(words::duration::seconds(duration))
}

fn set(value: &mut Value, key: &str, field: Option<Value>) {
    if let Some(field) = field {
        value[key] = field;
    }
}

fn metadata(origin: &Option<Origin>) -> Option<Value> {
    origin.as_ref().map(|origin| json!({"filter_metadata": {"istio": {"config": origin.config_path()}}}))
}

fn address(place: &EndpointAddress) -> Value {
    match place {
        EndpointAddress::Socket(socket) => {
            json!({"socket_address": {"address": socket.ip().to_string(), "port_value": socket.port()}})
        }
        EndpointAddress::Dns(name, port) => json!({"socket_address": {"address": name, "port_value": port}}),
        EndpointAddress::Pipe(path) => json!({"pipe": {"path": path}}),
    }
}

/// A listener.
pub fn listener(listener: &Listener) -> Value {
    let mut out = json!({
        "name": listener.name.as_ref(),
        "address": address(&EndpointAddress::Socket(listener.address)),
        "filter_chains": listener.chains.iter().map(chain).collect::<Vec<_>>(),
        "traffic_direction": format!("{:?}", listener.direction).to_uppercase(),
    });
    let flags = [
        ("original_dst", listener.filters.original_dst),
        ("tls_inspector", listener.filters.tls_inspector),
        ("http_inspector", listener.filters.http_inspector),
    ];
    let filters: Vec<Value> = flags
        .iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| json!({"name": format!("envoy.filters.listener.{name}")}))
        .collect();
    set(&mut out, "listener_filters", (!filters.is_empty()).then(|| json!(filters)));
    set(&mut out, "default_filter_chain", listener.default_chain.as_ref().map(chain));
    set(&mut out, "bind_to_port", (!listener.bind_to_port).then_some(json!(false)));
    set(&mut out, "use_original_dst", listener.use_original_dst.then_some(json!(true)));
    set(&mut out, "metadata", metadata(&listener.origin));
    typed(ResourceKind::Listener, out)
}

fn chain(chain: &FilterChain) -> Value {
    let filter = match &chain.filter {
        Filter::Http(http) => json!({
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager(http)
        }),
        Filter::Tcp(tcp) => {
            let mut config = json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": tcp.stat_prefix,
            });
            choice(&tcp.cluster, &mut config);
            set(&mut config, "idle_timeout", tcp.idle_timeout.map(seconds));
            json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config})
        }
    };
    let mut out = json!({"name": chain.name.as_ref(), "filters": [filter]});
    set(&mut out, "transport_socket", chain.tls.as_ref().map(server_tls));
    set(&mut out, "filter_chain_match", (chain.matches != ChainMatch::default()).then(|| chain_match(&chain.matches)));
    set(&mut out, "metadata", metadata(&chain.origin));
    out
}

fn sds(name: &Name) -> Value {
    match config::is_own_secret(name) {
        true => json!({"name": name.as_ref()}),
        false => json!({"name": name.as_ref(), "sds_config": {"ads": {}}}),
    }
}

fn server_tls(tls: &ServerTls) -> Value {
    let mut common =
        json!({"tls_certificate_sds_secret_configs": tls.certificates.iter().map(sds).collect::<Vec<_>>()});
    let clients = tls.clients.as_ref();
    tls_context(&mut common, &tls.alpn, &tls.parameters, clients.map(|clients| &clients.validation));
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common,
        "require_client_certificate": clients.is_some_and(|clients| clients.required),
    }})
}

fn by_endpoint(tls: &ClientTls) -> Value {
    json!([
        {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": client_tls(tls)},
        {"name": "tlsMode-disabled", "match": {}, "transport_socket": {"name": "envoy.transport_sockets.raw_buffer"}},
    ])
}

fn client_tls(tls: &ClientTls) -> Value {
    let mut common = json!({});
    set(&mut common, "tls_certificate_sds_secret_configs", tls.certificate.as_ref().map(|name| json!([sds(name)])));
    tls_context(&mut common, &tls.alpn, &tls.parameters, tls.validation.as_ref());
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
    });
    if let Sni::Name(name) = &tls.sni {
        context["sni"] = json!(name);
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

fn tls_context(
    out: &mut Value,
    alpn: &[String],
    parameters: &config::TlsParameters,
    validation: Option<&config::Validation>,
) {
    let version = |version: config::TlsVersion| json!(format!("{version:?}").replace("V1_", "TLSv1_"));
    out["tls_params"] = json!({
        "tls_minimum_protocol_version": version(parameters.min),
        "tls_maximum_protocol_version": version(parameters.max),
    });
    let ciphers = &parameters.cipher_suites;
    set(&mut out["tls_params"], "cipher_suites", (!ciphers.is_empty()).then(|| json!(ciphers)));
    set(out, "alpn_protocols", (!alpn.is_empty()).then(|| json!(alpn)));
    let Some(config::Validation { roots, names, trust_domains, spki, hashes, accept_untrusted }) = validation else {
        return;
    };
    let ids = trust_domains.iter().map(|domain| json!({"matcher": {"prefix": format!("spiffe://{domain}/")}}));
    let names: Vec<Value> = names.iter().map(|name| json!({"matcher": {"exact": name}})).chain(ids).collect();
    let mut rest = json!({});
    set(&mut rest, "match_typed_subject_alt_names", (!names.is_empty()).then(|| json!(names)));
    set(&mut rest, "verify_certificate_spki", (!spki.is_empty()).then(|| json!(spki)));
    set(&mut rest, "verify_certificate_hash", (!hashes.is_empty()).then(|| json!(hashes)));
    set(&mut rest, "trust_chain_verification", accept_untrusted.then(|| json!("ACCEPT_UNTRUSTED")));
    match roots {
        None => out["validation_context"] = rest,
        Some(roots) => {
            out["combined_validation_context"] =
                json!({"default_validation_context": rest, "validation_context_sds_secret_config": sds(roots)});
        }
    }
}

/// A secret; keys are redacted as Envoy does it.
pub fn secret(secret: &Secret) -> Value {
    let shown = |source: &Source| match source {
        Source::Inline(bytes) => json!({"inline_string": String::from_utf8_lossy(bytes)}),
        Source::File(path) => json!({"filename": path}),
        Source::System => json!({"filename": "(the system's roots)"}),
    };
    let mut out = json!({"name": secret.name.as_ref()});
    match &secret.content {
        SecretContent::Certificate { chain, key: _ } => {
            let redacted = json!({"inline_string": "[redacted]"});
            out["tls_certificate"] = json!({"certificate_chain": shown(chain), "private_key": redacted});
        }
        SecretContent::Roots { roots, crl } => {
            out["validation_context"] = json!({"trusted_ca": shown(roots)});
            set(&mut out["validation_context"], "crl", crl.as_ref().map(shown));
        }
    }
    typed(ResourceKind::Secret, out)
}

fn chain_match(matches: &ChainMatch) -> Value {
    let mut out = json!({});
    set(&mut out, "destination_port", matches.destination_port.map(|port| json!(port)));
    let ranges: Vec<Value> = matches
        .destination_ranges
        .iter()
        .map(|range| json!({"address_prefix": range.address.to_string(), "prefix_len": range.prefix_len}))
        .collect();
    set(&mut out, "prefix_ranges", (!ranges.is_empty()).then(|| json!(ranges)));
    set(&mut out, "server_names", (!matches.server_names.is_empty()).then(|| json!(matches.server_names)));
    let protocols = &matches.application_protocols;
    set(&mut out, "application_protocols", (!protocols.is_empty()).then(|| json!(protocols)));
    let transport = match matches.transport {
        TransportMatch::Any => None,
        TransportMatch::Plaintext => Some(json!("raw_buffer")),
        TransportMatch::Tls => Some(json!("tls")),
    };
    set(&mut out, "transport_protocol", transport);
    out
}

fn manager(http: &HttpManager) -> Value {
    let mut out = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": http.stat_prefix,
        "codec_type": format!("{:?}", http.codec).to_uppercase(),
        "use_remote_address": http.use_remote_address,
        "normalize_path": http.normalize_path,
        "generate_request_id": http.generate_request_id,
        "http_filters": http_filters(http),
    });
    match &http.routes {
        RouteSource::Rds(name) => {
            out["rds"] = json!({"config_source": {"ads": {}}, "route_config_name": name.as_ref()})
        }
        RouteSource::Inline(table) => out["route_config"] = route_table(table),
    }
    let logs: Vec<Value> = http
        .access_log
        .iter()
        .map(|log| json!({"name": "envoy.access_loggers.file", "typed_config": {"path": log.path}}))
        .collect();
    set(&mut out, "access_log", (!logs.is_empty()).then(|| json!(logs)));
    let tracing = http.tracing.as_ref().map(|tracing| {
        json!({
            "random_sampling": {"value": tracing.sampling.as_percent()},
            "spawn_upstream_span": tracing.upstream_spans,
            "custom_tags": tracing.tags.iter().map(|tag| json!({"tag": tag.name})).collect::<Vec<_>>(),
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": {
                "grpc_service": {"envoy_grpc": {"cluster_name": tracing.collector.as_ref(), "authority": tracing.authority}},
                "service_name": tracing.service_name
            }}
        })
    });
    set(&mut out, "tracing", tracing);
    set(&mut out, "upgrade_configs", http.websocket.then(|| json!([{"upgrade_type": "websocket"}])));
    set(&mut out, "stream_idle_timeout", http.stream_idle_timeout.map(seconds));
    out
}

fn http_filters(http: &HttpManager) -> Vec<Value> {
    let issuers = |one: &config::Authentication| -> Vec<Value> {
        let issuer = |issuer: &config::JwtIssuer| json!({"name": issuer.name, "issuer": issuer.issuer});
        one.issuers.iter().map(issuer).collect()
    };
    let tokens = http
        .authentication
        .iter()
        .map(|one| json!({"name": crate::authentication::FILTER, "typed_config": {"providers": issuers(one)}}));
    let rules = http.authorization.iter().map(|one| {
        let config::Authorization { action, rules, shadow } = one;
        let names = |rules: &Vec<config::AuthorizationRule>| rules.iter().map(|rule| rule.name.clone()).collect();
        let of = |rules: &Vec<config::AuthorizationRule>| {
            let names: Vec<String> = names(rules);
            json!({"action": format!("{action:?}").to_uppercase(), "policies": names})
        };
        let mut typed = json!({});
        set(&mut typed, "rules", rules.as_ref().map(of));
        set(&mut typed, "shadow_rules", shadow.as_ref().map(of));
        json!({"name": crate::authorization::HTTP_FILTER, "typed_config": typed})
    });
    let rest = [crate::cors::NAME, crate::fault::FILTER, "envoy.filters.http.router"];
    tokens.chain(rules).chain(rest.map(|name| json!({"name": name}))).collect()
}

/// A route table with its virtual hosts.
pub fn route_table(table: &RouteTable) -> Value {
    let hosts: Vec<Value> = table.virtual_hosts.iter().map(|host| virtual_host(host)).collect();
    let out = json!({
        "name": table.name.as_ref(), "virtual_hosts": hosts, "validate_clusters": false,
        "ignore_port_in_host_matching": table.ignore_port
    });
    typed(ResourceKind::Route, out)
}

/// A virtual host.
pub fn virtual_host(host: &VirtualHost) -> Value {
    let routes: Vec<Value> = host.routes.iter().map(route).collect();
    json!({
        "name": host.name.as_ref(), "domains": host.domains, "routes": routes,
        "include_request_attempt_count": host.include_attempt_count,
        "require_tls": if host.require_tls { "ALL" } else { "NONE" }
    })
}

fn route(route: &Route) -> Value {
    let mut out = json!({"name": route.name, "match": route_match(&route.matches)});
    match &route.action {
        Action::Forward(action) => out["route"] = forward(action),
        Action::Respond(answer) => out["direct_response"] = action::respond(answer),
        Action::Redirect(to) => out["redirect"] = action::redirect(to),
    }
    if let Some(changes) = &route.headers {
        action::header_changes(changes, &mut out);
    }
    set(&mut out, "typed_per_filter_config", filters(route));
    set(&mut out, "stat_prefix", (!route.stat_prefix.is_empty()).then(|| json!(route.stat_prefix)));
    set(&mut out, "metadata", metadata(&route.origin));
    set(&mut out, "decorator", (!route.operation.is_empty()).then(|| json!({"operation": route.operation})));
    out
}

fn filters(route: &Route) -> Option<Value> {
    let mut out = json!({});
    set(&mut out, crate::cors::NAME, route.cors.as_ref().map(|cors| action::cors(cors)));
    if let Action::Forward(Forward { fault, .. }) = &route.action {
        set(&mut out, crate::fault::FILTER, fault.as_ref().map(policy::fault));
    }
    let limits: Vec<Value> = route.limits.iter().map(policy::limit).collect();
    set(&mut out, crate::rate_limit::FILTER, (!limits.is_empty()).then(|| json!(limits)));
    (out != json!({})).then_some(out)
}

fn route_match(matches: &RouteMatch) -> Value {
    let mut out = match &matches.path {
        PathMatch::Prefix(prefix) => json!({"prefix": prefix}),
        PathMatch::Exact(path) => json!({"path": path}),
        PathMatch::Regex(regex) => json!({"safe_regex": {"regex": regex}}),
    };
    out["case_sensitive"] = json!(!matches.ignore_case);
    let header = |header: &HeaderMatch| {
        let mut out = condition(&header.name, &header.value);
        set(&mut out, "invert_match", header.invert.then_some(json!(true)));
        set(&mut out, "treat_missing_header_as_empty", header.missing_is_empty.then_some(json!(true)));
        out
    };
    let headers: Vec<Value> = matches.headers.iter().map(header).collect();
    set(&mut out, "headers", (!headers.is_empty()).then(|| json!(headers)));
    let query: Vec<Value> = matches.query.iter().map(|QueryMatch { name, value }| condition(name, value)).collect();
    set(&mut out, "query_parameters", (!query.is_empty()).then(|| json!(query)));
    out
}

fn condition(name: &str, value: &ValueMatch) -> Value {
    match value {
        ValueMatch::Present => json!({"name": name, "present_match": true}),
        value => json!({"name": name, "string_match": matcher(value)}),
    }
}

fn matcher(value: &ValueMatch) -> Value {
    match value {
        ValueMatch::Present => json!({"prefix": ""}),
        ValueMatch::Exact(text) => json!({"exact": text}),
        ValueMatch::Prefix(text) => json!({"prefix": text}),
        ValueMatch::Suffix(text) => json!({"suffix": text}),
        ValueMatch::Contains(text) => json!({"contains": text}),
        ValueMatch::Regex(regex) => json!({"safe_regex": {"regex": regex}}),
    }
}

fn forward(forward: &Forward) -> Value {
    let mut out = json!({"timeout": seconds(forward.timeout.unwrap_or_default())});
    choice(&forward.cluster, &mut out);
    if let Some(to) = &forward.rewrite {
        action::rewrite(to, &mut out);
    }
    set(&mut out, "retry_policy", forward.retry.as_ref().map(retry));
    let keys: Vec<Value> = forward.hash.iter().map(hash_key).collect();
    set(&mut out, "hash_policy", (!keys.is_empty()).then(|| json!(keys)));
    let mirrors: Vec<Value> = forward.mirrors.iter().map(policy::mirror).collect();
    set(&mut out, "request_mirror_policies", (!mirrors.is_empty()).then(|| json!(mirrors)));
    out
}

fn hash_key(key: &HashKey) -> Value {
    match key {
        HashKey::Header(name) => json!({"header": {"header_name": name}}),
        HashKey::SourceIp => json!({"connection_properties": {"source_ip": true}}),
        HashKey::Query(name) => json!({"query_parameter": {"name": name}}),
        HashKey::Cookie(cookie) => {
            let mut out = json!({"name": cookie.name});
            set(&mut out, "path", (!cookie.path.is_empty()).then(|| json!(cookie.path)));
            set(&mut out, "ttl", cookie.ttl.map(seconds));
            json!({"cookie": out})
        }
    }
}

fn choice(choice: &ClusterChoice, out: &mut Value) {
    match choice {
        ClusterChoice::One(name) => out["cluster"] = json!(name.as_ref()),
        ClusterChoice::Weighted(many) => {
            let clusters: Vec<Value> = many.iter().map(action::weighted).collect();
            out["weighted_clusters"] = json!({"clusters": clusters});
        }
    }
}

fn retry(policy: &RetryPolicy) -> Value {
    let mut out = json!({
        "retry_on": policy.retry_on.to_list(), "num_retries": policy.num_retries,
        "host_selection_retry_max_attempts": policy.host_selection_attempts.to_string()
    });
    let codes = &policy.retriable_status_codes;
    set(&mut out, "retriable_status_codes", (!codes.is_empty()).then(|| json!(codes)));
    set(&mut out, "per_try_timeout", policy.per_try_timeout.map(seconds));
    let previous = json!([{"name": "envoy.retry_host_predicates.previous_hosts"}]);
    set(&mut out, "retry_host_predicate", policy.avoid_previous_hosts.then_some(previous));
    set(&mut out, "retry_back_off", policy.backoff_base.map(|base| json!({"base_interval": seconds(base)})));
    out
}

/// A cluster.
pub fn cluster(cluster: &Cluster) -> Value {
    let mut out = json!({
        "name": cluster.name.as_ref(),
        "lb_policy": match cluster.lb {
            config::Lb::LeastRequest => "LEAST_REQUEST",
            config::Lb::RoundRobin => "ROUND_ROBIN",
            config::Lb::Random => "RANDOM",
            config::Lb::RingHash { .. } => "RING_HASH",
            config::Lb::Maglev { .. } => "MAGLEV",
            config::Lb::ClusterProvided => "CLUSTER_PROVIDED",
        },
        "connect_timeout": seconds(cluster.connect_timeout),
        "circuit_breakers": {"thresholds": [policy::thresholds(&cluster.thresholds)]},
    });
    let (kind, assignment) = match &cluster.discovery {
        Discovery::Eds(service) => {
            out["eds_cluster_config"] = json!({"eds_config": {"ads": {}}, "service_name": service.as_ref()});
            ("EDS", None)
        }
        Discovery::Static(endpoints) => ("STATIC", Some(endpoints)),
        Discovery::StrictDns(endpoints) => ("STRICT_DNS", Some(endpoints)),
        Discovery::LogicalDns(endpoints) => ("LOGICAL_DNS", Some(endpoints)),
        Discovery::OriginalDst => ("ORIGINAL_DST", None),
        Discovery::Dynamic(_) => ("DYNAMIC_FORWARD_PROXY", None),
    };
    out["type"] = json!(kind);
    match cluster.lb {
        config::Lb::RingHash { minimum_size } => {
            out["ring_hash_lb_config"] = json!({"minimum_ring_size": minimum_size.to_string()});
        }
        config::Lb::Maglev { table_size } => {
            out["maglev_lb_config"] = json!({"table_size": table_size.to_string()});
        }
        _ => {}
    }
    let common = match cluster.balancing.locality {
        config::LocalityMode::Flat => None,
        config::LocalityMode::Weighted => Some(json!({"locality_weighted_lb_config": {}})),
        config::LocalityMode::ZoneAware { .. } => Some(json!({"zone_aware_lb_config": {}})),
    };
    set(&mut out, "common_lb_config", common);
    set(&mut out, "load_assignment", assignment.map(endpoints));
    if cluster.protocol == UpstreamProtocol::Http2 {
        out["http2_protocol_options"] = json!({});
    }
    set(&mut out, "outlier_detection", cluster.outlier.as_ref().map(policy::outlier));
    set(&mut out, "upstream_connection_options", cluster.tcp_keepalive.as_ref().map(policy::keepalive));
    let (marked, all): (Vec<_>, Vec<_>) = cluster.tls.iter().partition(|tls| tls.marked_only);
    set(&mut out, "transport_socket", all.first().map(|tls| client_tls(tls)));
    set(&mut out, "transport_socket_matches", marked.first().map(|tls| by_endpoint(tls)));
    let mut istio = json!({});
    set(&mut istio, "config", cluster.origin.as_ref().map(|origin| json!(origin.config_path())));
    if let Some(service) = &cluster.service {
        istio["services"] = json!([{"host": service.host, "name": service.name, "namespace": service.namespace}]);
        set(&mut istio, "subset", (!service.subset.is_empty()).then(|| json!(service.subset)));
    }
    set(&mut out, "metadata", (istio != json!({})).then(|| json!({"filter_metadata": {"istio": istio}})));
    typed(ResourceKind::Cluster, out)
}

/// The endpoints of a cluster.
pub fn endpoints(endpoints: &Endpoints) -> Value {
    let group = |group: &config::LocalityEndpoints| {
        let config::Locality { region, zone, subzone } = &group.locality;
        let mut out = json!({
            "locality": {"region": region, "zone": zone, "sub_zone": subzone},
            "lb_endpoints": group.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        });
        set(&mut out, "priority", (group.priority > 0).then(|| json!(group.priority)));
        set(&mut out, "load_balancing_weight", group.weight.map(|weight| json!(weight)));
        out
    };
    let groups: Vec<Value> = endpoints.localities.iter().map(group).collect();
    typed(ResourceKind::Endpoints, json!({"cluster_name": endpoints.cluster.as_ref(), "endpoints": groups}))
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let health = match endpoint.health {
        Health::Healthy => "HEALTHY",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
    };
    let mut out = json!({
        "endpoint": {"address": address(&endpoint.address)}, "health_status": health,
        "load_balancing_weight": endpoint.weight
    });
    if let Some(workload) = &endpoint.workload {
        out["metadata"] = json!({"filter_metadata": {"istio": {"workload": workload.name}}});
    }
    out
}
