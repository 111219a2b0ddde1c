//! Secrets: what a Kubernetes Secret holds for TLS, the names that TLS settings have for it, and which of them a class of
//! proxies is given (GW20 to GW22, DR61, DR62).
//!
//! A proxy gets a Secret only when something that it obeys names it, and only from its own namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use config::{Cluster, Listener, Name, Secret, SecretContent, Source};
use words::{Diagnostic, Fingerprint, Origin, Severity};

use crate::class::Class;
use crate::notes::{NOT_FOUND, Notes, VALUE_IGNORED};
use crate::world::World;

/// Names of Secrets in the proxy's namespace begin with this.
const KUBERNETES: &str = "kubernetes://";
/// Ends the name of a Secret that is wanted for its roots (GW14).
const CA_SUFFIX: &str = "-cacert";
const FILE_CERT: &str = "file-cert:";
const FILE_ROOT: &str = "file-root:";
/// The roots of the proxy's machine.
const SYSTEM: &str = "system";

/// A Kubernetes Secret, as far as it is for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Credential {
    certificate: Option<SecretContent>,
    roots: Option<SecretContent>,
    /// Why something in it cannot be used; nothing of its content.
    problem: Option<String>,
}

/// Reads a Secret. The keys of a generic one come first (GW21).
pub(crate) fn lower(secret: &api::kubernetes::Secret) -> Credential {
    let mut problem = None;
    let mut value = |key: &str| -> Option<Source> {
        let written = secret.data.get(key)?;
        match BASE64.decode(written.trim()) {
            Ok(bytes) if !bytes.is_empty() => Some(Source::Inline(bytes.into())),
            Ok(_) => {
                problem = Some(format!("{key} is empty"));
                None
            }
            Err(_) => {
                problem = Some(format!("{key} is not base64"));
                None
            }
        }
    };
    let mut pair = |chain: &str, key: &str| match (value(chain), value(key)) {
        (Some(chain), Some(key)) => Some(SecretContent::Certificate { chain, key }),
        _ => None,
    };
    let certificate = pair("cert", "key").or_else(|| pair("tls.crt", "tls.key"));
    let mut all = |roots: &str, crl: &str| value(roots).map(|roots| SecretContent::Roots { roots, crl: value(crl) });
    let roots = all("cacert", "crl").or_else(|| all("ca.crt", "ca.crl"));
    Credential { certificate, roots, problem }
}

/// The name of a Secret's certificate.
pub(crate) fn certificate(credential: &str) -> Name {
    format!("{KUBERNETES}{credential}").into()
}

/// The name of a Secret's roots.
pub(crate) fn roots(credential: &str) -> Name {
    format!("{KUBERNETES}{credential}{CA_SUFFIX}").into()
}

/// The name of a certificate in files of the proxy.
pub(crate) fn certificate_file(chain: &str, key: &str) -> Name {
    format!("{FILE_CERT}{chain}~{key}").into()
}

/// The name of roots in a file of the proxy, and of revocation lists that go with them.
pub(crate) fn roots_file(path: &str, crl: Option<&str>) -> Name {
    let crl = crl.map(|crl| format!("~{crl}")).unwrap_or_default();
    format!("{FILE_ROOT}{path}{crl}").into()
}

/// The name of the roots of the proxy's machine.
pub(crate) fn system_roots(crl: Option<&str>) -> Name {
    roots_file(SYSTEM, crl)
}

/// How a name is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Certificate,
    Roots,
}

/// Secrets of a class, and what is to be said about those that are not there.
#[derive(Debug, Default)]
pub(crate) struct SecretSet {
    /// By SDS name.
    pub(crate) by_name: BTreeMap<Name, Arc<Secret>>,
    /// Missing and unusable ones.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// The secrets that these listeners and clusters name.
pub(crate) fn gather<'a>(
    listeners: impl Iterator<Item = &'a Arc<Listener>>,
    clusters: impl Iterator<Item = &'a Arc<Cluster>>,
    class: &Class,
    world: &World,
) -> (SecretSet, Fingerprint) {
    let mut set = SecretSet::default();
    let mut prints = Vec::new();
    let mut add = |name: &Name, used: Use, origin: Option<&Origin>, field: &str| {
        if set.by_name.contains_key(name) || config::is_own_secret(name) {
            return;
        }
        match find(name, used, class, world) {
            Ok((content, print)) => {
                prints.push((name.clone(), print));
                set.by_name.insert(name.clone(), Arc::new(Secret { name: name.clone(), content }));
            }
            Err((code, message)) => {
                let Some(origin) = origin else { return };
                let mut notes = Notes::about(origin);
                notes.add(code, Severity::Error, field, message);
                set.diagnostics.extend(notes.into_found());
            }
        }
    };
    for chain in listeners.flat_map(|listener| listener.all_chains()) {
        let Some(tls) = &chain.tls else { continue };
        const FIELD: &str = "spec.servers.tls";
        tls.certificates.iter().for_each(|name| add(name, Use::Certificate, chain.origin.as_ref(), FIELD));
        let roots = tls.clients.iter().flat_map(|clients| &clients.validation.roots);
        roots.for_each(|name| add(name, Use::Roots, chain.origin.as_ref(), FIELD));
    }
    for cluster in clusters {
        let Some(tls) = &cluster.tls else { continue };
        const FIELD: &str = "spec.trafficPolicy.tls";
        tls.certificate.iter().for_each(|name| add(name, Use::Certificate, cluster.origin.as_ref(), FIELD));
        let roots = tls.validation.iter().flat_map(|validation| &validation.roots);
        roots.for_each(|name| add(name, Use::Roots, cluster.origin.as_ref(), FIELD));
    }
    set.diagnostics.sort();
    set.diagnostics.dedup();
    let print = Fingerprint::of(&(prints, &set.diagnostics));
    (set, print)
}

type Missing = (&'static str, String);

fn find(name: &str, used: Use, class: &Class, world: &World) -> Result<(SecretContent, Fingerprint), Missing> {
    if let Some(content) = of_files(name) {
        let print = Fingerprint::of(&content);
        return Ok((content, print));
    }
    let wanted = name.strip_prefix(KUBERNETES).unwrap_or(name);
    let namespace = &class.namespace;
    if !class.may_hold_secrets {
        return Err((NOT_FOUND, format!("Secret {namespace}/{wanted}: this proxy may not hold Secrets")));
    }
    let mut found = world.credential(namespace, wanted);
    // Roots may stand in the Secret of the certificate (GW14).
    let own = wanted.strip_suffix(CA_SUFFIX).filter(|_| used == Use::Roots);
    if found.is_none()
        && let Some(own) = own
    {
        found = world.credential(namespace, own);
    }
    let Some(credential) = found else {
        let shown = own.unwrap_or(wanted);
        let message = format!("Secret {namespace}/{shown} is not there: what needs it cannot shake hands");
        return Err((NOT_FOUND, message));
    };
    let (content, what) = match used {
        Use::Certificate => {
            (&credential.certificate, "a certificate with its key (cert and key, or tls.crt and tls.key)")
        }
        Use::Roots => (&credential.roots, "roots (cacert, or ca.crt)"),
    };
    match content {
        Some(content) => Ok((content.clone(), Fingerprint::of(content))),
        None => {
            let why = credential.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
            Err((VALUE_IGNORED, format!("Secret {namespace}/{wanted} has not {what}{why}")))
        }
    }
}

fn of_files(name: &str) -> Option<SecretContent> {
    if let Some(paths) = name.strip_prefix(FILE_CERT) {
        let (chain, key) = paths.split_once('~')?;
        return Some(SecretContent::Certificate { chain: Source::File(chain.into()), key: Source::File(key.into()) });
    }
    let paths = name.strip_prefix(FILE_ROOT)?;
    let (roots, crl) = paths.split_once('~').map_or((paths, None), |(roots, crl)| (roots, Some(crl)));
    let roots = if roots == SYSTEM { Source::System } else { Source::File(roots.into()) };
    Some(SecretContent::Roots { roots, crl: crl.map(|crl| Source::File(crl.into())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Credential {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), BASE64.encode(value))).collect();
        lower(&api::kubernetes::Secret { secret_type: String::new(), data })
    }

    fn inline(text: &str) -> Source {
        Source::Inline(text.as_bytes().into())
    }

    #[test]
    fn gw21_generic_keys_come_first() {
        let both = secret(&[("tls.crt", "a"), ("tls.key", "b"), ("cert", "c"), ("key", "d"), ("ca.crt", "e")]);
        assert_eq!(both.certificate, Some(SecretContent::Certificate { chain: inline("c"), key: inline("d") }));
        assert_eq!(both.roots, Some(SecretContent::Roots { roots: inline("e"), crl: None }));
        assert_eq!(secret(&[("tls.crt", "a")]).certificate, None);
    }

    #[test]
    fn gw21_empty_values_are_named() {
        let empty = secret(&[("tls.crt", ""), ("tls.key", "b")]);
        assert_eq!((empty.certificate, empty.problem.as_deref()), (None, Some("tls.crt is empty")));
    }

    #[test]
    fn dr61_names_of_files_read_back() {
        let files = of_files(&certificate_file("/a", "/b")).unwrap();
        let file = |path: &str| Source::File(path.into());
        assert_eq!(files, SecretContent::Certificate { chain: file("/a"), key: file("/b") });
        let system = of_files(&system_roots(Some("/crl"))).unwrap();
        assert_eq!(system, SecretContent::Roots { roots: Source::System, crl: Some(file("/crl")) });
        assert_eq!(of_files("kubernetes://a"), None);
    }
}
