//! TLS of a Gateway's server and of a Sidecar's ingress (V-64 to V-68).

use super::Findings;
use crate::ServerTls;
use crate::gateway::{ServerTlsMode, TlsProtocol};

/// TLS 1.2 suites that Envoy knows.
const CIPHERS: [&str; 16] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

pub(super) fn check(path: &str, tls: &ServerTls, found: &mut Findings) {
    let sources = [
        ("credentialName", set(&tls.credential_name)),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    found.at_most_one(path, &sources);
    for (name, count) in
        [("credentialNames", tls.credential_names.len()), ("tlsCertificates", tls.tls_certificates.len())]
    {
        // The CRD's bound: one RSA and one ECDSA certificate.
        if count > 2 {
            found.error(format!("{path}.{name}"), format!("{count} are more than 2"));
        }
    }
    match tls.mode.unwrap_or(ServerTlsMode::Passthrough) {
        ServerTlsMode::IstioMutual => check_mutual_of_the_mesh(path, tls, found),
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => check_passthrough(path, tls, found),
        mode => check_terminated(path, tls, mode, found),
    }
    check_ciphers(path, tls, found);
}

fn set(text: &Option<String>) -> bool {
    text.as_deref().is_some_and(|text| !text.is_empty())
}

fn certificates(tls: &ServerTls) -> Vec<&'static str> {
    let fields = [
        ("serverCertificate", set(&tls.server_certificate)),
        ("privateKey", set(&tls.private_key)),
        ("caCertificates", set(&tls.ca_certificates)),
        ("caCrl", set(&tls.ca_crl)),
        ("credentialName", set(&tls.credential_name)),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("caCertCredentialName", set(&tls.ca_cert_credential_name)),
    ];
    fields.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

// V-64.
fn check_mutual_of_the_mesh(path: &str, tls: &ServerTls, found: &mut Findings) {
    for name in certificates(tls) {
        found.error(format!("{path}.{name}"), "mode ISTIO_MUTUAL uses the workload's own certificate");
    }
}

// V-65.
fn check_passthrough(path: &str, tls: &ServerTls, found: &mut Findings) {
    for name in certificates(tls) {
        found.warn(format!("{path}.{name}"), "TLS is passed through unopened; the certificate is not used");
    }
}

// V-67.
fn check_terminated(path: &str, tls: &ServerTls, mode: ServerTlsMode, found: &mut Findings) {
    let by_name = set(&tls.credential_name) || !tls.credential_names.is_empty();
    if set(&tls.ca_crl) && (by_name || mode == ServerTlsMode::Simple) {
        found.error(format!("{path}.caCrl"), "a list of revoked clients is for client certificates from files");
    }
    if by_name {
        return;
    }
    let verifies = matches!(mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    let mut require = |path: &str, fields: &[(&str, &Option<String>)]| {
        for (name, _) in fields.iter().filter(|(_, value)| !set(value)) {
            found.error(format!("{path}.{name}"), format!("mode {} needs it, or a credentialName", name_of(mode)));
        }
    };
    if tls.tls_certificates.is_empty() {
        require(path, &[("serverCertificate", &tls.server_certificate), ("privateKey", &tls.private_key)]);
    }
    for (index, pair) in tls.tls_certificates.iter().enumerate() {
        let path = format!("{path}.tlsCertificates[{index}]");
        require(&path, &[("serverCertificate", &pair.server_certificate), ("privateKey", &pair.private_key)]);
    }
    let has_ca = set(&tls.ca_certificates) || tls.tls_certificates.iter().any(|pair| set(&pair.ca_certificates));
    if verifies && !has_ca && !set(&tls.ca_cert_credential_name) {
        require(path, &[("caCertificates", &tls.ca_certificates)]);
    }
}

fn name_of(mode: ServerTlsMode) -> &'static str {
    match mode {
        ServerTlsMode::Mutual => "MUTUAL",
        ServerTlsMode::OptionalMutual => "OPTIONAL_MUTUAL",
        _ => "SIMPLE",
    }
}

// V-68.
fn check_ciphers(path: &str, tls: &ServerTls, found: &mut Findings) {
    let is_old = matches!(tls.min_protocol_version, Some(TlsProtocol::V1_0 | TlsProtocol::V1_1));
    if is_old && tls.cipher_suites.is_empty() {
        found.deprecated(
            format!("{path}.minProtocolVersion"),
            "no cipher suite of the default list works below TLS 1.2",
            "name cipherSuites such as ECDHE-ECDSA-AES128-SHA",
        );
    }
    for (index, cipher) in tls.cipher_suites.iter().enumerate() {
        let field = format!("{path}.cipherSuites[{index}]");
        if !CIPHERS.contains(&cipher.as_str()) {
            found.warn(field, format!("{cipher:?} is no cipher suite; it is left out"));
        } else if tls.cipher_suites[..index].contains(cipher) {
            found.warn(field, format!("{cipher:?} is there twice"));
        }
    }
}
