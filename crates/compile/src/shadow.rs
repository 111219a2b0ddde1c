//! Rules that no request can reach, because a rule of another object stands before them (S31, TR13, TR21).
//!
//! In: all rules, oldest object first, and the Gateways. Out: a finding for each such rule that names the rule in its
//! way. Within one object that is said when the object is checked (V-41); here it is objects that meet on a host.
//!
//! Nothing is said that does not hold wherever the object acts: objects that different namespaces see are not compared,
//! and a rule that is reached on any host, through any Gateway or in sidecars, is reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{PathMatch, RouteMatch};
use words::{Diagnostic, Severity, host};

use crate::intent::{HttpRule, MESH, Routing, RuleMatch, StaticFilter};
use crate::notes::{NEVER_REACHED, Notes};
use crate::server::Gateway;
use crate::visibility::Export;

/// Of more objects on one host nothing is said: the comparison is one of each with each.
const OBJECTS_MAX: usize = 200;

/// A host where rules of several objects may meet: a Gateway's port, or the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    gateway: &'a str,
    /// The port as the Gateway writes it; 0 in the mesh, where rules of all ports are alike.
    port: u16,
    host: &'a str,
}

/// What a rule meets on its hosts.
#[derive(Default)]
struct Fate {
    reached: bool,
    /// The first rule that stands before it.
    behind: Option<String>,
}

/// The findings. `sorted` is oldest first, with delegates merged in.
pub(crate) fn find(sorted: &[Arc<Routing>], gateways: &BTreeMap<&str, &Arc<Gateway>>) -> Vec<Diagnostic> {
    let mut fates: BTreeMap<(usize, usize), Fate> = BTreeMap::new();
    for (place, here) in places(sorted, gateways) {
        for (at, number) in here.iter().enumerate() {
            let rivals = &here[..at.min(OBJECTS_MAX)];
            let rivals = rivals.iter().map(|rival| &*sorted[*rival]);
            let rivals: Vec<&Routing> = rivals.filter(|rival| are_seen_alike(rival, &sorted[*number])).collect();
            judge(&sorted[*number], &rivals, place, |rule, behind| {
                let fate = fates.entry((*number, rule)).or_default();
                match behind {
                    None => fate.reached = true,
                    Some(text) => _ = fate.behind.get_or_insert(text),
                }
            });
        }
    }
    let mut found = Vec::new();
    for ((number, rule), fate) in fates {
        if let (false, Some(behind)) = (fate.reached, fate.behind) {
            let mut notes = Notes::about(&sorted[number].origin);
            notes.add(NEVER_REACHED, Severity::Warning, format!("spec.http[{rule}]"), behind);
            found.extend(notes.into_found());
        }
    }
    found
}

// Where each object acts; at a place the oldest first.
fn places<'a>(
    sorted: &'a [Arc<Routing>],
    gateways: &BTreeMap<&'a str, &'a Arc<Gateway>>,
) -> BTreeMap<Place<'a>, Vec<usize>> {
    let mut places: BTreeMap<Place<'_>, Vec<usize>> = BTreeMap::new();
    for (number, routing) in sorted.iter().enumerate() {
        let mut add = |place: Place<'a>| {
            let here = places.entry(place).or_default();
            if here.last() != Some(&number) {
                here.push(number);
            }
        };
        for name in &routing.gateways {
            if name == MESH {
                for host in &routing.hosts {
                    add(Place { gateway: MESH, port: 0, host });
                }
            }
            let servers = gateways.get(name.as_str()).into_iter().flat_map(|gateway| &gateway.servers);
            for server in servers {
                for taken in &server.hosts {
                    let hosts = routing.hosts.iter();
                    for host in hosts.filter_map(|host| taken.attach(&routing.origin.namespace, host)) {
                        add(Place { gateway: name, port: server.port, host });
                    }
                }
            }
        }
    }
    places
}

// Says of each rule that acts at a place what stands before it there.
fn judge(routing: &Routing, rivals: &[&Routing], place: Place<'_>, mut tell: impl FnMut(usize, Option<String>)) {
    let mut judged: BTreeMap<usize, Option<String>> = BTreeMap::new();
    for (rule, block) in blocks(routing, place) {
        let behind = match place.gateway {
            MESH => alone(rivals, place),
            _ => rivals.iter().find_map(|rival| before(rival, block, place)),
        };
        let known = judged.entry(rule.index).or_insert_with(|| behind.clone());
        // A rule is reached when any of its blocks is.
        if behind.is_none() {
            *known = None;
        }
    }
    judged.into_iter().for_each(|(rule, behind)| tell(rule, behind));
}

// In sidecars the oldest object with a rule for them acts alone. Wildcards give way to exact hosts: nothing is said.
fn alone(rivals: &[&Routing], place: Place<'_>) -> Option<String> {
    if host::is_wildcard(place.host) {
        return None;
    }
    let acts = |rival: &&&Routing| {
        blocks(rival, place).any(|(_, block)| block.filter.port.is_none() && is_for_all(&block.filter))
    };
    let rival = rivals.iter().find(acts)?;
    Some(format!("never reached in sidecars: {} is older and acts alone for host {}", rival.origin, place.host))
}

// At gateways rules are merged: the oldest object's first, and catch-alls behind all others.
fn before(rival: &Routing, block: &RuleMatch, place: Place<'_>) -> Option<String> {
    let takes = |(_, other): &(&HttpRule, &RuleMatch)| {
        other.request.is_catch_all() == block.request.is_catch_all()
            && covers(&other.request, &block.request)
            && filter_covers(&other.filter, &block.filter)
    };
    let (rule, _) = blocks(rival, place).find(takes)?;
    let why = if block.request.is_catch_all() { "; of several catch-alls only the oldest acts" } else { "" };
    Some(format!(
        "never reached: for host {} on Gateway {} spec.http[{}] of {} takes every request of it{why}",
        place.host, place.gateway, rule.index, rival.origin
    ))
}

// The blocks of an object that act at a place, up to its own catch-all.
fn blocks<'a>(routing: &'a Routing, place: Place<'_>) -> impl Iterator<Item = (&'a HttpRule, &'a RuleMatch)> {
    let acts = move |block: &RuleMatch| {
        let StaticFilter { port, gateways, .. } = &block.filter;
        (place.port == 0 || port.is_none_or(|port| port == u32::from(place.port)))
            && (gateways.is_empty() || gateways.contains(place.gateway))
    };
    let all = routing.http.iter().flat_map(|rule| rule.matches.iter().map(move |block| (rule, block)));
    let mut is_over = false;
    all.filter(move |(_, block)| acts(block)).take_while(move |(_, block)| {
        let was_over = is_over;
        is_over |= block.request.is_catch_all() && is_for_all(&block.filter);
        !was_over
    })
}

// Gateways alone decide where they are named (TR44).
fn is_for_all(filter: &StaticFilter) -> bool {
    !filter.gateways.is_empty() || (filter.source_labels.is_empty() && filter.source_namespace.is_none())
}

fn filter_covers(one: &StaticFilter, other: &StaticFilter) -> bool {
    is_for_all(one)
        || (other.gateways.is_empty()
            && words::labels_select(&one.source_labels, &other.source_labels)
            && (one.source_namespace.is_none() || one.source_namespace == other.source_namespace))
}

// True when every request that `other` matches is matched by `one`. May be false where that is hard to see.
fn covers(one: &RouteMatch, other: &RouteMatch) -> bool {
    one.headers.iter().all(|header| other.headers.contains(header))
        && one.query.iter().all(|query| other.query.contains(query))
        && one.claims.iter().all(|claim| other.claims.contains(claim))
        && path_covers(one, other)
}

fn path_covers(one: &RouteMatch, other: &RouteMatch) -> bool {
    let fold = |text: &String| if one.ignore_case { text.to_ascii_lowercase() } else { text.clone() };
    match (&one.path, &other.path) {
        (PathMatch::Prefix(prefix), _) if prefix.is_empty() || prefix == "/" => true,
        (PathMatch::Regex(one), PathMatch::Regex(other)) => one == other,
        // A rule that heeds case cannot cover one that does not.
        _ if other.ignore_case && !one.ignore_case => false,
        (PathMatch::Prefix(prefix), PathMatch::Prefix(text) | PathMatch::Exact(text)) => {
            fold(text).starts_with(&fold(prefix))
        }
        (PathMatch::Exact(one), PathMatch::Exact(other)) => fold(one) == fold(other),
        _ => false,
    }
}

// Of objects that are not seen by the same namespaces neither stands before the other everywhere.
fn are_seen_alike(one: &Routing, other: &Routing) -> bool {
    match (&one.export, &other.export) {
        (Export::Public, Export::Public) => true,
        (Export::To(_), Export::To(_)) => one.export == other.export && one.origin.namespace == other.origin.namespace,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(path: PathMatch) -> RouteMatch {
        RouteMatch { path, ..RouteMatch::any() }
    }

    #[test]
    fn s31_what_covers_what() {
        let prefix = |text: &str| on(PathMatch::Prefix(text.into()));
        let exact = |text: &str| on(PathMatch::Exact(text.into()));
        let folded = |text: &str| RouteMatch { ignore_case: true, ..prefix(text) };
        assert!(covers(&RouteMatch::any(), &on(PathMatch::Regex("/a.*".into()))));
        assert!(covers(&prefix("/a"), &prefix("/ab")) && covers(&prefix("/a"), &exact("/a")));
        assert!(!covers(&prefix("/ab"), &prefix("/a")) && !covers(&exact("/a"), &prefix("/a")));
        assert!(covers(&folded("/A"), &prefix("/a")) && !covers(&prefix("/a"), &folded("/a")));
    }
}
