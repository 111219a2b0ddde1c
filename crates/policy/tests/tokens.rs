//! What comes from outside, tokens and keys, is read or refused, and never a panic; nothing unsigned is believed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use config::{Authentication, JwtIssuer, JwtKeys};
use http::HeaderMap;
use policy::{Keys, Refused, Token, verify};
use proptest::prelude::*;

fn issuer(name: &str) -> JwtIssuer {
    JwtIssuer {
        name: name.into(),
        issuer: String::new(),
        audiences: Vec::new(),
        keys: JwtKeys::Inline(String::new()),
        from_headers: Vec::new(),
        from_params: Vec::new(),
        from_cookies: Vec::new(),
        payload_header: Some("x-payload".into()),
        forward: false,
        claim_headers: Vec::new(),
        space_delimited_claims: Vec::new(),
    }
}

// Keys of every kind that nobody has the other half of.
fn strangers() -> Result<Arc<Keys>, Refused> {
    let x = BASE64URL.encode([7_u8; 32]);
    let n = BASE64URL.encode([0xb7_u8; 256]);
    Keys::parse(&format!(
        r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}},{{"kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}},{{"kty":"RSA","n":"{n}","e":"AQAB"}},{{"kty":"oct","k":"{x}"}}]}}"#
    ))
    .map(Arc::new)
}

fn with_header(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", value.parse().unwrap());
    headers
}

proptest! {
    #[test]
    fn row_39_any_text_is_read_or_refused(text in "[ -~]{0,120}", header in "[ -~]{0,60}", payload in "[ -~]{0,60}") {
        let built = format!("{}.{}.{text}", BASE64URL.encode(header), BASE64URL.encode(payload));
        for token in [&text, &built] {
            let _ = Token::parse(token);
            let _ = Keys::parse(token);
            let authentication = Authentication { issuers: vec![issuer("a"), issuer("b")] };
            let said = verify(&authentication, &with_header(&format!("Bearer {token}")), Some(token), 1, &|_| strangers());
            // Believed is nothing; what has no token in it passes without a claim.
            prop_assert!(said.is_err() || said.is_ok_and(|said| said.claims.is_none() && said.set.is_empty()));
        }
    }

    #[test]
    fn row_39_no_algorithm_of_the_tokens_choice_helps(alg in "(none|NONE|HS256|RS256|ES256|EdDSA|PS512)", signature in proptest::collection::vec(any::<u8>(), 0..80)) {
        let header = BASE64URL.encode(format!(r#"{{"alg":"{alg}"}}"#));
        let token = format!("{header}.{}.{}", BASE64URL.encode(r#"{"sub":"root"}"#), BASE64URL.encode(signature));
        let authentication = Authentication { issuers: vec![issuer("a")] };
        let said = verify(&authentication, &with_header(&format!("Bearer {token}")), None, 1, &|_| strangers());
        prop_assert!(said.is_err());
    }
}

#[test]
fn ra01_the_error_that_says_most_is_told() {
    let of = |name: &str| JwtIssuer { issuer: name.into(), ..issuer(name) };
    let authentication = Authentication { issuers: vec![of("a"), of("b")] };
    let token =
        |payload: &str| format!("Bearer {}.{}.YQ", BASE64URL.encode(r#"{"alg":"RS256"}"#), BASE64URL.encode(payload));
    let told = |payload: &str| verify(&authentication, &with_header(&token(payload)), None, 1_000, &|_| strangers());
    assert_eq!(told(r#"{"iss":"a","exp":1}"#), Err(Refused::Expired));
    assert_eq!(told(r#"{"iss":"b","exp":1}"#), Err(Refused::Expired));
    assert_eq!(told(r#"{"iss":"c"}"#), Err(Refused::Issuer));
    let fetched = verify(&authentication, &with_header(&token(r#"{"iss":"b"}"#)), None, 1, &|_| Err(Refused::Fetch));
    assert_eq!(fetched, Err(Refused::Fetch));
    let none = verify(&authentication, &HeaderMap::new(), None, 1, &|_| strangers()).unwrap();
    assert_eq!((none.claims, none.drop_headers.len()), (None, 2), "only we say what stands in x-payload");
}
