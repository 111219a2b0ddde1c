//! TokenReview: whose a bearer token is, in the API server's words.
//!
//! In: a token and the audience that it must be for. Out: the answer, unjudged. Tokens are in no error and in no log.

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::write::{Body, WriteError, send};

/// What the API server says of a token (authentication.k8s.io/v1, TokenReviewStatus).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// It is a token of the cluster's.
    pub is_authenticated: bool,
    /// Why not.
    pub error: String,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Those of the asked audiences that it is for.
    pub audiences: Vec<String>,
    /// The pod that it is bound to.
    pub pod_name: String,
    /// The identity of that pod.
    pub pod_uid: String,
}

/// Asks whose a token is.
pub async fn review(client: &Client, token: &str, audience: &str) -> Result<Review, WriteError> {
    let object = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]}
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    send(client, Method::POST, path, Body::Object(&object)).await.map(|answer| parse(&answer["status"]))
}

fn parse(status: &Value) -> Review {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<String>>();
    let user = &status["user"];
    let extra = |key: &str| text(&user["extra"][format!("authentication.kubernetes.io/{key}")][0]);
    Review {
        is_authenticated: status["authenticated"].as_bool().unwrap_or(false),
        error: text(&status["error"]),
        user: text(&user["username"]),
        groups: all(&user["groups"]),
        audiences: all(&status["audiences"]),
        pod_name: extra("pod-name"),
        pod_uid: extra("pod-uid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_what_is_missing_is_empty() {
        let read = parse(&json!({
            "authenticated": true, "audiences": ["istio-ca"],
            "user": {
                "username": "system:serviceaccount:default:reviews", "groups": ["system:serviceaccounts"],
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["reviews-1"],
                    "authentication.kubernetes.io/pod-uid": ["u"]
                }
            }
        }));
        assert!(read.is_authenticated && read.pod_name == "reviews-1" && read.pod_uid == "u");
        assert_eq!(parse(&Value::Null), Review::default());
        assert_eq!(parse(&json!({"authenticated": "true", "user": 5})), Review::default());
    }
}
