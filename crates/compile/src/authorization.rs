//! AuthorizationPolicy: the front end, and which rules a proxy enforces (AP01 to AP03).
//!
//! A rule is lowered twice, for requests and for connections. What cannot be used makes a rule of ALLOW match nothing, and
//! a rule of any other action match more: never is more let through than was written.

use std::sync::Arc;

use api::authorization_policy::{
    AuthorizationPolicySpec, Condition as When, ExtensionProvider, Operation as Asked, PolicyAction, Rule, Source,
};
use config::{Authorization, AuthorizationAction, AuthorizationRule, Caller, Cidr, Condition, Operation, TextMatch};
use words::{Diagnostic, Fingerprint, Labels, Origin, Severity};

use crate::mesh::MeshConfig;
use crate::notes::{LeftOut, NOT_OBEYED, Notes};
use crate::service::Age;

/// Only rules of ALLOW and DENY may be tried without being enforced.
const DRY_RUN: &str = "istio.io/dry-run";
/// Istio's, behind the names of rules that nobody can decide about.
const NOBODY_DECIDES: &str = "-deny-due-to-bad-CUSTOM-action";
/// Most values in the rules of an object; each request is held against all of them. More than a Kubernetes object has room for
/// in practice.
const VALUES_MAX: usize = 1 << 16;
/// What every id of a workload begins with.
const SPIFFE: &str = "spiffe://";

/// A policy by itself.
#[derive(Debug)]
pub(crate) struct AuthorizationPolicy {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others.
    age: Age,
    /// Whom it is for within its namespace; `None` for all.
    selector: Option<Labels>,
    /// It names targets that a mesh of sidecars does not have.
    targeted: bool,
    action: PolicyAction,
    /// It is tried and not enforced.
    dry_run: bool,
    requests: Vec<AuthorizationRule>,
    connections: Vec<AuthorizationRule>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// Lowers an AuthorizationPolicy; `annotations` are its own.
pub(crate) fn lower(
    origin: Origin,
    age: Age,
    annotations: &Labels,
    spec: &AuthorizationPolicySpec,
    mesh: &MeshConfig,
) -> AuthorizationPolicy {
    let AuthorizationPolicySpec { selector, target_ref, target_refs, rules, action, provider } = spec;
    let mut notes = Notes::about(&origin);
    notes.not_obeyed(target_ref.is_some(), || "spec.targetRef".into());
    notes.not_obeyed(!target_refs.is_empty(), || "spec.targetRefs".into());
    let selector = selector.as_ref().map(|selector| selector.match_labels.clone()).filter(|labels| !labels.is_empty());
    let action = action.unwrap_or_default();
    note_action(&mut notes, action, provider.as_ref());
    let says_dry_run = annotations
        .get(DRY_RUN)
        .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "TRUE" | "true" | "True"));
    let mut lowering = Lowering { origin: &origin, action, domain: &mesh.trust_domain, notes, values: 0 };
    let (mut requests, mut connections) = (Vec::new(), Vec::new());
    for (index, rule) in rules.iter().enumerate() {
        let suffix = if action == PolicyAction::Custom { NOBODY_DECIDES } else { "" };
        let name = format!("ns[{}]-policy[{}]-rule[{index}]{suffix}", origin.namespace, origin.name);
        let read = lowering.read(&format!("spec.rules[{index}]"), rule);
        requests.extend(read.rule(&name, action, false));
        connections.extend(read.rule(&name, action, true));
    }
    if lowering.values > VALUES_MAX {
        let message = format!("{} values are more than {VALUES_MAX}; nothing is let through", lowering.values);
        lowering.notes.ignored("spec.rules", message);
        (requests, connections) = closed(&origin, action);
    }
    let diagnostics = lowering.notes.into_found();
    // Whoever writes both has not written a valid object, and may mean either.
    let targeted = selector.is_none() && (target_ref.is_some() || !target_refs.is_empty());
    let dry_run = says_dry_run && matches!(action, PolicyAction::Allow | PolicyAction::Deny);
    let content = (&origin, &age, &selector, targeted, action, dry_run, &requests, &connections, &diagnostics);
    let print = Fingerprint::of(&content);
    AuthorizationPolicy { origin, age, selector, targeted, action, dry_run, requests, connections, diagnostics, print }
}

// What becomes of an action that is not enforced as written.
fn note_action(notes: &mut Notes, action: PolicyAction, provider: Option<&ExtensionProvider>) {
    match action {
        PolicyAction::Custom => {
            let name = provider.and_then(|provider| provider.name.as_deref()).unwrap_or_default();
            let message = format!(
                "there is no provider {name:?}: external authorization is not supported; what these rules match is refused"
            );
            notes.add(NOT_OBEYED, Severity::Error, "spec.provider", message);
        }
        PolicyAction::Audit => {
            let message = "requests that match are marked for an audit that nobody makes here";
            notes.add(NOT_OBEYED, Severity::Info, "spec.action", message);
        }
        PolicyAction::Allow | PolicyAction::Deny => {}
    }
}

// Rules that let nothing through: none of ALLOW, one of any other action that matches everything.
fn closed(origin: &Origin, action: PolicyAction) -> (Vec<AuthorizationRule>, Vec<AuthorizationRule>) {
    if action == PolicyAction::Allow {
        return (Vec::new(), Vec::new());
    }
    let name = format!("ns[{}]-policy[{}]-rule[0]", origin.namespace, origin.name);
    let all = || {
        vec![AuthorizationRule {
            name: name.clone(),
            operations: vec![Condition::Always],
            callers: vec![Condition::Always],
        }]
    };
    (all(), all())
}

/// True for an object that is for a proxy: of the root namespace or its own, with labels that fit (AP03).
pub(crate) fn is_for(
    of: &Origin,
    selector: Option<&Labels>,
    namespace: &str,
    labels: &Labels,
    mesh: &MeshConfig,
) -> bool {
    let in_reach = *of.namespace == *mesh.root_namespace || &*of.namespace == namespace;
    in_reach && selector.is_none_or(|selector| words::labels_select(selector, labels))
}

/// What a proxy enforces: for requests, and for connections. In Istio's order, CUSTOM before AUDIT, DENY and ALLOW.
pub(crate) fn effective<'a>(
    all: impl Iterator<Item = &'a Arc<AuthorizationPolicy>>,
    namespace: &str,
    labels: &Labels,
    mesh: &MeshConfig,
) -> (Vec<Authorization>, Vec<Authorization>) {
    let mut mine: Vec<&AuthorizationPolicy> = all
        .filter(|one| !one.targeted && is_for(&one.origin, one.selector.as_ref(), namespace, labels, mesh))
        .map(Arc::as_ref)
        .collect();
    mine.sort_by(|a, b| a.age.cmp(&b.age));
    let order = [PolicyAction::Custom, PolicyAction::Audit, PolicyAction::Deny, PolicyAction::Allow];
    let of = |rules: fn(&AuthorizationPolicy) -> &Vec<AuthorizationRule>| -> Vec<Authorization> {
        order.iter().filter_map(|action| stage(&mine, *action, rules)).collect()
    };
    (of(|one| &one.requests), of(|one| &one.connections))
}

fn stage(
    mine: &[&AuthorizationPolicy],
    action: PolicyAction,
    rules: fn(&AuthorizationPolicy) -> &Vec<AuthorizationRule>,
) -> Option<Authorization> {
    let of = |dry_run: bool| {
        let some = || mine.iter().filter(move |one| one.action == action && one.dry_run == dry_run);
        let mut all: Vec<AuthorizationRule> = some().flat_map(|one| rules(one).iter().cloned()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        some().next().map(|_| all)
    };
    let (rules, shadow) = (of(false), of(true));
    let action = match action {
        PolicyAction::Allow => AuthorizationAction::Allow,
        PolicyAction::Deny | PolicyAction::Custom => AuthorizationAction::Deny,
        PolicyAction::Audit => AuthorizationAction::Log,
    };
    (rules.is_some() || shadow.is_some()).then_some(Authorization { action, rules, shadow })
}

/// A field of a rule, value by value; `None` for a value that cannot be used.
struct Field<T> {
    values: Vec<Option<Condition<T>>>,
    not_values: Vec<Option<Condition<T>>>,
    /// Connections have nothing of the kind.
    is_http: bool,
}

/// A rule, read.
struct Read {
    operations: Vec<Vec<Field<Operation>>>,
    callers: Vec<Vec<Field<Caller>>>,
    /// Conditions that hold besides, whichever alternative does.
    when_operations: Vec<Field<Operation>>,
    when_callers: Vec<Field<Caller>>,
    /// The whole rule is about something that there is not.
    is_broken: bool,
}

impl Read {
    // `None`: the rule is not there at all.
    fn rule(&self, name: &str, action: PolicyAction, for_tcp: bool) -> Option<AuthorizationRule> {
        if self.is_broken && action == PolicyAction::Allow {
            return None;
        }
        let operations = with(&self.operations, &self.when_operations, action, for_tcp)?;
        let callers = with(&self.callers, &self.when_callers, action, for_tcp)?;
        Some(AuthorizationRule { name: name.to_owned(), operations, callers })
    }
}

// One of the alternatives, and whatever else is demanded, which is written once. `None`, with ALLOW: something cannot be
// used, so nothing matches (Istio's `checkError`).
fn with<T: Clone>(
    alternatives: &[Vec<Field<T>>],
    when: &[Field<T>],
    action: PolicyAction,
    for_tcp: bool,
) -> Option<Vec<Condition<T>>> {
    let each = alternatives.iter().map(|fields| demands(fields, action, for_tcp));
    let mut each: Vec<Vec<Condition<T>>> = each.collect::<Option<_>>()?;
    let when = demands(when, action, for_tcp)?;
    if let ([only], false) = (&mut each[..], when.is_empty()) {
        only.extend(when);
        return Some(each.into_iter().map(all_of).collect());
    }
    let each: Vec<Condition<T>> = each.into_iter().map(all_of).collect();
    if when.is_empty() {
        return Some(each);
    }
    let mut all = vec![Condition::One(each)];
    all.extend(when);
    Some(vec![Condition::All(all)])
}

fn all_of<T>(mut all: Vec<Condition<T>>) -> Condition<T> {
    match all.len() {
        0 => Condition::Always,
        1 => all.remove(0),
        _ => Condition::All(all),
    }
}

// What fields demand, all of it.
fn demands<T: Clone>(fields: &[Field<T>], action: PolicyAction, for_tcp: bool) -> Option<Vec<Condition<T>>> {
    let mut all = Vec::new();
    for Field { values, not_values, is_http } in fields {
        // The values that can be used, and whether these are all.
        let usable = |list: &[Option<Condition<T>>]| -> Option<(Vec<Condition<T>>, bool)> {
            let is_usable = |value: &&Option<Condition<T>>| value.is_some() && !(for_tcp && *is_http);
            let used: Vec<Condition<T>> = list.iter().filter(is_usable).flatten().cloned().collect();
            let is_whole = used.len() == list.len();
            (is_whole || action != PolicyAction::Allow).then_some((used, is_whole))
        };
        let one_of = |mut used: Vec<Condition<T>>| match used.len() {
            1 => used.remove(0),
            _ => Condition::One(used),
        };
        let ((values, is_whole), (not_values, _)) = (usable(values)?, usable(not_values)?);
        // Of a list of values, one less is matched less, and refused less: so the list goes, not the value.
        all.extend((is_whole && !values.is_empty()).then(|| one_of(values)));
        all.extend((!not_values.is_empty()).then(|| Condition::Not(Box::new(one_of(not_values)))));
    }
    Some(all)
}

struct Lowering<'a> {
    origin: &'a Origin,
    action: PolicyAction,
    /// The trust domain of the mesh.
    domain: &'a str,
    notes: Notes,
    /// Values so far.
    values: usize,
}

impl Lowering<'_> {
    fn read(&mut self, path: &str, rule: &Rule) -> Read {
        let Rule { from, to, when } = rule;
        let mut read = Read {
            operations: Vec::new(),
            callers: Vec::new(),
            when_operations: Vec::new(),
            when_callers: Vec::new(),
            is_broken: false,
        };
        for (index, one) in from.iter().enumerate() {
            let field = format!("{path}.from[{index}].source");
            let source = one.source.clone().unwrap_or_default();
            if source == Source::default() {
                self.unusable(field.clone(), "it is empty".into());
                read.is_broken = true;
            }
            read.callers.push(self.source(&field, &source));
        }
        for (index, one) in to.iter().enumerate() {
            let field = format!("{path}.to[{index}].operation");
            let operation = one.operation.clone().unwrap_or_default();
            if operation == Asked::default() {
                self.unusable(field.clone(), "it is empty".into());
                read.is_broken = true;
            }
            read.operations.push(self.operation(&field, &operation));
        }
        // No alternative: one that demands nothing.
        if read.callers.is_empty() {
            read.callers.push(Vec::new());
        }
        if read.operations.is_empty() {
            read.operations.push(Vec::new());
        }
        for (index, one) in when.iter().enumerate() {
            read.is_broken |= self.when(&format!("{path}.when[{index}]"), one, &mut read).is_none();
        }
        read
    }

    fn unusable(&mut self, field: String, message: String) {
        match self.action {
            PolicyAction::Allow => self.notes.left_out(LeftOut { field, message }),
            _ => {
                let message = format!("{message}; it is left out, and the rule matches whatever fits the rest");
                self.notes.ignored(field, message);
            }
        }
    }

    fn field<T>(
        &mut self,
        path: &str,
        (name, values): (&str, &[String]),
        (not_name, not_values): (&str, &[String]),
        is_http: bool,
        lower: impl Fn(&str) -> Result<Condition<T>, String>,
    ) -> Option<Field<T>> {
        let mut each = |name: &str, list: &[String]| -> Vec<Option<Condition<T>>> {
            self.values += list.len();
            let mut read = Vec::with_capacity(list.len());
            for (index, text) in list.iter().enumerate() {
                let lowered = if text.is_empty() { Err("it is empty".to_owned()) } else { lower(text) };
                read.push(match lowered {
                    Ok(condition) => Some(condition),
                    Err(reason) => {
                        self.unusable(format!("{path}.{name}[{index}]"), format!("{text:?}: {reason}"));
                        None
                    }
                });
            }
            read
        };
        let (values, not_values) = (each(name, values), each(not_name, not_values));
        (!values.is_empty() || !not_values.is_empty()).then_some(Field { values, not_values, is_http })
    }

    fn source(&mut self, path: &str, source: &Source) -> Vec<Field<Caller>> {
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
        let (origin, domain) = (self.origin, self.domain);
        let fields = [
            self.field(path, ("principals", principals), ("notPrincipals", not_principals), false, |text| {
                Ok(principal(text, domain))
            }),
            self.field(
                path,
                ("requestPrincipals", request_principals),
                ("notRequestPrincipals", not_request_principals),
                true,
                |text| Ok(request_principal(text)),
            ),
            self.field(path, ("namespaces", namespaces), ("notNamespaces", not_namespaces), false, namespace),
            self.field(
                path,
                ("serviceAccounts", service_accounts),
                ("notServiceAccounts", not_service_accounts),
                false,
                |text| service_account(text, origin),
            ),
            self.field(path, ("trustDomains", trust_domains), ("notTrustDomains", not_trust_domains), false, |text| {
                part(text).map(|text| Condition::Is(Caller::TrustDomain(text)))
            }),
            self.field(
                path,
                ("remoteIpBlocks", remote_ip_blocks),
                ("notRemoteIpBlocks", not_remote_ip_blocks),
                false,
                |text| range(text).map(|range| Condition::Is(Caller::RemoteAddress(range))),
            ),
            self.field(path, ("ipBlocks", ip_blocks), ("notIpBlocks", not_ip_blocks), false, |text| {
                range(text).map(|range| Condition::Is(Caller::Address(range)))
            }),
        ];
        fields.into_iter().flatten().collect()
    }

    fn operation(&mut self, path: &str, operation: &Asked) -> Vec<Field<Operation>> {
        let Asked { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
        let fields = [
            self.field(path, ("hosts", hosts), ("notHosts", not_hosts), true, |text| {
                Ok(Condition::Is(Operation::Host(TextMatch::parse(text))))
            }),
            self.field(path, ("methods", methods), ("notMethods", not_methods), true, |text| {
                Ok(Condition::Is(Operation::Method(TextMatch::parse(text))))
            }),
            self.field(path, ("paths", paths), ("notPaths", not_paths), true, path_of),
            self.field(path, ("ports", ports), ("notPorts", not_ports), false, port),
        ];
        fields.into_iter().flatten().collect()
    }

    /// Reads a condition on an attribute; `None`: there is no such attribute.
    fn when(&mut self, path: &str, when: &When, read: &mut Read) -> Option<()> {
        let When { key, values, not_values } = when;
        let key = key.as_deref().unwrap_or_default();
        if values.is_empty() && not_values.is_empty() {
            self.unusable(path.to_owned(), "values or notValues are needed".into());
            return None;
        }
        let (origin, domain) = (self.origin, self.domain);
        let name_in = |prefix: &str| key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']');
        let lists = (("values", values.as_slice()), ("notValues", not_values.as_slice()));
        let (values, not_values) = lists;
        let operation = match key {
            "destination.ip" => self.field(path, values, not_values, false, |text| {
                range(text).map(|range| Condition::Is(Operation::Address(range)))
            }),
            "destination.port" => self.field(path, values, not_values, false, port),
            "connection.sni" => self.field(path, values, not_values, false, |text| {
                Ok(Condition::Is(Operation::ServerName(TextMatch::parse(text))))
            }),
            _ => None,
        };
        if let Some(field) = operation {
            read.when_operations.push(field);
            return Some(());
        }
        let claim =
            |path: Vec<String>, text: &str| Condition::Is(Caller::Claim { path, value: TextMatch::parse(text) });
        let caller = match key {
            "source.ip" => self.field(path, values, not_values, false, |text| {
                range(text).map(|range| Condition::Is(Caller::Address(range)))
            }),
            "remote.ip" => self.field(path, values, not_values, false, |text| {
                range(text).map(|range| Condition::Is(Caller::RemoteAddress(range)))
            }),
            "source.namespace" => self.field(path, values, not_values, false, namespace),
            "source.principal" => self.field(path, values, not_values, false, |text| Ok(principal(text, domain))),
            "source.serviceAccount" => {
                self.field(path, values, not_values, false, |text| service_account(text, origin))
            }
            "request.auth.principal" => self.field(path, values, not_values, true, |text| Ok(request_principal(text))),
            "request.auth.audiences" => {
                self.field(path, values, not_values, true, |text| Ok(claim(vec!["aud".into()], text)))
            }
            "request.auth.presenter" => {
                self.field(path, values, not_values, true, |text| Ok(claim(vec!["azp".into()], text)))
            }
            _ => match (name_in("request.headers"), name_in("request.auth.claims")) {
                (Some(name), _) => self.field(path, values, not_values, true, |text| {
                    let name = name.to_ascii_lowercase();
                    Ok(Condition::Is(Caller::Header { name, value: TextMatch::parse(text) }))
                }),
                (None, Some(names)) => {
                    let names: Vec<String> = names.split("][").map(str::to_owned).collect();
                    self.field(path, values, not_values, true, |text| Ok(claim(names.clone(), text)))
                }
                (None, None) => {
                    let reason = match key.starts_with("experimental.envoy.filters.") {
                        true => "filter metadata is not obeyed here",
                        false => "there is no such attribute",
                    };
                    self.unusable(format!("{path}.key"), format!("{key:?}: {reason}"));
                    return None;
                }
            },
        };
        read.when_callers.extend(caller);
        Some(())
    }
}

fn range(text: &str) -> Result<Cidr, String> {
    Cidr::parse(text).ok_or_else(|| "neither an address nor a range".into())
}

fn port(text: &str) -> Result<Condition<Operation>, String> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0).ok_or("not a port")?;
    Ok(Condition::Is(Operation::Port(port)))
}

// A part of a SPIFFE id, with a wildcard at one end at most.
fn part(text: &str) -> Result<TextMatch, String> {
    let read = TextMatch::parse(text);
    let inner = match &read {
        TextMatch::Present => "",
        TextMatch::Exact(inner) | TextMatch::Prefix(inner) | TextMatch::Suffix(inner) => inner,
    };
    match inner.contains(['/', '*']) {
        true => Err("a name without / and with * at one end only is needed".into()),
        false => Ok(read),
    }
}

fn namespace(text: &str) -> Result<Condition<Caller>, String> {
    part(text).map(|text| Condition::Is(Caller::Namespace(text)))
}

// `name`, of the policy's own namespace, or `namespace/name`.
fn service_account(text: &str, policy: &Origin) -> Result<Condition<Caller>, String> {
    let (namespace, name) = text.split_once('/').unwrap_or((&policy.namespace, text));
    match namespace.is_empty() || name.is_empty() || name.contains('/') || text.contains('*') {
        true => Err("name or namespace/name is needed, without wildcards".into()),
        false => Ok(Condition::Is(Caller::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })),
    }
}

// Istio's usual trust domain stands for the mesh's own.
fn principal(text: &str, domain: &str) -> Condition<Caller> {
    let of_mesh = text.strip_prefix("cluster.local/").map(|rest| format!("{domain}/{rest}"));
    let text = match TextMatch::parse(of_mesh.as_deref().unwrap_or(text)) {
        TextMatch::Exact(text) => TextMatch::Exact(format!("{SPIFFE}{text}")),
        TextMatch::Prefix(text) => TextMatch::Prefix(format!("{SPIFFE}{text}")),
        open => open,
    };
    Condition::Is(Caller::Principal(text))
}

// `issuer/subject`: the issuer may be a URL, so the last slash counts.
fn request_principal(text: &str) -> Condition<Caller> {
    let part = |text: &str, open: fn(String) -> TextMatch, trimmed: &str| match text {
        "*" => TextMatch::Present,
        _ => open(trimmed.to_owned()),
    };
    let exact = |text: &str| TextMatch::Exact(text.to_owned());
    let (issuer, subject) = match (text.rsplit_once('/'), text.strip_prefix('*'), text.strip_suffix('*')) {
        (_, Some(""), _) => (TextMatch::Present, TextMatch::Present),
        (Some((issuer, subject)), Some(_), _) => {
            (part(issuer, TextMatch::Suffix, issuer.trim_start_matches('*')), exact(subject))
        }
        (None, Some(end), _) => (TextMatch::Present, TextMatch::Suffix(end.to_owned())),
        (Some((issuer, subject)), None, Some(_)) => {
            (exact(issuer), part(subject, TextMatch::Prefix, subject.trim_end_matches('*')))
        }
        (None, None, Some(begin)) => (TextMatch::Prefix(begin.to_owned()), TextMatch::Present),
        (Some((issuer, subject)), None, None) => (exact(issuer), exact(subject)),
        // Istio's: an issuer without a subject.
        (None, None, None) => (exact(text), exact("")),
    };
    let claim = |name: &str, value| Condition::Is(Caller::Claim { path: vec![name.to_owned()], value });
    Condition::All(vec![claim("iss", issuer), claim("sub", subject)])
}

// Templates have `{*}` and `{**}` in Istio, `*` and `**` in Envoy.
fn path_of(text: &str) -> Result<Condition<Operation>, String> {
    if !text.contains(['{', '}']) {
        return Ok(Condition::Is(Operation::Path(TextMatch::parse(text))));
    }
    let template = text.replace("{*}", "*").replace("{**}", "**");
    let segments: Vec<&str> = template.split('/').skip(1).collect();
    let rest = segments.iter().position(|segment| *segment == "**");
    let is_wrong =
        |segment: &&str| segment.contains(['{', '}']) || (segment.contains('*') && *segment != "*" && *segment != "**");
    let behind = rest.map_or(&[][..], |rest| &segments[rest + 1..]);
    match !template.starts_with('/') || segments.iter().any(is_wrong) || behind.iter().any(|one| one.contains('*')) {
        true => Err("{*} and {**} stand for whole segments, and none behind {**}".into()),
        false => Ok(Condition::Is(Operation::PathTemplate(template))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(namespace: &str, spec: serde_json::Value) -> Arc<AuthorizationPolicy> {
        let spec: AuthorizationPolicySpec = serde_json::from_value(spec).unwrap();
        let age = (String::new(), "it".into(), namespace.into());
        let origin = Origin::new("AuthorizationPolicy", namespace, "it");
        Arc::new(lower(origin, age, &Labels::new(), &spec, &MeshConfig::default()))
    }

    fn rules(spec: serde_json::Value) -> (Vec<AuthorizationRule>, Vec<AuthorizationRule>, Vec<String>) {
        let made = policy("default", spec);
        let found = made.diagnostics.iter().map(|one| format!("{} {}", one.code, one.field)).collect();
        (made.requests.clone(), made.connections.clone(), found)
    }

    #[test]
    fn ap02_on_tcp_allow_matches_less_and_deny_more() {
        let rule = serde_json::json!([{"to": [{"operation": {"paths": ["/a"], "ports": ["80"]}}]}]);
        let (requests, connections, _) = rules(serde_json::json!({"rules": rule}));
        assert_eq!((requests.len(), connections.len()), (1, 0));
        let (requests, connections, _) = rules(serde_json::json!({"action": "DENY", "rules": rule}));
        assert_eq!(connections[0].operations, [Condition::Is(Operation::Port(80))]);
        let path = Condition::Is(Operation::Path(TextMatch::Exact("/a".into())));
        assert_eq!(requests[0].operations, [Condition::All(vec![path, Condition::Is(Operation::Port(80))])]);
        let mixed = serde_json::json!([{"when": [{"key": "request.headers[x]", "values": ["a"]}]}]);
        let (_, connections, _) = rules(serde_json::json!({"action": "DENY", "rules": mixed}));
        assert_eq!(connections[0].callers, [Condition::Always]);
    }

    #[test]
    fn ap02_what_cannot_be_used_lets_nothing_more_through() {
        for bad in [
            serde_json::json!([{"when": [{"key": "request.colour", "values": ["a"]}]}]),
            serde_json::json!([{"from": [{"source": {"ipBlocks": ["10.0.0.0/33"]}}]}]),
            serde_json::json!([{"from": [{"source": {"namespaces": ["a/b"]}}]}]),
            serde_json::json!([{"to": [{"operation": {"paths": ["/a{*}"]}}]}]),
            serde_json::json!([{"to": [{"operation": {"paths": ["/a/{b}"]}}]}]),
            serde_json::json!([{"to": [{"operation": {"ports": ["80", "0"]}}]}]),
            serde_json::json!([{"from": [{"source": {"ipBlocks": ["10.0.0.1", "10.0.0.0/33"]}}]}]),
            serde_json::json!([{"from": [{"source": {"notPrincipals": [""]}}]}]),
            serde_json::json!([{"when": [{"key": "source.ip", "values": ["10.0.0.1", "x"]}]}]),
        ] {
            let (requests, _, found) = rules(serde_json::json!({"rules": bad}));
            assert_eq!((requests.len(), found.len()), (0, 1), "{bad}");
            assert!(found[0].starts_with("SLU0101"), "{found:?}");
            let (requests, _, found) = rules(serde_json::json!({"action": "DENY", "rules": bad}));
            assert_eq!(requests[0].operations, [Condition::Always], "{bad}");
            assert_eq!(requests[0].callers, [Condition::Always], "{bad}");
            assert!(found[0].starts_with("SLU0102"), "{found:?}");
        }
    }

    #[test]
    fn ap02_conditions_are_written_once_whatever_the_alternatives() {
        let many: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let from: Vec<_> = many.iter().map(|n| serde_json::json!({"source": {"namespaces": [n]}})).collect();
        let to: Vec<_> = many.iter().map(|n| serde_json::json!({"operation": {"paths": [n]}})).collect();
        let when = serde_json::json!([
            {"key": "request.headers[x]", "values": many},
            {"key": "connection.sni", "notValues": many},
        ]);
        let (requests, _, found) = rules(serde_json::json!({"rules": [{"from": from, "to": to, "when": when}]}));
        assert_eq!(found, Vec::<String>::new());
        let AuthorizationRule { operations, callers, .. } = &requests[0];
        assert_eq!((operations.len(), callers.len()), (1, 1));
        assert!(leaves(&operations[0]) == 2000 && leaves(&callers[0]) == 2000);
        let holds = |asked: &str, sni: &str| {
            operations[0].holds(&mut |one| match one {
                Operation::Path(text) => text.fits(asked),
                Operation::ServerName(text) => text.fits(sni),
                _ => false,
            })
        };
        assert!(holds("7", "a") && !holds("x", "a") && !holds("7", "8"));
    }

    fn leaves<T>(condition: &Condition<T>) -> usize {
        match condition {
            Condition::Always => 0,
            Condition::All(many) | Condition::One(many) => many.iter().map(leaves).sum(),
            Condition::Not(inner) => leaves(inner),
            Condition::Is(_) => 1,
        }
    }

    #[test]
    fn ap02_more_values_than_there_is_room_for_let_nothing_through() {
        let blocks = vec!["10.0.0.1"; VALUES_MAX + 1];
        let rule = serde_json::json!([{"from": [{"source": {"ipBlocks": blocks}}]}]);
        let (requests, connections, found) = rules(serde_json::json!({"rules": rule}));
        assert_eq!((requests.len(), connections.len(), found), (0, 0, vec!["SLU0102 spec.rules".to_owned()]));
        let (requests, connections, _) = rules(serde_json::json!({"action": "DENY", "rules": rule}));
        assert_eq!(
            (&requests[0].callers[..], &connections[0].callers[..]),
            (&[Condition::Always][..], &[Condition::Always][..])
        );
    }

    #[test]
    fn ap01_custom_refuses_what_it_matches_and_stands_first() {
        let all = [
            policy("default", serde_json::json!({"rules": [{}]})),
            policy("default", serde_json::json!({"action": "CUSTOM", "provider": {"name": "x"}, "rules": [{}]})),
        ];
        let (requests, _) = effective(all.iter(), "default", &Labels::new(), &MeshConfig::default());
        assert_eq!(requests[0].action, AuthorizationAction::Deny);
        assert!(requests[0].rules.as_ref().unwrap()[0].name.ends_with("rule[0]-deny-due-to-bad-CUSTOM-action"));
        assert_eq!(requests[1].action, AuthorizationAction::Allow);
        assert!(all[1].diagnostics[0].message.contains("external authorization is not supported"));
    }

    #[test]
    fn ap03_root_namespace_own_namespace_selector() {
        let labels = Labels::from([("app".to_owned(), "web".to_owned())]);
        let count = |policy: Arc<AuthorizationPolicy>| {
            effective([policy].iter(), "default", &labels, &MeshConfig::default()).0.len()
        };
        let of = |app: &str| serde_json::json!({"selector": {"matchLabels": {"app": app}}, "rules": [{}]});
        assert_eq!(count(policy("istio-system", serde_json::json!({}))), 1);
        assert_eq!(count(policy("istio-system", of("web"))), 1);
        assert_eq!(count(policy("istio-system", of("db"))), 0);
        assert_eq!(count(policy("default", of("web"))), 1);
        assert_eq!(count(policy("other", serde_json::json!({}))), 0);
        let target = serde_json::json!({"targetRefs": [{"kind": "Service", "name": "a"}], "rules": [{}]});
        assert_eq!(count(policy("default", target)), 0);
    }

    #[test]
    fn ap02_request_principals_are_issuer_and_subject() {
        let parts = |text: &str| match request_principal(text) {
            Condition::All(parts) => match &parts[..] {
                [
                    Condition::Is(Caller::Claim { value: issuer, .. }),
                    Condition::Is(Caller::Claim { value: subject, .. }),
                ] => (issuer.clone(), subject.clone()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let exact = |text: &str| TextMatch::Exact(text.to_owned());
        assert_eq!(parts("*"), (TextMatch::Present, TextMatch::Present));
        assert_eq!(parts("https://a.b/c"), (exact("https://a.b"), exact("c")));
        assert_eq!(parts("https://a.b/*"), (exact("https://a.b"), TextMatch::Present));
        assert_eq!(parts("a/b*"), (exact("a"), TextMatch::Prefix("b".into())));
        assert_eq!(parts("*/b"), (TextMatch::Present, exact("b")));
        assert_eq!(parts("*a/b"), (TextMatch::Suffix("a".into()), exact("b")));
        assert_eq!(parts("a*"), (TextMatch::Prefix("a".into()), TextMatch::Present));
        assert_eq!(parts("*b"), (TextMatch::Present, TextMatch::Suffix("b".into())));
    }
}
