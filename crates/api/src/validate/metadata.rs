//! What the metadata of Istio's kinds may not say (V-13).

use super::Findings;
use crate::Object;
use crate::authorization_policy::PolicyAction;

// Istio's own; a user who writes one would speak for istiod (X07).
const RESERVED: &str = "internal.istio.io/";
// As Go's strconv reads them.
const BOOLEANS: [&str; 12] = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
const DRY_RUN: &str = "istio.io/dry-run";

pub(super) fn check(object: &Object, found: &mut Findings) {
    if !object.kind().is_custom() {
        return;
    }
    for (key, value) in &object.metadata().annotations {
        let field = format!("metadata.annotations.{key}");
        if let (DRY_RUN, Object::AuthorizationPolicy(policy)) = (key.as_str(), object) {
            if !BOOLEANS.contains(&value.as_str()) {
                found.error(field, format!("{value:?} is neither true nor false"));
            } else if matches!(policy.spec.action, Some(PolicyAction::Audit | PolicyAction::Custom)) {
                found.error(field, "a dry run is for ALLOW and DENY only");
            }
        } else if key == DRY_RUN {
            found.error(field, "a dry run is for AuthorizationPolicy only");
        } else if key.starts_with(RESERVED) {
            found.error(field, format!("annotations under {RESERVED} are reserved"));
        }
    }
}
