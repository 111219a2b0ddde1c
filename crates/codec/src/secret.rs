//! Secrets (Envoy `transport_sockets.tls.v3.Secret`).

use config::{Secret, SecretContent, Source};
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;

use crate::common::{At, Reason};

/// The trusted roots of a Linux system, where Debian, Ubuntu and Istio's own image have them. Envoy wants a file.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(crate) fn encode(secret: &Secret) -> pb::Secret {
    let Secret { name, content } = secret;
    let kind = match content {
        SecretContent::Certificate { chain, key } => pb::secret::Type::TlsCertificate(pb::TlsCertificate {
            certificate_chain: Some(source(chain)),
            private_key: Some(source(key)),
            ..Default::default()
        }),
        SecretContent::Roots { roots, crl } => pb::secret::Type::ValidationContext(pb::CertificateValidationContext {
            trusted_ca: Some(source(roots)),
            crl: crl.as_ref().map(source),
            ..Default::default()
        }),
    };
    pb::Secret { name: name.to_string(), r#type: Some(kind) }
}

fn source(source: &Source) -> DataSource {
    let specifier = match source {
        Source::Inline(bytes) => Specifier::InlineBytes(bytes.to_vec()),
        Source::File(path) => Specifier::Filename(path.clone()),
        Source::System => Specifier::Filename(SYSTEM_ROOTS.into()),
    };
    DataSource { specifier: Some(specifier), watched_directory: None }
}

pub(crate) fn decode(secret: &pb::Secret) -> Result<Secret, Reason> {
    let content = match &secret.r#type {
        Some(pb::secret::Type::TlsCertificate(one)) => {
            if one.private_key_provider.is_some() || one.pkcs12.is_some() || one.password.is_some() {
                return Err("only a plain private key in PEM is read".into());
            }
            SecretContent::Certificate {
                chain: read(&one.certificate_chain).at("tls_certificate.certificate_chain")?,
                key: read(&one.private_key).at("tls_certificate.private_key")?,
            }
        }
        Some(pb::secret::Type::ValidationContext(one)) => SecretContent::Roots {
            roots: match one.system_root_certs {
                Some(_) => Source::System,
                None => read(&one.trusted_ca).at("validation_context.trusted_ca")?,
            },
            crl: one.crl.is_some().then(|| read(&one.crl)).transpose().at("validation_context.crl")?,
        },
        _ => return Err("neither a certificate nor roots".into()),
    };
    Ok(Secret { name: secret.name.as_str().into(), content })
}

fn read(source: &Option<DataSource>) -> Result<Source, Reason> {
    match source.as_ref().and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => Ok(Source::Inline(bytes.as_slice().into())),
        Some(Specifier::InlineString(text)) => Ok(Source::Inline(text.as_bytes().into())),
        Some(Specifier::Filename(path)) if path == SYSTEM_ROOTS => Ok(Source::System),
        Some(Specifier::Filename(path)) => Ok(Source::File(path.clone())),
        Some(Specifier::EnvironmentVariable(_)) => Err("environment variables are not read".into()),
        None => Err("is missing".into()),
    }
}
