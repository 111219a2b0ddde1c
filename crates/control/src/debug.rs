//! What a proxy was told to hold, in the form of Envoy's `config_dump`.

use std::sync::Arc;

use codec::ResourceKind;
use config::{Name, Snapshot};
use serde_json::Value;
use xds::TypeUrl;

/// The dump of a proxy's layers. Values come from the compiled layers, versions from the encoded ones.
pub(crate) fn config_dump(compiled: &[Arc<compile::Layer>], layers: &[Arc<xds::Layer>]) -> Value {
    let mut whole = Snapshot::default();
    for layer in compiled {
        whole.extend(&layer.snapshot);
    }
    codec::json::config_dump(&whole, |kind, name| version(layers, kind, name))
}

fn version(layers: &[Arc<xds::Layer>], kind: ResourceKind, name: &Name) -> String {
    let kind = match kind {
        ResourceKind::Cluster => TypeUrl::Cluster,
        ResourceKind::Endpoints => TypeUrl::Endpoints,
        ResourceKind::Listener => TypeUrl::Listener,
        ResourceKind::Route => TypeUrl::Route,
        ResourceKind::VirtualHost => TypeUrl::VirtualHost,
        ResourceKind::NameTable => TypeUrl::NameTable,
        ResourceKind::Secret => TypeUrl::Secret,
    };
    layers.iter().find_map(|layer| layer.get(kind, name)).map_or_else(String::new, |one| one.version.to_string())
}
