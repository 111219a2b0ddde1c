//! A snapshot as a readable tree: for goldens, for people who compare two of them, for `config_dump?format=tree`.
//!
//! In: a snapshot. Out: text in a fixed order, with defaults left out. Not a format to read back.

use std::fmt::Write;

use crate::{
    Abort, AbortStatus, AccessLog, AccessLogFormat, Action, Authentication, Authorization, AuthorizationRule,
    Balancing, Caller, ChainMatch, ClientTls, Cluster, ClusterChoice, Compare, Condition, Delay, Discovery, Endpoint,
    Endpoints, Fault, Filter, FilterChain, Forward, HashKey, HeaderChanges, HeaderMatch, Health, JwtIssuer, JwtKeys,
    Label, Lb, Listener, LocalityMode, LogFilter, Metric, MetricRule, Mirror, Operation, Outlier, PathMatch,
    PathRewrite, PutHow, RateKey, RateLimit, Redirect, RedirectPath, RetryBudget, RetryPolicy, Rewrite, Route,
    RouteMatch, RouteSource, RouteTable, ServerTls, SlowStart, Snapshot, Sni, SpanTag, TagSource, TextMatch,
    Thresholds, Tracing, TransportMatch, UpstreamProtocol, Validation, ValueMatch, VirtualHost, Weighted,
    default_connect_timeout,
};

// Writing to a String cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => { _ = writeln!($out, $($text)*) };
}

/// Writes a snapshot: listeners with their chains, tables with their hosts and routes, clusters with their endpoints.
pub fn render(snapshot: &Snapshot) -> String {
    let Snapshot { listeners, routes, clusters, endpoints, names, secrets } = snapshot;
    let mut out = String::new();
    for one in listeners.values() {
        listener(&mut out, one);
    }
    for one in routes.values() {
        table(&mut out, one, "");
    }
    for one in clusters.values() {
        let eds = match &one.discovery {
            Discovery::Eds(name) => endpoints.get(name),
            _ => None,
        };
        cluster(&mut out, one, eds.map(|endpoints| &**endpoints));
    }
    for (name, info) in names.iter().flat_map(|table| &table.names) {
        let addresses: Vec<String> = info.addresses.iter().map(ToString::to_string).collect();
        line!(out, "name {name} [{}]", addresses.join(" "));
    }
    for one in secrets.values() {
        let what = match one.content {
            crate::SecretContent::Certificate { .. } => "certificate",
            crate::SecretContent::Roots { .. } => "roots",
        };
        line!(out, "secret {} {what}", one.name);
    }
    out
}

fn listener(out: &mut String, one: &Listener) {
    let Listener {
        name,
        address,
        also,
        bind_to_port,
        use_original_dst,
        direction,
        filters: _,
        chains,
        default_chain,
        origin: _,
    } = one;
    let how = match (bind_to_port, use_original_dst) {
        (true, true) => "binds, hands over",
        (true, false) => "binds",
        (false, _) => "takes over",
    };
    let also = also.map_or_else(String::new, |also| format!(" {also}"));
    line!(out, "listener {name} {address}{also} {how} {direction:?}");
    for one in chains {
        chain(out, one, &condition(&one.matches));
    }
    if let Some(one) = default_chain {
        chain(out, one, "else");
    }
}

fn chain(out: &mut String, one: &FilterChain, when: &str) {
    let when = match &one.tls {
        None => when.to_owned(),
        Some(tls) => format!("{when} {}", server_tls(tls)),
    };
    match &one.filter {
        Filter::Tcp(tcp) => {
            line!(out, "  {when} -> tcp {}", choice(&tcp.cluster));
            guards(out, None, &tcp.authorization);
            logs(out, &tcp.access_log);
        }
        Filter::Http(http) => {
            match &http.routes {
                RouteSource::Rds(name) => line!(out, "  {when} -> http table {name}"),
                RouteSource::Inline(inline) => {
                    line!(out, "  {when} -> http");
                    table(out, inline, "    ");
                }
            }
            guards(out, http.authentication.as_ref(), &http.authorization);
            if let Some(tracing) = &http.tracing {
                spans(out, tracing);
            }
            logs(out, &http.access_log);
            for MetricRule { metric, dropped, labels } in &http.metrics {
                let name = metric.map_or("all metrics", Metric::name);
                let drop = dropped.map_or("", |dropped| if dropped { " not kept" } else { " kept" });
                let text = |(name, label): (&String, &Option<Label>)| match label {
                    Some(label) => format!(" {name}={}", label.text()),
                    None => format!(" without {name}"),
                };
                line!(out, "    {name}{drop}{}", labels.iter().map(text).collect::<String>());
            }
        }
    }
}

// Whose tokens are believed, and who may ask.
fn guards(out: &mut String, authentication: Option<&Authentication>, authorization: &[Authorization]) {
    for JwtIssuer { name, issuer, audiences, keys, .. } in authentication.iter().flat_map(|one| &one.issuers) {
        let keys = match keys {
            JwtKeys::Inline(text) => format!("{} bytes of keys", text.len()),
            JwtKeys::Remote { uri, cluster, .. } => format!("keys of {uri} by {cluster}"),
        };
        let audiences = if audiences.is_empty() { String::new() } else { format!(" for {}", audiences.join(" ")) };
        line!(out, "    tokens {name} of {issuer}{audiences}, {keys}");
    }
    for Authorization { action, rules, shadow } in authorization {
        for (is_tried, rules) in [("", rules), (" (dry run)", shadow)] {
            let Some(rules) = rules else { continue };
            line!(out, "    {action:?}{is_tried}");
            for AuthorizationRule { name, operations, callers } in rules {
                let of = |text: Vec<String>| text.join(" or ");
                let operations = of(operations.iter().map(|one| condition_of(one, &operation)).collect());
                let callers = of(callers.iter().map(|one| condition_of(one, &caller)).collect());
                line!(out, "      {name}: {operations}; by {callers}");
            }
        }
    }
}

fn condition_of<T>(one: &Condition<T>, leaf: &dyn Fn(&T) -> String) -> String {
    let many = |many: &[Condition<T>], word: &str| match many {
        [one] => condition_of(one, leaf),
        many => format!("({})", many.iter().map(|one| condition_of(one, leaf)).collect::<Vec<_>>().join(word)),
    };
    match one {
        Condition::Always => "any".into(),
        Condition::All(all) => many(all, " and "),
        Condition::One(some) => many(some, " or "),
        Condition::Not(inner) => format!("not {}", condition_of(inner, leaf)),
        Condition::Is(one) => leaf(one),
    }
}

fn operation(one: &Operation) -> String {
    match one {
        Operation::Host(text) => format!("host {}", text_match(text)),
        Operation::Method(text) => format!("method {}", text_match(text)),
        Operation::Path(text) => format!("path {}", text_match(text)),
        Operation::PathTemplate(template) => format!("path like {template}"),
        Operation::Port(port) => format!("port {port}"),
        Operation::Address(range) => format!("to {}/{}", range.address, range.prefix_len),
        Operation::ServerName(text) => format!("sni {}", text_match(text)),
    }
}

fn caller(one: &Caller) -> String {
    match one {
        Caller::Principal(text) => format!("principal {}", text_match(text)),
        Caller::Namespace(text) => format!("namespace {}", text_match(text)),
        Caller::TrustDomain(text) => format!("trust domain {}", text_match(text)),
        Caller::ServiceAccount { namespace, name } => format!("account {namespace}/{name}"),
        Caller::Address(range) => format!("from {}/{}", range.address, range.prefix_len),
        Caller::RemoteAddress(range) => format!("client {}/{}", range.address, range.prefix_len),
        Caller::Header { name, value } => format!("header {name} {}", text_match(value)),
        Caller::Claim { path, value } => format!("claim {} {}", path.join("."), text_match(value)),
    }
}

fn text_match(text: &TextMatch) -> String {
    match text {
        TextMatch::Present => "*".into(),
        TextMatch::Exact(text) => text.clone(),
        TextMatch::Prefix(text) => format!("{text}*"),
        TextMatch::Suffix(text) => format!("*{text}"),
    }
}

fn spans(out: &mut String, tracing: &Tracing) {
    let Tracing { collector, authority, service_name, sampling, by_request_id, upstream_spans, tags } = tracing;
    let mut text = format!("spans of {service_name} to {collector} ({authority}) {}%", sampling.as_percent());
    if !by_request_id {
        text.push_str(" whatever the request's id");
    }
    if *upstream_spans {
        text.push_str(" and one a try");
    }
    for SpanTag { name, source } in tags {
        match source {
            TagSource::Literal(value) => _ = write!(text, " {name}={value}"),
            TagSource::Environment(from, default) => _ = write!(text, " {name}=env {from}/{default}"),
            TagSource::Header(from, default) => _ = write!(text, " {name}=header {from}/{default}"),
        }
    }
    line!(out, "    {text}");
}

fn logs(out: &mut String, logs: &[AccessLog]) {
    for AccessLog { path, format, filter } in logs {
        let form = match format {
            AccessLogFormat::Default => "text",
            AccessLogFormat::Text(_) => "text of its own",
            AccessLogFormat::Json(_) => "json",
        };
        let when = filter.as_ref().map_or_else(String::new, |filter| format!(" when {}", log_filter(filter)));
        line!(out, "    log {path} {form}{when}");
    }
}

fn log_filter(filter: &LogFilter) -> String {
    let compared = |how: &Compare, value: &u32| match how {
        Compare::Eq => format!("= {value}"),
        Compare::Ne => format!("!= {value}"),
        Compare::Ge => format!(">= {value}"),
        Compare::Le => format!("<= {value}"),
    };
    let joined = |filters: &[LogFilter], sign: &str| {
        let parts: Vec<String> = filters.iter().map(log_filter).collect();
        format!("({})", parts.join(sign))
    };
    match filter {
        LogFilter::Status(how, code) => format!("status {}", compared(how, code)),
        LogFilter::Millis(how, millis) => format!("ms {}", compared(how, millis)),
        LogFilter::Flags(flags) if flags.is_empty() => "any flag".to_owned(),
        LogFilter::Flags(flags) => format!("flags {}", flags.join(",")),
        LogFilter::Header(HeaderMatch { name, value, invert, missing_is_empty: _ }) => {
            format!("{}{name}{}", if *invert { "!" } else { "" }, self::value(value))
        }
        LogFilter::All(filters) => joined(filters, " and "),
        LogFilter::Any(filters) => joined(filters, " or "),
    }
}

fn server_tls(tls: &ServerTls) -> String {
    let mut text = format!("terminate {}", tls.certificates.join(" "));
    if let Some(clients) = &tls.clients {
        let roots = clients.validation.roots.as_deref().unwrap_or("anyone");
        let ids = ids(&clients.validation);
        _ = write!(text, " {} {roots}{ids}", if clients.required { "mutual" } else { "optional" });
    }
    text
}

// The SPIFFE ids that are accepted.
fn ids(validation: &Validation) -> String {
    let ids = validation.names.iter().filter_map(|name| name.strip_prefix("spiffe://"));
    let domains = validation.trust_domains.iter().map(|domain| format!("{domain}/*"));
    let all: Vec<String> = ids.map(str::to_owned).chain(domains).collect();
    if all.is_empty() { String::new() } else { format!(" as {}", all.join(" ")) }
}

fn client_tls(tls: &ClientTls) -> String {
    let mut text = String::from(" tls");
    match &tls.sni {
        Sni::Absent => {}
        Sni::Name(name) => _ = write!(text, " sni {name}"),
        Sni::FromHost => text.push_str(" sni host"),
    }
    if let Some(certificate) = &tls.certificate {
        _ = write!(text, " shows {certificate}");
    }
    match &tls.validation {
        None => text.push_str(" unverified"),
        Some(validation) => {
            _ = write!(text, " trusts {}{}", validation.roots.as_deref().unwrap_or("anyone"), ids(validation))
        }
    }
    if tls.marked_only {
        text.push_str(" where marked");
    }
    text
}

fn condition(matches: &ChainMatch) -> String {
    let ChainMatch { destination_port, destination_ranges, server_names, transport, application_protocols } = matches;
    let mut parts = Vec::new();
    parts.extend(destination_port.map(|port| format!(":{port}")));
    parts.extend(destination_ranges.iter().map(|range| format!("to {}/{}", range.address, range.prefix_len)));
    parts.extend(server_names.iter().map(|name| format!("sni {name}")));
    match transport {
        TransportMatch::Any => {}
        TransportMatch::Plaintext => parts.push("plaintext".into()),
        TransportMatch::Tls => parts.push("tls".into()),
    }
    if !application_protocols.is_empty() {
        parts.push(application_protocols.join("|"));
    }
    match parts.is_empty() {
        true => "any".into(),
        false => parts.join(" "),
    }
}

fn table(out: &mut String, one: &RouteTable, indent: &str) {
    line!(out, "{indent}table {}", one.name);
    for host in &one.virtual_hosts {
        virtual_host(out, host, indent);
    }
}

fn virtual_host(out: &mut String, one: &VirtualHost, indent: &str) {
    let tls = if one.require_tls { " tls only" } else { "" };
    let limits: String = one.limits.iter().map(rate_limit).collect();
    line!(out, "{indent}  host {} [{}]{tls}{limits}", one.name, one.domains.join(" "));
    for route in &one.routes {
        line!(out, "{indent}    {}", self::route(route));
    }
}

fn route(one: &Route) -> String {
    let Route { name, matches, action, origin, operation: _, headers, cors, stat_prefix: _, limits } = one;
    let mut text = request(matches);
    match action {
        Action::Respond(respond) => _ = write!(text, " -> answer {}", respond.status),
        Action::Redirect(to) => _ = write!(text, " -> redirect {}{}", to.status, redirect(to)),
        Action::Forward(forward) => {
            _ = write!(text, " -> {}", choice(&forward.cluster));
            if let Some(to) = &forward.rewrite {
                text.push_str(&rewrite(to));
            }
            if let Some(timeout) = forward.timeout {
                _ = write!(text, " timeout {}", words::duration::seconds(timeout));
            }
            match &forward.retry {
                Some(retry) => _ = write!(text, " {}", self::retry(retry)),
                None => text.push_str(" no retry"),
            }
            for key in &forward.hash {
                _ = write!(text, " hash {}", hash_key(key));
            }
            text.push_str(&besides(forward));
        }
    }
    if let Some(changes) = headers {
        text.push_str(&header_changes(changes));
    }
    if cors.is_some() {
        text.push_str(" cors");
    }
    limits.iter().for_each(|limit| text.push_str(&rate_limit(limit)));
    if !name.is_empty() && name != "default" {
        _ = write!(text, " name {name}");
    }
    if let Some(origin) = origin {
        _ = write!(text, " by {}/{}", origin.namespace, origin.name);
    }
    text
}

fn rate_limit(limit: &RateLimit) -> String {
    let RateLimit { name: _, key, requests, interval, burst } = limit;
    let each = match key {
        None => String::new(),
        Some(RateKey::Header(name)) => format!(" each {name}"),
        Some(RateKey::SourceAddress) => " each address".into(),
    };
    format!(" limit {requests}/{} burst {burst}{each}", words::duration::seconds(*interval))
}

fn hash_key(key: &HashKey) -> String {
    match key {
        HashKey::Header(name) => format!("header {name}"),
        HashKey::SourceIp => "source".into(),
        HashKey::Query(name) => format!("?{name}"),
        HashKey::Cookie(cookie) => match cookie.ttl {
            None => format!("cookie {}", cookie.name),
            Some(ttl) => format!("cookie {} for {}", cookie.name, words::duration::seconds(ttl)),
        },
    }
}

fn redirect(to: &Redirect) -> String {
    let Redirect { scheme, host, port, path, status: _ } = to;
    let path = path.as_ref().map(|path| match path {
        RedirectPath::Whole(path) => path.clone(),
        RedirectPath::Matched(prefix) => format!("{prefix}*"),
    });
    let port = port.map(|port| port.to_string());
    let parts =
        [("scheme", scheme.as_ref()), ("host", host.as_ref()), ("port", port.as_ref()), ("path", path.as_ref())];
    parts.iter().filter_map(|(name, value)| Some(format!(" {name} {}", (*value)?))).collect()
}

fn rewrite(to: &Rewrite) -> String {
    let mut text = String::new();
    match &to.path {
        None => {}
        Some(PathRewrite::Matched(path)) => _ = write!(text, " path {path}"),
        Some(PathRewrite::Regex { pattern, substitution }) => _ = write!(text, " path ~{pattern}~{substitution}"),
    }
    if let Some(authority) = &to.authority {
        _ = write!(text, " authority {authority}");
    }
    text
}

fn header_changes(changes: &HeaderChanges) -> String {
    let mut text = String::new();
    for (way, edits) in [("request", &changes.request), ("response", &changes.response)] {
        for name in &edits.remove {
            _ = write!(text, " {way} -{name}");
        }
        for put in &edits.put {
            let sign = if put.how == PutHow::Append { "+" } else { "" };
            _ = write!(text, " {way} {sign}{}={}", put.name, put.value);
        }
    }
    text
}

// Faults and copies.
fn besides(forward: &Forward) -> String {
    let mut text = String::new();
    if let Some(Fault { delay, abort }) = &forward.fault {
        if let Some(Delay { fixed, share }) = delay {
            _ = write!(text, " delay {} {}%", words::duration::seconds(*fixed), share.as_percent());
        }
        if let Some(Abort { status, share }) = abort {
            _ = match status {
                AbortStatus::Http(status) => write!(text, " abort {status} {}%", share.as_percent()),
                AbortStatus::Grpc(code) => write!(text, " abort grpc {code} {}%", share.as_percent()),
            };
        }
    }
    for Mirror { cluster, share, shadow_host: _ } in &forward.mirrors {
        _ = write!(text, " mirror {cluster} {}%", share.as_percent());
    }
    text
}

fn request(matches: &RouteMatch) -> String {
    let RouteMatch { path, ignore_case, headers, query, claims } = matches;
    let mut text = match path {
        PathMatch::Prefix(prefix) => format!("{prefix}*"),
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Regex(regex) => format!("~{regex}"),
    };
    if *ignore_case {
        text.push_str(" any-case");
    }
    for HeaderMatch { name, value, invert, missing_is_empty } in headers {
        let not = if *invert { "!" } else { "" };
        let missing = if *missing_is_empty { " (absent is empty)" } else { "" };
        _ = write!(text, " {not}{name}{}{missing}", self::value(value));
    }
    for one in query {
        _ = write!(text, " ?{}{}", one.name, value(&one.value));
    }
    for one in claims {
        let not = if one.invert { "!" } else { "" };
        _ = write!(text, " {not}claim {}{}", one.path.join("."), value(&one.value));
    }
    text
}

fn value(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Present => String::new(),
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::Prefix(text) => format!("={text}*"),
        ValueMatch::Suffix(text) => format!("=*{text}"),
        ValueMatch::Contains(text) => format!("=*{text}*"),
        ValueMatch::Regex(text) => format!("~{text}"),
    }
}

fn choice(choice: &ClusterChoice) -> String {
    match choice {
        ClusterChoice::One(name) => name.to_string(),
        ClusterChoice::Weighted(many) => {
            let part = |one: &Weighted| {
                let changes = one.headers.as_deref().map(header_changes).unwrap_or_default();
                let authority = one.authority.as_ref().map(|name| format!(" authority {name}")).unwrap_or_default();
                format!("{}={}{changes}{authority}", one.cluster, one.weight)
            };
            many.iter().map(part).collect::<Vec<_>>().join(" ")
        }
    }
}

fn retry(retry: &RetryPolicy) -> String {
    let RetryPolicy {
        retry_on,
        retriable_status_codes,
        num_retries,
        per_try_timeout,
        host_selection_attempts: _,
        avoid_previous_hosts,
        backoff_base,
        previous_priorities,
    } = retry;
    // The mesh's default stands in nearly every line.
    let usual = retry_on.to_list() == DEFAULT_RETRY_ON && *num_retries == 2 && retriable_status_codes.is_empty();
    if usual
        && per_try_timeout.is_none()
        && backoff_base.is_none()
        && *avoid_previous_hosts
        && previous_priorities.is_none()
    {
        return "retry default".into();
    }
    let mut text = format!("retry {num_retries} on {}", retry_on.to_list());
    if !retriable_status_codes.is_empty() {
        _ = write!(text, " {retriable_status_codes:?}");
    }
    if let Some(bound) = per_try_timeout {
        _ = write!(text, " per try {}", words::duration::seconds(*bound));
    }
    if let Some(base) = backoff_base {
        _ = write!(text, " backoff {}", words::duration::seconds(*base));
    }
    if !avoid_previous_hosts {
        text.push_str(" same hosts");
    }
    if previous_priorities.is_some() {
        text.push_str(" other priorities");
    }
    text
}

const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable";

fn cluster(out: &mut String, one: &Cluster, eds: Option<&Endpoints>) {
    let (how, given) = match &one.discovery {
        Discovery::Eds(_) => ("eds", eds),
        Discovery::Static(endpoints) => ("static", Some(endpoints)),
        Discovery::StrictDns(endpoints) => ("dns", Some(endpoints)),
        Discovery::LogicalDns(endpoints) => ("dns-one", Some(endpoints)),
        Discovery::OriginalDst => ("dialled", None),
        Discovery::Dynamic(_) => ("named", None),
    };
    let lb = match one.lb {
        Lb::LeastRequest => " least-request".into(),
        Lb::RoundRobin => " round-robin".into(),
        Lb::Random => " random".into(),
        Lb::RingHash { minimum_size } => format!(" ring-hash {minimum_size}"),
        Lb::Maglev { table_size } => format!(" maglev {table_size}"),
        Lb::ClusterProvided => String::new(),
    };
    let protocol = match one.protocol {
        UpstreamProtocol::Http1 => "",
        UpstreamProtocol::Http2 => " h2",
        UpstreamProtocol::SameAsDownstream => " as-client",
    };
    let tls = one.tls.as_ref().map(client_tls).unwrap_or_default();
    line!(out, "cluster {} {how}{lb}{protocol}{}{}{tls}", one.name, balancing(&one.balancing), bounds(one));
    let localities = given.map(|endpoints| endpoints.localities.as_slice()).unwrap_or_default();
    for locality in localities {
        let place = &locality.locality;
        let place = match (place.region.as_str(), locality.priority) {
            ("", 0) => String::new(),
            (region, priority) => format!(" {region}/{}/{} p{priority}", place.zone, place.subzone),
        };
        let share = locality.weight.map(|weight| format!(" x{weight}")).unwrap_or_default();
        let all: Vec<String> = locality.endpoints.iter().map(endpoint).collect();
        line!(out, " {place}{share} {}", all.join(" "));
    }
}

fn balancing(one: &Balancing) -> String {
    let Balancing { slow_start, locality } = one;
    let mut text = String::new();
    if let Some(SlowStart { window, aggression_millionths, minimum_millionths }) = slow_start {
        let (aggression, minimum) = (f64::from(*aggression_millionths) / 1e6, f64::from(*minimum_millionths) / 1e4);
        _ = write!(text, " slow-start {} from {minimum}% ^1/{aggression}", words::duration::seconds(*window));
    }
    match locality {
        LocalityMode::Flat => {}
        LocalityMode::Weighted => text.push_str(" by-locality"),
        LocalityMode::ZoneAware { routing_percent, min_cluster_size } => {
            _ = write!(text, " zone-aware {routing_percent}% from {min_cluster_size}");
        }
    }
    text
}

fn bounds(one: &Cluster) -> String {
    let mut text = String::new();
    if one.connect_timeout != default_connect_timeout() {
        _ = write!(text, " connect {}", words::duration::seconds(one.connect_timeout));
    }
    if let Some(idle) = one.idle_timeout {
        _ = write!(text, " idle {}", words::duration::seconds(idle));
    }
    let Thresholds { max_connections, max_pending_requests, max_requests, max_retries, retry_budget } = one.thresholds;
    for (name, bound) in [
        ("connections", max_connections),
        ("pending", max_pending_requests),
        ("requests", max_requests),
        ("retries", max_retries),
    ] {
        if bound != u32::MAX {
            _ = write!(text, " {name}<={bound}");
        }
    }
    if let Some(RetryBudget { share, min_concurrency, interval: _ }) = retry_budget {
        _ = write!(text, " retries<={}% or {min_concurrency}", share.as_percent());
    }
    if let Some(bound) = one.max_requests_per_connection {
        _ = write!(text, " per-connection<={bound}");
    }
    if one.tcp_keepalive.is_some() {
        text.push_str(" keepalive");
    }
    if let Some(port) = one.original_port {
        _ = write!(text, " at port {port}");
    }
    if let Some(age) = one.max_connection_duration {
        _ = write!(text, " age<={}", words::duration::seconds(age));
    }
    if let Some(streams) = one.http2.max_concurrent_streams {
        _ = write!(text, " streams<={streams}");
    }
    if one.http2.keepalive.is_some() {
        text.push_str(" pings");
    }
    if let Some(outlier) = &one.outlier {
        _ = write!(text, " outlier({})", self::outlier(outlier));
    }
    if one.panic_percent > 0 {
        _ = write!(text, " panic<{}%", one.panic_percent);
    }
    text
}

fn outlier(one: &Outlier) -> String {
    let Outlier {
        consecutive_5xx,
        consecutive_gateway,
        consecutive_local,
        error_codes,
        interval,
        base_ejection_time,
        max_ejection_percent,
    } = one;
    let seconds = words::duration::seconds;
    let mut text = String::new();
    for (name, count) in
        [("5xx", *consecutive_5xx), ("gateway", *consecutive_gateway), ("local", consecutive_local.unwrap_or_default())]
    {
        if count > 0 {
            _ = write!(text, "{name}*{count} ");
        }
    }
    for code in error_codes {
        _ = write!(text, "{code} ");
    }
    _ = write!(text, "every {} out {} <={max_ejection_percent}%", seconds(*interval), seconds(*base_ejection_time));
    text
}

fn endpoint(one: &Endpoint) -> String {
    let mut text = one.address.to_string();
    match one.health {
        Health::Healthy => {}
        Health::Unhealthy => text.push_str("(unhealthy)"),
        Health::Draining => text.push_str("(draining)"),
    }
    if one.weight != 1 {
        _ = write!(text, "x{}", one.weight);
    }
    if one.mtls {
        text.push_str("(mtls)");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Endpoint, EndpointAddress, Http2Bounds, Locality, LocalityEndpoints};

    #[test]
    fn a_cluster_is_one_line_and_its_endpoints_another() {
        let name: crate::Name = "outbound|80||a".into();
        let endpoint = |port| Endpoint {
            address: EndpointAddress::Socket(([10, 0, 0, 1], port).into()),
            weight: 1,
            health: if port == 1 { Health::Healthy } else { Health::Draining },
            workload: None,
            mtls: false,
        };
        let endpoints = Endpoints {
            cluster: name.clone(),
            localities: vec![LocalityEndpoints {
                locality: Locality::default(),
                priority: 0,
                weight: None,
                endpoints: vec![endpoint(1), endpoint(2)],
            }],
        };
        let cluster = Cluster {
            name: name.clone(),
            discovery: Discovery::Eds(name.clone()),
            lb: Lb::RoundRobin,
            balancing: Default::default(),
            connect_timeout: default_connect_timeout(),
            protocol: UpstreamProtocol::Http2,
            idle_timeout: None,
            max_connection_duration: None,
            http2: Http2Bounds::default(),
            max_requests_per_connection: Some(2),
            tcp_keepalive: None,
            thresholds: Thresholds { max_connections: 5, ..Thresholds::default() },
            outlier: Some(Outlier::default()),
            panic_percent: 0,
            source_address: None,
            source_address_v6: None,
            original_port: None,
            tls: None,
            service: None,
            origin: None,
        };
        let mut snapshot = Snapshot::default();
        snapshot.clusters.insert(name.clone(), Arc::new(cluster));
        snapshot.endpoints.insert(name, Arc::new(endpoints));
        let expected = "cluster outbound|80||a eds round-robin h2 connections<=5 per-connection<=2 \
                        outlier(5xx*5 every 10s out 30s <=10%)\n  \
                        10.0.0.1:1 10.0.0.1:2(draining)\n";
        assert_eq!(render(&snapshot), expected);
    }
}
