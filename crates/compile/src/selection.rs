//! Which VirtualServices a proxy obeys, in which order, and which of them speaks about a host (X23, X30, X32, X34,
//! VS70).
//!
//! In: all of them. Out: an order and an index. Makes no routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use words::host;

use crate::intent::{Asker, MESH, Routing};
use crate::route;
use crate::visibility::Export;

/// The VirtualServices that a gateway (or `mesh`) serves to proxies of a namespace, in order: private ones, then those
/// exported to it, then public ones; each group oldest first (X23).
pub(crate) fn ordered<'a>(
    sorted: &'a [Arc<Routing>],
    gateway: &'a str,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Arc<Routing>> {
    (0..3).flat_map(move |wanted| {
        let serves = move |routing: &&Arc<Routing>| {
            group(routing, namespace) == Some(wanted) && !routing.hosts.is_empty() && routing.gateways.contains(gateway)
        };
        sorted.iter().filter(serves)
    })
}

/// 0 for private ones, 1 for those exported to the namespace, 2 for public ones.
pub(crate) fn group(routing: &Routing, namespace: &str) -> Option<u8> {
    match &routing.export {
        Export::Public => Some(2),
        export if !export.includes(namespace) => None,
        // The own namespace in a list counts as private, by `.` or by name (X22).
        _ if &*routing.origin.namespace == namespace => Some(0),
        _ => Some(1),
    }
}

/// The mesh's VirtualServices as one class of sidecars sees them.
#[derive(Debug, Default)]
pub(crate) struct MeshRoutings {
    /// In order.
    pub(crate) all: Vec<Arc<Routing>>,
    exact: FxHashMap<Arc<str>, Vec<usize>>,
    /// Most specific first; of equal hosts, the first in order.
    wildcards: Vec<(Arc<str>, usize)>,
}

impl MeshRoutings {
    /// Those of `sorted` (oldest first) that sidecars of a namespace obey and that `imported` takes.
    pub(crate) fn new(sorted: &[Arc<Routing>], namespace: &str, imported: impl Fn(&Routing) -> bool) -> Self {
        let mut made = Self::default();
        for routing in ordered(sorted, MESH, namespace).filter(|routing| imported(routing)) {
            let index = made.all.len();
            for name in &routing.hosts {
                match host::is_wildcard(name) {
                    true => made.wildcards.push((name.clone(), index)),
                    false => made.exact.entry(name.clone()).or_default().push(index),
                }
            }
            made.all.push(routing.clone());
        }
        made.wildcards.sort_by(|(a, i), (b, j)| host::by_specificity(a, b).then(i.cmp(j)));
        made
    }

    /// All that speak about a service's host, in order: rules about connections are taken from each of them.
    pub(crate) fn all_of_host(&self, name: &str) -> Vec<&Arc<Routing>> {
        if host::is_wildcard(name) {
            let speaks = |routing: &&Arc<Routing>| routing.hosts.iter().any(|host| host::overlaps(host, name));
            return self.all.iter().filter(speaks).collect();
        }
        let exact = self.exact.get(name).into_iter().flatten();
        let covering = self.wildcards.iter().filter(|(wildcard, _)| host::is_subset(name, wildcard));
        let indexes: BTreeSet<usize> = exact.chain(covering.map(|(_, index)| index)).copied().collect();
        indexes.into_iter().filter_map(|index| self.all.get(index)).collect()
    }

    /// The one that speaks about a service's host. Exact hosts beat wildcards, and there the first with a route for the
    /// asker; among wildcards the most specific (X32, X34, TR21, TR22). `None`: the service keeps its own route (VS73).
    pub(crate) fn of_host(&self, name: &str, asker: &Asker<'_>) -> Option<&Arc<Routing>> {
        if let Some(indexes) = self.exact.get(name) {
            let mut named = indexes.iter().filter_map(|index| self.all.get(*index));
            return named.find(|routing| route::applies(routing, asker));
        }
        let (_, index) = self.wildcards.iter().find(|(wildcard, _)| host::is_subset(name, wildcard))?;
        self.all.get(*index).filter(|routing| route::applies(routing, asker))
    }
}
