//! Which ProxyConfigs are for a pod (PC01).

use api::{ProxyConfigSpec, Resource};
use serde_json::Value;
use words::labels_select;

use crate::annotations;

/// Those for a pod of this namespace, the weakest first: the root namespace's for all, then the namespace's own, then the
/// one that selects the pod; of equals the older one wins.
pub fn configs<'a>(
    all: impl Iterator<Item = &'a Resource<ProxyConfigSpec>>,
    pod: &Value,
    namespace: &str,
    root_namespace: &str,
) -> Vec<&'a ProxyConfigSpec> {
    let labels = annotations::labels_of(pod);
    let is_here =
        |config: &Resource<ProxyConfigSpec>| [namespace, root_namespace].contains(&config.metadata.namespace.as_str());
    let ranked = all.filter(|config| is_here(config)).filter_map(|config| {
        let selector = config.spec.selector.as_ref().map(|selector| &selector.match_labels);
        let selects = selector.is_some_and(|selector| !selector.is_empty());
        let fits = selector.is_none_or(|selector| labels_select(selector, &labels));
        let rank = match (config.metadata.namespace == root_namespace, selects) {
            (true, false) => 0,
            (false, false) => 1,
            (_, true) => 2,
        };
        fits.then_some((rank, config))
    });
    let mut found: Vec<_> = ranked.collect();
    let age = |config: &Resource<ProxyConfigSpec>| {
        let metadata = &config.metadata;
        (metadata.creation_timestamp.clone(), metadata.namespace.clone(), metadata.name.clone())
    };
    // The younger first of each rank, so that the older one wins.
    found.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| age(other).cmp(&age(one))));
    found.into_iter().map(|(_, config)| &config.spec).collect()
}
