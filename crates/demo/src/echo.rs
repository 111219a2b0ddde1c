//! A service that says who answered, and does what it is told: the tutorials' shop, and whatever else a test needs.
//!
//! In: the service's name and version, a request. Out: JSON of who answered and what arrived; `/status/503` answers
//! with that status, `/delay/250` after so many milliseconds.

use std::time::Duration;

use serde_json::{Value, json};

use crate::serve::{Answer, Asked, json};

/// Longest delay that a path can ask for.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Answers every path.
pub async fn answer(service: String, version: String, asked: Asked) -> Answer {
    let mut status = 200;
    match asked.path.trim_start_matches('/').split_once('/') {
        Some(("status", code)) => status = code.parse().ok().filter(|code| (200..=599).contains(code)).unwrap_or(400),
        Some(("delay", ms)) => tokio::time::sleep(delay(ms)).await,
        _ => {}
    }
    let headers: Value = asked
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect::<serde_json::Map<String, Value>>()
        .into();
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    let said = json!({"service": service, "version": version, "pod": pod, "method": asked.method.as_str(),
        "path": asked.path, "headers": headers});
    json(status, &said)
}

fn delay(ms: &str) -> Duration {
    Duration::from_millis(ms.parse().unwrap_or(0)).min(DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;

    #[tokio::test]
    async fn a_path_asks_for_a_status() {
        for (path, status) in [("/status/503", 503), ("/status/99", 400), ("/", 200), ("/other/path", 200)] {
            let asked = Asked { method: Method::GET, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() };
            assert_eq!(answer("shop".into(), "v1".into(), asked).await.status(), status, "{path}");
        }
    }

    #[test]
    fn a_delay_is_bounded() {
        assert_eq!(delay("250"), Duration::from_millis(250));
        assert_eq!(delay("999999999"), DELAY_MAX);
        assert_eq!(delay("soon"), Duration::ZERO);
    }
}
