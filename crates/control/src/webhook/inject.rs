//! A pod's review: its sidecar as a patch, or why there is none.

use ::inject::{NOT_INJECTED, Outcome, Reason, Request, Settings};
use api::{Object, ProxyConfigSpec};
use serde_json::{Value, json};
use words::Labels;

use super::Known;
use super::review::{Answer, Operation, Review};

/// The answer.
pub(super) fn answer(review: &Review, known: &Known, settings: &Settings, root_namespace: &str) -> Answer {
    if !is_new_pod(review) {
        return Answer::default();
    }
    let all = known.configs.iter().filter_map(|object| match object.as_ref() {
        Object::ProxyConfig(config) => Some(config),
        _ => None,
    });
    let configs = ::inject::configs(all, &review.object, &review.namespace, root_namespace);
    match ::inject::run(request(review, known, settings, &configs)) {
        Outcome::Injected { pod, warnings } => {
            Answer { patch: ::inject::diff(&review.object, &pod), refused: None, warnings }
        }
        Outcome::Left(reason) if reason.is_surprising() => left(&review.object, &reason),
        Outcome::Left(_) => Answer::default(),
        Outcome::Refused(reason) => {
            let message = format!("the pod cannot be injected: {reason}");
            let status = json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": message});
            Answer { refused: Some(status), ..Answer::default() }
        }
    }
}

/// Whether labels ask for a sidecar, as far as they are known.
pub(super) fn is_asked_for(review: &Review, known: &Known, settings: &Settings) -> bool {
    if !is_new_pod(review) {
        return true;
    }
    let outcome = ::inject::decide(request(review, known, settings, &[]));
    use ::inject::Verdict;
    !matches!(outcome, Verdict::Leave(Reason::NotAsked | Reason::NamespaceDisabled | Reason::OtherRevision(_)))
}

fn is_new_pod(review: &Review) -> bool {
    let is_pod = review.object["kind"] == "Pod" && review.object["apiVersion"] == "v1";
    is_pod && review.operation == Operation::Create && !review.has_subresource
}

fn request<'a>(
    review: &'a Review,
    known: &'a Known,
    settings: &'a Settings,
    configs: &'a [&'a ProxyConfigSpec],
) -> Request<'a> {
    static NONE: Labels = Labels::new();
    let labels = Some(known.labels.as_ref().unwrap_or(&NONE));
    Request { pod: &review.object, namespace: &review.namespace, labels, workload: None, configs, settings }
}

// `kubectl describe pod` shows it, also of a pod that a controller made, to which no warning comes.
fn left(pod: &Value, reason: &Reason) -> Answer {
    let mut marked = pod.clone();
    if !marked["metadata"].is_object() {
        marked["metadata"] = json!({});
    }
    if !marked["metadata"]["annotations"].is_object() {
        marked["metadata"]["annotations"] = json!({});
    }
    marked["metadata"]["annotations"][NOT_INJECTED] = json!(reason.to_string());
    let warning = format!("the pod gets no sidecar: {reason}");
    Answer { patch: ::inject::diff(pod, &marked), refused: None, warnings: vec![warning] }
}
