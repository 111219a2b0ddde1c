//! TLS that gateways terminate: `tls` of a Gateway's server (GW13 to GW15, GW20 to GW26).
//!
//! In: the block as written. Out: the TLS of a chain, and findings. Which servers terminate is said in `server.rs`.

use api::ServerTls as Written;
use api::gateway::{ServerTlsMode, TlsProtocol};
use config::{ClientCertificates, Name, ServerTls, TlsParameters, TlsVersion, Validation};
use words::Severity;

use crate::mesh::MeshConfig;
use crate::mutual_tls;
use crate::notes::{NOT_OBEYED, Notes, VALUE_IGNORED};
use crate::secret;

/// The TLS 1.2 suites that Istio knows and BoringSSL still has. rustls has the first six.
const SUITES: [&str; 14] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
];
const SUITES_OF_OURS: usize = 6;

/// True when the block asks for TLS to be opened here.
pub(crate) fn terminates(tls: &Written) -> bool {
    use ServerTlsMode::{IstioMutual, Mutual, OptionalMutual, Simple};
    matches!(tls.mode, Some(Simple | Mutual | OptionalMutual | IstioMutual))
}

/// Lowers a block that terminates; `None`, and a finding, when it has not what it needs.
pub(crate) fn lower(
    written: &Written,
    alpn: &[&str],
    mesh: &MeshConfig,
    field: &str,
    notes: &mut Notes,
) -> Option<ServerTls> {
    if written.mode == Some(ServerTlsMode::IstioMutual) {
        let parameters = parameters(written, field, notes);
        return Some(ServerTls { parameters, ..mutual_tls::server(alpn, &written.subject_alt_names, mesh) });
    }
    let Some(certificates) = certificates(written) else {
        let message = "needs credentialName, credentialNames, tlsCertificates, or serverCertificate with privateKey; the server is left out";
        notes.ignored(field, message);
        return None;
    };
    let clients = match written.mode {
        Some(ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) => {
            let Some(roots) = roots(written) else {
                notes.ignored(field, "asks for client certificates without caCertificates; the server is left out");
                return None;
            };
            let validation = Validation {
                roots: Some(roots),
                names: written.subject_alt_names.clone(),
                trust_domains: Vec::new(),
                spki: written.verify_certificate_spki.clone(),
                hashes: written.verify_certificate_hash.clone(),
                accept_untrusted: written.insecure_skip_verify.unwrap_or(false),
            };
            Some(ClientCertificates { required: written.mode == Some(ServerTlsMode::Mutual), validation })
        }
        _ => None,
    };
    let parameters = parameters(written, field, notes);
    Some(ServerTls { certificates, clients, parameters, alpn: alpn.iter().map(|name| (*name).to_owned()).collect() })
}

fn set(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

// Exactly one source is written (V-66); the first in Istio's order counts otherwise.
fn certificates(written: &Written) -> Option<Vec<Name>> {
    let pair = |chain: &Option<String>, key: &Option<String>| Some(secret::certificate_file(set(chain)?, set(key)?));
    if !written.credential_names.is_empty() {
        return Some(written.credential_names.iter().map(|name| secret::certificate(name)).collect());
    }
    if let Some(name) = set(&written.credential_name) {
        return Some(vec![secret::certificate(name)]);
    }
    if !written.tls_certificates.is_empty() {
        return written.tls_certificates.iter().map(|one| pair(&one.server_certificate, &one.private_key)).collect();
    }
    Some(vec![pair(&written.server_certificate, &written.private_key)?])
}

fn roots(written: &Written) -> Option<Name> {
    let credential = set(&written.ca_cert_credential_name).or_else(|| set(&written.credential_name));
    if let Some(name) = credential.or_else(|| written.credential_names.first().map(String::as_str)) {
        return Some(secret::roots(name));
    }
    let of_pairs = written.tls_certificates.iter().find_map(|one| set(&one.ca_certificates));
    Some(secret::roots_file(set(&written.ca_certificates).or(of_pairs)?, set(&written.ca_crl)))
}

fn parameters(written: &Written, field: &str, notes: &mut Notes) -> TlsParameters {
    let version = |value: Option<TlsProtocol>, default| match value {
        None | Some(TlsProtocol::Auto) => default,
        Some(TlsProtocol::V1_0) => TlsVersion::V1_0,
        Some(TlsProtocol::V1_1) => TlsVersion::V1_1,
        Some(TlsProtocol::V1_2) => TlsVersion::V1_2,
        Some(TlsProtocol::V1_3) => TlsVersion::V1_3,
    };
    let min = version(written.min_protocol_version, TlsVersion::V1_2);
    let max = version(written.max_protocol_version, TlsVersion::V1_3);
    for (value, leaf) in [(min, "minProtocolVersion"), (max, "maxProtocolVersion")] {
        if value < TlsVersion::V1_2 {
            let message = "sluice-proxy speaks TLS 1.2 and 1.3 only; Envoy obeys it";
            notes.add(NOT_OBEYED, Severity::Warning, format!("{field}.{leaf}"), message);
        }
    }
    TlsParameters { min, max, cipher_suites: suites(&written.cipher_suites, field, notes) }
}

// Unknown and repeated ones are dropped (GW25).
fn suites(written: &[String], field: &str, notes: &mut Notes) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(written.len());
    for (index, suite) in written.iter().enumerate() {
        let at = format!("{field}.cipherSuites[{index}]");
        match SUITES.iter().position(|known| known == suite) {
            _ if kept.contains(suite) => {
                notes.add(VALUE_IGNORED, Severity::Warning, at, format!("{suite} is there twice"));
            }
            None => notes.add(VALUE_IGNORED, Severity::Warning, at, format!("{suite:?} is not a suite that is known")),
            Some(known) => {
                if known >= SUITES_OF_OURS {
                    let message = format!("sluice-proxy does not speak {suite}; Envoy does");
                    notes.add(NOT_OBEYED, Severity::Warning, at, message);
                }
                kept.push(suite.clone());
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(written: Written) -> (Option<ServerTls>, Vec<String>) {
        let mut notes = Notes::about(&words::Origin::new("Gateway", "n", "g"));
        let tls = lower(&written, &["h2"], &MeshConfig::default(), "tls", &mut notes);
        (tls, notes.into_found().iter().map(|found| format!("{} {}", found.code, found.field)).collect())
    }

    fn of(mode: ServerTlsMode) -> Written {
        Written { mode: Some(mode), ..Written::default() }
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn gw20_every_source_has_its_names() {
        let names = |written: Written| lowered(written).0.map(|tls| tls.certificates.join(" "));
        let simple = || of(ServerTlsMode::Simple);
        assert_eq!(names(Written { credential_name: text("a"), ..simple() }), text("kubernetes://a"));
        let both = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(names(Written { credential_names: both, ..simple() }), text("kubernetes://a kubernetes://b"));
        let files = Written { server_certificate: text("/c"), private_key: text("/k"), ..simple() };
        assert_eq!(names(files), text("file-cert:/c~/k"));
        assert_eq!(names(Written { server_certificate: text("/c"), ..simple() }), None);
    }

    #[test]
    fn gw14_roots_come_with_the_certificate_or_from_elsewhere() {
        let roots = |written: Written| {
            lowered(written)
                .0
                .and_then(|tls| tls.clients)
                .and_then(|clients| clients.validation.roots)
                .unwrap()
                .to_string()
        };
        let mutual = || Written { credential_name: text("a"), ..of(ServerTlsMode::Mutual) };
        assert_eq!(roots(mutual()), "kubernetes://a-cacert");
        assert_eq!(roots(Written { ca_cert_credential_name: text("b"), ..mutual() }), "kubernetes://b-cacert");
        let files = Written {
            server_certificate: text("/c"),
            private_key: text("/k"),
            ca_certificates: text("/ca"),
            ca_crl: text("/crl"),
            ..of(ServerTlsMode::OptionalMutual)
        };
        assert_eq!(roots(files.clone()), "file-root:/ca~/crl");
        let (none, said) = lowered(Written { ca_certificates: None, ..files });
        assert_eq!((none, said), (None, vec!["SLU0102 tls".to_owned()]));
    }

    #[test]
    fn gw25_ciphers_that_cannot_be_are_said() {
        let cipher_suites = ["AES128-SHA", "nonsense", "ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA"].map(str::to_owned);
        let written =
            Written { credential_name: text("a"), cipher_suites: cipher_suites.to_vec(), ..of(ServerTlsMode::Simple) };
        let (tls, said) = lowered(written);
        assert_eq!(tls.unwrap().parameters.cipher_suites, ["AES128-SHA", "ECDHE-RSA-AES128-GCM-SHA256"]);
        let all = ["SLU0100 tls.cipherSuites[0]", "SLU0102 tls.cipherSuites[1]", "SLU0102 tls.cipherSuites[3]"];
        assert_eq!(said, all);
    }

    #[test]
    fn gw24_old_versions_are_said() {
        let written = Written {
            credential_name: text("a"),
            min_protocol_version: Some(TlsProtocol::V1_0),
            ..of(ServerTlsMode::Simple)
        };
        let (tls, said) = lowered(written);
        assert_eq!(tls.unwrap().parameters.min, TlsVersion::V1_0);
        assert_eq!(said, ["SLU0100 tls.minProtocolVersion"]);
    }
}
