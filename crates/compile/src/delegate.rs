//! Delegation: a rule whose rules another VirtualService has (VS90 to VS94).
//!
//! In: rules as written, with every name complete. Out: the delegate's rules, each joined with the rule that delegates;
//! [`resolve`] puts them into the objects that delegate, so that nothing behind it knows of delegates.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::http_actions::Delegate;
use api::{HttpMatchRequest, HttpRoute, StringMatch};
use words::{Fingerprint, Origin, host};

use crate::gateway_name;
use crate::intent::{HttpRule, Routing};
use crate::mesh::MeshConfig;
use crate::notes::{LeftOut, Notes};
use crate::virtual_service::lower_rule;

/// A rule that another object has the rules of.
#[derive(Clone, Debug)]
pub(crate) struct Delegation {
    /// Where it stands in the object, `spec.http[2]`.
    pub(crate) index: usize,
    /// How many of the object's lowered rules stand before it.
    position: usize,
    /// `namespace/name` of the delegate.
    pub(crate) to: String,
    /// The rule, its names complete.
    rule: HttpRoute,
    print: Fingerprint,
}

/// The rules of a delegate, their names complete.
#[derive(Debug)]
pub(crate) struct Delegated {
    rules: Vec<HttpRoute>,
    print: Fingerprint,
}

impl Hash for Delegation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.index, self.position, &self.to, self.print).hash(state);
    }
}

impl Hash for Delegated {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

impl Delegation {
    /// Takes a rule; `place` is the object's namespace and the mesh's domain.
    pub(crate) fn new(
        rule: &HttpRoute,
        delegate: &Delegate,
        (index, position): (usize, usize),
        place: (&str, &str),
    ) -> Self {
        let Delegate { name, namespace } = delegate;
        let namespace = namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(place.0);
        let rule = complete(rule, place);
        Self {
            index,
            position,
            to: format!("{namespace}/{}", name.as_deref().unwrap_or_default()),
            print: print(&rule),
            rule,
        }
    }
}

impl Delegated {
    /// Takes the rules of an object without hosts.
    pub(crate) fn new(rules: &[HttpRoute], place: (&str, &str)) -> Self {
        let rules: Vec<HttpRoute> = rules.iter().map(|rule| complete(rule, place)).collect();
        let print = Fingerprint::of(&rules.iter().map(print).collect::<Vec<_>>());
        Self { rules, print }
    }
}

// The values of Istio's types have no hash of their own; what they are written as has.
fn print(rule: &HttpRoute) -> Fingerprint {
    Fingerprint::of(&serde_json::to_string(rule).unwrap_or_default())
}

// Short names are of the namespace of the object that has them, wherever the rule is served (VS94).
fn complete(rule: &HttpRoute, (namespace, domain): (&str, &str)) -> HttpRoute {
    let mut rule = rule.clone();
    let destinations = rule.route.iter_mut().filter_map(|one| one.destination.as_mut());
    let mirrors = rule.mirrors.iter_mut().filter_map(|one| one.destination.as_mut());
    for destination in destinations.chain(mirrors).chain(rule.mirror.as_mut()) {
        destination.host = host::resolve_short(&destination.host, namespace, domain);
    }
    for block in &mut rule.r#match {
        for gateway in &mut block.gateways {
            *gateway = gateway_name::resolve(gateway, namespace);
        }
    }
    rule
}

/// Puts the rules of delegates into the objects that delegate to them. `sorted` stays in order.
pub(crate) fn resolve(sorted: Vec<Arc<Routing>>, mesh: &MeshConfig) -> Vec<Arc<Routing>> {
    if sorted.iter().all(|routing| routing.delegations.is_empty()) {
        return sorted;
    }
    let delegates = Delegates::new(sorted.iter(), mesh);
    sorted.iter().map(|routing| delegates.merge(routing)).collect()
}

/// The objects that may be delegated to.
pub(crate) struct Delegates<'a> {
    /// By `namespace/name`.
    by_name: BTreeMap<String, &'a Arc<Routing>>,
    mesh: &'a MeshConfig,
}

impl<'a> Delegates<'a> {
    /// Of these objects, those without hosts.
    pub(crate) fn new(all: impl Iterator<Item = &'a Arc<Routing>>, mesh: &'a MeshConfig) -> Self {
        let named = |one: &'a Arc<Routing>| (format!("{}/{}", one.origin.namespace, one.origin.name), one);
        Self { by_name: all.filter(|one| one.delegated.is_some()).map(named).collect(), mesh }
    }

    fn merge(&self, root: &Arc<Routing>) -> Arc<Routing> {
        if root.delegations.is_empty() {
            return root.clone();
        }
        let mut merged = Routing::clone(root);
        // From the end, so that positions stay true.
        for delegation in root.delegations.iter().rev() {
            let rules = self.rules(root, delegation, &mut Notes::about(&root.origin));
            merged.http.splice(delegation.position..delegation.position, rules);
        }
        merged.delegations = Vec::new();
        merged.print = Fingerprint::of(&(root.print, &merged.http));
        Arc::new(merged)
    }

    /// The rules that stand in the place of a delegation, and what is to be said about them.
    pub(crate) fn rules(&self, root: &Routing, delegation: &Delegation, notes: &mut Notes) -> Vec<HttpRule> {
        let field = format!("spec.http[{}].delegate", delegation.index);
        let Some((delegate, delegated)) =
            self.by_name.get(&delegation.to).and_then(|one| Some((one, one.delegated.as_ref()?)))
        else {
            notes.left_out(LeftOut::because(field, format!("there is no delegate VirtualService {}", delegation.to)));
            return Vec::new();
        };
        if !delegate.export.includes(&root.origin.namespace) {
            let message = format!("{} is not exported to namespace {}", delegate.origin, root.origin.namespace);
            notes.left_out(LeftOut::because(field, message));
            return Vec::new();
        }
        let mut rules = Vec::with_capacity(delegated.rules.len());
        for (index, rule) in delegated.rules.iter().enumerate() {
            let Some(joined) = join(&delegation.rule, rule) else {
                notes.left_out(LeftOut::because(&field, conflict(&delegate.origin, index)));
                continue;
            };
            // What is wrong with the delegate's own rule is said about the delegate.
            let namespace = &delegate.origin.namespace;
            let mut unsaid = Notes::about(&delegate.origin);
            let lowered = lower_rule(&joined, delegation.index, namespace, self.mesh, &mut unsaid);
            rules.extend(lowered.ok());
        }
        rules
    }
}

fn conflict(delegate: &Origin, index: usize) -> String {
    format!("spec.http[{index}] of {delegate} matches nothing that this rule matches")
}

/// A delegate's rule with what it leaves to the rule that delegates. `None`: their matches contradict each other.
fn join(root: &HttpRoute, rule: &HttpRoute) -> Option<HttpRoute> {
    Some(HttpRoute {
        name: join_names(&root.name, &rule.name),
        r#match: join_matches(&root.r#match, &rule.r#match)?,
        route: rule.route.clone(),
        redirect: rule.redirect.clone(),
        direct_response: rule.direct_response.clone().or_else(|| root.direct_response.clone()),
        delegate: rule.delegate.clone(),
        rewrite: rule.rewrite.clone().or_else(|| root.rewrite.clone()),
        timeout: rule.timeout.clone().or_else(|| root.timeout.clone()),
        retries: rule.retries.clone().or_else(|| root.retries.clone()),
        fault: rule.fault.clone().or_else(|| root.fault.clone()),
        mirror: rule.mirror.clone().or_else(|| root.mirror.clone()),
        mirrors: if rule.mirrors.is_empty() { root.mirrors.clone() } else { rule.mirrors.clone() },
        mirror_percent: rule.mirror_percent.or(root.mirror_percent),
        mirror_percentage: rule.mirror_percentage.clone().or_else(|| root.mirror_percentage.clone()),
        cors_policy: rule.cors_policy.clone().or_else(|| root.cors_policy.clone()),
        headers: rule.headers.clone().or_else(|| root.headers.clone()),
    })
}

fn join_names(root: &Option<String>, leaf: &Option<String>) -> Option<String> {
    let filled = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    match (filled(root), filled(leaf)) {
        (Some(root), Some(leaf)) => Some(format!("{root}-{leaf}")),
        (root, leaf) => root.or(leaf),
    }
}

// Each block of the delegate with every block of the root that it does not contradict; one that contradicts all of them
// contradicts the rule.
fn join_matches(root: &[HttpMatchRequest], rule: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || rule.is_empty() {
        return Some(if rule.is_empty() { root.to_vec() } else { rule.to_vec() });
    }
    let mut joined = Vec::new();
    for leaf in rule {
        let before = joined.len();
        joined.extend(root.iter().filter(|root| !contradict(root, leaf)).map(|root| join_blocks(root, leaf)));
        if joined.len() == before {
            return None;
        }
    }
    Some(joined)
}

fn join_blocks(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> HttpMatchRequest {
    let both = |root: &BTreeMap<String, StringMatch>, leaf: &BTreeMap<String, StringMatch>| {
        let mut all = root.clone();
        all.extend(leaf.clone());
        all
    };
    let mut source_labels = root.source_labels.clone();
    source_labels.extend(leaf.source_labels.clone());
    HttpMatchRequest {
        name: join_names(&root.name, &leaf.name),
        uri: leaf.uri.clone().or_else(|| root.uri.clone()),
        scheme: leaf.scheme.clone().or_else(|| root.scheme.clone()),
        method: leaf.method.clone().or_else(|| root.method.clone()),
        authority: leaf.authority.clone().or_else(|| root.authority.clone()),
        headers: both(&root.headers, &leaf.headers),
        without_headers: both(&root.without_headers, &leaf.without_headers),
        query_params: both(&root.query_params, &leaf.query_params),
        ignore_uri_case: leaf.ignore_uri_case.or(root.ignore_uri_case),
        port: leaf.port.filter(|port| *port != 0).or(root.port),
        source_labels,
        source_namespace: leaf.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        stat_prefix: leaf.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
    }
}

/// True when a delegate's block is not certain to lie inside the root's (VS92).
fn contradict(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> bool {
    let single = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let maps = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let set = |port: Option<u32>| port.filter(|port| *port != 0);
    let ports = set(root.port).zip(set(leaf.port));
    let namespaces = root.source_namespace.as_ref().zip(leaf.source_namespace.as_ref());
    let mut labels = leaf.source_labels.iter();
    let foreign = |gateway: &String| !root.gateways.contains(gateway);
    single.iter().any(|(root, leaf)| root.as_ref().zip(leaf.as_ref()).is_some_and(|(root, leaf)| differ(root, leaf)))
        || maps
            .iter()
            .any(|(root, leaf)| leaf.iter().any(|(key, leaf)| root.get(key).is_some_and(|root| differ(root, leaf))))
        || root.ignore_uri_case.unwrap_or(false) != leaf.ignore_uri_case.unwrap_or(false)
        || ports.is_some_and(|(root, leaf)| root != leaf)
        || namespaces.is_some_and(|(root, leaf)| root != leaf)
        || labels.any(|(key, value)| root.source_labels.get(key).is_some_and(|root| root != value))
        || (!root.gateways.is_empty() && leaf.gateways.iter().any(foreign))
}

// True when the delegate's condition is not inside the root's; of a regex on either side nobody knows.
fn differ(root: &StringMatch, leaf: &StringMatch) -> bool {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (exact, prefix) = (text(&root.exact), text(&root.prefix));
    let (leaf_exact, leaf_prefix) = (text(&leaf.exact), text(&leaf.prefix));
    if text(&root.regex).is_some() || text(&leaf.regex).is_some() {
        return true;
    }
    match (exact, prefix, leaf_exact.as_ref().or(leaf_prefix.as_ref())) {
        (Some(exact), _, _) => leaf_exact != Some(exact),
        (None, Some(prefix), Some(leaf)) => !leaf.starts_with(&prefix),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(exact: &str, prefix: &str, regex: &str) -> StringMatch {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        StringMatch { exact: some(exact), prefix: some(prefix), regex: some(regex) }
    }

    #[test]
    fn vs92_a_delegates_condition_must_lie_inside_the_roots() {
        for (root, leaf, contradicts) in [
            (uri("", "/a", ""), uri("", "/a/b", ""), false),
            (uri("", "/a", ""), uri("/a/b", "", ""), false),
            (uri("", "/a/b", ""), uri("", "/a", ""), true),
            (uri("", "/a", ""), uri("/b", "", ""), true),
            (uri("/a", "", ""), uri("/a", "", ""), false),
            (uri("/a", "", ""), uri("/b", "", ""), true),
            (uri("/a", "", ""), uri("", "/a", ""), true),
            (uri("", "", "/a.*"), uri("/a", "", ""), true),
            (uri("", "/a", ""), uri("", "", "/a.*"), true),
        ] {
            assert_eq!(differ(&root, &leaf), contradicts, "{root:?} {leaf:?}");
        }
    }

    #[test]
    fn vs91_every_block_of_the_delegate_meets_every_compatible_block_of_the_root() {
        let on = |uri: StringMatch| HttpMatchRequest { uri: Some(uri), ..HttpMatchRequest::default() };
        let port = HttpMatchRequest { port: Some(80), ..HttpMatchRequest::default() };
        let root = [on(uri("", "/a", "")), port];
        let leaf = [on(uri("/a/x", "", "")), on(uri("/b", "", ""))];
        let joined = join_matches(&root, &leaf).expect("compatible");
        let text: Vec<_> = joined.iter().map(|one| (one.uri.clone().and_then(|uri| uri.exact), one.port)).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(text, [(some("/a/x"), None), (some("/a/x"), Some(80)), (some("/b"), Some(80))]);
        assert!(join_matches(&root[..1], &leaf).is_none(), "one block that fits nowhere takes the whole rule with it");
    }
}
