//! What the metadata of Istio's kinds may not say (V-13).

use super::Findings;
use crate::Object;

// Istio's own; a user who writes one would speak for istiod (X07).
const RESERVED: &str = "internal.istio.io/";
const DRY_RUN: &str = "istio.io/dry-run";

pub(super) fn check(object: &Object, found: &mut Findings) {
    if !object.kind().is_custom() {
        return;
    }
    for key in object.metadata().annotations.keys() {
        let field = format!("metadata.annotations.{key}");
        if key == DRY_RUN {
            found.error(field, "a dry run is for AuthorizationPolicy only");
        } else if key.starts_with(RESERVED) {
            found.error(field, format!("annotations under {RESERVED} are reserved"));
        }
    }
}
