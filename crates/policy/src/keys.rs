//! Public keys of issuers (RFC 7517) and signatures by them: RSA with PKCS #1 and PSS, ECDSA on P-256 and P-384, Ed25519.
//! Secrets that two share (HMAC) are no keys here, whoever writes them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

use crate::token::Token;
use crate::verify::Refused;

/// Most bytes of a set of keys.
pub const KEYS_BYTES_MAX: usize = 1 << 20;
/// Most keys of a set; those beyond are not looked at.
pub const KEYS_MAX: usize = 64;

/// The keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: String,
    algorithm: String,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Keys {
    /// Reads a set of keys; those of kinds that we have not are passed over.
    ///
    /// # Errors
    /// Nothing of it can be used.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > KEYS_BYTES_MAX {
            return Err(Refused::NoKeys);
        }
        let read: Value = serde_json::from_str(text).map_err(|_| Refused::KeysJson)?;
        let keys = read.get("keys").and_then(Value::as_array).ok_or(Refused::NoKeys)?;
        let keys: Vec<Key> = keys.iter().filter_map(read_key).take(KEYS_MAX).collect();
        match keys.is_empty() {
            true => Err(Refused::NoKeys),
            false => Ok(Self(keys)),
        }
    }

    /// True when one of the keys has made the signature.
    ///
    /// # Errors
    /// None has, or none could have.
    pub fn check(&self, token: &Token) -> Result<(), Refused> {
        let of_token = |key: &&Key| {
            (token.key_id.is_empty() || key.id.is_empty() || key.id == token.key_id)
                && (key.algorithm.is_empty() || key.algorithm == token.algorithm)
        };
        let mut refused = Refused::NoSuchKey;
        for key in self.0.iter().filter(of_token) {
            refused = Refused::Signature;
            if key.material.has_signed(token) {
                return Ok(());
            }
        }
        Err(refused)
    }
}

fn read_key(key: &Value) -> Option<Key> {
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    let bytes = |name: &str| BASE64URL.decode(text(name).trim_end_matches('=')).ok().filter(|bytes| !bytes.is_empty());
    let point = |size: usize| {
        let mut point = vec![4];
        for part in [bytes("x")?, bytes("y")?] {
            let padding = size.checked_sub(part.len())?;
            point.extend(std::iter::repeat_n(0, padding));
            point.extend(part);
        }
        Some(point)
    };
    let material = match (text("kty"), text("crv")) {
        // Leading zeros are no part of a number (ring's rule).
        ("RSA", _) => Material::Rsa { n: without_zeros(bytes("n")?), e: without_zeros(bytes("e")?) },
        ("EC", "P-256") => Material::P256(point(32)?),
        ("EC", "P-384") => Material::P384(point(48)?),
        ("OKP", "Ed25519") => Material::Ed25519(bytes("x")?),
        _ => return None,
    };
    Some(Key { id: text("kid").to_owned(), algorithm: text("alg").to_owned(), material })
}

fn without_zeros(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

impl Material {
    // The kind of key decides about the algorithm too: a token cannot choose how its key is used.
    fn has_signed(&self, token: &Token) -> bool {
        let (message, signature) = (token.signed.as_bytes(), token.signature.as_slice());
        let verified = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match (self, token.algorithm.as_str()) {
            (Self::Rsa { n, e }, name) => {
                let algorithm = match name {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(algorithm, message, signature).is_ok()
            }
            (Self::P256(point), "ES256") => verified(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Self::P384(point), "ES384") => verified(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Self::Ed25519(key), "EdDSA") => verified(&signature::ED25519, key),
            _ => false,
        }
    }
}
