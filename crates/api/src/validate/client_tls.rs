//! TLS towards an upstream (V-57).

use super::Findings;
use crate::traffic_policy::{ClientTls, ClientTlsMode};

pub(super) fn check(path: &str, tls: Option<&ClientTls>, found: &mut Findings) {
    let Some(tls) = tls else { return };
    let mode = tls.mode.unwrap_or(ClientTlsMode::Disable);
    if tls.insecure_skip_verify == Some(true) {
        check_unverified(path, tls, mode, found);
    }
    if matches!(mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) {
        check_sources(path, tls, mode, found);
    }
    let credential = tls.credential_name.as_deref().unwrap_or_default();
    if let Some(map) = credential.strip_prefix("configmap://")
        && let Some((namespace, _)) = map.split_once('/')
        && namespace != found.namespace()
    {
        found.error(format!("{path}.credentialName"), "a ConfigMap of another namespace is out of reach");
    }
}

fn set(text: &Option<String>) -> bool {
    text.as_deref().is_some_and(|text| !text.is_empty())
}

// What would verify the server, while it is not to be verified.
fn check_unverified(path: &str, tls: &ClientTls, mode: ClientTlsMode, found: &mut Findings) {
    let is_simple = mode == ClientTlsMode::Simple;
    let checks = [
        ("caCertificates", set(&tls.ca_certificates)),
        ("credentialName", is_simple && set(&tls.credential_name)),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
    ];
    for (name, _) in checks.iter().filter(|(_, is_set)| *is_set) {
        found.error(format!("{path}.insecureSkipVerify"), format!("{name} is set too; it would verify the server"));
    }
}

fn check_sources(path: &str, tls: &ClientTls, mode: ClientTlsMode, found: &mut Findings) {
    let files = [
        ("clientCertificate", set(&tls.client_certificate)),
        ("privateKey", set(&tls.private_key)),
        ("caCertificates", set(&tls.ca_certificates)),
        ("caCrl", set(&tls.ca_crl)),
    ];
    if set(&tls.credential_name) {
        for (name, _) in files.iter().filter(|(_, is_set)| *is_set) {
            found.error(format!("{path}.{name}"), "credentialName is set too; certificates come from one of them");
        }
    } else if mode == ClientTlsMode::Mutual {
        for (name, _) in files[..2].iter().filter(|(_, is_set)| !is_set) {
            found.error(format!("{path}.{name}"), "mode MUTUAL needs it, or a credentialName");
        }
    }
}
