//! Policies that select the pods of a Gateway API gateway by labels, which is not obeyed there (IST0166).

use crate::found::Found;
use crate::world::World;

/// On the pods of a gateway that was made from a Gateway API object.
const MANAGED: &str = "gateway.networking.k8s.io/gateway-name";

pub(crate) fn ineffective(world: &World<'_>, found: &mut Found) {
    for policy in &world.policies {
        let pods = world.selected(&policy.selector, Some(&policy.origin.namespace));
        if let Some(gateway) = pods.iter().find_map(|pod| pod.labels.get(MANAGED)) {
            let message =
                format!("the selector takes pods of gateway {gateway}, where policies act by targetRefs only");
            let fix =
                format!("write targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: {gateway}}}]");
            found.add("IST0166", &policy.origin, "spec.selector", message, fix);
        }
    }
}
