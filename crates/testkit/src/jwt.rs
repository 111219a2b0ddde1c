//! Tokens for tests, and the keys that verify them, made when they are first named and the same for the whole process.
//!
//! Keys are `rsa`, `ec`, `ec384`, `ed`, and `ec2`, which nobody is told of; `hmac` is a secret that both sides know, and
//! `none` signs nothing. In manifests and pods' bodies `${jwks <key> …}` stands for the set of these public keys as JSON.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RsaKeyPair,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The same as `pki` has: ring makes no RSA keys.
const RSA_KEY: &str = include_str!("rsa-key.pem");
const HMAC_SECRET: &[u8] = b"everybody knows this secret of 32 bytes";

/// A token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Jwt {
    /// What signs it.
    #[serde(default = "rsa")]
    pub key: String,
    /// The algorithm; the key's usual one when absent.
    #[serde(default)]
    pub alg: Option<String>,
    /// The key's name in the header; the key's own when absent, none when empty.
    #[serde(default)]
    pub kid: Option<String>,
    /// `iss`; `https://issuer.example` when absent, none when empty.
    #[serde(default)]
    pub issuer: Option<String>,
    /// `sub`; `alice` when absent, none when empty.
    #[serde(default)]
    pub subject: Option<String>,
    /// `aud`; none when empty.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// `exp`, so many seconds from now; an hour when absent.
    #[serde(default = "hour")]
    pub expires_in: i64,
    /// `nbf`, so many seconds from now.
    #[serde(default)]
    pub begins_in: Option<i64>,
    /// More claims.
    #[serde(default)]
    pub claims: BTreeMap<String, Value>,
    /// The payload is another one than was signed.
    #[serde(default)]
    pub tampered: bool,
}

fn rsa() -> String {
    "rsa".into()
}

fn hour() -> i64 {
    3600
}

enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Hmac,
    None,
}

static SIGNERS: LazyLock<Mutex<BTreeMap<String, Arc<Signer>>>> = LazyLock::new(Mutex::default);

fn signer(name: &str) -> Result<Arc<Signer>> {
    let mut known = SIGNERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(name) {
        return Ok(found.clone());
    }
    let made = Arc::new(make(name).with_context(|| format!("key {name:?}"))?);
    known.insert(name.to_owned(), made.clone());
    Ok(made)
}

fn make(name: &str) -> Result<Signer> {
    let random = SystemRandom::new();
    let ec = |algorithm: &'static signature::EcdsaSigningAlgorithm| -> Result<Signer> {
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok().context("no key")?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random);
        Ok(Signer::Ec(pair.ok().context("no key")?))
    };
    Ok(match name {
        "rsa" => {
            let text: String = RSA_KEY.lines().filter(|line| !line.starts_with('-')).collect();
            let der = base64::engine::general_purpose::STANDARD.decode(text)?;
            Signer::Rsa(RsaKeyPair::from_pkcs8(&der).ok().context("no key")?)
        }
        "ec" | "ec2" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
        "ec384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING)?,
        "ed" => {
            let document = Ed25519KeyPair::generate_pkcs8(&random).ok().context("no key")?;
            Signer::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).ok().context("no key")?)
        }
        "hmac" => Signer::Hmac,
        "none" => Signer::None,
        other => bail!("{other:?} is not known"),
    })
}

/// The set of public keys of these names, with spaces between.
pub fn jwks(names: &str) -> Result<String> {
    let keys: Result<Vec<Value>> = names.split_whitespace().map(public).collect();
    Ok(json!({"keys": keys?}).to_string())
}

fn public(name: &str) -> Result<Value> {
    let text = |bytes: &[u8]| BASE64URL.encode(bytes);
    Ok(match &*signer(name)? {
        Signer::Rsa(pair) => {
            let parts: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
            json!({"kty": "RSA", "kid": name, "n": text(&parts.n), "e": text(&parts.e)})
        }
        Signer::Ec(pair) => {
            let point = pair.public_key().as_ref();
            let half = point.len() / 2;
            let curve = if half == 32 { "P-256" } else { "P-384" };
            json!({"kty": "EC", "crv": curve, "kid": name, "x": text(&point[1..=half]), "y": text(&point[half + 1..])})
        }
        Signer::Ed(pair) => {
            json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "x": text(pair.public_key().as_ref())})
        }
        Signer::Hmac => json!({"kty": "oct", "kid": name, "k": text(HMAC_SECRET)}),
        Signer::None => bail!("nothing is no key"),
    })
}

impl Jwt {
    /// The token.
    pub fn text(&self) -> Result<String> {
        let signer = signer(&self.key)?;
        let usual = match self.key.as_str() {
            "rsa" => "RS256",
            "ec384" => "ES384",
            "ed" => "EdDSA",
            "hmac" => "HS256",
            "none" => "none",
            _ => "ES256",
        };
        let alg = self.alg.as_deref().unwrap_or(usual);
        let mut header = json!({"alg": alg, "typ": "JWT"});
        if let Some(kid) = self.kid.as_deref().or(Some(&self.key)).filter(|kid| !kid.is_empty()) {
            header["kid"] = kid.into();
        }
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        let payload = self.payload()?;
        let signed = format!("{}.{}", part(&header), part(&payload));
        let signature = BASE64URL.encode(sign(&signer, alg, signed.as_bytes())?);
        if !self.tampered {
            return Ok(format!("{signed}.{signature}"));
        }
        let mut other = payload;
        other["tampered"] = true.into();
        Ok(format!("{}.{}.{signature}", part(&header), part(&other)))
    }

    fn payload(&self) -> Result<Value> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
        let mut payload = Map::new();
        let texts = [("iss", &self.issuer, "https://issuer.example"), ("sub", &self.subject, "alice")];
        for (name, given, usual) in texts {
            let text = given.as_deref().unwrap_or(usual);
            if !text.is_empty() {
                payload.insert(name.into(), text.into());
            }
        }
        if !self.audiences.is_empty() {
            payload.insert("aud".into(), json!(self.audiences));
        }
        payload.insert("exp".into(), (now + self.expires_in).into());
        if let Some(begins) = self.begins_in {
            payload.insert("nbf".into(), (now + begins).into());
        }
        payload.extend(self.claims.clone());
        Ok(Value::Object(payload))
    }
}

fn sign(signer: &Signer, alg: &str, message: &[u8]) -> Result<Vec<u8>> {
    let random = SystemRandom::new();
    Ok(match signer {
        Signer::Rsa(pair) => {
            let padding: &'static dyn signature::RsaEncoding = match alg {
                "RS384" => &signature::RSA_PKCS1_SHA384,
                "RS512" => &signature::RSA_PKCS1_SHA512,
                "PS256" => &signature::RSA_PSS_SHA256,
                "PS384" => &signature::RSA_PSS_SHA384,
                "PS512" => &signature::RSA_PSS_SHA512,
                _ => &signature::RSA_PKCS1_SHA256,
            };
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(padding, &random, message, &mut signature).ok().context("cannot sign")?;
            signature
        }
        Signer::Ec(pair) => pair.sign(&random, message).ok().context("cannot sign")?.as_ref().to_vec(),
        Signer::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        Signer::Hmac => {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, HMAC_SECRET);
            ring::hmac::sign(&key, message).as_ref().to_vec()
        }
        Signer::None => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_three_parts_and_keys_no_secrets() {
        for key in ["rsa", "ec", "ec384", "ed", "hmac", "none"] {
            let token: Jwt = serde_json::from_value(json!({"key": key})).unwrap();
            assert_eq!(token.text().unwrap().split('.').count(), 3, "{key}");
        }
        let set = jwks("rsa ec ec384 ed").unwrap();
        assert!(set.contains("P-384") && !set.contains("\"d\""), "{set}");
    }
}
