//! A Secret is replaced while connections live: they go on, and new ones see the new certificate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use suite::mesh::{ControlPlane, Proxied, Proxy, get, write};
use testkit::case::{Call, Case};
use testkit::world::{lay_out, to_yaml};
use testkit::{pki, wait};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);
const HOST: &str = "shop.example.com";
const BLOCK: u8 = 247;

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: shop-cert}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [shop.example.com]
  gateways: [istio-system/edge]
  http:
  - route: [{destination: {host: reviews}}]
";

fn secret(certificate: &str, key: &str) -> Result<String> {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: shop-cert, namespace: istio-system}}\ntype: kubernetes.io/tls\n\
         data:\n  tls.crt: ${{cert {certificate}}}\n  tls.key: ${{key {key}}}\n"
    );
    pki::fill_in(&text, Path::new("/nonexistent"))
}

fn call() -> Result<Call> {
    Ok(serde_saphyr::from_str("request: GET https://shop.example.com/\nexpect: {}\n")?)
}

async fn certificate(gateway: SocketAddr) -> Result<String> {
    let stream = TcpStream::connect(gateway).await?;
    let (_, agreed) = testkit::secured::connect(stream, HOST, &call()?).await?;
    agreed.get("certificate").cloned().context("a certificate of ours")
}

async fn ask(client: &mut SendRequest<Empty<Bytes>>) -> Result<u16> {
    let request = hyper::Request::get("/").header("host", HOST).body(Empty::new())?;
    let response = client.send_request(request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    Ok(status)
}

async fn said(plane: &ControlPlane, wanted: &str) -> Result<()> {
    wait::until("it is said", SOON, || async {
        let said = plane.findings().await?;
        said.iter().any(|one| one == wanted).then_some(()).with_context(|| format!("{wanted} is not in {said:?}"))
    })
    .await
}

async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let case: Case = serde_saphyr::from_str("rule: x\nservices: [{name: reviews}]\n")?;
    let world = lay_out(&case, BLOCK);
    write(folder.path(), "world.yaml", &to_yaml(&world.objects))?;
    write(folder.path(), "rules.yaml", RULES)?;
    write(folder.path(), "secret.yaml", &secret("shop.example.com+one", "shop.example.com+one")?)?;
    let _servers = testkit::serve::start(&world).await?;
    let source = folder.path().to_string_lossy().into_owned();
    let plane = ControlPlane::start(&["--config-dir", &source, "--serve-secrets"]).await?;
    let who = Proxied {
        role: "router",
        pod: "gateway".into(),
        namespace: "istio-system".into(),
        ip: world.client_ip,
        labels: vec![("istio".into(), "ingressgateway".into())],
        outbound: None,
        bind_ip: Some(world.client_ip),
        app_ip: None,
        captured: false,
        resolver: None,
        dns: None,
        identity: None,
    };
    let proxy = Proxy::start(&who, plane.xds).await?;
    let gateway = SocketAddr::new(world.client_ip, 8443);
    let (stream, agreed) = testkit::secured::connect(TcpStream::connect(gateway).await?, HOST, &call()?).await?;
    assert_eq!(agreed["certificate"], "shop.example.com+one");
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    assert_eq!(ask(&mut client).await?, 200);

    write(folder.path(), "secret.yaml", &secret("shop.example.com+two", "shop.example.com+two")?)?;
    wait::until("new connections see the new certificate", SOON, || async {
        match certificate(gateway).await?.as_str() {
            "shop.example.com+two" => Ok(()),
            other => bail!("still {other}"),
        }
    })
    .await?;
    assert_eq!(ask(&mut client).await?, 200, "the old connection goes on");

    // A slip: the key is that of another certificate. What is right stays, and the Gateway's owner is told.
    write(folder.path(), "secret.yaml", &secret("shop.example.com+three", "shop.example.com+one")?)?;
    said(&plane, "SLU0102 Gateway istio-system/edge").await?;
    assert_eq!(certificate(gateway).await?, "shop.example.com+two");

    // The Secret goes: what was served last is served on.
    std::fs::remove_file(folder.path().join("secret.yaml"))?;
    said(&plane, "IST0101 Gateway istio-system/edge").await?;
    assert_eq!(certificate(gateway).await?, "shop.example.com+two");
    assert_eq!(ask(&mut client).await?, 200);

    // Keys are nowhere to be seen.
    let key = pki::identity("shop.example.com+two")?.key.lines().nth(1).unwrap_or_default().to_owned();
    for (address, page) in [
        (plane.http, "/debug/world"),
        (plane.http, "/debug/config_dump?proxyID=gateway.istio-system"),
        (proxy.admin, "/config_dump"),
    ] {
        let text = String::from_utf8_lossy(&get(address, page).await?).into_owned();
        assert!(!text.contains(&key) && !text.contains("PRIVATE KEY"), "{page} shows a key");
    }
    assert!(!proxy.process.tail().contains("PRIVATE KEY") && !plane.process.tail().contains("PRIVATE KEY"));
    Ok(())
}

#[test]
fn a_rotated_certificate_drops_no_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run()).unwrap();
}
