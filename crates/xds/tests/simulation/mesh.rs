//! Small meshes: resources whose bodies say which name they refer to, spread over two layers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use xds::{Layer, Resource, Target, TypeUrl};

/// What there is: versions by number, references by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    /// Cluster to the version of itself and of its endpoints.
    clusters: BTreeMap<u8, (u8, u8)>,
    /// Listener to its version and its table.
    listeners: BTreeMap<u8, (u8, u8)>,
    /// Version of each table; a table exists if a listener names it. Refers to one cluster.
    tables: [(u8, u8); 3],
    /// Virtual host by table and number, to its version and cluster.
    hosts: BTreeMap<(u8, u8), (u8, u8)>,
    /// Moves resources between the layers.
    salt: u8,
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    (
        prop::collection::btree_map(0..5u8, (0..3u8, 0..3u8), 1..5),
        prop::collection::btree_map(0..3u8, (0..2u8, 0..3u8), 0..4),
        prop::array::uniform3((0..3u8, any::<u8>())),
        prop::collection::btree_map((0..3u8, 0..3u8), (0..3u8, any::<u8>()), 0..6),
        0..4u8,
    )
        .prop_map(|(clusters, listeners, tables, hosts, salt)| World { clusters, listeners, tables, hosts, salt })
}

impl World {
    pub(crate) fn resources(&self) -> Vec<Arc<Resource>> {
        let clusters: Vec<u8> = self.clusters.keys().copied().collect();
        let cluster = |pick: u8| format!("c{}", clusters[usize::from(pick) % clusters.len()]);
        let tables: BTreeSet<u8> = self.listeners.values().map(|(_, table)| *table).collect();
        let mut all = Vec::new();
        for (name, (version, endpoints)) in &self.clusters {
            all.push(resource(TypeUrl::Cluster, format!("c{name}"), *version, ""));
            all.push(resource(TypeUrl::Endpoints, format!("c{name}"), *endpoints, ""));
        }
        for (name, (version, table)) in &self.listeners {
            all.push(resource(TypeUrl::Listener, format!("l{name}"), *version, &format!("t{table}")));
        }
        for (name, (version, pick)) in (0u8..).zip(&self.tables).filter(|(name, _)| tables.contains(name)) {
            all.push(resource(TypeUrl::Route, format!("t{name}"), *version, &cluster(*pick)));
        }
        for ((table, name), (version, pick)) in self.hosts.iter().filter(|((table, _), _)| tables.contains(table)) {
            all.push(resource(TypeUrl::VirtualHost, format!("t{table}/h{name}"), *version, &cluster(*pick)));
        }
        all
    }

    /// A target of two layers; equal layers are the same layer, as they are in a control plane.
    pub(crate) fn target(&self) -> Target {
        let place = |one: &Arc<Resource>| (one.name.bytes().map(u32::from).sum::<u32>() + u32::from(self.salt / 2)) % 2;
        let (shared, own): (Vec<_>, Vec<_>) = self.resources().into_iter().partition(|one| place(one) == 0);
        Target { layers: vec![layer(shared), layer(own)] }
    }
}

/// The version says all of the content, as a hash would; the body says all there is.
fn resource(kind: TypeUrl, name: String, version: u8, refers_to: &str) -> Arc<Resource> {
    let version = format!("{version}>{refers_to}");
    let body = format!("{name} {version}");
    Resource::new(kind, name, &version, body.as_bytes())
}

/// Name, version and what a body refers to.
pub(crate) fn read(body: &[u8]) -> (String, String, String) {
    let body = std::str::from_utf8(body).expect("our own text");
    let (name, version) = body.split_once(' ').expect("name and version");
    let (_, refers_to) = version.split_once('>').expect("a reference");
    (name.to_owned(), version.to_owned(), refers_to.to_owned())
}

type Known = (Vec<Arc<Resource>>, Arc<Layer>);

fn layer(resources: Vec<Arc<Resource>>) -> Arc<Layer> {
    thread_local! {
        static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, layer)) = known.iter().find(|(held, _)| *held == resources) {
            return layer.clone();
        }
        let layer = Layer::new(resources.iter().cloned());
        known.truncate(20);
        known.insert(0, (resources, layer.clone()));
        layer
    })
}
