//! AuthorizationPolicy by itself (V-104), and what it shares with its neighbours (V-105).

use super::{Findings, selector};
use crate::authorization_policy::{
    AuthorizationPolicySpec, Condition, Operation, PolicyAction, PolicySelector, Rule, Source,
};
use crate::telemetry::TargetRef;

/// Kinds that may be named instead of a selector.
const TARGETS: [&str; 4] = ["Service", "ServiceEntry", "Gateway", "GatewayClass"];
/// Longest path template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 1024;

/// Attributes that `when` may name; those that end in `[` go on with a name.
const ATTRIBUTES: [&str; 14] = [
    "request.headers[",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "experimental.envoy.filters.",
];

pub(super) fn check(spec: &AuthorizationPolicySpec, found: &mut Findings) {
    let AuthorizationPolicySpec { selector, target_ref, target_refs, rules, action, provider } = spec;
    check_scope(selector.as_ref(), target_ref.as_ref(), target_refs, found);
    let labels = selector.as_ref().map(|selector| &selector.match_labels);
    selector::check("spec.selector.matchLabels", labels, "the whole namespace", found);
    let action = action.unwrap_or_default();
    let named = provider.as_ref().is_some_and(|provider| !provider.name.as_deref().unwrap_or_default().is_empty());
    match action {
        PolicyAction::Custom if !named => found.error("spec.provider.name", "CUSTOM needs a provider"),
        PolicyAction::Custom => {}
        _ if provider.is_some() => found.error("spec.provider", "a provider is for CUSTOM only"),
        _ => {}
    }
    if rules.is_empty() && matches!(action, PolicyAction::Custom | PolicyAction::Deny) {
        found.error("spec.rules", "without rules such a policy matches nothing; {} matches everything");
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        check_rule(&path, rule, found);
        match action {
            PolicyAction::Custom => check_anonymous(&path, rule, found),
            PolicyAction::Deny if is_http_only(rule) => {
                let message = "on TCP ports what is about HTTP is left out, so the rule denies all connections there that fit the rest; add ports";
                found.warn(path, message);
            }
            _ => {}
        }
    }
}

/// What an object is for, beside a selector (V-105).
pub(super) fn check_scope(
    selector: Option<&PolicySelector>,
    target_ref: Option<&TargetRef>,
    target_refs: &[TargetRef],
    found: &mut Findings,
) {
    found.at_most_one(
        "spec",
        &[
            ("selector", selector.is_some()),
            ("targetRef", target_ref.is_some()),
            ("targetRefs", !target_refs.is_empty()),
        ],
    );
    let single = target_ref.iter().map(|target| ("spec.targetRef".to_owned(), *target));
    let several = target_refs.iter().enumerate();
    let several = several.map(|(index, target)| (format!("spec.targetRefs[{index}]"), target));
    for (field, target) in single.chain(several) {
        if target.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty()) {
            found.error(format!("{field}.namespace"), "a target of another namespace is not supported");
        }
        let kind = target.kind.as_deref().unwrap_or_default();
        if !kind.is_empty() && !TARGETS.contains(&kind) {
            found.error(format!("{field}.kind"), format!("{kind:?} is not one of {}", TARGETS.join(", ")));
        }
    }
}

fn check_rule(path: &str, rule: &Rule, found: &mut Findings) {
    let Rule { from, to, when } = rule;
    for (index, one) in from.iter().enumerate() {
        let field = format!("{path}.from[{index}].source");
        match &one.source {
            Some(source) if *source != Source::default() => check_source(&field, source, found),
            _ => found.error(field, "it is empty; leave `from` out for anybody"),
        }
    }
    for (index, one) in to.iter().enumerate() {
        let field = format!("{path}.to[{index}].operation");
        match &one.operation {
            Some(operation) if *operation != Operation::default() => check_operation(&field, operation, found),
            _ => found.error(field, "it is empty; leave `to` out for anything"),
        }
    }
    for (index, condition) in when.iter().enumerate() {
        check_condition(&format!("{path}.when[{index}]"), condition, found);
    }
}

fn check_texts(path: &str, lists: &[(&str, &Vec<String>)], found: &mut Findings) {
    for (name, list) in lists {
        for (index, _) in list.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            found.error(format!("{path}.{name}[{index}]"), "it is empty");
        }
    }
}

fn check_source(path: &str, source: &Source, found: &mut Findings) {
    let Source {
        principals,
        not_principals,
        request_principals,
        not_request_principals,
        namespaces,
        not_namespaces,
        service_accounts,
        not_service_accounts,
        ip_blocks,
        not_ip_blocks,
        remote_ip_blocks,
        not_remote_ip_blocks,
        trust_domains,
        not_trust_domains,
    } = source;
    check_texts(
        path,
        &[
            ("principals", principals),
            ("notPrincipals", not_principals),
            ("requestPrincipals", request_principals),
            ("notRequestPrincipals", not_request_principals),
            ("namespaces", namespaces),
            ("notNamespaces", not_namespaces),
            ("serviceAccounts", service_accounts),
            ("notServiceAccounts", not_service_accounts),
            ("trustDomains", trust_domains),
            ("notTrustDomains", not_trust_domains),
        ],
        found,
    );
    found.subnets(&format!("{path}.ipBlocks"), ip_blocks);
    found.subnets(&format!("{path}.notIpBlocks"), not_ip_blocks);
    found.subnets(&format!("{path}.remoteIpBlocks"), remote_ip_blocks);
    found.subnets(&format!("{path}.notRemoteIpBlocks"), not_remote_ip_blocks);
    let by_account = !service_accounts.is_empty() || !not_service_accounts.is_empty();
    let by_other = [principals, not_principals, namespaces, not_namespaces];
    if by_account && by_other.iter().any(|list| !list.is_empty()) {
        found.error(path, "serviceAccounts cannot stand beside principals or namespaces");
    }
    for (name, list) in [("serviceAccounts", service_accounts), ("notServiceAccounts", not_service_accounts)] {
        for (index, account) in list.iter().enumerate() {
            let is_wrong =
                account.contains('*') || account.split('/').count() > 2 || account.split('/').any(str::is_empty);
            if !account.is_empty() && is_wrong {
                let message = format!("{account:?} is neither a name nor namespace/name, without wildcards");
                found.error(format!("{path}.{name}[{index}]"), message);
            }
        }
    }
}

fn check_operation(path: &str, operation: &Operation, found: &mut Findings) {
    let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
    check_texts(
        path,
        &[
            ("hosts", hosts),
            ("notHosts", not_hosts),
            ("methods", methods),
            ("notMethods", not_methods),
            ("paths", paths),
            ("notPaths", not_paths),
        ],
        found,
    );
    check_ports(&format!("{path}.ports"), ports, found);
    check_ports(&format!("{path}.notPorts"), not_ports, found);
    for (name, list) in [("paths", paths), ("notPaths", not_paths)] {
        for (index, text) in list.iter().enumerate() {
            if let Some(reason) = bad_template(text) {
                found.error(format!("{path}.{name}[{index}]"), format!("{text:?}: {reason}"));
            }
        }
    }
}

fn check_ports(path: &str, ports: &[String], found: &mut Findings) {
    for (index, port) in ports.iter().enumerate() {
        if port.parse::<u16>().ok().filter(|port| *port > 0).is_none() {
            found.error(format!("{path}[{index}]"), format!("{port:?} is not a port within 1 to 65535"));
        }
    }
}

/// Why a path cannot be a template: whole segments `{*}`, `{**}` once and last but for text (Envoy's URI templates);
/// `None` for a plain path.
pub(crate) fn bad_template(path: &str) -> Option<&'static str> {
    if !path.contains('{') && !path.contains('}') {
        return None;
    }
    if path.len() > TEMPLATE_BYTES_MAX {
        return Some("a template is too long");
    }
    let Some(segments) = path.strip_prefix('/') else { return Some("a template begins with /") };
    let mut rest_seen = false;
    for segment in segments.split('/') {
        match segment {
            "{*}" if rest_seen => return Some("{*} cannot stand behind {**}"),
            "{**}" if rest_seen => return Some("{**} can stand there once"),
            "{*}" => {}
            "{**}" => rest_seen = true,
            other if other.contains(['{', '}', '*']) => return Some("{*} and {**} stand for whole segments"),
            _ => {}
        }
    }
    None
}

fn check_condition(path: &str, condition: &Condition, found: &mut Findings) {
    let Condition { key, values, not_values } = condition;
    let key = key.as_deref().unwrap_or_default();
    let field = format!("{path}.key");
    let fits = |known: &str| match known.strip_suffix('[') {
        Some(_) => key.strip_prefix(known).is_some_and(|rest| rest.len() > 1 && rest.ends_with(']')),
        None if known.ends_with('.') => key.starts_with(known),
        None => key == known,
    };
    if !ATTRIBUTES.iter().any(|known| fits(known)) {
        found.error(field, format!("{key:?} is no attribute"));
    }
    if values.is_empty() && not_values.is_empty() {
        found.error(path, "values or notValues are needed");
    }
    check_texts(path, &[("values", values), ("notValues", not_values)], found);
    for (name, list) in [("values", values), ("notValues", not_values)] {
        let path = format!("{path}.{name}");
        match key {
            "source.ip" | "remote.ip" | "destination.ip" => {
                let list: Vec<String> = list.iter().filter(|text| !text.is_empty()).cloned().collect();
                found.subnets(&path, &list);
            }
            "destination.port" => check_ports(&path, list, found),
            _ => {}
        }
    }
}

// Who asks is not known to an authorizer by Istio's rules, so CUSTOM rules may not ask for it.
fn check_anonymous(path: &str, rule: &Rule, found: &mut Findings) {
    for (index, source) in rule.from.iter().enumerate().filter_map(|(index, one)| Some((index, one.source.as_ref()?))) {
        let lists = [
            ("namespaces", &source.namespaces),
            ("notNamespaces", &source.not_namespaces),
            ("principals", &source.principals),
            ("notPrincipals", &source.not_principals),
            ("serviceAccounts", &source.service_accounts),
            ("notServiceAccounts", &source.not_service_accounts),
            ("trustDomains", &source.trust_domains),
            ("notTrustDomains", &source.not_trust_domains),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ];
        for (name, _) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            found.error(format!("{path}.from[{index}].source.{name}"), "CUSTOM rules cannot look at identities");
        }
    }
    for (index, condition) in rule.when.iter().enumerate() {
        let key = condition.key.as_deref().unwrap_or_default();
        let by_identity = ["source.namespace", "source.principal", "source.serviceAccount"].contains(&key);
        if by_identity || key.starts_with("request.auth.") {
            found.error(format!("{path}.when[{index}].key"), "CUSTOM rules cannot look at identities");
        }
    }
}

// There is something about HTTP in it, and nothing that keeps it to ports.
fn is_http_only(rule: &Rule) -> bool {
    let sources = rule.from.iter().filter_map(|one| one.source.as_ref());
    let of_source = |one: &Source| !one.request_principals.is_empty() || !one.not_request_principals.is_empty();
    let operations = || rule.to.iter().filter_map(|one| one.operation.as_ref());
    let of_operation = |one: &Operation| {
        [&one.hosts, &one.not_hosts, &one.methods, &one.not_methods, &one.paths, &one.not_paths]
            .iter()
            .any(|list| !list.is_empty())
    };
    let of_condition = |key: &str| key.starts_with("request.");
    let about_http = sources.into_iter().any(of_source)
        || operations().any(of_operation)
        || rule.when.iter().filter_map(|one| one.key.as_deref()).any(of_condition);
    let kept_to_ports = operations().any(|one| !one.ports.is_empty() || !one.not_ports.is_empty())
        || rule.when.iter().any(|one| one.key.as_deref() == Some("destination.port"));
    about_http && !kept_to_ports
}

#[cfg(test)]
mod tests {
    use super::bad_template;

    #[test]
    fn ap02_templates_stand_for_whole_segments() {
        for good in ["/a", "/a*", "*a", "/a/{*}", "/{*}/b/{**}", "/{**}/b", "/a/{*}/{*}/c"] {
            assert_eq!(bad_template(good), None, "{good}");
        }
        for bad in ["a/{*}", "/a{*}", "/{*}b", "/{**}/{**}", "/{**}/{*}", "/{a}", "/{*}/b*", "/{", "/}"] {
            assert!(bad_template(bad).is_some(), "{bad}");
        }
    }
}
