//! JSON Web Tokens (RFC 7519, RFC 7515 compact form), read as Envoy's `jwt_verify_lib` reads them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::Value;

use crate::verify::Refused;

/// Clocks may differ by so much, in seconds (Envoy's default).
pub const CLOCK_SKEW: u64 = 60;
/// Longest token that is read, in bytes.
pub const TOKEN_BYTES_MAX: usize = 32 << 10;

/// A token that has the right form; nothing is verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// `RS256`.
    pub algorithm: String,
    /// Which key; empty when it does not say.
    pub key_id: String,
    /// Claims.
    pub payload: Value,
    /// The payload as it came, in base64url.
    pub payload_text: String,
    /// What is signed.
    pub signed: String,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// What is wrong with its form.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Refused::BadFormat);
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header, payload, signature] = parts[..] else { return Err(Refused::BadFormat) };
        // So tokens that nobody has signed are none.
        if parts.iter().any(|part| part.is_empty()) {
            return Err(Refused::BadFormat);
        }
        let decoded = BASE64URL.decode(header).map_err(|_| Refused::HeaderBase64)?;
        let header_value: Value = serde_json::from_slice(&decoded).map_err(|_| Refused::HeaderJson)?;
        let algorithm = header_value.get("alg").and_then(Value::as_str).ok_or(Refused::HeaderAlgorithm)?;
        if !KNOWN_ALGORITHMS.contains(&algorithm) {
            return Err(Refused::Algorithm);
        }
        let key_id = match header_value.get("kid") {
            None => "",
            Some(Value::String(id)) => id,
            Some(_) => return Err(Refused::HeaderKeyId),
        };
        let decoded = BASE64URL.decode(payload).map_err(|_| Refused::PayloadBase64)?;
        let payload_value: Value = serde_json::from_slice(&decoded).map_err(|_| Refused::PayloadJson)?;
        check_types(&payload_value)?;
        Ok(Self {
            algorithm: algorithm.to_owned(),
            key_id: key_id.to_owned(),
            payload: payload_value,
            payload_text: payload.to_owned(),
            signed: format!("{header}.{payload}"),
            signature: BASE64URL.decode(signature).map_err(|_| Refused::SignatureBase64)?,
        })
    }

    /// A claim that is a text; empty when it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.payload.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// True while it may be used, at this time in seconds since 1970.
    ///
    /// # Errors
    /// It is too old, or too young.
    pub fn check_time(&self, now: u64) -> Result<(), Refused> {
        // RFC 7519, section 2, NumericDate: it may have a fraction, and 1e9 is a number like any other.
        let time =
            |name: &str| self.payload.get(name).and_then(Value::as_f64).filter(|time| *time > 0.0).map(f64::trunc);
        let (now, skew) = (now as f64, CLOCK_SKEW as f64);
        if time("nbf").is_some_and(|begins| begins > now + skew) {
            return Err(Refused::NotYetValid);
        }
        match time("exp").is_some_and(|ends| now > ends + skew) {
            true => Err(Refused::Expired),
            false => Ok(()),
        }
    }

    /// True when it is for one of these; anybody when there are none.
    ///
    /// # Errors
    /// It is for others.
    pub fn check_audience(&self, audiences: &[String]) -> Result<(), Refused> {
        if audiences.is_empty() {
            return Ok(());
        }
        let is_meant = |given: &str| audiences.iter().any(|wanted| plain(wanted) == plain(given));
        let fits = match self.payload.get("aud") {
            Some(Value::String(one)) => is_meant(one),
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).any(is_meant),
            _ => false,
        };
        fits.then_some(()).ok_or(Refused::Audience)
    }
}

/// Algorithms whose names Envoy knows. Those that we have not find no key; `none` is not among them.
const KNOWN_ALGORITHMS: [&str; 13] = [
    "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA",
];

// Envoy compares audiences without scheme and last slash.
fn plain(audience: &str) -> &str {
    let rest = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://")).unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}

fn check_types(payload: &Value) -> Result<(), Refused> {
    if !payload.is_object() {
        return Err(Refused::PayloadJson);
    }
    let is_wrong = |name: &str, fits: fn(&Value) -> bool| payload.get(name).is_some_and(|value| !fits(value));
    if is_wrong("iss", Value::is_string) {
        return Err(Refused::ClaimType("iss", "a string"));
    }
    if is_wrong("sub", Value::is_string) {
        return Err(Refused::ClaimType("sub", "a string"));
    }
    for name in ["iat", "nbf", "exp"] {
        if is_wrong(name, |value| value.is_u64() || value.as_f64().is_some_and(|number| number >= 0.0)) {
            return Err(Refused::ClaimType(name, "an integer"));
        }
    }
    let is_list = |value: &Value| match value {
        Value::String(_) => true,
        Value::Array(many) => many.iter().all(Value::is_string),
        _ => false,
    };
    if is_wrong("aud", is_list) {
        return Err(Refused::ClaimType("aud", "a string or string list"));
    }
    Ok(())
}
