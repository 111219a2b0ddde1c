//! Routes: the back end of HTTP rules (VS11, VS23, VS32, VS73, VS74, X54).
//!
//! In: rules as intents, who asks, and facts about their destinations. Out: routes in order. Looks nothing up.

use std::sync::Arc;

use config::{Action, ClusterChoice, Forward, HashKey, HeaderChanges, Mirror, PathMatch, Route, RouteMatch, Weighted};
use rustc_hash::FxHashMap;

use crate::cluster;
use crate::hashing::Hashing;
use crate::intent::{Asker, Destination, ForwardRule, HttpRule, MirrorRule, Routing, RuleAction, RuleMatch};
use crate::mesh::DefaultRetries;
use crate::{header_changes, retry};

/// What is known of a destination host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fact {
    /// The host that has clusters: the target of an ExternalName (SE30).
    pub(crate) host: Arc<str>,
    /// Its port, when it has only one (VS32).
    pub(crate) only_port: Option<u16>,
    /// What keeps its requests at an endpoint.
    pub(crate) hashing: Option<Hashing>,
}

/// Facts by destination host as written.
pub(crate) type Facts = FxHashMap<Arc<str>, Fact>;

/// What rules are placed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// For whom.
    pub(crate) asker: &'a Asker<'a>,
    /// What is known of destinations.
    pub(crate) facts: &'a Facts,
    /// The port that requests come in on: the service port, or the port written in the Gateway.
    pub(crate) port: u16,
    /// True when requests come over TLS.
    pub(crate) is_tls: bool,
}

/// The routes of an object for one asker, up to the first catch-all (VS74).
pub(crate) fn emit(routing: &Routing, place: Place<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for rule in &routing.http {
        for block in rule.matches.iter().filter(|block| block.filter.holds(place.asker)) {
            let route = emit_one(routing, rule, block, place);
            let last = route.matches.is_catch_all();
            routes.push(route);
            if last {
                return routes;
            }
        }
    }
    routes
}

/// True when an object has any route for an asker (VS73).
pub(crate) fn applies(routing: &Routing, asker: &Asker<'_>) -> bool {
    routing.http.iter().flat_map(|rule| &rule.matches).any(|block| block.filter.holds(asker))
}

fn emit_one(routing: &Routing, rule: &HttpRule, block: &RuleMatch, place: Place<'_>) -> Route {
    let (action, operation) = match &rule.action {
        RuleAction::Respond(respond) => {
            (Action::Respond(respond.clone()), format!("{}:{}", routing.origin.name, place.port))
        }
        RuleAction::Redirect(redirect) => {
            let redirect = redirect.on(place.port, place.is_tls);
            (Action::Redirect(redirect), format!("{}:{}", routing.origin.name, place.port))
        }
        RuleAction::Forward(forward) => {
            (Action::Forward(emit_forward(forward, place)), served(routing, forward, place))
        }
    };
    let name = match (rule.name.as_str(), block.name.as_str()) {
        (rule, "") => rule.to_owned(),
        ("", block) => block.to_owned(),
        (rule, block) => format!("{rule}.{block}"),
    };
    Route {
        origin: Some(routing.origin.clone()),
        operation: format!("{operation}{}", path_text(&block.request)),
        headers: changes(rule).into_option(),
        cors: rule.cors.clone(),
        stat_prefix: block.stat_prefix.clone(),
        ..Route::new(name, block.request.clone(), action)
    }
}

// A single destination's changes come behind the rule's own; several have theirs at their share.
fn changes(rule: &HttpRule) -> HeaderChanges {
    match &rule.action {
        RuleAction::Forward(forward) => match forward.destinations.as_slice() {
            [one] => header_changes::joined(&rule.headers, &one.headers.changes),
            _ => rule.headers.clone(),
        },
        _ => rule.headers.clone(),
    }
}

fn emit_forward(forward: &ForwardRule, place: Place<'_>) -> Forward {
    let ForwardRule { destinations, timeout, retry, ignores_previous_hosts, rewrite, fault, mirrors, shadow_host } =
        forward;
    let mut rewrite = rewrite.clone();
    let cluster = match destinations.as_slice() {
        [one] => {
            // The rule's own authority wins over the destination's.
            rewrite.authority = rewrite.authority.or_else(|| one.headers.authority.clone());
            ClusterChoice::One(cluster_of(one, place))
        }
        many => ClusterChoice::Weighted(many.iter().map(|one| emit_weighted(one, place)).collect()),
    };
    let copy = |mirror: &MirrorRule| Mirror {
        cluster: cluster_of(&mirror.destination, place),
        share: mirror.share,
        shadow_host: *shadow_host,
    };
    // Of several destinations each adds its key; only the drawn cluster looks at them (DR24).
    let hash: Vec<HashKey> = destinations.iter().filter_map(|one| key_of(one, place)).cloned().collect();
    let mut retry = retry.clone();
    if let (Some(retry), true) = (&mut retry, destinations.len() == 1 && !hash.is_empty()) {
        // A key belongs to one endpoint: another one is as bad as the next (VS85).
        retry.avoid_previous_hosts = ignores_previous_hosts.unwrap_or(false);
    }
    Forward {
        timeout: *timeout,
        retry,
        hash,
        rewrite: rewrite.into_option(),
        fault: fault.clone(),
        mirrors: mirrors.iter().map(copy).collect(),
        ..Forward::to(cluster)
    }
}

fn emit_weighted(one: &Destination, place: Place<'_>) -> Weighted {
    Weighted {
        headers: one.headers.changes.clone().into_option(),
        authority: one.headers.authority.clone(),
        ..Weighted::new(cluster_of(one, place), one.weight)
    }
}

fn key_of<'a>(destination: &Destination, place: Place<'a>) -> Option<&'a HashKey> {
    let hashing = place.facts.get(&destination.host)?.hashing.as_ref()?;
    hashing.of_destination(&destination.subset, destination.port)
}

/// Port as written, else the service's only one, else the one that the request came in on (VS32). A service that nobody
/// knows still names a cluster: such requests are answered 503, flag NC (TR28).
fn cluster_of(destination: &Destination, place: Place<'_>) -> config::Name {
    let fact = place.facts.get(&destination.host);
    let port = destination.port.or(fact.and_then(|fact| fact.only_port)).unwrap_or(place.port);
    let host = fact.map_or(&destination.host, |fact| &fact.host);
    cluster::name(port, &destination.subset, host)
}

/// What serves the request, for the operation name: the destination if there is one, else the object (X54).
fn served(routing: &Routing, forward: &ForwardRule, place: Place<'_>) -> String {
    match forward.destinations.as_slice() {
        [one] => {
            let host = place.facts.get(&one.host).map_or(&one.host, |fact| &fact.host);
            format!("{host}:{}", place.port)
        }
        _ => format!("{}:{}", routing.origin.name, place.port),
    }
}

fn path_text(request: &RouteMatch) -> String {
    match &request.path {
        PathMatch::Prefix(prefix) => format!("{prefix}*"),
        PathMatch::Exact(path) | PathMatch::Regex(path) => path.clone(),
    }
}

/// The route of a service that no VirtualService speaks about (VS76).
pub(crate) fn default(host: &str, port: u16, retries: DefaultRetries, key: Option<&HashKey>) -> Route {
    let mut retry = retry::default(retries);
    if let Some(retry) = retry.as_mut().filter(|_| key.is_some()) {
        retry.avoid_previous_hosts = false;
    }
    let cluster = ClusterChoice::One(cluster::name(port, "", host));
    let hash = key.cloned().into_iter().collect();
    let action = Action::Forward(Forward { retry, hash, ..Forward::to(cluster) });
    Route { operation: format!("{host}:{port}/*"), ..Route::new("default", RouteMatch::any(), action) }
}

/// Everything to one cluster, without a bound in time.
pub(crate) fn forward_to(cluster: config::Name, retry: Option<config::RetryPolicy>) -> Action {
    Action::Forward(Forward { retry, ..Forward::to(ClusterChoice::One(cluster)) })
}
