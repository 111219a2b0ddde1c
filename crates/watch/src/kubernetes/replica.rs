//! What the API server holds of one kind, as far as we have been told.
//!
//! In: the items of lists and watches. Out: the changes they make, and the findings. Pure. A list counts when it is
//! complete, as one difference: whatever is not in it has vanished. An object that cannot be read keeps its last good
//! version, unless it restricts ([`api::Acting`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Change, Kind, Object, ObjectKey, ParseError};
use words::Diagnostic;

use super::status::Seen;
use super::wire::Item;
use crate::event::Scope;

/// Every known object of a kind.
pub(crate) struct Replica {
    kind: Kind,
    known: BTreeMap<ObjectKey, Known>,
    listing: Option<BTreeMap<ObjectKey, Item>>,
    /// The version under which the kind's status is told; `None`: it is not.
    tells_status: Option<&'static str>,
}

#[derive(Default)]
struct Known {
    /// The last good version.
    object: Option<Arc<Object>>,
    findings: Vec<Diagnostic>,
    /// What was said of it beside its spec.
    seen: Option<Seen>,
}

/// What a step changes.
#[derive(Default)]
pub(crate) struct Difference {
    pub(crate) changes: Vec<Change>,
    pub(crate) findings: Vec<(Scope, Vec<Diagnostic>)>,
    pub(crate) seen: Vec<(ObjectKey, Option<Seen>)>,
}

impl Replica {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, known: BTreeMap::new(), listing: None, tells_status: None }
    }

    /// From now on, what objects have beside their specs is told, as read under this version.
    pub(crate) fn tell_status(&mut self, version: &'static str) {
        self.tells_status = Some(version);
    }

    /// A list begins; an incomplete one before it is forgotten.
    pub(crate) fn begin_list(&mut self) {
        self.listing = Some(BTreeMap::new());
    }

    /// True while a list is incomplete.
    pub(crate) fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// The list is complete.
    pub(crate) fn end_list(&mut self) -> Difference {
        let listed = self.listing.take().unwrap_or_default();
        let mut difference = Difference::default();
        let vanished: BTreeSet<ObjectKey> =
            self.known.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
        for key in vanished {
            self.forget(key, &mut difference);
        }
        for (key, item) in listed {
            self.learn(key, item, &mut difference);
        }
        difference
    }

    /// The object is new or changed.
    pub(crate) fn upsert(&mut self, item: Item) -> Difference {
        let (key, mut difference) = (self.key(&item), Difference::default());
        match &mut self.listing {
            Some(listing) => _ = listing.insert(key, item),
            None => self.learn(key, item, &mut difference),
        }
        difference
    }

    /// The object is gone.
    pub(crate) fn delete(&mut self, item: &Item) -> Difference {
        let (key, mut difference) = (self.key(item), Difference::default());
        match &mut self.listing {
            Some(listing) => _ = listing.remove(&key),
            None => self.forget(key, &mut difference),
        }
        difference
    }

    fn key(&self, item: &Item) -> ObjectKey {
        let namespace = if self.kind.is_cluster_scoped() { "" } else { &item.namespace };
        ObjectKey::new(self.kind, namespace, &item.name)
    }

    fn learn(&mut self, key: ObjectKey, item: Item, difference: &mut Difference) {
        let known = self.known.entry(key.clone()).or_default();
        if let Some(version) = self.tells_status {
            let (uid, generation) = (item.uid.as_str().into(), item.generation);
            let seen = Some(Seen { uid, generation, version, status: Arc::new(item.status) });
            if known.seen != seen {
                known.seen.clone_from(&seen);
                difference.seen.push((key.clone(), seen));
            }
        }
        let findings = match item.object {
            Ok(mut object) => {
                let is_news = known.object.as_ref().is_none_or(|old| !says_the_same(old, &mut object));
                if is_news {
                    let object = Arc::new(object);
                    known.object = Some(object.clone());
                    difference.changes.push(Change::Upsert(object));
                }
                item.notes
            }
            Err(error) => vec![refusal(&key, error, known.object.is_some())],
        };
        if known.findings != findings {
            known.findings.clone_from(&findings);
            difference.findings.push((Scope::Object(key), findings));
        }
    }

    fn forget(&mut self, key: ObjectKey, difference: &mut Difference) {
        let Some(known) = self.known.remove(&key) else { return };
        if !known.findings.is_empty() {
            difference.findings.push((Scope::Object(key.clone()), Vec::new()));
        }
        if known.seen.is_some() {
            difference.seen.push((key.clone(), None));
        }
        if known.object.is_some() {
            difference.changes.push(Change::Delete(key));
        }
    }
}

// A change of the status, of managed fields, or of what is not read at all moves the resource version and nothing else.
fn says_the_same(old: &Object, new: &mut Object) -> bool {
    let aligned = old.metadata().resource_version.clone();
    let version = std::mem::replace(&mut new.metadata_mut().resource_version, aligned);
    let is_same = old == new;
    new.metadata_mut().resource_version = version;
    is_same
}

fn refusal(key: &ObjectKey, error: ParseError, has_last_good: bool) -> Diagnostic {
    let mut found = error.diagnostic();
    found.object = Some(key.origin());
    let outcome = if has_last_good { "its last good version stays" } else { "it is left out" };
    found.message = format!("{}; {outcome}", found.message);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::wire;

    fn gateway(name: &str, version: u32, spec: &str) -> Item {
        let text = format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "ns", "resourceVersion": "{version}"}}, "spec": {spec}}}"#
        );
        wire::item(Kind::Gateway, &text)
    }

    const GOOD: &str = r#"{"selector": {"a": "b"}, "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}"#;
    const OTHER: &str = r#"{"selector": {"a": "c"}, "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}"#;
    const BAD: &str = r#"{"servers": 5}"#;

    fn told(difference: &Difference) -> Vec<String> {
        let mut told: Vec<String> = difference
            .changes
            .iter()
            .map(|change| match change {
                Change::Upsert(object) => format!("+{}", object.key().name),
                Change::Delete(key) => format!("-{}", key.name),
            })
            .collect();
        told.extend(difference.findings.iter().map(|(scope, list)| match scope {
            Scope::Object(key) => format!("!{} {}", key.name, list.len()),
            other => format!("!{other:?}"),
        }));
        told
    }

    fn listed(replica: &mut Replica, items: Vec<Item>) -> Vec<String> {
        replica.begin_list();
        for item in items {
            assert_eq!(told(&replica.upsert(item)), Vec::<String>::new());
        }
        told(&replica.end_list())
    }

    #[test]
    fn a_second_list_yields_the_difference() {
        let mut replica = Replica::new(Kind::Gateway);
        let first = vec![gateway("a", 1, GOOD), gateway("b", 1, GOOD), gateway("c", 1, GOOD)];
        assert_eq!(listed(&mut replica, first), ["+a", "+b", "+c"]);
        let second = vec![gateway("a", 1, GOOD), gateway("c", 9, OTHER), gateway("d", 8, GOOD)];
        assert_eq!(listed(&mut replica, second), ["-b", "+c", "+d"]);
    }

    #[test]
    fn an_abandoned_list_changes_nothing() {
        let mut replica = Replica::new(Kind::Gateway);
        assert_eq!(listed(&mut replica, vec![gateway("a", 1, GOOD)]), ["+a"]);
        replica.begin_list();
        replica.upsert(gateway("b", 2, GOOD));
        assert_eq!(listed(&mut replica, vec![gateway("a", 1, GOOD)]), Vec::<String>::new());
    }

    #[test]
    fn only_the_resource_version_changed_is_no_change() {
        let mut replica = Replica::new(Kind::Gateway);
        assert_eq!(told(&replica.upsert(gateway("a", 1, GOOD))), ["+a"]);
        assert_eq!(told(&replica.upsert(gateway("a", 2, GOOD))), Vec::<String>::new());
        assert_eq!(told(&replica.upsert(gateway("a", 3, OTHER))), ["+a"]);
    }

    #[test]
    fn a_new_status_is_told_beside_the_object_and_only_when_asked_for() {
        let with = |status: &str| {
            let text = format!(
                r#"{{"metadata": {{"name": "a", "namespace": "ns", "uid": "u", "generation": 2}}, "spec": {GOOD}, "status": {status}}}"#
            );
            wire::item(Kind::Gateway, &text)
        };
        let mut silent = Replica::new(Kind::Gateway);
        assert!(silent.upsert(with("{}")).seen.is_empty());
        let mut replica = Replica::new(Kind::Gateway);
        replica.tell_status("v1");
        let first = replica.upsert(with("{}"));
        assert_eq!((first.changes.len(), first.seen.len()), (1, 1));
        let second = replica.upsert(with(r#"{"observedGeneration": 2}"#));
        assert_eq!((second.changes.len(), second.seen.len()), (0, 1));
        let seen = second.seen[0].1.as_ref().unwrap();
        assert_eq!((&*seen.uid, seen.generation, seen.status.observed_generation), ("u", 2, 2));
        assert!(replica.upsert(with(r#"{"observedGeneration": 2}"#)).seen.is_empty());
        assert_eq!(replica.delete(&with("{}")).seen[0].1, None);
    }

    #[test]
    fn an_unreadable_object_keeps_its_last_good_version_until_it_is_deleted() {
        let mut replica = Replica::new(Kind::Gateway);
        assert_eq!(told(&replica.upsert(gateway("a", 1, GOOD))), ["+a"]);
        let refused = replica.upsert(gateway("a", 2, BAD));
        assert_eq!(told(&refused), ["!a 1"]);
        let text = refused.findings[0].1[0].to_string();
        assert!(text.contains("Gateway ns/a") && text.contains("last good version stays"), "{text}");
        assert_eq!(told(&replica.upsert(gateway("a", 3, OTHER))), ["+a", "!a 0"]);
        replica.upsert(gateway("a", 4, BAD));
        assert_eq!(told(&replica.delete(&gateway("a", 5, BAD))), ["-a", "!a 0"]);
    }

    #[test]
    fn what_restricts_acts_though_it_is_not_valid_and_remembers_nothing() {
        let policy = |version: u32, spec: &str| {
            let text = format!(
                r#"{{"metadata": {{"name": "a", "namespace": "ns", "resourceVersion": "{version}"}}, "spec": {spec}}}"#
            );
            wire::item(Kind::AuthorizationPolicy, &text)
        };
        let unusable = r#"{"action": "DENY", "rules": [{"when": [{"key": "request.colour", "values": ["a"]}]}]}"#;
        let unreadable = r#"{"selector": {"matchLabels": {"app": "a"}}, "rules": 5}"#;
        let spec_of = |difference: &Difference| match &difference.changes[0] {
            Change::Upsert(object) => match &**object {
                Object::AuthorizationPolicy(one) => one.spec.clone(),
                other => panic!("{other:?}"),
            },
            Change::Delete(key) => panic!("{key}"),
        };
        for before in [None, Some(r#"{"rules": [{}]}"#)] {
            let mut replica = Replica::new(Kind::AuthorizationPolicy);
            before.map(|spec| replica.upsert(policy(1, spec)));
            let read = replica.upsert(policy(2, unusable));
            assert_eq!(told(&read), ["+a", "!a 2"]);
            assert_eq!(spec_of(&read).rules[0].when[0].values, ["a"]);
            assert_eq!(read.findings[0].1[0].severity, words::Severity::Error);
            let closed = replica.upsert(policy(3, unreadable));
            assert_eq!(told(&closed), ["+a", "!a 1"]);
            assert_eq!((spec_of(&closed).rules.len(), spec_of(&closed).selector.is_some()), (1, true));
            assert!(closed.findings[0].1[0].to_string().contains("is refused"), "{}", closed.findings[0].1[0]);
        }
    }

    #[test]
    fn an_object_that_never_was_readable_is_absent() {
        let mut replica = Replica::new(Kind::Gateway);
        assert_eq!(listed(&mut replica, vec![gateway("a", 1, BAD), gateway("b", 1, GOOD)]), ["+b", "!a 1"]);
        assert_eq!(told(&replica.delete(&gateway("a", 5, BAD))), ["!a 0"]);
    }
}
