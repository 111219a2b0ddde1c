//! What a token says of itself, unchecked: good for bounding a cache and for a log, never for believing it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Largest token that is looked at, in bytes. Those of service accounts have about 1200.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The audience of tokens for the certificate authority and for xDS, as Istio's agents ask for it.
pub const AUDIENCE: &str = "istio-ca";

/// Who a Kubernetes user name is: `system:serviceaccount:<namespace>:<name>`, exactly four parts.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = user.split(':').collect();
    let ["system", "serviceaccount", namespace, name] = parts[..] else { return None };
    (!namespace.is_empty() && !name.is_empty()).then_some((namespace, name))
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    #[serde(default)]
    aud: Audiences,
}

// RFC 7519, section 4.1.3: one, or a list.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    All(Vec<String>),
    Other(serde::de::IgnoredAny),
    #[default]
    None,
}

fn claims(token: &str) -> Option<Claims> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Whom a JSON web token says that it is for; `None` if it does not, or is none.
pub fn audiences(token: &str) -> Option<Vec<String>> {
    match claims(token)?.aud {
        Audiences::One(one) => Some(vec![one]),
        Audiences::All(all) => Some(all),
        Audiences::Other(_) | Audiences::None => None,
    }
}

/// When a JSON web token says that it expires (RFC 7519, section 4.1.4); `None` if it does not, or is none.
pub fn expires(token: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(claims(token)?.exp?).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_has_exactly_four_parts() {
        assert_eq!(service_account("system:serviceaccount:default:reviews"), Some(("default", "reviews")));
        for user in [
            "",
            "admin",
            "system:node:n1",
            "system:serviceaccount:default",
            "system:serviceaccount::a",
            "system:serviceaccount:a:b:c",
            "System:serviceaccount:a:b",
        ] {
            assert_eq!(service_account(user), None, "{user}");
        }
    }

    #[test]
    fn the_end_of_a_token_is_read_without_believing_it() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expires(&token(r#"{"exp": 1800000000}"#)), Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
        assert_eq!(expires(&token("{}")), None);
        assert_eq!(expires(&token(r#"{"exp": -1}"#)), None);
        assert_eq!(expires(&token(r#"{"exp": 1e300}"#)), None);
        assert_eq!(expires("a.b"), None);
        assert_eq!(audiences(&token(r#"{"aud": "a"}"#)), Some(vec!["a".to_owned()]));
        assert_eq!(audiences(&token(r#"{"aud": ["a", "b"]}"#)), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(audiences(&token(r#"{"aud": 5, "exp": 1}"#)), None);
        assert_eq!(audiences(&token("{}")), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(token in ".{0,60}") {
            let _ = (expires(&token), audiences(&token));
            let _ = service_account(&token);
        }
    }
}
