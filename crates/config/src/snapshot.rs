//! A snapshot: all that one proxy obeys, by name, at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::{Cluster, Endpoints, Listener, NameTable, RouteTable, Secret};

/// A resource's name; shared, because one name stands in many places.
pub type Name = Arc<str>;

/// Everything one proxy obeys. Values are shared between proxies and between versions: what did not change is the same
/// `Arc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// LDS.
    pub listeners: BTreeMap<Name, Arc<Listener>>,
    /// RDS; virtual hosts inside.
    pub routes: BTreeMap<Name, Arc<RouteTable>>,
    /// CDS.
    pub clusters: BTreeMap<Name, Arc<Cluster>>,
    /// EDS, by cluster name.
    pub endpoints: BTreeMap<Name, Arc<Endpoints>>,
    /// NDS; `None` for proxies that answer no DNS questions.
    pub names: Option<Arc<NameTable>>,
    /// SDS. A name that is used and is not here is no mistake: whoever made it may still bring it.
    pub secrets: BTreeMap<Name, Arc<Secret>>,
}

impl Snapshot {
    /// This snapshot with the resources of `other` added; on equal names `other` wins.
    pub fn extend(&mut self, other: &Snapshot) {
        let Snapshot { listeners, routes, clusters, endpoints, names, secrets } = other;
        self.listeners.extend(listeners.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.routes.extend(routes.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.clusters.extend(clusters.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.endpoints.extend(endpoints.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.names = names.clone().or_else(|| self.names.take());
        self.secrets.extend(secrets.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}
