//! Which workloads an object is for (V-12).

use words::Labels;

use super::Findings;

/// A selector at `path`; `whole` says what one without labels selects.
pub(super) fn check(path: &str, labels: Option<&Labels>, whole: &str, found: &mut Findings) {
    let Some(labels) = labels else { return };
    if labels.is_empty() {
        found.warn(path, format!("a selector without labels applies to {whole}"));
    }
    for (key, value) in labels {
        if key.is_empty() || key.contains('*') || value.contains('*') {
            found.error(
                format!("{path}.{key}"),
                format!("{key:?}: {value:?} is empty or has a wildcard; labels must be whole"),
            );
        }
    }
}
