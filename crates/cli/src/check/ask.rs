//! Asking the API server: bounded in time, and an answer that is not the wanted one is an answer too.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::{Check, warning};

/// One request may take this long; a dry run waits for webhooks.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// Objects of one list that are looked at.
const OBJECTS_MAX: u32 = 5_000;

/// A page on its way.
pub(super) type Page = Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>;
/// GETs a page of a pod: a client, its namespace, its name, the path.
pub(super) type Pages = fn(Client, String, String, String) -> Page;

/// What a mesh is installed into.
pub(super) struct Cluster {
    client: Client,
    pages: Pages,
    /// Where the control plane is.
    pub(super) namespace: String,
}

/// An answer.
pub(super) enum Found {
    /// The object, or list.
    Value(Value),
    /// There is none.
    Missing,
    /// No, and why.
    Refused(u16, String),
    /// No answer.
    Nothing(String),
}

impl Found {
    /// The object; `None` for everything else.
    pub(super) fn value(self) -> Option<Value> {
        match self {
            Found::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The items of a list.
    pub(super) fn items(self) -> Vec<Value> {
        match self.value().map(|mut value| value["items"].take()) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        }
    }

    /// Why there is none, in words.
    pub(super) fn why_not(&self) -> String {
        match self {
            Found::Value(_) => "it is there".into(),
            Found::Missing => "there is none".into(),
            Found::Refused(code, message) => format!("the API server answers {code}: {message}"),
            Found::Nothing(message) => message.clone(),
        }
    }
}

impl Cluster {
    pub(super) fn new(client: Client, pages: Pages, namespace: &str) -> Self {
        Self { client, pages, namespace: namespace.to_owned() }
    }

    /// A page of one of the control plane's pods, in JSON.
    pub(super) async fn page(&self, pod: &str, path: &str) -> Result<Value> {
        let page = (self.pages)(self.client.clone(), self.namespace.clone(), pod.to_owned(), path.to_owned()).await?;
        serde_json::from_slice(&page).with_context(|| format!("{path} of pod {pod} is not JSON"))
    }

    /// GETs a path.
    pub(super) async fn get(&self, path: &str) -> Found {
        self.send(Method::GET, path, None).await.1
    }

    /// Every object of a collection, `/api/v1/pods?labelSelector=…`.
    pub(super) async fn list(&self, path: &str) -> Vec<Value> {
        let mark = if path.contains('?') { '&' } else { '?' };
        self.get(&format!("{path}{mark}limit={OBJECTS_MAX}")).await.items()
    }

    /// POSTs a review, or by dry run an object.
    pub(super) async fn post(&self, path: &str, object: &Value) -> Found {
        self.send(Method::POST, path, Some(object)).await.1
    }

    /// GETs a path, with what the server's clock says.
    pub(super) async fn get_with_date(&self, path: &str) -> (Option<SystemTime>, Found) {
        self.send(Method::GET, path, None).await
    }

    /// Whether an account may do something; `None` when we may not ask. Without an account: whether we may.
    pub(super) async fn may(&self, account: Option<&str>, action: Value) -> Option<bool> {
        let (kind, plural) = match account {
            Some(_) => ("SubjectAccessReview", "subjectaccessreviews"),
            None => ("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
        };
        let mut review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": {"resourceAttributes": action}
        });
        if let Some(account) = account {
            review["spec"]["user"] = json!(format!("system:serviceaccount:{}:{account}", self.namespace));
            review["spec"]["groups"] = json!(["system:serviceaccounts", "system:authenticated"]);
        }
        let path = format!("/apis/authorization.k8s.io/v1/{plural}");
        self.post(&path, &review).await.value()?["status"]["allowed"].as_bool()
    }

    async fn send(&self, method: Method, path: &str, object: Option<&Value>) -> (Option<SystemTime>, Found) {
        let body = object.map_or_else(Vec::new, |object| object.to_string().into_bytes());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(Body::from(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return (None, Found::Nothing(format!("{path}: {error}"))),
        };
        match tokio::time::timeout(ANSWER_MAX, self.exchange(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => (None, Found::Nothing(format!("{error:#}"))),
            Err(_) => (None, Found::Nothing(format!("no answer within {} s", ANSWER_MAX.as_secs()))),
        }
    }

    async fn exchange(&self, request: Request<Body>) -> anyhow::Result<(Option<SystemTime>, Found)> {
        let response = self.client.send(request).await?;
        let status = response.status().as_u16();
        let date = response.headers().get("date").and_then(|date| date.to_str().ok()).and_then(parse_date);
        let text = response.into_body().collect_bytes().await?;
        let value: Value =
            serde_json::from_slice(&text).unwrap_or_else(|_| json!({"message": String::from_utf8_lossy(&text).trim()}));
        let found = match status {
            200..300 => Found::Value(value),
            404 => Found::Missing,
            _ => Found::Refused(status, value["message"].as_str().unwrap_or_default().to_owned()),
        };
        Ok((date, found))
    }
}

/// What cannot be seen is no failure, but worth saying.
pub(super) fn unseen(about: &str, found: &Found) -> Check {
    warning(
        about,
        format!("this cannot be seen: {}", found.why_not()),
        "run sluicectl with an account that may read it",
    )
}

// The header `Date` (RFC 9110, 5.6.7).
fn parse_date(text: &str) -> Option<SystemTime> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok().map(SystemTime::from)
}

/// A time as Kubernetes writes it.
pub(super) fn parse_time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// `metadata.name`.
pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// `metadata.namespace`.
pub(super) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// True when a pod's condition `Ready` is.
pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}
