//! What proxies shall hold, as immutable sets that many of them share.
//!
//! In: encoded resources. Out: [`Layer`]s with an identity, a [`Target`] of a few layers, and the difference of two layers,
//! computed once however many streams move from one to the other. Order never depends on hashing.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::DIFFS_PER_LAYER_MAX;
use crate::{Resource, TypeUrl};

/// An immutable set of resources, for example everything outbound of all sidecars in one scope.
pub struct Layer {
    id: u64,
    by_type: [BTreeMap<Arc<str>, Arc<Resource>>; TypeUrl::COUNT],
    aliases: BTreeMap<Arc<str>, Arc<str>>,
    bytes: usize,
    diffs: Mutex<Vec<(u64, Arc<LayerDiff>)>>,
}

/// The names whose resource differs between two layers: added, changed or removed. Which of these is asked of the
/// target at the time of sending, so a name that moved between layers is no removal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LayerDiff {
    by_type: [Vec<Arc<str>>; TypeUrl::COUNT],
}

/// What one client shall hold: a few layers. Earlier layers win if a name is in two; compile never makes it so.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The layers; one that plays the same part should keep its place from target to target.
    pub layers: Vec<Arc<Layer>>,
}

impl Layer {
    /// A layer of these resources; the later of two with one name wins.
    pub fn new(resources: impl IntoIterator<Item = Arc<Resource>>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut by_type: [BTreeMap<_, Arc<Resource>>; TypeUrl::COUNT] = Default::default();
        let mut aliases = BTreeMap::new();
        let mut bytes = 0;
        for resource in resources {
            for alias in resource.aliases.iter() {
                aliases.insert(alias.clone(), resource.name.clone());
            }
            bytes += resource.size();
            if let Some(old) = by_type[resource.kind.index()].insert(resource.name.clone(), resource) {
                bytes -= old.size();
            }
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, by_type, aliases, bytes, diffs: Mutex::default() })
    }

    /// Unique within the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// All of its resources in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One resource.
    pub fn get(&self, kind: TypeUrl, name: &str) -> Option<&Arc<Resource>> {
        self.by_type[kind.index()].get(name)
    }

    /// How many resources of a type it has.
    pub fn len(&self, kind: TypeUrl) -> usize {
        self.by_type[kind.index()].len()
    }

    /// The resources of a type, by name.
    pub fn of(&self, kind: TypeUrl) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_type[kind.index()].values()
    }

    fn add_names(&self, names: &mut [Vec<Arc<str>>; TypeUrl::COUNT]) {
        names.iter_mut().zip(&self.by_type).for_each(|(names, all)| names.extend(all.keys().cloned()));
    }

    /// The difference to `newer`, remembered: hundreds of streams ask for the same one.
    pub fn diff(&self, newer: &Self) -> Arc<LayerDiff> {
        let mut diffs = self.diffs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, diff)) = diffs.iter().find(|(id, _)| *id == newer.id) {
            return diff.clone();
        }
        // Under the lock: the other streams want exactly this answer, so let them wait for it.
        let diff = Arc::new(LayerDiff::between(self, newer));
        if diffs.len() == DIFFS_PER_LAYER_MAX {
            diffs.remove(0);
        }
        diffs.push((newer.id, diff.clone()));
        diff
    }
}

impl LayerDiff {
    /// Compares every resource of both layers.
    pub fn between(older: &Layer, newer: &Layer) -> Self {
        let mut diff = Self::default();
        for kind in TypeUrl::ALL {
            let (old, new) = (&older.by_type[kind.index()], &newer.by_type[kind.index()]);
            let changed = new.iter().filter(|(name, resource)| match old.get(*name) {
                Some(before) => !Arc::ptr_eq(before, resource) && before.version != resource.version,
                None => true,
            });
            let removed = old.keys().filter(|name| !new.contains_key(*name));
            diff.by_type[kind.index()] = changed.map(|(name, _)| name).chain(removed).cloned().collect();
        }
        diff
    }

    /// The names of a type.
    pub fn names(&self, kind: TypeUrl) -> &[Arc<str>] {
        &self.by_type[kind.index()]
    }

    /// True if the layers hold the same.
    pub fn is_empty(&self) -> bool {
        self.by_type.iter().all(Vec::is_empty)
    }
}

impl Target {
    /// One resource.
    pub fn get(&self, kind: TypeUrl, name: &str) -> Option<&Arc<Resource>> {
        self.layers.iter().find_map(|layer| layer.get(kind, name))
    }

    /// The resource that has this name as an alias.
    pub fn by_alias(&self, kind: TypeUrl, alias: &str) -> Option<&Arc<Resource>> {
        self.layers.iter().find_map(|layer| layer.get(kind, layer.aliases.get(alias)?))
    }

    /// All resources in bytes.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// The identity of its layers; what people see as the version of a response.
    pub fn version(&self) -> String {
        self.layers.iter().map(|layer| layer.id.to_string()).collect::<Vec<_>>().join(".")
    }

    /// The resources of a type, layer by layer, by name.
    pub fn of(&self, kind: TypeUrl) -> impl Iterator<Item = &Arc<Resource>> {
        self.layers.iter().flat_map(move |layer| layer.of(kind))
    }

    /// The resources named `<namespace>/<anything>`.
    pub fn in_namespace<'a>(&'a self, kind: TypeUrl, namespace: &str) -> impl Iterator<Item = &'a Arc<Resource>> {
        let prefix = format!("{namespace}/");
        self.layers.iter().flat_map(move |layer| {
            let prefix = prefix.clone();
            let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
            let range = layer.by_type[kind.index()].range::<str, _>(from);
            range.take_while(move |(name, _)| name.starts_with(&prefix)).map(|(_, resource)| resource)
        })
    }

    /// Names that may differ between two targets, each once; a superset, so that asking both targets about each settles it.
    /// Layers of the same place are compared through their remembered difference; a place only one has counts wholly.
    pub(crate) fn changed(&self, newer: &Self) -> [Vec<Arc<str>>; TypeUrl::COUNT] {
        let mut names: [Vec<Arc<str>>; TypeUrl::COUNT] = Default::default();
        for place in 0..self.layers.len().max(newer.layers.len()) {
            match (self.layers.get(place), newer.layers.get(place)) {
                (Some(old), Some(new)) if old.id == new.id => {}
                (Some(old), Some(new)) => {
                    let diff = old.diff(new);
                    names.iter_mut().zip(&diff.by_type).for_each(|(names, more)| names.extend(more.iter().cloned()));
                }
                (Some(only), None) | (None, Some(only)) => only.add_names(&mut names),
                (None, None) => {}
            }
        }
        once(names)
    }

    /// As [`Target::changed`], without layers' help: every name of both. The oracle of the property test.
    pub(crate) fn changed_from_scratch(&self, newer: &Self) -> [Vec<Arc<str>>; TypeUrl::COUNT] {
        let mut names = Default::default();
        self.layers.iter().chain(&newer.layers).for_each(|layer| layer.add_names(&mut names));
        once(names)
    }
}

// A name that moved between layers is in both differences.
fn once(mut names: [Vec<Arc<str>>; TypeUrl::COUNT]) -> [Vec<Arc<str>>; TypeUrl::COUNT] {
    for names in &mut names {
        names.sort_unstable();
        names.dedup();
    }
    names
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_type.iter().flat_map(BTreeMap::values)).finish()
    }
}
