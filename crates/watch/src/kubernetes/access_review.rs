//! SubjectAccessReview: what a service account may do, in the API server's words.
//!
//! In: a service account and what it wants. Out: yes or no, or why there is no answer. Remembers nothing.

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::write::{Body, WriteError, send};

/// Asks whether a service account may list the Secrets of its own namespace.
pub async fn may_list_secrets(client: &Client, namespace: &str, account: &str) -> Result<bool, WriteError> {
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let object = object(namespace, account);
    send(client, Method::POST, path, Body::Object(&object)).await.map(|answer| is_allowed(&answer))
}

// As the account itself would ask: bindings may name it, or one of the groups that it is in.
fn object(namespace: &str, account: &str) -> Value {
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{namespace}:{account}"),
            "groups": [
                "system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"
            ],
            "resourceAttributes": {"namespace": namespace, "verb": "list", "version": "v1", "resource": "secrets"}
        }
    })
}

// authorization.k8s.io/v1, SubjectAccessReviewStatus: "denied" wins over "allowed".
fn is_allowed(answer: &Value) -> bool {
    answer["status"]["allowed"] == true && answer["status"]["denied"] != true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        assert!(is_allowed(&json!({"status": {"allowed": true}})));
        for no in
            [json!(null), json!({"status": {"allowed": "true"}}), json!({"status": {"denied": true, "allowed": true}})]
        {
            assert!(!is_allowed(&no), "{no}");
        }
        let asked = object("edge", "gateway");
        assert_eq!(asked["spec"]["user"], "system:serviceaccount:edge:gateway");
        assert_eq!(asked["spec"]["resourceAttributes"]["namespace"], "edge");
    }
}
