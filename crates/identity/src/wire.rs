//! The messages of Istio's certificate service (`istio.v1.auth`, `security/v1alpha1/ca.proto`), by hand: two.

/// The service's name.
pub const SERVICE: &str = "istio.v1.auth.IstioCertificateService";
/// The path of its only method.
pub const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Asks for a certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// The request, PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// How long it shall be valid, in seconds; 0: as long as usual.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// For whom else, and the like; nothing of it is obeyed here.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<prost_types::Struct>,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    /// PEM texts: the certificate, those between it and the root if any, the roots.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

impl IstioCertificateResponse {
    /// The chain to present, the certificate first, and the roots.
    pub fn parts(&self) -> Option<(String, &str)> {
        let (roots, chain) = self.cert_chain.split_last()?;
        let join = |pem: &String| if pem.ends_with('\n') { pem.clone() } else { format!("{pem}\n") };
        (!chain.is_empty()).then(|| (chain.iter().map(join).collect(), roots.as_str()))
    }
}
