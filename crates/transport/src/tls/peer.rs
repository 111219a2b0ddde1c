//! Who is at the other end of a TLS connection, and how Envoy tells it in `x-forwarded-client-cert`.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::CertificateDer;

use super::{der, verify};

/// A client after its handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its certificate in DER, if it has shown one.
    pub certificate: Option<Vec<u8>>,
    /// HTTP/2 was agreed on (ALPN).
    pub is_http2: bool,
}

/// A certificate as one element of `x-forwarded-client-cert`: `Hash`, `Cert`, `Subject`, `URI` and `DNS`, in Envoy's order.
pub fn describe(certificate: &[u8]) -> String {
    let mut out = String::from("Hash=");
    for byte in verify::sha256(certificate) {
        // Writing to a String cannot fail.
        _ = write!(out, "{byte:02x}");
    }
    _ = write!(out, ";Cert=\"{}\"", encode(&pem(certificate)));
    let subject = der::fields(certificate).map(|fields| der::subject(fields.subject)).unwrap_or_default();
    _ = write!(out, ";Subject=\"{}\"", subject);
    let der = CertificateDer::from(certificate);
    let parsed = webpki::EndEntityCert::try_from(&der).ok();
    let uris: Vec<&str> = parsed.iter().flat_map(|parsed| parsed.valid_uri_names()).collect();
    if uris.is_empty() {
        out.push_str(";URI=");
    }
    for uri in uris {
        _ = write!(out, ";URI={uri}");
    }
    for name in parsed.iter().flat_map(|parsed| parsed.valid_dns_names()) {
        _ = write!(out, ";DNS={name}");
    }
    out
}

fn pem(certificate: &[u8]) -> String {
    let body = BASE64.encode(certificate);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

// What would break the header, as Envoy encodes it.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for char in text.chars() {
        match char {
            '\n' => out.push_str("%0A"),
            ' ' => out.push_str("%20"),
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            other => out.push(other),
        }
    }
    out
}
