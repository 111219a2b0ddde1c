//! VirtualService by itself (V-20 to V-43, as far as routing needs them now).

use words::host;

use super::Findings;
use crate::virtual_service::{RouteDestination, TcpRoute, TlsRoute};
use crate::{HttpMatchRequest, HttpRoute, HttpRouteDestination, StringMatch, VirtualServiceSpec};

pub(super) fn check(spec: &VirtualServiceSpec, found: &mut Findings) {
    let VirtualServiceSpec { hosts, gateways, http, tls, tcp, export_to } = spec;
    if http.is_empty() && tls.is_empty() && tcp.is_empty() {
        found.error("spec", "one of http, tls or tcp is required");
    }
    if hosts.is_empty() && !(gateways.is_empty() && tls.is_empty() && tcp.is_empty()) {
        found.error("spec.hosts", "a VirtualService without hosts is a delegate: no gateways, tls or tcp");
    }
    let in_mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh");
    for (index, name) in hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        found.host(&field, name);
        if name == "*" && in_mesh {
            found.error(&field, "\"*\" is not allowed for the mesh; name the host, or bind to a gateway only");
        }
        if hosts[..index].iter().any(|other| host::overlaps(&other.to_lowercase(), &name.to_lowercase())) {
            found.error(&field, format!("{name:?} overlaps another host of the same VirtualService"));
        }
    }
    found.gateways("spec.gateways", gateways);
    found.export_to(export_to, false);
    for (index, rule) in http.iter().enumerate() {
        check_rule(&format!("spec.http[{index}]"), rule, hosts.is_empty(), found);
    }
    check_opaque(tls, tcp, found);
}

// V-39, V-40.
fn check_opaque(tls: &[TlsRoute], tcp: &[TcpRoute], found: &mut Findings) {
    for (index, rule) in tls.iter().enumerate() {
        let path = format!("spec.tls[{index}]");
        if rule.r#match.is_empty() {
            found.error(format!("{path}.match"), "a TLS rule without match");
        }
        for (index, block) in rule.r#match.iter().enumerate() {
            let path = format!("{path}.match[{index}]");
            if block.sni_hosts.is_empty() {
                found.error(format!("{path}.sniHosts"), "a TLS match without sniHosts");
            }
            check_place(&path, block.port, &block.gateways, found);
        }
        check_routes(&path, &rule.route, found);
    }
    for (index, rule) in tcp.iter().enumerate() {
        let path = format!("spec.tcp[{index}]");
        for (index, block) in rule.r#match.iter().enumerate() {
            check_place(&format!("{path}.match[{index}]"), block.port, &block.gateways, found);
        }
        check_routes(&path, &rule.route, found);
    }
}

fn check_place(path: &str, port: Option<u32>, gateways: &[String], found: &mut Findings) {
    if let Some(port) = port {
        found.port(&format!("{path}.port"), port);
    }
    found.gateways(&format!("{path}.gateways"), gateways);
}

fn check_routes(path: &str, routes: &[RouteDestination], found: &mut Findings) {
    if routes.is_empty() {
        found.error(format!("{path}.route"), "a rule without route");
    }
    check_split(&format!("{path}.route"), routes.iter().map(opaque), found);
}

fn check_rule(path: &str, rule: &HttpRoute, is_delegate: bool, found: &mut Findings) {
    let actions =
        [!rule.route.is_empty(), rule.redirect.is_some(), rule.direct_response.is_some(), rule.delegate.is_some()];
    match actions.iter().filter(|set| **set).count() {
        0 => found.error(path, "one of route, redirect, directResponse or delegate is required"),
        1 => {}
        _ => found.error(path, "only one of route, redirect, directResponse and delegate may be set"),
    }
    if is_delegate && rule.delegate.is_some() {
        found.error(format!("{path}.delegate"), "a delegate cannot delegate (one level only)");
    }
    for (index, block) in rule.r#match.iter().enumerate() {
        check_match(&format!("{path}.match[{index}]"), block, found);
    }
    check_split(&format!("{path}.route"), rule.route.iter().map(http), found);
    if let Some(attempts) = rule.retries.as_ref().and_then(|retries| retries.attempts)
        && attempts < 0
    {
        found.error(format!("{path}.retries.attempts"), format!("{attempts} is negative"));
    }
    if rule.mirror_percent.is_some() {
        let field = format!("{path}.mirrorPercent");
        found.deprecated(
            field,
            "mirror_percent is deprecated and holds only whole numbers",
            "write mirrorPercentage: {value: …}",
        );
    }
    if rule.mirror_percent.is_some_and(|percent| percent > 100) {
        found.error(format!("{path}.mirrorPercent"), "more than 100 percent");
    }
}

fn check_match(path: &str, block: &HttpMatchRequest, found: &mut Findings) {
    let scalars =
        [("uri", &block.uri), ("scheme", &block.scheme), ("method", &block.method), ("authority", &block.authority)];
    for (name, value) in scalars.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        check_string(&format!("{path}.{name}"), value, *name == "uri", found);
    }
    let maps =
        [("headers", &block.headers), ("withoutHeaders", &block.without_headers), ("queryParams", &block.query_params)];
    for (name, map) in maps {
        for (key, value) in map {
            // A literal `*` in withoutHeaders means presence and is no regex (TR42).
            if !(name == "withoutHeaders" && value.regex.as_deref() == Some("*")) {
                check_string(&format!("{path}.{name}.{key}"), value, false, found);
            }
            if key.is_empty() {
                found.error(format!("{path}.{name}"), "an empty name");
            }
        }
    }
    check_place(path, block.port, &block.gateways, found);
}

fn check_string(path: &str, value: &StringMatch, empty_prefix_allowed: bool, found: &mut Findings) {
    if value.prefix.as_deref() == Some("") && !empty_prefix_allowed {
        found.error(format!("{path}.prefix"), "an empty prefix matches everything; leave the condition out");
    }
    if let Some(regex) = &value.regex {
        found.regex(&format!("{path}.regex"), regex);
    }
}

struct Share<'a> {
    host: Option<&'a str>,
    subset: Option<&'a str>,
    port: Option<u32>,
    weight: i32,
}

fn http(route: &HttpRouteDestination) -> Share<'_> {
    share(route.destination.as_ref(), route.weight)
}

fn opaque(route: &RouteDestination) -> Share<'_> {
    share(route.destination.as_ref(), route.weight)
}

fn share(destination: Option<&crate::Destination>, weight: Option<i32>) -> Share<'_> {
    Share {
        host: destination.map(|one| one.host.as_str()),
        subset: destination.and_then(|one| one.subset.as_deref()),
        port: destination.and_then(|one| one.port.as_ref()).and_then(|port| port.number),
        weight: weight.unwrap_or(0),
    }
}

// V-35.
fn check_split<'a>(path: &str, shares: impl Iterator<Item = Share<'a>>, found: &mut Findings) {
    let (mut sum, mut count) = (0_i64, 0);
    for (index, Share { host, subset, port, weight }) in shares.enumerate() {
        let at = format!("{path}[{index}]");
        match host {
            None | Some("") => found.error(format!("{at}.destination.host"), "a destination without host"),
            Some("*") => found.error(format!("{at}.destination.host"), "\"*\" is not a destination"),
            Some(host) => found.host(&format!("{at}.destination.host"), host),
        }
        if let Some(reason) = subset.filter(|subset| !subset.is_empty()).and_then(super::bad_label) {
            found.error(format!("{at}.destination.subset"), format!("not a subset name: {reason}"));
        }
        if let Some(port) = port {
            found.port(&format!("{at}.destination.port.number"), port);
        }
        if weight < 0 {
            found.error(format!("{at}.weight"), format!("{weight} is negative"));
        }
        sum += i64::from(weight);
        count += 1;
    }
    if count > 1 && sum == 0 {
        found.error(path, "the weights of several destinations add up to 0");
    }
}
