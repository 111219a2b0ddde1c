//! Words that every layer shares: origins, diagnostics, host names, durations, fingerprints.
//!
//! In: nothing. Out: small values without behaviour of their own. Knows no Kubernetes, no Envoy, no IO.

pub mod diagnostic;
pub mod duration;
pub mod fingerprint;
pub mod host;
pub mod lists;
pub mod origin;
pub mod protocol;
pub mod spiffe;

pub use diagnostic::{Diagnostic, Location, Severity};
pub use fingerprint::Fingerprint;
pub use origin::Origin;
pub use protocol::Protocol;
pub use spiffe::SpiffeId;

/// Labels of a pod, a subset or an endpoint; ordered, so that equal sets hash equally.
pub type Labels = std::collections::BTreeMap<String, String>;

/// True when every pair of `selector` is in `labels`; an empty selector selects everything.
pub fn labels_select(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
