//! What an authenticated caller may say that it is: a proxy of its own namespace and service account, and of the pod that its
//! token is bound to. Pure.

use compile::Scope;
use serde_json::Value;

use crate::authenticate::Caller;

/// An error names what the node claims and who the caller is.
pub(crate) fn node(scope: &Scope, node_id: &str, metadata: &Value, caller: &Caller) -> Result<(), String> {
    let id = &caller.id;
    // The id's own part, too: names in logs and in `proxy-status` are made of it.
    let in_id = node_id.split('~').nth(2).and_then(|name| name.rsplit_once('.')).map_or("", |(_, namespace)| namespace);
    if let Some(claimed) = [scope.namespace.as_str(), in_id].into_iter().find(|claimed| *claimed != id.namespace) {
        return Err(format!("the node claims namespace {:?}; the caller is {id}", cut(claimed)));
    }
    match metadata["SERVICE_ACCOUNT"].as_str() {
        Some(claimed) if claimed == id.service_account => {}
        Some(claimed) => {
            return Err(format!("the node claims service account {:?}; the caller is {id}", cut(claimed)));
        }
        None => return Err(format!("the node does not say its service account (SERVICE_ACCOUNT); the caller is {id}")),
    }
    match &caller.pod {
        Some(pod) if pod.name != scope.name => {
            Err(format!("the node claims pod {:?}; the caller's token is that of {:?}", scope.name, pod.name))
        }
        _ => Ok(()),
    }
}

// Anybody's word goes into logs and events.
fn cut(claimed: &str) -> String {
    claimed.chars().take(CLAIMED_CHARS_MAX).collect()
}

/// Characters of a claim that are shown.
const CLAIMED_CHARS_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use words::SpiffeId;

    use super::*;
    use crate::authenticate::BoundPod;

    #[test]
    fn a_node_is_who_the_caller_is_or_refused() {
        let id = "sidecar~10.0.0.1~reviews-1.default~default.svc.cluster.local";
        let of = |id: &str, metadata: Value, pod: Option<&str>| {
            let caller = Caller {
                id: SpiffeId::parse("spiffe://cluster.local/ns/default/sa/reviews").unwrap(),
                pod: pod.map(|name| BoundPod { name: name.to_owned(), uid: "u".into() }),
                by: "token",
            };
            node(&Scope::parse(id, &metadata).unwrap(), id, &metadata, &caller)
        };
        let good = || json!({"NAMESPACE": "default", "SERVICE_ACCOUNT": "reviews"});
        assert_eq!(of(id, good(), Some("reviews-1")), Ok(()));
        assert_eq!(of(id, good(), None), Ok(()));
        assert_eq!(of(id, json!({"SERVICE_ACCOUNT": "reviews"}), None), Ok(()));
        let refused = |id: &str, metadata, pod| of(id, metadata, pod).unwrap_err();
        assert!(refused(id, json!({"NAMESPACE": "prod", "SERVICE_ACCOUNT": "reviews"}), None).contains("\"prod\""));
        let other = id.replace(".default~", ".prod~");
        assert!(refused(&other, good(), None).contains("namespace \"prod\""));
        assert!(refused(&other, json!({"SERVICE_ACCOUNT": "reviews"}), None).contains("namespace \"prod\""));
        assert!(refused(id, json!({"NAMESPACE": "default"}), None).contains("does not say"));
        assert!(refused(id, json!({"SERVICE_ACCOUNT": 5}), None).contains("does not say"));
        assert!(refused(id, json!({"SERVICE_ACCOUNT": "admin"}), None).contains("\"admin\""));
        assert!(refused(id, good(), Some("ratings-1")).contains("\"ratings-1\""));
        let long = refused(id, json!({"SERVICE_ACCOUNT": "a".repeat(100_000)}), None);
        assert!(long.len() < 500, "{}", long.len());
    }
}
