//! Requests that write, and what their refusal means. Whoever writes paces itself by it.
//!
//! In: a method, a path and a body. Out: the object as the server has it now, or a [`WriteError`]. Decides nothing.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use kube::Client;
use serde_json::Value;

use super::failure;

/// How long a server may take to answer a write.
pub const WRITE_MAX: Duration = Duration::from_secs(10);
/// The name under which fields that this program writes are its own.
pub const FIELD_MANAGER: &str = "sluice";

/// The body of a write, by its media type.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// No body.
    None,
    /// The whole object.
    Object(&'a Value),
    /// The fields that are ours (server-side apply).
    Apply(&'a Value),
    /// Fields to change, `null` to remove.
    Merge(&'a Value),
}

/// A write that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is no such object, or no such kind.
    #[error("not found: {0}")]
    Missing(String),
    /// It changed in between, or exists already.
    #[error("it changed in between: {0}")]
    Conflict(String),
    /// We may not.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The server says that this body is wrong; the same again will be refused again.
    #[error("refused: {0}")]
    Invalid(String),
    /// Unreachable, overloaded, or silent: later. The server's own wish for the pause, if it has one.
    #[error("{message}")]
    Later {
        /// Why.
        message: String,
        /// At least this long.
        after: Option<Duration>,
    },
}

/// Sends a write, or a read of one object; the answer is bounded by the server's own limit on objects.
pub async fn send(client: &Client, method: Method, path: &str, body: Body<'_>) -> Result<Value, WriteError> {
    let (media, content) = match body {
        Body::None => ("application/json", Vec::new()),
        Body::Object(value) => ("application/json", bytes_of(value)),
        // JSON is YAML.
        Body::Apply(value) => ("application/apply-patch+yaml", bytes_of(value)),
        Body::Merge(value) => ("application/merge-patch+json", bytes_of(value)),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, media)
        .body(content)
        .map_err(|error| WriteError::Invalid(format!("no request can be made: {error}")))?;
    match tokio::time::timeout(WRITE_MAX, client.request::<Value>(request)).await {
        Ok(answer) => answer.map_err(|error| of_error(&error)),
        Err(_) => {
            let message = format!("the API server does not answer within {} s", WRITE_MAX.as_secs());
            Err(WriteError::Later { message, after: None })
        }
    }
}

fn bytes_of(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn of_error(error: &kube::Error) -> WriteError {
    let kube::Error::Api(status) = error else {
        let message = match failure::of_error(error) {
            failure::Failure::Down(message) => message,
            other => format!("{other:?}"),
        };
        return WriteError::Later { message, after: None };
    };
    let message = status.message.clone();
    match status.code {
        404 => WriteError::Missing(message),
        409 => WriteError::Conflict(message),
        403 => WriteError::Forbidden(message),
        400 | 405 | 406 | 413 | 415 | 422 => WriteError::Invalid(message),
        code => {
            let seconds = status.details.as_ref().map_or(0, |details| u64::from(details.retry_after_seconds));
            let after = (seconds > 0).then(|| Duration::from_secs(seconds.min(60)));
            WriteError::Later { message: format!("the API server answers {code}: {message}"), after }
        }
    }
}
