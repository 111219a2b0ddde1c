//! DestinationRules: merging within a namespace and host, and which one a client obeys for a service (DR01 to DR06).
//!
//! In: rules lowered one by one, oldest first. Out: [`Rules::lookup`]. Knows no ports and makes no clusters.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use words::{Diagnostic, Fingerprint, Labels, Origin, host};

use crate::hashing::{self, Hashing};
use crate::policy::{Policy, Subset};
use crate::service::Age;
use crate::visibility::Export;

/// One DestinationRule by itself.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others (X30).
    pub(crate) age: Age,
    /// Complete and lower case; may have a wildcard.
    pub(crate) host: Arc<str>,
    /// Who sees it.
    pub(crate) export: Export,
    /// `workloadSelector`; `None` for every client.
    pub(crate) selector: Option<Labels>,
    /// `trafficPolicy`.
    pub(crate) policy: Option<Policy>,
    /// `subsets`.
    pub(crate) subsets: Vec<Subset>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// Rules of one namespace for one host that act together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Merged {
    /// The first rule.
    pub(crate) origin: Origin,
    /// Who sees it.
    pub(crate) export: Export,
    /// Which clients obey it.
    pub(crate) selector: Option<Labels>,
    /// Of the first rule that has one, whole.
    pub(crate) policy: Option<Policy>,
    /// Of all rules; the first of a name wins.
    pub(crate) subsets: Vec<Subset>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// All rules, ready for lookup.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Rules that their own namespace obeys.
    local: BTreeMap<Arc<str>, Level>,
    /// Rules that other namespaces may see.
    exported: BTreeMap<Arc<str>, Level>,
    /// Rules of the root namespace that only it sees.
    root_private: Level,
    root: String,
    /// Some rule keeps requests at endpoints by a key, which routes must carry.
    pub(crate) any_hash: bool,
    /// The content of all rules.
    pub(crate) print: Fingerprint,
}

impl Merged {
    /// True when it has TLS that needs a Secret, and proxies of this kind may have it: gateways, and the sidecars that
    /// the rule selects (DR62).
    pub(crate) fn gives_secrets(&self, gateway: bool) -> bool {
        let policies = self.policy.iter().chain(self.subsets.iter().filter_map(|subset| subset.policy.as_ref()));
        (gateway || self.selector.is_some()) && policies.into_iter().any(Policy::uses_secret)
    }

    /// True when it asks for mutual TLS of the mesh anywhere.
    pub(crate) fn needs_identity(&self) -> bool {
        let policies = self.policy.iter().chain(self.subsets.iter().filter_map(|subset| subset.policy.as_ref()));
        policies.into_iter().any(Policy::needs_identity)
    }
}

/// Rules of one namespace, by host.
#[derive(Debug, Default)]
struct Level {
    exact: FxHashMap<Arc<str>, Vec<Arc<Merged>>>,
    /// Most specific first.
    wildcards: Vec<(Arc<str>, Vec<Arc<Merged>>)>,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup<'a> {
    /// The client's namespace.
    pub(crate) client: &'a str,
    /// The client's labels.
    pub(crate) labels: &'a Labels,
    /// The service.
    pub(crate) host: &'a str,
    /// The service's namespace.
    pub(crate) namespace: &'a str,
}

impl Rules {
    /// Sorts rules in; `rules` must be in the order of X30 (rules with a selector count before those without: X36).
    pub(crate) fn new(rules: &[Arc<Rule>], root: &str) -> Self {
        let mut made = Self { root: root.to_owned(), ..Self::default() };
        made.print = Fingerprint::of(&rules.iter().map(|rule| rule.print).collect::<Vec<_>>());
        let policies = |rule: &Rule| {
            let subsets = rule.subsets.iter().filter_map(|subset| subset.policy.as_ref());
            rule.policy.iter().chain(subsets).any(hashing::has_key)
        };
        made.any_hash = rules.iter().any(|rule| policies(rule));
        let (selecting, general): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.selector.is_some());
        for rule in selecting.into_iter().chain(general) {
            let own = &rule.origin.namespace;
            let private = rule.export.is_private(own);
            if rule.export.includes(own) {
                made.local.entry(own.clone()).or_default().add(rule);
            }
            if !private {
                made.exported.entry(own.clone()).or_default().add(rule);
            }
            if private && &**own == root {
                made.root_private.add(rule);
            }
        }
        let levels = made.local.values_mut().chain(made.exported.values_mut());
        for level in levels.chain(std::iter::once(&mut made.root_private)) {
            level.finish();
        }
        made
    }

    /// What routes depend on: nothing as long as no rule has a key.
    pub(crate) fn hash_print(&self) -> Fingerprint {
        if self.any_hash { self.print } else { Fingerprint::default() }
    }

    /// The keys of the rule that a client obeys for a service.
    pub(crate) fn hashing(&self, lookup: Lookup<'_>) -> Option<Hashing> {
        if self.any_hash { Hashing::of(self.lookup(lookup)?) } else { None }
    }

    /// The rule that a client obeys for a service. The first level with a rule for the host decides; levels never add
    /// up (DR02, TR23).
    pub(crate) fn lookup(&self, lookup: Lookup<'_>) -> Option<&Arc<Merged>> {
        let own = match lookup.client == self.root {
            true => Some(&self.root_private),
            false => self.local.get(lookup.client),
        };
        let found = own.and_then(|level| level.find(lookup.host)).filter(|found| !found.is_empty());
        if let Some(found) = found {
            return pick(found.iter(), lookup);
        }
        for namespace in [lookup.namespace, &self.root] {
            let found = self.exported.get(namespace).and_then(|level| level.find(lookup.host)).unwrap_or(&[]);
            // Export is looked at after the host was picked: no less specific host is tried (DR04).
            let mut visible = found.iter().filter(|merged| merged.export.includes(lookup.client)).peekable();
            if visible.peek().is_some() {
                return pick(visible, lookup);
            }
        }
        None
    }
}

/// A rule whose selector takes the client, else one for all clients (DR06). Only clients of the rule's own namespace
/// are ever selected.
fn pick<'a>(rules: impl Iterator<Item = &'a Arc<Merged>>, lookup: Lookup<'_>) -> Option<&'a Arc<Merged>> {
    let mut general = None;
    for rule in rules {
        match &rule.selector {
            Some(selector) if &*rule.origin.namespace == lookup.client => {
                if words::labels_select(selector, lookup.labels) {
                    return Some(rule);
                }
            }
            Some(_) => {}
            None => general = general.or(Some(rule)),
        }
    }
    general
}

impl Level {
    fn find(&self, name: &str) -> Option<&[Arc<Merged>]> {
        if let Some(exact) = self.exact.get(name) {
            return Some(exact);
        }
        let covering = self.wildcards.iter().find(|(wildcard, _)| host::is_subset(name, wildcard));
        covering.map(|(_, rules)| rules.as_slice())
    }

    fn finish(&mut self) {
        self.wildcards.sort_by(|(a, _), (b, _)| host::by_specificity(a, b));
        let lists = self.exact.values_mut().chain(self.wildcards.iter_mut().map(|(_, list)| list));
        for merged in lists.flatten().map(Arc::make_mut) {
            merged.print = Fingerprint::of(&*merged);
        }
    }

    fn add(&mut self, rule: &Rule) {
        let list = match host::is_wildcard(&rule.host) {
            false => self.exact.entry(rule.host.clone()).or_default(),
            true => {
                let known = self.wildcards.iter().position(|(wildcard, _)| *wildcard == rule.host);
                let at = known.unwrap_or_else(|| {
                    self.wildcards.push((rule.host.clone(), Vec::new()));
                    self.wildcards.len() - 1
                });
                &mut self.wildcards[at].1
            }
        };
        merge_into(list, rule);
    }
}

/// Adds a rule to those for the same host: into one with the same visibility, or beside them. A rule that is seen by
/// more than an older one adds to that one and also stands by itself (DR05, TR24).
fn merge_into(list: &mut Vec<Arc<Merged>>, rule: &Rule) {
    for merged in list.iter_mut().filter(|merged| merged.selector == rule.selector) {
        if !rule.export.covers(&merged.export) {
            continue;
        }
        let merged_with = Arc::make_mut(merged);
        if merged_with.policy.is_none() {
            merged_with.policy.clone_from(&rule.policy);
        }
        for subset in &rule.subsets {
            if !merged_with.subsets.iter().any(|known| known.name == subset.name) {
                merged_with.subsets.push(subset.clone());
            }
        }
        if merged_with.export == rule.export {
            return;
        }
    }
    list.push(Arc::new(Merged {
        origin: rule.origin.clone(),
        export: rule.export.clone(),
        selector: rule.selector.clone(),
        policy: rule.policy.clone(),
        subsets: rule.subsets.clone(),
        print: Fingerprint::default(),
    }));
}
