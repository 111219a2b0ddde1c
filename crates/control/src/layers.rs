//! From a compiled layer to one that streams share: checked, encoded, remembered by identity.
//!
//! A layer that fails the check is not published; whoever asked keeps what it had.

use std::sync::Arc;

use codec::{Encoded, Encoder, Options, ResourceKind};
use config::{Filter, Problem, RouteSource, RouteTable, Snapshot};
use rustc_hash::FxHashMap;
use xds::TypeUrl;

/// Compiled layers with their encoded form.
#[derive(Default)]
pub(crate) struct Layers {
    encoder: Encoder,
    resources: FxHashMap<usize, Shared>,
    made: FxHashMap<(usize, Options), Made>,
    round: u64,
}

// A resource of xds for each encoded value; kept with the value, so that its address stays taken.
struct Shared {
    _value: Arc<Encoded>,
    resource: Arc<xds::Resource>,
    round: u64,
}

struct Made {
    _layer: Arc<compile::Layer>,
    result: Result<Arc<xds::Layer>, Arc<Vec<Problem>>>,
    round: u64,
}

impl Layers {
    /// The encoded form of a layer, or why it must not be published. `below` are the layers that it refers to.
    pub(crate) fn publish(
        &mut self,
        layer: &Arc<compile::Layer>,
        below: &[Arc<compile::Layer>],
        options: Options,
    ) -> Result<Arc<xds::Layer>, Arc<Vec<Problem>>> {
        let key = (Arc::as_ptr(layer) as usize, options);
        let round = self.round;
        if let Some(made) = self.made.get_mut(&key) {
            made.round = round;
            return made.result.clone();
        }
        let problems = check(&layer.snapshot, below);
        let result = match problems.is_empty() {
            true => Ok(self.encode(&layer.snapshot, options)),
            false => Err(Arc::new(problems)),
        };
        self.made.insert(key, Made { _layer: layer.clone(), result: result.clone(), round });
        result
    }

    fn encode(&mut self, snapshot: &Snapshot, options: Options) -> Arc<xds::Layer> {
        let encoded = self.encoder.snapshot(snapshot, options);
        let round = self.round;
        let resources = &mut self.resources;
        let share = |value: Arc<Encoded>| {
            let make = || Shared { resource: resource(&value), _value: value.clone(), round };
            let shared = resources.entry(Arc::as_ptr(&value) as usize).or_insert_with(make);
            shared.round = round;
            shared.resource.clone()
        };
        xds::Layer::new(encoded.into_iter().map(share).collect::<Vec<_>>())
    }

    /// Forgets what no proxy uses any more. Call it after each publication.
    pub(crate) fn sweep(&mut self) {
        let round = self.round;
        let before = self.made.len();
        self.made.retain(|_, made| made.round == round);
        // Values of layers that stay are not asked for again, so encoder and resources forget only when a layer goes:
        // their entries are dropped once nothing else holds the value.
        if self.made.len() < before {
            self.encoder.sweep();
            self.resources.retain(|_, shared| shared.round == round || Arc::strong_count(&shared.resource) > 1);
        }
        self.round += 1;
    }
}

fn resource(encoded: &Encoded) -> Arc<xds::Resource> {
    let kind = match encoded.kind {
        ResourceKind::Cluster => TypeUrl::Cluster,
        ResourceKind::Endpoints => TypeUrl::Endpoints,
        ResourceKind::Listener => TypeUrl::Listener,
        ResourceKind::Route => TypeUrl::Route,
        ResourceKind::VirtualHost => TypeUrl::VirtualHost,
        ResourceKind::NameTable => TypeUrl::NameTable,
        ResourceKind::Secret => TypeUrl::Secret,
    };
    xds::Resource::new(kind, encoded.name.clone(), &encoded.version, &encoded.body)
}

// A layer by itself, with empty stand-ins for the tables of the layers below that its listeners name: those were
// checked with their own layer.
fn check(snapshot: &Snapshot, below: &[Arc<compile::Layer>]) -> Vec<Problem> {
    if below.is_empty() {
        return config::check(snapshot);
    }
    let mut whole = snapshot.clone();
    for chain in snapshot.listeners.values().flat_map(|listener| listener.all_chains()) {
        let Filter::Http(http) = &chain.filter else { continue };
        let RouteSource::Rds(name) = &http.routes else { continue };
        if below.iter().any(|layer| layer.snapshot.routes.contains_key(name)) {
            let empty = || Arc::new(RouteTable { name: name.clone(), ignore_port: true, virtual_hosts: Vec::new() });
            whole.routes.entry(name.clone()).or_insert_with(empty);
        }
    }
    config::check(&whole)
}
