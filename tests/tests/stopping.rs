//! A control plane that is asked to end, and connections that grow old: who is connected is asked to go elsewhere, and
//! whoever still comes is served until Services send nobody any more.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use identity::Authority;
use identity::wire::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse};
use proxy::dial::Plane;
use proxy::own::OwnSecrets;
use suite::mesh::{ControlPlane, get, write};
use testkit::process::free_address;
use testkit::wait;
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::{Code, Status};

const SOON: Duration = Duration::from_secs(20);

fn run(test: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test).unwrap();
}

/// A control plane with every port, and a folder with its files.
struct Whole {
    plane: ControlPlane,
    secure: SocketAddr,
    webhooks: SocketAddr,
    folder: tempfile::TempDir,
}

impl Whole {
    async fn start(more: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("config"))?;
        let (certificate, key) = Authority::create("cluster.local", SystemTime::now())?;
        for (name, text) in [("ca-cert.pem", &certificate), ("ca-key.pem", &key), ("root-cert.pem", &certificate)] {
            write(folder.path(), name, text)?;
        }
        let (secure, webhooks) = (free_address("127.0.0.1")?, free_address("127.0.0.1")?);
        let (secure_text, webhooks_text) = (secure.to_string(), webhooks.to_string());
        let (ca, config) = (folder.path().to_string_lossy(), folder.path().join("config"));
        let config = config.to_string_lossy();
        let mut args = vec!["--config-dir", &config, "--ca-dir", &ca, "--serving-name", "localhost"];
        args.extend(["--secure-address", &secure_text, "--webhook-address", &webhooks_text]);
        args.extend(more);
        let plane = ControlPlane::start(&args).await?;
        Ok(Self { plane, secure, webhooks, folder })
    }

    /// A new connection to one of the two ports.
    async fn open(&self, address: SocketAddr) -> Result<tonic::transport::Channel> {
        let own = tokio::sync::watch::channel(OwnSecrets::default()).1;
        let url = format!("https://localhost:{}", address.port());
        let mut plane = Plane::new(&url, own).map_err(anyhow::Error::msg)?.context("a URL")?;
        plane.roots = Some(self.folder.path().join("root-cert.pem"));
        Ok(plane.open().await.map_err(anyhow::Error::msg)?.channel)
    }

    /// What somebody without credentials is told who wants a certificate.
    async fn certificate(&self) -> Result<Status> {
        let mut client = tonic::client::Grpc::new(self.open(self.secure).await?);
        client.ready().await?;
        let request = IstioCertificateRequest { csr: "mine".into(), validity_duration: 3600, metadata: None };
        let codec = tonic_prost::ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
        let path = http::uri::PathAndQuery::from_static(CREATE_CERTIFICATE);
        let answer = client.unary(tonic::Request::new(request), path, codec).await;
        answer.err().context("a stranger got a certificate")
    }

    /// The status with which something that is no review is answered.
    async fn review(&self) -> Result<u16> {
        let mut channel = self.open(self.webhooks).await?;
        std::future::poll_fn(|context| channel.poll_ready(context)).await?;
        let request = http::Request::post(format!("https://localhost:{}/inject", self.webhooks.port()));
        let answer = channel.call(request.body(tonic::body::Body::empty())?).await?;
        Ok(answer.status().as_u16())
    }
}

/// An HTTP/2 connection on which nothing is asked: it ends when it is asked to go.
async fn idle(address: SocketAddr) -> Result<impl Future<Output = hyper::Result<()>>> {
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(address).await?);
    let executor = hyper_util::rt::TokioExecutor::new();
    type Body = http_body_util::Empty<bytes::Bytes>;
    let (sender, connection) = hyper::client::conn::http2::handshake::<_, _, Body>(executor, io).await?;
    Ok(async move {
        let outcome = connection.await;
        drop(sender);
        outcome
    })
}

fn terminate(plane: &ControlPlane) -> Result<()> {
    let pid = plane.process.pid().context("it runs")?;
    let sent = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
    if sent.success() { Ok(()) } else { bail!("kill: {sent}") }
}

async fn is_not_ready(plane: &ControlPlane) -> Result<()> {
    wait::until("it is not ready", SOON, || async {
        match get(plane.http, "/healthz/ready").await {
            Err(error) if error.to_string().contains("stopping") => Ok(()),
            other => bail!("{other:?}"),
        }
    })
    .await
}

// Webhooks fail closed: while endpoints still name this replica, pods could not be made.
#[test]
fn a_replica_that_ends_serves_certificates_and_reviews_until_nobody_is_sent_to_it() {
    run(async {
        let whole = Whole::start(&[]).await?;
        assert_eq!((whole.certificate().await?.code(), whole.review().await?), (Code::Unauthenticated, 400));
        let began = std::time::Instant::now();
        terminate(&whole.plane)?;
        is_not_ready(&whole.plane).await?;
        let mut served = 0;
        while began.elapsed() < Duration::from_secs(3) {
            assert_eq!((whole.certificate().await?.code(), whole.review().await?), (Code::Unauthenticated, 400));
            served += 1;
        }
        wait::until("it has ended", SOON, || async {
            if TcpStream::connect(whole.plane.http).await.is_ok() { bail!("it runs") } else { Ok(()) }
        })
        .await?;
        println!("stopping: {served} certificates and reviews were asked for, and answered");
        Ok(())
    });
}

#[test]
fn connections_of_a_replica_that_ends_are_asked_to_go_while_it_serves() {
    run(async {
        let whole = Whole::start(&[]).await?;
        let connection = idle(whole.plane.xds).await?;
        terminate(&whole.plane)?;
        tokio::time::timeout(SOON, connection).await.context("it stays")??;
        get(whole.plane.http, "/version").await.context("it went only with the program")?;
        Ok(())
    });
}

// Stock Envoys open the next stream on the connection they have.
#[test]
fn connections_have_an_age_as_streams_do() {
    run(async {
        let whole = Whole::start(&["--max-connection-age", "1s"]).await?;
        let connection = idle(whole.plane.xds).await?;
        tokio::time::timeout(SOON, connection).await.context("it stays")??;
        Ok(())
    });
}
