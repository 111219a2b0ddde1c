//! Identities of a proxy that change: what goes on, what is made anew, what is not remembered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use config::{ClientCertificates, OWN_CERTIFICATE, OWN_ROOTS, Sni, TlsParameters, UpstreamProtocol, Validation};
use proxy::own::{OwnSecrets, secrets};
use proxy::tls::{ClientTls, Load, Materials, ServerTls, materials};
use rustls::HandshakeKind;
use testkit::pki;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::io::Io;
use transport::memory::Net;
use transport::tls::Peer;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const AT: SocketAddr = SocketAddr::new(HERE, 15006);

fn own(spec: &str, roots: &[&str]) -> OwnSecrets {
    let identity = pki::identity(spec).unwrap();
    let roots: String = roots.iter().map(|root| pki::root(root).unwrap()).collect();
    secrets(identity.certificate.as_bytes(), identity.key.as_bytes(), roots.as_bytes()).unwrap()
}

fn validation() -> Validation {
    let trust_domains = vec!["cluster.local".to_owned()];
    Validation { roots: Some(OWN_ROOTS.into()), trust_domains, ..Validation::default() }
}

fn server(own: &Materials) -> ServerTls {
    let config = config::ServerTls {
        certificates: vec![OWN_CERTIFICATE.into()],
        clients: Some(ClientCertificates { required: true, validation: validation() }),
        parameters: TlsParameters::default(),
        alpn: vec!["http/1.1".into()],
    };
    ServerTls::new(&config, own)
}

fn client(own: &Materials) -> ClientTls {
    let config = config::ClientTls {
        certificate: Some(OWN_CERTIFICATE.into()),
        validation: Some(validation()),
        sni: Sni::Name("outbound_.80_._.a.b".into()),
        verify_host: false,
        parameters: TlsParameters::default(),
        alpn: vec!["istio-http/1.1".into(), "istio".into(), "http/1.1".into()],
        announces: false,
        marked_only: false,
    };
    ClientTls::new(&config, UpstreamProtocol::Http1, own)
}

/// Both ends after a handshake, and what the server knows; a byte has gone each way, so that the client has its tickets.
async fn shake(client: &ClientTls, server: &ServerTls) -> Result<(Io, Io, Peer), String> {
    let net = Net::default();
    let mut listener = net.listen(AT).unwrap();
    let (near, far) = tokio::join!(net.connect(HERE, AT), listener.accept());
    let load = Load::Requests { host: None, is_http2: false };
    let asks = async {
        let (mut io, _) = client.connect(Io::Memory(near.unwrap()), AT, load).await?;
        io.write_all(b"?").await.map_err(|error| error.to_string())?;
        io.flush().await.map_err(|error| error.to_string())?;
        io.read_u8().await.map_err(|error| error.to_string())?;
        Ok::<_, String>(io)
    };
    let answers = async {
        let (mut io, peer) = server.accept(Io::Memory(far.unwrap()), &[]).await?;
        io.read_u8().await.map_err(|error| error.to_string())?;
        io.write_all(b"!").await.map_err(|error| error.to_string())?;
        io.flush().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((io, peer))
    };
    let (near, (far, peer)) = tokio::try_join!(asks, answers)?;
    Ok((near, far, peer))
}

fn kind(io: &Io) -> Option<HandshakeKind> {
    let Io::Tls(stream) = io else { return None };
    stream.get_ref().1.handshake_kind()
}

const A: &str = "spiffe://cluster.local/ns/n/sa/a";
const B: &str = "spiffe://cluster.local/ns/n/sa/b";

#[tokio::test]
async fn row38_a_new_certificate_is_for_new_handshakes_and_old_connections_go_on() {
    let before = materials(&own(A, &["main"]), &Materials::new());
    let (first, caller) = (server(&before), client(&materials(&own(B, &["main"]), &Materials::new())));
    let (mut near, mut far, peer) = shake(&caller, &first).await.unwrap();
    assert_eq!(peer.principal.as_ref().map(|id| id.to_string()).as_deref(), Some(B));
    assert_eq!(peer.local.as_ref().map(|id| id.to_string()).as_deref(), Some(A));
    // Another certificate of the same account.
    let after = materials(&own(&format!("{A}!rsa"), &["main"]), &before);
    assert!(!first.is_as_in(&after) && first.is_as_in(&before));
    let second = server(&after);
    let (newer, ..) = shake(&caller, &second).await.unwrap();
    // The roots are new too: nothing of the old handshake is used again.
    assert_eq!(kind(&newer), Some(HandshakeKind::Full));
    near.write_all(b"x").await.unwrap();
    near.flush().await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn cve24_a_session_with_a_clients_certificate_is_never_resumed() {
    let old = materials(&own(A, &["main"]), &Materials::new());
    let (first, caller) = (server(&old), client(&materials(&own(B, &["main"]), &Materials::new())));
    let (full, ..) = shake(&caller, &first).await.unwrap();
    let (again, _, peer) = shake(&caller, &first).await.unwrap();
    // Not by the same roots either: the certificate may be over since.
    assert_eq!((kind(&full), kind(&again)), (Some(HandshakeKind::Full), Some(HandshakeKind::Full)));
    assert!(peer.principal.is_some());
    // The caller's authority is trusted no longer.
    let other = materials(&own(A, &["other"]), &old);
    assert!(shake(&caller, &server(&other)).await.is_err());
    // Roots overlap: it is looked at anew.
    let both = materials(&own(A, &["main", "other"]), &old);
    let (again, ..) = shake(&caller, &server(&both)).await.unwrap();
    assert_eq!(kind(&again), Some(HandshakeKind::Full));
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_followed_and_what_does_not_fit_is_passed_over() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let folder = tempfile::tempdir().unwrap();
            let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
            let (a, b) = (pki::identity(A).unwrap(), pki::identity(B).unwrap());
            put("cert-chain.pem", &a.certificate);
            put("root-cert.pem", &pki::root("main").unwrap());
            let mut followed = proxy::own::follow_directory(folder.path().to_owned());
            assert!(followed.borrow_and_update().is_empty(), "there is no key yet");
            put("key.pem", &a.key);
            followed.changed().await.unwrap();
            let first = followed.borrow_and_update().clone();
            assert_eq!(first.len(), 2);
            // Half of a rotation: a certificate whose key is still the old one.
            put("cert-chain.pem", &b.certificate);
            let waited = tokio::time::timeout(std::time::Duration::from_secs(5), followed.changed()).await;
            assert!(waited.is_err() && Arc::ptr_eq(&first, &followed.borrow()));
            put("key.pem", &b.key);
            followed.changed().await.unwrap();
            assert!(!Arc::ptr_eq(&first, &followed.borrow_and_update()));
        })
        .await;
}
