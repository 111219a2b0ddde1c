//! What clients shall hold: immutable sets of resources, shared by all clients that hold the same.
//!
//! The difference between two layers is computed once, by whoever asks first, and kept with the older one: a change
//! that touches 400 clients of one layer costs one comparison.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use crate::{Resource, TypeUrl};

/// Names to resources of one type.
type Named = BTreeMap<Arc<str>, Arc<Resource>>;

/// An immutable set of resources.
#[derive(Debug, Default)]
pub struct Layer {
    by_type: [Named; TypeUrl::COUNT],
    bytes: usize,
    diff: Mutex<Option<(Weak<Layer>, Arc<LayerDiff>)>>,
}

/// The names, by type, whose resource differs between two layers: new, changed or gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LayerDiff {
    /// In the order of [`TypeUrl::ALL`].
    pub names: [Vec<Arc<str>>; TypeUrl::COUNT],
}

impl Layer {
    /// A layer of these resources; of two with one name and type the later counts.
    pub fn new(resources: impl IntoIterator<Item = Arc<Resource>>) -> Arc<Self> {
        let mut layer = Self::default();
        for resource in resources {
            layer.bytes += resource.size();
            layer.by_type[resource.kind.index()].insert(resource.name.clone(), resource);
        }
        Arc::new(layer)
    }

    /// A resource by name.
    pub fn get(&self, kind: TypeUrl, name: &str) -> Option<&Arc<Resource>> {
        self.by_type[kind.index()].get(name)
    }

    /// Every resource of a type, by name.
    pub fn of(&self, kind: TypeUrl) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_type[kind.index()].values()
    }

    /// What all its resources take on a delta stream, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What differs in `newer`. Kept for the last `newer` that was asked for, which is the one that every client of
    /// this layer asks for.
    pub fn diff(&self, newer: &Arc<Layer>) -> Arc<LayerDiff> {
        let mut kept = match self.diff.lock() {
            Ok(kept) => kept,
            // Nothing in here panics half-way; and what was kept is still a true difference.
            Err(poisoned) => poisoned.into_inner(),
        };
        match kept.as_ref() {
            // The weak pointer keeps the address taken, so equal addresses are one layer.
            Some((of, diff)) if std::ptr::eq(of.as_ptr(), Arc::as_ptr(newer)) => diff.clone(),
            _ => {
                let diff = Arc::new(self.compare(newer));
                *kept = Some((Arc::downgrade(newer), diff.clone()));
                diff
            }
        }
    }

    fn compare(&self, newer: &Layer) -> LayerDiff {
        let mut diff = LayerDiff::default();
        for ((names, old), new) in diff.names.iter_mut().zip(&self.by_type).zip(&newer.by_type) {
            let changed = |(name, resource): &(&Arc<str>, &Arc<Resource>)| match old.get(*name) {
                Some(before) => !Arc::ptr_eq(before, resource) && before.version != resource.version,
                None => true,
            };
            names.extend(new.iter().filter(changed).map(|(name, _)| name.clone()));
            names.extend(old.keys().filter(|name| !new.contains_key(*name)).cloned());
        }
        diff
    }
}

/// What one client shall hold: its layers together. No name stands in two of them.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The layers.
    pub layers: Vec<Arc<Layer>>,
}

impl Target {
    /// A resource by name.
    pub fn get(&self, kind: TypeUrl, name: &str) -> Option<&Arc<Resource>> {
        self.layers.iter().find_map(|layer| layer.get(kind, name))
    }

    /// Every resource of a type.
    pub fn of(&self, kind: TypeUrl) -> impl Iterator<Item = &Arc<Resource>> {
        self.layers.iter().flat_map(move |layer| layer.of(kind))
    }

    /// What it takes to send all of it, in bytes.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes()).sum()
    }
}
