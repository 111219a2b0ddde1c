//! Who is at the other end of a TLS connection, and how Envoy tells it in `x-forwarded-client-cert`.

use std::cell::OnceCell;
use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use words::SpiffeId;

use super::{der, verify};

/// A client after its handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its certificate in DER, if it has shown one.
    pub certificate: Option<Vec<u8>>,
    /// Which workload of the mesh it is: the only URI among the names of its certificate, when that is verified and the
    /// URI a workload's SPIFFE id. Whoever has several is nobody.
    pub principal: Option<Arc<SpiffeId>>,
    /// Who we have shown it to be.
    pub local: Option<Arc<SpiffeId>>,
    /// The server name that it has asked for.
    pub server_name: Option<Box<str>>,
    /// HTTP/2 was agreed on (ALPN).
    pub is_http2: bool,
    /// Nothing was agreed on: what is spoken shows in the first bytes.
    pub is_undecided: bool,
    // Both forms; requests are many, connections few.
    described: [OnceCell<Option<HeaderValue>>; 2],
}

impl Peer {
    /// A client that has shown this certificate, or none.
    pub fn new(certificate: Option<Vec<u8>>, alpn: Option<&[u8]>) -> Self {
        Self { certificate, is_http2: alpn == Some(b"h2"), is_undecided: alpn.is_none(), ..Self::default() }
    }

    /// Its certificate as an element of `x-forwarded-client-cert`; `None`: it has shown none, or one that cannot stand in
    /// a header.
    pub fn described(&self, form: Form) -> Option<&HeaderValue> {
        let certificate = self.certificate.as_deref()?;
        let made = || {
            let text = describe(certificate, form);
            let by = self.local.as_ref().map(|local| format!("By={local};")).unwrap_or_default();
            HeaderValue::from_str(&format!("{by}{text}")).ok()
        };
        self.described[form as usize].get_or_init(made).as_ref()
    }
}

/// What is said of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Also the certificate itself: Istio's gateways.
    Whole,
    /// Hash, subject and names: Istio's sidecars.
    Named,
}

/// The workload that a certificate is of: its only URI, read strictly. Says nothing about who signed it.
pub fn principal(certificate: &[u8]) -> Option<SpiffeId> {
    let uris = der::uris(certificate)?;
    let [only] = uris[..] else { return None };
    SpiffeId::parse(std::str::from_utf8(only).ok()?)
}

// `Hash`, `Cert`, `Subject`, `URI` and `DNS`, in Envoy's order.
fn describe(certificate: &[u8], form: Form) -> String {
    let mut out = String::from("Hash=");
    for byte in verify::sha256(certificate) {
        // Writing to a String cannot fail.
        _ = write!(out, "{byte:02x}");
    }
    if form == Form::Whole {
        _ = write!(out, ";Cert=\"{}\"", encode(&pem(certificate)));
    }
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
