//! What went wrong with a list or a watch, sorted by what to do about it.
//!
//! In: errors of the client, and error lines of a watch. Out: a [`Failure`]. Decides nothing else.

use std::error::Error;

/// A failed step, by its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server does not know the kind, in this version: try another, or later.
    Missing,
    /// Permission is missing: later.
    Forbidden(String),
    /// The resource version is too old, or unknown to this server: list again.
    Gone,
    /// The server does not stream lists: list by pages.
    NoStreaming,
    /// Anything else: again, after a pause.
    Down(String),
}

/// Sorts an answer of the server.
pub(crate) fn of_status(code: u16, reason: &str, message: &str) -> Failure {
    match code {
        404 => Failure::Missing,
        403 => Failure::Forbidden(message.to_owned()),
        410 => Failure::Gone,
        400 | 422 if ["sendInitialEvents", "resourceVersionMatch"].iter().any(|word| message.contains(word)) => {
            Failure::NoStreaming
        }
        // "Too large resource version": this server, or the backup that it was restored from, is behind what we know.
        504 if message.contains("resource version") => Failure::Gone,
        401 => Failure::Down(format!("the API server refuses our credentials: {message}")),
        _ => Failure::Down(format!("the API server answers {code} {reason}: {message}")),
    }
}

/// Sorts an error of the client.
pub(crate) fn of_error(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => of_status(status.code, &status.reason, &status.message),
        other => Failure::Down(format!("the API server cannot be reached: {}", chain(other))),
    }
}

/// Sorts a broken connection.
pub(crate) fn of_io(error: &std::io::Error) -> Failure {
    Failure::Down(format!("the connection to the API server broke: {}", chain(error)))
}

// The outermost error rarely says more than that there is an inner one.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        inner = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_streaming_is_told_from_other_invalid_requests() {
        let old = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        assert_eq!(of_status(422, "Invalid", old), Failure::NoStreaming);
        let older = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch";
        assert_eq!(of_status(422, "Invalid", older), Failure::NoStreaming);
        assert!(matches!(of_status(400, "BadRequest", "field selector"), Failure::Down(_)));
    }

    #[test]
    fn a_version_from_the_future_is_gone() {
        assert_eq!(of_status(504, "Timeout", "Too large resource version: 9, current: 5"), Failure::Gone);
        assert!(matches!(of_status(504, "Timeout", "request timed out"), Failure::Down(_)));
    }
}
