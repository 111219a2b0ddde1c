//! What is analyzed: objects of files and of a cluster, one of each name; a file's stands before the cluster's.

use std::collections::{BTreeMap, BTreeSet};

use api::{Inspected, Object, ObjectKey, Places, validate};
use serde_json::Value;
use words::{Diagnostic, Origin};

use crate::suppress;

/// An object of a kind that routes no traffic, as far as it matters here.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) origin: Origin,
    pub(crate) value: Value,
}

/// Objects and what is already known to be wrong with them.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    objects: BTreeMap<ObjectKey, Object>,
    others: BTreeMap<Origin, Other>,
    places: BTreeMap<Origin, Places>,
    found: Vec<Diagnostic>,
    kinds: BTreeSet<String>,
}

impl Inputs {
    /// A document of a file. The first of several with one name counts.
    pub fn add_document(&mut self, document: Inspected, default_namespace: &str) {
        let Inspected { object, places, findings, other, .. } = document;
        // Of a kind that is of no interest: silence is right here.
        self.found.extend(findings.into_iter().filter(|found| found.code != api::parse::NOT_READ));
        if let Some(object) = object {
            let key = object.key();
            self.places.entry(key.origin()).or_insert(places);
            self.kinds.insert(key.kind.name().to_owned());
            self.objects.entry(key).or_insert(object);
        } else if let Some(value) = other {
            let origin = origin_of(&value, default_namespace);
            if is_mistyped(&value) {
                let message =
                    format!("{} has no kind {}", value["apiVersion"].as_str().unwrap_or_default(), origin.kind);
                let found = Diagnostic::error(validate::REFUSED, origin.clone(), "kind", message);
                self.found.push(found.at(places.locate("kind")));
            }
            self.places.entry(origin.clone()).or_insert(places);
            self.add_other(origin, value);
        }
    }

    /// An object of a cluster.
    pub fn add_live(&mut self, object: Object) {
        let key = object.key();
        if !self.objects.contains_key(&key) {
            self.found.extend(validate::object(&object));
            self.kinds.insert(key.kind.name().to_owned());
            self.objects.insert(key, object);
        }
    }

    /// An object of a cluster, of another kind.
    pub fn add_live_other(&mut self, value: Value) {
        self.add_other(origin_of(&value, ""), value);
    }

    /// A finding about what could not become an object.
    pub fn add_finding(&mut self, found: Diagnostic) {
        self.found.push(found);
    }

    /// Of this kind nothing is missing: what is not here is nowhere.
    pub fn set_known(&mut self, kind: &str) {
        self.kinds.insert(kind.to_owned());
    }

    fn add_other(&mut self, origin: Origin, value: Value) {
        self.kinds.insert(origin.kind.to_string());
        self.others.entry(origin.clone()).or_insert(Other { origin, value });
    }

    /// True when the lack of an object of this kind means something: it was listed, or some are here.
    pub(crate) fn knows(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = &Other> {
        self.others.values()
    }

    pub(crate) fn found(&self) -> &[Diagnostic] {
        &self.found
    }

    /// True when the object's own annotation does.
    pub(crate) fn suppresses(&self, found: &Diagnostic) -> bool {
        let Some(origin) = &found.object else { return false };
        let of_kind = api::Kind::ALL.iter().find(|kind| kind.name() == &*origin.kind);
        let key = of_kind.map(|kind| ObjectKey::new(*kind, &origin.namespace, &origin.name));
        let object = key.and_then(|key| self.objects.get(&key));
        let annotation =
            object.and_then(|object| object.metadata().annotations.get(suppress::ANNOTATION).map(String::as_str));
        let other = || self.others.get(origin)?.value["metadata"]["annotations"][suppress::ANNOTATION].as_str();
        annotation.or_else(other).is_some_and(|codes| suppress::annotated(codes, &found.code))
    }

    /// True when the object was written in a file.
    pub(crate) fn is_of_a_file(&self, found: &Diagnostic) -> bool {
        found.object.as_ref().is_none_or(|origin| self.places.contains_key(origin))
    }

    /// The finding with its place in a file.
    pub(crate) fn place(&self, found: Diagnostic) -> Diagnostic {
        let places = found.object.as_ref().and_then(|origin| self.places.get(origin));
        match (places, &found.location) {
            (Some(places), None) => {
                let location = places.locate(&found.field);
                found.at(location)
            }
            _ => found,
        }
    }
}

// A kind that Istio's group does not have, or not in this version: a slip, not an object for somebody else.
fn is_mistyped(value: &Value) -> bool {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    text("apiVersion").starts_with("networking.istio.io/") && !["EnvoyFilter", "ProxyConfig"].contains(&text("kind"))
}

fn origin_of(value: &Value, default_namespace: &str) -> Origin {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&value["metadata"]["namespace"]);
    let namespace = if namespace.is_empty() { default_namespace.to_owned() } else { namespace };
    Origin::new(&text(&value["kind"]), &namespace, &text(&value["metadata"]["name"]))
}
