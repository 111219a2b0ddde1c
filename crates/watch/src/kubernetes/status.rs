//! The status of Istio's kinds: what is there, and what we write.
//!
//! In: an object's `status`. Out: a [`Status`], compared and completed ([`Status::follow`]), written by server-side apply
//! to the status subresource, for this very object only. Pure but for [`apply`].

use std::sync::Arc;

use api::{Kind, ObjectKey};
use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::write::{Body, FIELD_MANAGER, WriteError, send};

/// What the API server holds of an object beside its spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The API server's identity of the object.
    pub uid: Arc<str>,
    /// Counts changes of the spec.
    pub generation: i64,
    /// The version of the kind under which it was read, `v1`.
    pub version: &'static str,
    /// Its status.
    pub status: Arc<Status>,
}

/// A status as Istio's definitions have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The generation that it is about.
    pub observed_generation: i64,
    /// By type, in the order in which they are shown.
    pub conditions: Vec<Condition>,
    /// Findings, as Istio's analysis has them.
    pub messages: Vec<Message>,
}

/// A condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `Accepted`.
    pub kind: Box<str>,
    /// `True`, `False`, `Unknown`.
    pub status: Box<str>,
    /// One word in CamelCase.
    pub reason: Box<str>,
    /// A sentence.
    pub message: Box<str>,
    /// The generation that it is about.
    pub observed_generation: i64,
    /// When its status last changed, RFC 3339.
    pub since: Box<str>,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `IST0101`.
    pub code: Box<str>,
    /// Istio's name of it; empty when it has none.
    pub name: Box<str>,
    /// `ERROR`, `WARNING`, `INFO`.
    pub level: Box<str>,
}

impl Status {
    /// A condition by type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|one| &*one.kind == kind)
    }

    /// Reads a status; what does not fit is not there.
    pub fn parse(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().into();
        let list = |key: &str| value[key].as_array().map(Vec::as_slice).unwrap_or_default().iter().take(LIST_MAX);
        let condition = |one: &Value| Condition {
            kind: text(&one["type"]),
            status: text(&one["status"]),
            reason: text(&one["reason"]),
            message: text(&one["message"]),
            observed_generation: number(&one["observedGeneration"]),
            since: text(&one["lastTransitionTime"]),
        };
        let message = |one: &Value| Message {
            code: text(&one["type"]["code"]),
            name: text(&one["type"]["name"]),
            level: text(&one["level"]),
        };
        Self {
            observed_generation: number(&value["observedGeneration"]),
            conditions: list("conditions").map(condition).collect(),
            messages: list("validationMessages").map(message).collect(),
        }
    }

    /// This status as the next one after `held`: a condition whose status did not change keeps its time, the others
    /// begin at `now`.
    pub fn follow(mut self, held: &Self, now: &str) -> Self {
        for condition in &mut self.conditions {
            let before = held.condition(&condition.kind).filter(|before| before.status == condition.status);
            condition.since = before.map_or_else(|| now.into(), |before| before.since.clone());
        }
        self
    }

    fn value(&self) -> Value {
        let condition = |one: &Condition| {
            json!({
                "type": one.kind, "status": one.status, "reason": one.reason, "message": one.message,
                "observedGeneration": one.observed_generation, "lastTransitionTime": one.since,
            })
        };
        let message = |one: &Message| {
            let mut kind = json!({"code": one.code});
            let mut message = json!({"level": one.level});
            if !one.name.is_empty() {
                kind["name"] = json!(one.name);
                let page = one.code.to_ascii_lowercase();
                message["documentationUrl"] =
                    json!(format!("https://istio.io/latest/docs/reference/config/analysis/{page}/"));
            }
            message["type"] = kind;
            message
        };
        let mut value = json!({
            "observedGeneration": self.observed_generation,
            "conditions": self.conditions.iter().map(condition).collect::<Vec<_>>(),
        });
        if !self.messages.is_empty() {
            value["validationMessages"] = self.messages.iter().map(message).collect();
        }
        value
    }
}

/// Entries of a list that are read.
const LIST_MAX: usize = 64;

// Istio's schema lets it be a string too.
fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

/// Writes the status of this very object; one of its name that was made since is left alone (a conflict).
pub async fn apply(client: &Client, key: &ObjectKey, seen: &Seen, status: &Status) -> Result<(), WriteError> {
    let (group, version, plural) = (key.kind.group(), seen.version, key.kind.plural());
    let (namespace, name) = (&key.namespace, &key.name);
    let path = format!(
        "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status?fieldManager={FIELD_MANAGER}&force=true"
    );
    let object = json!({
        "apiVersion": api_version(key.kind, version), "kind": key.kind.name(),
        "metadata": {"name": name, "namespace": namespace, "uid": seen.uid},
        "status": status.value(),
    });
    send(client, Method::PATCH, &path, Body::Apply(&object)).await.map(drop)
}

/// `networking.istio.io/v1`.
pub fn api_version(kind: Kind, version: &str) -> String {
    match kind.group() {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: &str, since: &str) -> Status {
        let condition = Condition {
            kind: "Programmed".into(),
            status: status.into(),
            since: since.into(),
            observed_generation: 3,
            ..Condition::default()
        };
        Status { observed_generation: 3, conditions: vec![condition], messages: Vec::new() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let message = Message { code: "IST0101".into(), name: "X".into(), level: "ERROR".into() };
        let status = Status { messages: vec![message], ..ready("True", "2026-11-21T13:00:00Z") };
        assert_eq!(Status::parse(&status.value()), status);
        assert_eq!(Status::parse(&json!({"observedGeneration": "7"})).observed_generation, 7);
        assert_eq!(Status::parse(&json!("nonsense")), Status::default());
    }

    #[test]
    fn the_time_of_a_condition_moves_only_with_its_status() {
        let held = ready("True", "then");
        assert_eq!(&*ready("True", "").follow(&held, "now").conditions[0].since, "then");
        assert_eq!(&*ready("False", "").follow(&held, "now").conditions[0].since, "now");
        assert_eq!(&*ready("True", "").follow(&Status::default(), "now").conditions[0].since, "now");
    }
}
