//! TLS of test clients and pods. A client takes any certificate and says which it was; the case says what it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use crate::case::{Call, PortTls};
use crate::pki::{self, Identity};

/// What was agreed on: `certificate`, `alpn`, `version`, `cipher`.
pub type Agreed = BTreeMap<String, String>;

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn pair(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    Ok((vec![CertificateDer::from(identity.der.clone())], PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?))
}

#[derive(Debug)]
struct Anyone {
    provider: CryptoProvider,
    /// Signatures by RSA keys only.
    rsa: bool,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        schemes.retain(|scheme| !self.rsa || format!("{scheme:?}").starts_with("RSA"));
        schemes
    }
}

/// Shakes hands as a call says: its server name or the host's, its certificate, its versions and ciphers.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    call: &Call,
) -> Result<(client::TlsStream<S>, Agreed)> {
    let wish = call.tls.clone().unwrap_or_default();
    let mut provider = provider();
    if let Some(cipher) = &wish.cipher {
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()) == *cipher);
    }
    let rsa = wish.cipher.as_ref().is_some_and(|cipher| cipher.contains("_RSA_"));
    let versions: &[_] = match wish.version.as_deref() {
        None => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Some("1.2") => &[&rustls::version::TLS12],
        Some("1.3") => &[&rustls::version::TLS13],
        Some(other) => bail!("TLS {other} is not spoken by test clients"),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider.clone())).with_protocol_versions(versions)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone { provider, rsa }));
    let mut config = match &wish.cert {
        None => builder.with_no_client_auth(),
        Some(spec) => {
            let (chain, key) = pair(pki::identity(spec)?.as_ref())?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = call.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = call.sni.as_deref().unwrap_or(host);
    config.enable_sni = !name.is_empty();
    let name = ServerName::try_from(if name.is_empty() { host } else { name }.to_owned())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("handshake")?;
    let (_, session) = stream.get_ref();
    let mut agreed = Agreed::new();
    let leaf = session.peer_certificates().and_then(|all| all.first());
    agreed.extend(leaf.and_then(|leaf| pki::spec_of(leaf)).map(|spec| ("certificate".into(), spec)));
    let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    agreed.extend(alpn.map(|name| ("alpn".into(), name)));
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "?",
    };
    agreed.insert("version".into(), version.into());
    agreed.extend(session.negotiated_cipher_suite().map(|suite| ("cipher".into(), format!("{:?}", suite.suite()))));
    Ok((stream, agreed))
}

/// The handshake of a pod. What it learns goes into what it says it saw: `:sni`, `:offered`, `:alpn`, `:client`.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    tls: &PortTls,
) -> Result<(server::TlsStream<S>, Agreed)> {
    let (chain, key) = pair(pki::identity(&tls.cert)?.as_ref())?;
    let provider = Arc::new(provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pki::root(ca)?.as_bytes())?)?;
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?,
            )
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let offered: Vec<String> = hello
        .client_hello()
        .alpn()
        .map(|names| names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
        .unwrap_or_default();
    // Nothing in common is nothing agreed on, as with OpenSSL.
    let known = ["h2", "http/1.1"].iter().filter(|known| offered.iter().any(|name| name == *known));
    config.alpn_protocols = known.map(|name| name.as_bytes().to_vec()).collect();
    let stream = hello.into_stream(Arc::new(config)).await?;
    let (_, session) = stream.get_ref();
    let mut seen = Agreed::from([(":sni".to_owned(), session.server_name().unwrap_or_default().to_owned())]);
    seen.insert(":offered".into(), offered.join(","));
    let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    seen.extend(alpn.map(|name| (":alpn".into(), name)));
    let leaf = session.peer_certificates().and_then(|all| all.first());
    seen.extend(leaf.and_then(|leaf| pki::spec_of(leaf)).map(|spec| (":client".into(), spec)));
    Ok((stream, seen))
}
