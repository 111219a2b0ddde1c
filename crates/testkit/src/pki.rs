//! Certificates for tests, made when they are first named and the same for the whole process.
//!
//! An identity is written `<name>[+<name>…][@<ca>][!<flag>…]`: the first name is the common name, all are alternative names
//! (DNS, `10.0.0.1`, `spiffe://…`); the authority is `main` unless said; flags are `rsa` and `expired`.
//!
//! In manifests `${cert <identity>}`, `${key …}` and `${ca <authority>}` stand for PEM in base64, as Secrets hold it;
//! `${cert-file …}`, `${key-file …}` and `${ca-file …}` for the path of a file; `${spki …}` and `${hash …}` for pins.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, date_time_ymd,
};

/// Only for tests: rcgen with ring makes no RSA keys.
const RSA_KEY: &str = include_str!("rsa-key.pem");

/// A certificate with its key.
#[derive(Debug)]
pub struct Identity {
    /// As it was asked for.
    pub spec: String,
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    spki: Vec<u8>,
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

static AUTHORITIES: LazyLock<Mutex<BTreeMap<String, Arc<Authority>>>> = LazyLock::new(Mutex::default);
static IDENTITIES: LazyLock<Mutex<BTreeMap<String, Arc<Identity>>>> = LazyLock::new(Mutex::default);

fn authority(name: &str) -> Result<Arc<Authority>> {
    let mut known = AUTHORITIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(name) {
        return Ok(found.clone());
    }
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("Test CA {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    let made = Arc::new(Authority { pem, issuer: Issuer::new(params, key) });
    known.insert(name.to_owned(), made.clone());
    Ok(made)
}

/// The authority of an identity.
pub fn authority_of(spec: &str) -> &str {
    spec.split('!').next().unwrap_or_default().split_once('@').map_or("main", |(_, ca)| ca)
}

/// The root of an authority in PEM.
pub fn root(name: &str) -> Result<String> {
    Ok(authority(name)?.pem.clone())
}

/// The identity of a name.
pub fn identity(spec: &str) -> Result<Arc<Identity>> {
    let found = IDENTITIES.lock().unwrap_or_else(PoisonError::into_inner).get(spec).cloned();
    if let Some(found) = found {
        return Ok(found);
    }
    let made = Arc::new(make(spec).with_context(|| format!("identity {spec:?}"))?);
    // Another thread may have made one meanwhile: the first one counts.
    Ok(IDENTITIES.lock().unwrap_or_else(PoisonError::into_inner).entry(spec.to_owned()).or_insert(made).clone())
}

fn make(spec: &str) -> Result<Identity> {
    let mut parts = spec.split('!');
    let names = parts.next().unwrap_or_default().split('@').next().unwrap_or_default();
    let ca = authority_of(spec);
    let flags: Vec<&str> = parts.collect();
    let mut params = CertificateParams::new(Vec::new())?;
    for (index, name) in names.split('+').enumerate() {
        if index == 0 {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names.push(match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if name.contains("://") => SanType::URI(name.try_into()?),
            Err(_) => SanType::DnsName(name.try_into()?),
        });
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if flags.contains(&"expired") {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = match flags.contains(&"rsa") {
        true => KeyPair::from_pem(RSA_KEY)?,
        false => KeyPair::generate()?,
    };
    let made = params.signed_by(&key, &authority(ca)?.issuer)?;
    Ok(Identity {
        spec: spec.to_owned(),
        der: made.der().to_vec(),
        certificate: made.pem(),
        spki: key.subject_public_key_info(),
        key: key.serialize_pem(),
    })
}

/// The identity that a certificate belongs to.
pub fn spec_of(der: &[u8]) -> Option<String> {
    let known = IDENTITIES.lock().unwrap_or_else(PoisonError::into_inner);
    known.values().find(|one| one.der == der).map(|one| one.spec.clone())
}

/// Fills placeholders in; files go into `folder`.
pub fn fill_in(text: &str, folder: &Path) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) = after.split_once('}').context("a placeholder without end")?;
        out.push_str(before);
        out.push_str(&value(inside, folder)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn value(placeholder: &str, folder: &Path) -> Result<String> {
    let (kind, spec) = placeholder.split_once(' ').with_context(|| format!("${{{placeholder}}}: no argument"))?;
    let sha256 = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes);
    let text = match kind.trim_end_matches("-file") {
        "cert" => identity(spec)?.certificate.clone(),
        "key" => identity(spec)?.key.clone(),
        "ca" => root(spec)?,
        "jwks" => return crate::jwt::jwks(spec),
        "spki" => return Ok(BASE64.encode(sha256(&identity(spec)?.spki))),
        "hash" => {
            let hash = sha256(&identity(spec)?.der);
            return Ok(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        other => bail!("${{{placeholder}}}: {other:?} is not known"),
    };
    if !kind.ends_with("-file") {
        return Ok(BASE64.encode(text));
    }
    let name: String = placeholder.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    let path = folder.join(format!("{name}.pem"));
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_found_again() {
        let first = identity("a.example+spiffe://x/y@other").unwrap();
        assert!(Arc::ptr_eq(&first, &identity("a.example+spiffe://x/y@other").unwrap()));
        assert_eq!(spec_of(&first.der).as_deref(), Some("a.example+spiffe://x/y@other"));
        assert!(identity("b.example!rsa").unwrap().certificate.contains("BEGIN CERTIFICATE"));
    }

    #[test]
    fn placeholders_are_filled_in() {
        let folder = tempfile::tempdir().unwrap();
        let filled = fill_in("a: ${ca main}\nb: ${ca-file main}", folder.path()).unwrap();
        let (first, second) = filled.split_once("\nb: ").unwrap();
        assert!(first.starts_with("a: LS0t"), "{first}");
        assert_eq!(std::fs::read_to_string(second).unwrap(), root("main").unwrap());
        assert!(fill_in("${x y}", folder.path()).is_err());
    }
}
