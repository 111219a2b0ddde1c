//! What a request's names do to a session.
//!
//! In: the names of a request. Out: names marked as stale, with what the client holds of them. xDS protocol, "How the client
//! specifies what resources to return", "Subscribing to resources", "Unsubscribing from resources".

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::state::Held;
use super::{Request, Session};
use crate::limits::CLAIMED_NAMES_MAX;
use crate::{Resource, Target, TypeUrl};

/// Name to version, as the client says it holds them.
type Claims<'a> = FxHashMap<&'a str, &'a str>;

impl Session {
    pub(super) fn subscribe_delta(&mut self, kind: TypeUrl, request: &Request) {
        let state = &mut self.types[kind.index()];
        let is_first = !std::mem::replace(&mut state.asked, true);
        let claimed = request.initial_versions.iter().take(CLAIMED_NAMES_MAX);
        // Only in the first request: later the server knows better what it has sent.
        let claims: Claims<'_> = if is_first {
            claimed.map(|(name, version)| (name.as_str(), version.as_str())).collect()
        } else {
            Claims::default()
        };
        // "For historical reasons": LDS and CDS without a name in the first request mean everything.
        let implicit = is_first && request.names.is_empty() && kind.is_wildcard_by_default();
        if implicit || request.names.iter().any(|name| name == "*") {
            self.subscribe_wildcard(kind, &claims);
            // An answer even if there is nothing: the client's start waits for it.
            self.types[kind.index()].owes_answer |= is_first;
        }
        for name in request.names.iter().filter(|name| *name != "*") {
            self.subscribe_name(kind, name, &claims);
        }
        self.take_claims(kind, &claims);
        if !request.unsubscribe.is_empty() {
            self.unsubscribe(kind, &request.unsubscribe);
        }
    }

    fn subscribe_wildcard(&mut self, kind: TypeUrl, claims: &Claims<'_>) {
        let (state, since) = (&mut self.types[kind.index()], self.targets);
        if state.subscription.wildcard {
            return;
        }
        for resource in self.target.iter().flat_map(|target| target.of(kind)) {
            // What was wanted by name before is held, or stale already.
            if !state.subscription.wants(resource) {
                let held = claim(claims, resource).unwrap_or(Held::Nothing);
                state.note(&resource.name, held, Some(resource), since);
            }
        }
        state.subscription.wildcard = true;
    }

    fn subscribe_name(&mut self, kind: TypeUrl, name: &str, claims: &Claims<'_>) {
        if kind == TypeUrl::Endpoints {
            self.awaited.names.remove(name);
        }
        let (state, since) = (&mut self.types[kind.index()], self.targets);
        let meant = self.target.as_ref().map(|target| meant_by(target, kind, name)).unwrap_or_default();
        let name: Arc<str> =
            meant.iter().find(|one| &*one.name == name).map_or_else(|| name.into(), |one| one.name.clone());
        if !state.subscription.add(&name) {
            tracing::warn!(kind = kind.short(), name = &*name, "subscription refused: too many names on this stream");
            return;
        }
        // DeltaDiscoveryRequest.resource_names_subscribe: "the server must respond with all resources listed ..., even if
        // it believes the client has the most recent version", save what the client itself says it holds.
        for resource in &meant {
            let held = claim(claims, resource).unwrap_or(Held::Asked);
            state.note(&resource.name, held, Some(resource), since);
        }
        if meant.is_empty() && !claims.contains_key(&*name) {
            state.note(&name, Held::Asked, None, since);
        }
    }

    // What the client holds and the target does not know must be taken from it, if it still wants it.
    fn take_claims(&mut self, kind: TypeUrl, claims: &Claims<'_>) {
        let (state, since) = (&mut self.types[kind.index()], self.targets);
        for (&name, &version) in claims {
            let is_known = self.target.as_ref().is_some_and(|target| target.get(kind, name).is_some());
            if !is_known && state.subscription.covers(kind, name) {
                state.note(&name.into(), Held::Version(version.into()), None, since);
            }
        }
    }

    fn unsubscribe(&mut self, kind: TypeUrl, names: &[String]) {
        let (state, since) = (&mut self.types[kind.index()], self.targets);
        for name in names {
            state.subscription.remove(name);
            if name == "*" || !state.subscription.covers(kind, name) {
                continue;
            }
            // "The server must send the resource or its removal": a name given up that the wildcard still covers may have
            // been dropped by the client.
            state.note(&name.as_str().into(), Held::Asked, None, since);
        }
        state.forget_unwanted(kind, self.target.as_ref());
        if kind == TypeUrl::Endpoints {
            names.iter().for_each(|name| _ = self.awaited.names.remove(name.as_str()));
        }
    }

    pub(super) fn subscribe_sotw(&mut self, kind: TypeUrl, request: &Request) {
        let state = &mut self.types[kind.index()];
        let is_first = !std::mem::replace(&mut state.asked, true);
        let was_wildcard = state.subscription.wildcard;
        // Without names: everything, as long as the client never gave a name ("How the client specifies ...").
        let implicit = kind.is_wildcard_by_default() && request.names.is_empty() && (is_first || was_wildcard);
        if implicit || request.names.iter().any(|name| name == "*") {
            self.subscribe_wildcard(kind, &Claims::default());
            self.types[kind.index()].owes_answer |= is_first;
        } else {
            self.types[kind.index()].subscription.wildcard = false;
        }
        let state = &mut self.types[kind.index()];
        let asked: std::collections::BTreeSet<&str> = request.names.iter().map(String::as_str).collect();
        state.subscription.retain(|name| asked.contains(&**name));
        let added: Vec<&str> =
            asked.into_iter().filter(|name| *name != "*" && !state.subscription.covers(kind, name)).collect();
        for name in added {
            self.subscribe_name(kind, name, &Claims::default());
        }
        self.types[kind.index()].forget_unwanted(kind, self.target.as_ref());
    }
}

fn claim(claims: &Claims<'_>, resource: &Resource) -> Option<Held> {
    claims.get(&*resource.name).map(|version| Held::Version((*version).into()))
}

/// The resources a name means: the one called so, the one with that alias, and for a route table all its virtual hosts.
pub(super) fn meant_by(target: &Target, kind: TypeUrl, name: &str) -> Vec<Arc<Resource>> {
    let mut meant: Vec<_> =
        target.get(kind, name).or_else(|| target.by_alias(kind, name)).cloned().into_iter().collect();
    if kind == TypeUrl::VirtualHost {
        meant.extend(target.in_namespace(kind, name).cloned());
    }
    meant
}
