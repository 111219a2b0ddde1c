//! The API server's version.

use http::Method;
use kube::Client;
use serde_json::Value;

use super::write::{Body, WriteError, send};

/// Its minor version, 33 of 1.33; providers write `33+`.
pub async fn server_minor(client: &Client) -> Result<u32, WriteError> {
    let answer = send(client, Method::GET, "/version", Body::None).await?;
    minor(&answer).ok_or_else(|| WriteError::Invalid(format!("no version: {answer}")))
}

fn minor(answer: &Value) -> Option<u32> {
    let text = answer["minor"].as_str()?;
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn providers_append_a_sign() {
        assert_eq!(minor(&json!({"major": "1", "minor": "33+"})), Some(33));
        assert_eq!(minor(&json!({"minor": "36"})), Some(36));
        assert_eq!(minor(&json!({"minor": ""})), None);
    }
}
