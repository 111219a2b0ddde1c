//! Analysis: what is wrong between objects, as `istioctl analyze` would find it, before anything runs.
//!
//! In: objects, from files and from a cluster, and which findings to leave out. Out: findings with Istio's codes and
//! levels, each with object, field, place and what to write instead. What an object says by itself is found by
//! `api::validate`; this adds what only shows beside the others. Pure: reads no file and asks no cluster.
//!
//! An analyzer is one row of [`analyzers::ALL`]; a code is one row of [`codes::ALL`]. `tests/corpus` has for each code
//! what finds it and what does not.

pub mod analyzers;
pub mod certificate;
pub mod codes;
mod destination_rule;
mod found;
mod gateway;
pub mod inputs;
mod mesh_networks;
mod policy;
mod selection;
mod service;
mod service_entry;
mod sidecar;
pub mod suppress;
mod virtual_service;
mod visibility;
mod world;

use std::collections::BTreeSet;

use words::Diagnostic;

pub use inputs::Inputs;
pub use suppress::Suppression;

/// What to look for, and what to leave out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only findings about objects of this namespace, and about those without one.
    pub namespace: Option<String>,
    /// Findings about objects of files, whatever their namespace.
    pub files_always: bool,
    /// The namespace of the control plane.
    pub root_namespace: String,
    /// The mesh's domain.
    pub domain: String,
    /// Only these analyzers, by name; all when empty.
    pub analyzers: BTreeSet<String>,
    /// Findings that are not wanted.
    pub suppressed: Vec<Suppression>,
    /// Seconds since 1970, for certificates that have ended.
    pub now_seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: None,
            files_always: false,
            root_namespace: "istio-system".into(),
            domain: "cluster.local".into(),
            analyzers: BTreeSet::new(),
            suppressed: Vec::new(),
            now_seconds: 0,
        }
    }
}

/// Every finding, worst first, then by place and object.
pub fn run(inputs: &Inputs, options: &Options) -> Vec<Diagnostic> {
    let world = world::World::new(inputs, options);
    let mut found: Vec<Diagnostic> = Vec::new();
    for analyzer in analyzers::ALL {
        let is_wanted = options.analyzers.is_empty() || options.analyzers.contains(analyzer.name);
        if is_wanted && analyzer.needs.iter().all(|kind| inputs.knows(kind)) {
            found.extend((analyzer.run)(&world));
        }
    }
    let in_namespace = |found: &Diagnostic| {
        let namespace = found.object.as_ref().map(|object| &*object.namespace).unwrap_or_default();
        let is_wanted = options.namespace.as_deref().is_none_or(|wanted| wanted == namespace);
        is_wanted || namespace.is_empty() || (options.files_always && inputs.is_of_a_file(found))
    };
    found
        .retain(|found| in_namespace(found) && !inputs.suppresses(found) && !suppress::any(&options.suppressed, found));
    let mut found: Vec<Diagnostic> = found.into_iter().map(|found| inputs.place(found)).collect();
    found.sort_by(|a, b| {
        b.severity
            .cmp(&a.severity)
            .then_with(|| (&a.location, &a.object, &a.field, &a.code).cmp(&(&b.location, &b.object, &b.field, &b.code)))
    });
    found.dedup();
    found
}
