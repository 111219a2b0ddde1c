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
use crate::scope::SecretsRight;
use crate::world::World;

/// Secrets with the key of a certificate authority, as Istio names them: no proxy is given these.
const OF_AUTHORITIES: [&str; 2] = ["cacerts", "istio-ca-secret"];
/// Names of Secrets in the proxy's namespace begin with this.
const KUBERNETES: &str = "kubernetes://";
/// Ends the name of a Secret that is wanted for its roots (GW14).
const CA_SUFFIX: &str = "-cacert";
const FILE_CERT: &str = "file-cert:";
const FILE_ROOT: &str = "file-root:";
/// The roots of the proxy's machine.
const SYSTEM: &str = "system";

/// A Kubernetes Secret, as far as it is for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Credential {
    certificate: Part,
    roots: Part,
}

/// One of the things that a Secret may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Part {
    content: Option<SecretContent>,
    /// Why what is written cannot be used; nothing of it. With a content, that is what was there before.
    problem: Option<String>,
}

impl Credential {
    /// What was served before stays, in place of what cannot be used: a slip in a Secret closes no port.
    pub(crate) fn keeping(self, before: &Self) -> Self {
        let Self { certificate, roots } = self;
        Self { certificate: certificate.keeping(&before.certificate), roots: roots.keeping(&before.roots) }
    }
}

impl Part {
    fn read(first: Result<SecretContent, String>, second: impl FnOnce() -> Result<SecretContent, String>) -> Self {
        // Nothing to say of what nobody wrote.
        let either = first.or_else(|reason| second().map_err(|other| if reason.is_empty() { other } else { reason }));
        match either {
            Ok(content) => Self { content: Some(content), problem: None },
            Err(problem) => Self { content: None, problem: Some(problem).filter(|problem| !problem.is_empty()) },
        }
    }

    fn keeping(self, before: &Self) -> Self {
        match (&self.content, &self.problem) {
            (None, Some(_)) => Self { content: before.content.clone(), ..self },
            _ => self,
        }
    }
}

/// Reads a Secret. The keys of a generic one come first (GW21).
pub(crate) fn lower(secret: &api::kubernetes::Secret) -> Credential {
    Credential {
        certificate: Part::read(pair(secret, "cert", "key"), || pair(secret, "tls.crt", "tls.key")),
        roots: Part::read(authorities(secret, "cacert", "crl"), || authorities(secret, "ca.crt", "ca.crl")),
    }
}

// An error without words: it is not there.
fn value(secret: &api::kubernetes::Secret, key: &str) -> Result<Arc<[u8]>, String> {
    let written = secret.data.get(key).ok_or_else(String::new)?;
    match BASE64.decode(written.trim()) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes.into()),
        Ok(_) => Err(format!("{key} is empty")),
        Err(_) => Err(format!("{key} is not base64")),
    }
}

fn pair(secret: &api::kubernetes::Secret, chain: &str, key: &str) -> Result<SecretContent, String> {
    match (value(secret, chain), value(secret, key)) {
        (Ok(certificates), Ok(private)) => {
            identity::check_pair(&certificates, &private).map_err(|error| format!("{chain} and {key}: {error}"))?;
            Ok(SecretContent::Certificate { chain: Source::Inline(certificates), key: Source::Inline(private) })
        }
        (Ok(_), Err(reason)) if reason.is_empty() => Err(format!("there is {chain} and no {key}")),
        (Err(reason), Ok(_)) if reason.is_empty() => Err(format!("there is {key} and no {chain}")),
        (Err(reason), Ok(_)) | (_, Err(reason)) => Err(reason),
    }
}

fn authorities(secret: &api::kubernetes::Secret, roots: &str, crl: &str) -> Result<SecretContent, String> {
    let roots = Source::Inline(value(secret, roots)?);
    Ok(SecretContent::Roots { roots, crl: value(secret, crl).ok().map(Source::Inline) })
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
        let remark = match find(name, used, class, world) {
            Ok(Found { content, print, remark }) => {
                prints.push((name.clone(), print));
                set.by_name.insert(name.clone(), Arc::new(Secret { name: name.clone(), content }));
                remark
            }
            Err(remark) => Some(remark),
        };
        if let (Some((code, message)), Some(origin)) = (remark, origin) {
            let mut notes = Notes::about(origin);
            notes.add(code, Severity::Error, field, message);
            set.diagnostics.extend(notes.into_found());
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

// A code and words.
type Remark = (&'static str, String);

struct Found {
    content: SecretContent,
    print: Fingerprint,
    remark: Option<Remark>,
}

fn find(name: &str, used: Use, class: &Class, world: &World) -> Result<Found, Remark> {
    if let Some(content) = of_files(name) {
        return Ok(Found { print: Fingerprint::of(&content), content, remark: None });
    }
    let wanted = name.strip_prefix(KUBERNETES).unwrap_or(name);
    let namespace = &class.namespace;
    if OF_AUTHORITIES.contains(&wanted) {
        let message =
            format!("Secret {namespace}/{wanted} is that of a certificate authority, which no proxy is given");
        return Err((VALUE_IGNORED, message));
    }
    let withheld = match class.secrets {
        SecretsRight::Granted => None,
        SecretsRight::Unknown => {
            Some("this proxy may not hold Secrets: its connection does not say who it is".to_owned())
        }
        SecretsRight::Denied => Some(format!(
            "the proxy's service account may not have it; it needs a Role in {namespace} (get, list, watch on secrets) \
             and a RoleBinding, as the chart makes them for its gateways"
        )),
    };
    if let Some(reason) = withheld {
        return Err((NOT_FOUND, format!("Secret {namespace}/{wanted}: {reason}")));
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
    let (part, what) = match used {
        Use::Certificate => {
            (&credential.certificate, "a certificate with its key (cert and key, or tls.crt and tls.key)")
        }
        Use::Roots => (&credential.roots, "roots (cacert, or ca.crt)"),
    };
    let why = part.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
    match &part.content {
        Some(content) => Ok(Found {
            print: Fingerprint::of(content),
            content: content.clone(),
            remark: part.problem.is_some().then(|| {
                let message = format!("Secret {namespace}/{wanted} has not {what}{why}; what it had before is served");
                (VALUE_IGNORED, message)
            }),
        }),
        None => Err((VALUE_IGNORED, format!("Secret {namespace}/{wanted} has not {what}{why}"))),
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

    type Pair = (String, String);

    fn pairs() -> (Pair, Pair) {
        let (certificate, key) = authority();
        let files = identity::Files { certificate: certificate.as_bytes(), key: key.as_bytes(), ..Default::default() };
        let authority = identity::Authority::load(files, std::time::SystemTime::now()).unwrap();
        let make = || {
            let made = identity::Enrolment::new(None).unwrap();
            let id = words::SpiffeId::parse("spiffe://cluster.local/ns/a/sa/b").unwrap();
            let issued = authority.sign(&made.request, &id, identity::LEAF_LIFE, std::time::SystemTime::now());
            (issued.unwrap().chain.concat(), made.key)
        };
        (make(), make())
    }

    fn authority() -> Pair {
        identity::Authority::create("cluster.local", std::time::SystemTime::now()).unwrap()
    }

    fn inline(text: &str) -> Source {
        Source::Inline(text.as_bytes().into())
    }

    fn certificate_of(pair: &Pair) -> Option<SecretContent> {
        Some(SecretContent::Certificate { chain: inline(&pair.0), key: inline(&pair.1) })
    }

    #[test]
    fn gw21_generic_keys_come_first() {
        let (one, other) = pairs();
        let both =
            [("tls.crt", &*other.0), ("tls.key", &*other.1), ("cert", &*one.0), ("key", &*one.1), ("ca.crt", "e")];
        let both = secret(&both);
        assert_eq!(both.certificate.content, certificate_of(&one));
        assert_eq!(both.roots.content, Some(SecretContent::Roots { roots: inline("e"), crl: None }));
        assert_eq!(secret(&[("a", "b")]), Credential::default());
    }

    #[test]
    fn gw21_what_cannot_be_used_is_named() {
        let (one, other) = pairs();
        let problem = |pairs: &[(&str, &str)]| {
            let Part { content, problem } = secret(pairs).certificate;
            assert_eq!(content, None);
            problem.unwrap_or_default()
        };
        assert_eq!(problem(&[("tls.crt", ""), ("tls.key", "b")]), "tls.crt is empty");
        assert_eq!(problem(&[("tls.crt", &*one.0)]), "there is tls.crt and no tls.key");
        assert_eq!(problem(&[("key", &*one.1)]), "there is key and no cert");
        let mixed = problem(&[("tls.crt", &*one.0), ("tls.key", &*other.1)]);
        assert_eq!(mixed, "tls.crt and tls.key: the private key is not that of the certificate");
        let (certificate, key) = authority();
        let signs = problem(&[("tls.crt", &certificate), ("tls.key", &key)]);
        assert!(signs.contains("certificate authority"), "{signs}");
    }

    #[test]
    fn r44_what_was_served_stays_when_what_follows_cannot_be_used() {
        let (one, other) = pairs();
        let good = secret(&[("tls.crt", &*one.0), ("tls.key", &*one.1)]);
        let kept = secret(&[("tls.crt", &*one.0), ("tls.key", &*other.1)]).keeping(&good);
        assert_eq!(kept.certificate.content, certificate_of(&one));
        assert!(kept.certificate.problem.is_some());
        // Also through a second slip, until something good comes, or it is taken away on purpose.
        let again = secret(&[("tls.crt", &*other.0)]).keeping(&kept);
        assert_eq!(again.certificate.content, certificate_of(&one));
        let next = secret(&[("tls.crt", &*other.0), ("tls.key", &*other.1)]).keeping(&again);
        assert_eq!(next, secret(&[("tls.crt", &*other.0), ("tls.key", &*other.1)]));
        assert_eq!(secret(&[("ca.crt", "e")]).keeping(&good).certificate, Part::default());
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
