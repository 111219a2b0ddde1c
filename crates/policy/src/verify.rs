//! Whose token a request carries: where tokens stand, what makes them valid, and what several issuers together say
//! (Envoy `jwt_authn`'s extractor, authenticator and verifier, for the one form of requirement that Istio writes).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use config::{Authentication, JwtIssuer};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::keys::Keys;
use crate::token::Token;

const AUTHORIZATION: &str = "authorization";
const BEARER: &str = "Bearer ";
const ACCESS_TOKEN: &str = "access_token";

/// Why no token was believed, in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    Missing,
    /// Not three parts.
    BadFormat,
    /// Header: not base64url.
    HeaderBase64,
    /// Header: not JSON.
    HeaderJson,
    /// Header: no algorithm.
    HeaderAlgorithm,
    /// Header: an algorithm that is none here.
    Algorithm,
    /// Header: the key's name is none.
    HeaderKeyId,
    /// Payload: not base64url.
    PayloadBase64,
    /// Payload: not JSON.
    PayloadJson,
    /// Payload: a claim is not what it must be.
    ClaimType(&'static str, &'static str),
    /// Signature: not base64url.
    SignatureBase64,
    /// Not this issuer's.
    Issuer,
    /// For others.
    Audience,
    /// Too young.
    NotYetValid,
    /// Too old.
    Expired,
    /// No key of that name or kind.
    NoSuchKey,
    /// Not signed by the key.
    Signature,
    /// The keys cannot be had.
    Fetch,
    /// The keys are not JSON.
    KeysJson,
    /// There are no keys that can be used.
    NoKeys,
}

impl Refused {
    /// The body of the answer.
    pub fn message(self) -> String {
        let text = match self {
            Self::Missing => "Jwt is missing",
            Self::BadFormat => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Self::HeaderBase64 => "Jwt header is an invalid Base64url encoded",
            Self::HeaderJson => "Jwt header is an invalid JSON",
            Self::HeaderAlgorithm => "Jwt header [alg] field is required and must be a string",
            Self::Algorithm => "Jwt header [alg] is not supported",
            Self::HeaderKeyId => "Jwt header [kid] field is not a string",
            Self::PayloadBase64 => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadJson => "Jwt payload is an invalid JSON",
            Self::ClaimType(claim, kind) => return format!("Jwt payload [{claim}] field is not {kind}"),
            Self::SignatureBase64 => "Jwt signature is an invalid Base64url encoded",
            Self::Issuer => "Jwt issuer is not configured",
            Self::Audience => "Audiences in Jwt are not allowed",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::NoSuchKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::Signature => "Jwt verification fails",
            Self::Fetch => "Jwks remote fetch is failed",
            Self::KeysJson => "Jwks is an invalid JSON",
            Self::NoKeys => "Jwks doesn't have any valid public key",
        };
        text.to_owned()
    }

    /// The status of the answer.
    pub fn status(self) -> u16 {
        if self == Self::Audience { 403 } else { 401 }
    }

    // How much it says: what went wrong with an issuer's own token, before it being somebody else's, before none at all.
    fn weight(self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Issuer => 1,
            _ => 2,
        }
    }
}

/// What a valid token changes of its request, and says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verified {
    /// Its claims; lists with spaces are lists.
    pub claims: Option<Value>,
    /// Headers that are set.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers that go no further.
    pub drop_headers: Vec<HeaderName>,
    /// Query parameters that go no further.
    pub drop_params: Vec<String>,
}

/// Looks at the tokens of a request. `keys` gives those of an issuer by its number, or why there are none; `now` is in
/// seconds since 1970.
///
/// # Errors
/// A token is there, and nobody vouches for it.
pub fn verify(
    authentication: &Authentication,
    headers: &HeaderMap,
    query: Option<&str>,
    now: u64,
    keys: &dyn Fn(usize) -> Result<std::sync::Arc<Keys>, Refused>,
) -> Result<Verified, Refused> {
    let issuers = &authentication.issuers;
    // What nobody has signed must not look as if somebody had.
    let sanitised: Vec<HeaderName> = issuers.iter().flat_map(outputs).filter_map(|name| name.parse().ok()).collect();
    let mut outcomes = Vec::with_capacity(issuers.len());
    for (index, issuer) in issuers.iter().enumerate() {
        match one(issuer, headers, query, now, &|| keys(index)) {
            // A valid token of one issuer is enough.
            Ok(mut verified) => {
                verified.drop_headers.extend(sanitised);
                return Ok(verified);
            }
            Err(refused) => outcomes.push(refused),
        }
    }
    if outcomes.iter().all(|refused| *refused == Refused::Missing) {
        return Ok(Verified { drop_headers: sanitised, ..Verified::default() });
    }
    Err(outcomes.into_iter().rev().max_by_key(|refused| refused.weight()).unwrap_or(Refused::Missing))
}

/// True when a request has anything that could be a token for one of the issuers, or a header that only we may set.
pub fn concerns(authentication: &Authentication, headers: &HeaderMap, query: Option<&str>) -> bool {
    authentication.issuers.iter().any(|issuer| {
        outputs(issuer).any(|name| headers.contains_key(name)) || !tokens(issuer, headers, query).is_empty()
    })
}

/// Takes from a request whose tokens are not looked at the headers that only a valid token may fill.
pub fn unsay(authentication: &Authentication, headers: &mut HeaderMap) {
    for name in authentication.issuers.iter().flat_map(outputs) {
        headers.remove(name);
    }
}

// Headers that an issuer's tokens are told in.
fn outputs(issuer: &JwtIssuer) -> impl Iterator<Item = &str> {
    issuer.payload_header.iter().chain(issuer.claim_headers.iter().map(|(header, _)| header)).map(String::as_str)
}

// All tokens where this issuer's stand must be its own and valid.
fn one(
    issuer: &JwtIssuer,
    headers: &HeaderMap,
    query: Option<&str>,
    now: u64,
    keys: &dyn Fn() -> Result<std::sync::Arc<Keys>, Refused>,
) -> Result<Verified, Refused> {
    let found = tokens(issuer, headers, query);
    if found.is_empty() {
        return Err(Refused::Missing);
    }
    let mut verified = Verified::default();
    // Envoy's order: the last place first, so that the first one is what is told.
    for (text, place) in found.iter().rev() {
        let token = Token::parse(text)?;
        if !issuer.issuer.is_empty() && token.text("iss") != issuer.issuer {
            return Err(Refused::Issuer);
        }
        token.check_time(now)?;
        token.check_audience(&issuer.audiences)?;
        keys()?.check(&token)?;
        note(issuer, &token, place, &mut verified);
    }
    Ok(verified)
}

fn note(issuer: &JwtIssuer, token: &Token, place: &Place<'_>, verified: &mut Verified) {
    if !issuer.forward {
        match place {
            Place::Header(name) => verified.drop_headers.extend(name.parse().ok()),
            Place::Param(name) => verified.drop_params.push((*name).to_owned()),
            // Envoy leaves cookies alone too.
            Place::Cookie => {}
        }
    }
    verified.set.clear();
    if let Some(name) = issuer.payload_header.as_ref().and_then(|name| name.parse().ok())
        && let Ok(value) = HeaderValue::from_str(&token.payload_text)
    {
        verified.set.push((name, value));
    }
    for (header, claim) in &issuer.claim_headers {
        let told = claim.split('.').try_fold(&token.payload, |value, name| value.get(name)).and_then(header_value);
        if let (Ok(name), Some(value)) = (header.parse(), told) {
            verified.set.push((name, value));
        }
    }
    verified.claims = Some(with_lists(token.payload.clone(), &issuer.space_delimited_claims));
}

fn header_value(claim: &Value) -> Option<HeaderValue> {
    let text = match claim {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => BASE64.encode(claim.to_string()),
    };
    HeaderValue::from_str(&text).ok()
}

fn with_lists(mut payload: Value, names: &[String]) -> Value {
    for name in names {
        if let Some(claim) = payload.get_mut(name)
            && let Some(text) = claim.as_str()
        {
            *claim = text.split_ascii_whitespace().map(Value::from).collect();
        }
    }
    payload
}

enum Place<'a> {
    Header(&'a str),
    Param(&'a str),
    Cookie,
}

// Where an issuer's tokens may stand, in Envoy's order: headers, parameters, cookies.
fn tokens<'a>(issuer: &'a JwtIssuer, headers: &HeaderMap, query: Option<&str>) -> Vec<(String, Place<'a>)> {
    let JwtIssuer { from_headers, from_params, from_cookies, .. } = issuer;
    let mut found = Vec::new();
    if from_headers.is_empty() && from_params.is_empty() && from_cookies.is_empty() {
        found.extend(in_header(headers, AUTHORIZATION, BEARER).map(|text| (text, Place::Header(AUTHORIZATION))));
        found.extend(in_query(query, ACCESS_TOKEN).map(|text| (text, Place::Param(ACCESS_TOKEN))));
        return found;
    }
    for (name, prefix) in from_headers {
        found.extend(in_header(headers, name, prefix).map(|text| (text, Place::Header(name.as_str()))));
    }
    for name in from_params {
        found.extend(in_query(query, name).map(|text| (text, Place::Param(name.as_str()))));
    }
    for name in from_cookies {
        found.extend(in_cookies(headers, name).map(|text| (text, Place::Cookie)));
    }
    found
}

// Behind the prefix, wherever that stands, as long as there are letters of tokens.
fn in_header(headers: &HeaderMap, name: &str, prefix: &str) -> Option<String> {
    let values = headers.get_all(name);
    let mut texts = values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut whole = texts.next()?.into_owned();
    for text in texts {
        whole.push(',');
        whole.push_str(&text);
    }
    if prefix.is_empty() {
        return Some(whole);
    }
    let begin = whole.find(prefix)? + prefix.len();
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let rest = whole[begin..].trim_start_matches(|letter: char| !is_letter(letter));
    let end = rest.find(|letter: char| !is_letter(letter)).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

fn in_query(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn in_cookies(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(http::header::COOKIE);
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"').to_owned())
}
