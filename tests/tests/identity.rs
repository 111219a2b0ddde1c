//! Identities through real processes: certificates by certificate and by token, who is refused and why, rotation under load.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use identity::wire::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse};
use identity::{Authority, Certificate, Enrolment, Files, LEAF_LIFE};
use proxy::dial::Plane;
use proxy::own::OwnSecrets;
use serde_json::{Value, json};
use suite::kube::ApiServer;
use suite::mesh::{ControlPlane, Proxied, get, write};
use testkit::case::{Call, Case};
use testkit::process::{Process, free_address, program};
use testkit::wait;
use testkit::world::{World, lay_out, to_yaml};
use tonic::{Code, Status};
use words::SpiffeId;

const SOON: Duration = Duration::from_secs(20);
const BLOCK: u8 = 251;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The files of an authority in a folder, and it, to sign what a test needs.
struct Ca {
    folder: PathBuf,
    authority: Authority,
}

impl Ca {
    fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (certificate, key) = Authority::create("cluster.local", SystemTime::now())?;
        write(folder, "ca-cert.pem", &certificate)?;
        write(folder, "ca-key.pem", &key)?;
        write(folder, "root-cert.pem", &certificate)?;
        Self::load(folder)
    }

    fn load(folder: &Path) -> Result<Self> {
        let read = |name: &str| std::fs::read(folder.join(name));
        let (certificate, key, roots) = (read("ca-cert.pem")?, read("ca-key.pem")?, read("root-cert.pem")?);
        let files = Files { certificate: &certificate, key: &key, chain: b"", roots: &roots };
        Ok(Self { authority: Authority::load(files, SystemTime::now())?, folder: folder.to_owned() })
    }

    fn roots(&self) -> PathBuf {
        self.folder.join("root-cert.pem")
    }

    /// A folder with a certificate for an id.
    fn issue(&self, folder: PathBuf, id: &str) -> Result<PathBuf> {
        let id = SpiffeId::parse(id).context("an id")?;
        let Enrolment { key, request } = Enrolment::new(None).map_err(anyhow::Error::msg)?;
        let issued = self.authority.sign(&request, &id, LEAF_LIFE, SystemTime::now())?;
        std::fs::create_dir_all(&folder)?;
        write(&folder, "cert-chain.pem", &issued.chain.concat())?;
        write(&folder, "key.pem", &key)?;
        write(&folder, "root-cert.pem", &issued.roots)?;
        Ok(folder)
    }
}

/// Who calls the secure port, with what in hand.
#[derive(Clone)]
struct Caller {
    secure: SocketAddr,
    roots: PathBuf,
    token: Option<PathBuf>,
    certificate: Option<PathBuf>,
}

impl Caller {
    async fn open(&self) -> Result<xds::grpc::Opened, Status> {
        let own = tokio::sync::watch::channel(OwnSecrets::default()).1;
        let url = format!("https://localhost:{}", self.secure.port());
        let mut plane = Plane::new(&url, own).map_err(Status::internal)?.unwrap();
        (plane.token, plane.bootstrap) = (self.token.clone(), self.certificate.clone());
        plane.roots = Some(self.roots.clone());
        plane.open().await.map_err(Status::aborted)
    }

    async fn create(&self, csr: &str) -> Result<IstioCertificateResponse, Status> {
        let opened = self.open().await?;
        let mut client = tonic::client::Grpc::new(opened.channel);
        client.ready().await.map_err(|error| Status::aborted(error.to_string()))?;
        let request = IstioCertificateRequest { csr: csr.into(), validity_duration: 3600, metadata: None };
        let mut request = tonic::Request::new(request);
        if let Some(value) = opened.authorization {
            request.metadata_mut().insert("authorization", value);
        }
        let codec = tonic_prost::ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
        let path = http::uri::PathAndQuery::from_static(CREATE_CERTIFICATE);
        client.unary(request, path, codec).await.map(tonic::Response::into_inner)
    }

    /// Opens a stream as this node; the error with which it is refused, or the first answer.
    async fn stream(&self, node_id: &str, metadata: Value) -> Result<(), Status> {
        let opened = self.open().await?;
        let node = Some(codec::node::encode(node_id, "x", &metadata));
        let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
        let first = DeltaDiscoveryRequest { node, type_url, ..Default::default() };
        let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([first]), tokio_stream::pending());
        let mut request = tonic::Request::new(requests);
        if let Some(value) = opened.authorization {
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = AggregatedDiscoveryServiceClient::new(opened.channel);
        let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
        let first = tokio::time::timeout(SOON, responses.message()).await;
        first.map_err(|_| Status::deadline_exceeded("no answer"))?.map(drop)
    }
}

fn node(namespace: &str, account: &str) -> (String, Value) {
    let id = format!("sidecar~127.0.0.9~one.{namespace}~{namespace}.svc.cluster.local");
    (id, json!({"NAMESPACE": namespace, "SERVICE_ACCOUNT": account, "CLUSTER_ID": "Kubernetes"}))
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.unwrap_err();
    (status.code(), status.message().to_owned())
}

async fn plane(source: &[&str], ca: &Path, more: &[&str]) -> Result<(ControlPlane, SocketAddr)> {
    let secure = free_address("127.0.0.1")?;
    let (address, ca) = (secure.to_string(), ca.to_string_lossy().into_owned());
    let mut args = source.to_vec();
    args.extend(["--secure-address", &address, "--ca-dir", &ca, "--serving-name", "localhost"]);
    args.extend(more);
    Ok((ControlPlane::start(&args).await?, secure))
}

/// A proxy that asks for a certificate of its own.
struct Proxy {
    process: Process,
    admin: SocketAddr,
}

impl Proxy {
    async fn start(who: &Proxied, secure: SocketAddr, account: &str, more: &[String]) -> Result<Self> {
        let (admin, status) = (free_address("127.0.0.1")?, free_address("127.0.0.1")?);
        let mut args = who.arguments();
        args.extend(["--control-plane".into(), format!("https://localhost:{}", secure.port())]);
        args.extend(["--service-account".into(), account.into(), "--concurrency".into(), "1".into()]);
        args.extend(["--admin-address".into(), admin.to_string(), "--status-address".into(), status.to_string()]);
        args.extend(more.iter().cloned());
        Ok(Self { process: Process::start(&program("sluice-proxy")?, args)?, admin })
    }

    async fn ready(&self) -> Result<()> {
        let ready = wait::until("the proxy is ready", SOON, || get(self.admin, "/ready")).await;
        ready.map(drop).with_context(|| self.process.tail())
    }

    async fn serial(&self) -> Result<String> {
        let page: Value = serde_json::from_slice(&get(self.admin, "/certs").await?)?;
        let serial = page["certificates"][0]["cert_chain"][0]["serial_number"].as_str();
        serial.map(str::to_owned).with_context(|| page.to_string())
    }

    /// Waits until its certificate is another one; its serial number.
    async fn renewed(&self, before: &str) -> Result<String> {
        let what = "the certificate is renewed";
        wait::until(what, SOON, || async {
            match self.serial().await? {
                serial if serial == before => bail!("still {serial}"),
                serial => Ok(serial),
            }
        })
        .await
    }

    async fn roots(&self) -> Result<usize> {
        let page: Value = serde_json::from_slice(&get(self.admin, "/certs").await?)?;
        page["certificates"][0]["ca_cert"].as_array().map(Vec::len).with_context(|| page.to_string())
    }
}

fn sidecar(ip: IpAddr, pod: &str) -> Result<Proxied> {
    Ok(Proxied {
        role: "sidecar",
        pod: pod.into(),
        namespace: "default".into(),
        ip,
        labels: vec![("app".into(), pod.into())],
        outbound: Some(free_address(&ip.to_string())?),
        bind_ip: None,
        app_ip: None,
        captured: false,
        resolver: None,
        dns: None,
        identity: None,
    })
}

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

#[test]
fn strangers_and_impostors_are_refused_and_the_others_are_served() {
    runtime().block_on(refusals()).unwrap();
}

async fn refusals() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, other) = (Ca::new(&folder.path().join("ca"))?, Ca::new(&folder.path().join("other"))?);
    let config = folder.path().join("config");
    std::fs::create_dir_all(&config)?;
    let source = config.to_string_lossy().into_owned();
    let (plane, secure) = plane(&["--config-dir", &source], &ca.folder, &[]).await?;
    let at = |name: &str| folder.path().join(name);
    let caller = |certificate: Option<PathBuf>| Caller { secure, roots: ca.roots(), token: None, certificate };
    let client = caller(Some(ca.issue(at("client"), CLIENT)?));
    let (id, metadata) = node("default", "client");

    // What is right is served: a certificate for exactly this caller, and configuration.
    let own = Enrolment::new(SpiffeId::parse(CLIENT).as_ref()).map_err(anyhow::Error::msg)?;
    let (chain, roots) =
        client.create(&own.request).await?.parts().map(|(chain, roots)| (chain, roots.to_owned())).unwrap();
    let leaf = Certificate::read_all(chain.as_bytes())?.remove(0);
    assert_eq!((leaf.id()?.to_string(), roots), (CLIENT.to_owned(), std::fs::read_to_string(ca.roots())?));
    client.stream(&id, metadata.clone()).await?;
    let who = sidecar("127.0.251.9".parse()?, "client")?;
    let files = credentials(&at("client"), &ca.roots());
    let proxy = Proxy::start(&who, secure, "client", &files).await?;
    proxy.ready().await?;

    // Requests that ask for too much.
    let ask = |id: &str| Enrolment::new(SpiffeId::parse(id).as_ref()).unwrap().request;
    let (code, words) = refused(client.create(&ask("spiffe://cluster.local/ns/default/sa/admin")).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(words.contains("sa/admin") && words.contains(CLIENT), "{words}");
    assert_eq!(refused(client.create("hello").await).0, Code::InvalidArgument);
    assert_eq!(refused(client.create(&"a".repeat(70 << 10)).await).0, Code::InvalidArgument);
    assert_eq!(refused(client.create(&"a".repeat(10 << 20)).await).0, Code::OutOfRange);

    // Nodes that are somebody else.
    for (namespace, account, word) in [("prod", "client", "prod"), ("default", "admin", "admin")] {
        let (id, metadata) = node(namespace, account);
        let (code, words) = refused(client.stream(&id, metadata).await);
        assert_eq!(code, Code::PermissionDenied);
        assert!(words.contains(word) && words.contains(CLIENT), "{words}");
    }
    let (code, words) = refused(client.stream(&id, json!({"NAMESPACE": "default"})).await);
    assert!(code == Code::PermissionDenied && words.contains("SERVICE_ACCOUNT"), "{words}");

    // Callers that are nobody: what is wrong is said in our log only.
    write(folder.path(), "token", "e30.e30.sig")?;
    let strangers = [
        (caller(None), Code::Unauthenticated, "neither a certificate nor a token"),
        (Caller { token: Some(at("token")), ..caller(None) }, Code::Unauthenticated, "tokens cannot be checked"),
        (
            caller(Some(ca.issue(at("foreign"), "spiffe://example.org/ns/default/sa/client")?)),
            Code::Unauthenticated,
            "trust domain",
        ),
    ];
    let mut process = plane.process;
    for (stranger, expected, word) in strangers {
        let (code, words) = refused(stranger.stream(&id, metadata.clone()).await);
        assert_eq!(code, expected, "{words}");
        assert!(!words.contains(word), "{words}");
        assert_eq!(refused(stranger.create(&own.request).await).0, expected);
        process.line_with(word, SOON).await?;
    }
    // A proxy without an identity is not ready, and says why.
    let pending = sidecar("127.0.251.10".parse()?, "pending")?;
    let token = ["--token-file".into(), at("token").to_string_lossy().into_owned()];
    let trust = ["--root-cert-file".into(), ca.roots().to_string_lossy().into_owned()];
    let mut pending = Proxy::start(&pending, secure, "client", &[token, trust].concat()).await?;
    pending.process.line_with("no new certificate", SOON).await?;
    assert!(get(pending.admin, "/ready").await.is_err());
    drop(pending);
    // Under another root: no connection at all.
    let foreign = caller(Some(other.issue(at("elsewhere"), CLIENT)?));
    assert!(foreign.stream(&id, metadata.clone()).await.is_err());
    process.line_with("no TLS connection", SOON).await?;
    // And who does not believe us gets none either.
    let unbelieving = Caller { roots: other.roots(), ..client.clone() };
    assert_eq!(refused(unbelieving.stream(&id, metadata.clone()).await).0, Code::Aborted);

    // All that has disturbed nobody.
    client.stream(&id, metadata).await?;
    get(proxy.admin, "/ready").await?;
    assert!(proxy.process.lines().iter().all(|line| !line.contains("trying again")), "{}", proxy.process.tail());
    let counted = String::from_utf8_lossy(&get(plane.http, "/metrics").await?).into_owned();
    for series in [
        "sluice_authentication_refused_total{reason=\"nothing\"} 2",
        "sluice_authentication_refused_total{reason=\"trust_domain\"} 2",
        "sluice_certificates_refused_total{reason=\"names\"} 1",
        "citadel_server_root_cert_expiry_timestamp",
    ] {
        assert!(counted.contains(series), "{series}\n{counted}");
    }
    Ok(())
}

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: NAMESPACE}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: shop-cert}
";

#[test]
fn no_secret_crosses_namespaces() {
    runtime().block_on(secrets()).unwrap();
}

async fn secrets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(&folder.path().join("ca"))?;
    let config = folder.path().join("config");
    std::fs::create_dir_all(&config)?;
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: shop-cert, namespace: istio-system}\n\
                  type: kubernetes.io/tls\ndata:\n  tls.crt: ${cert shop.example.com}\n  tls.key: ${key shop.example.com}\n";
    write(&config, "secret.yaml", &testkit::pki::fill_in(secret, &config)?)?;
    write(&config, "own.yaml", &GATEWAY.replace("NAMESPACE", "istio-system"))?;
    write(&config, "other.yaml", &GATEWAY.replace("NAMESPACE", "prod"))?;
    let source = config.to_string_lossy().into_owned();
    let (plane, secure) = plane(&["--config-dir", &source], &ca.folder, &[]).await?;
    let mut proxies = Vec::new();
    for (number, namespace) in ["istio-system", "prod"].into_iter().enumerate() {
        let ip: IpAddr = format!("127.0.251.{}", 20 + number).parse()?;
        let who = Proxied {
            role: "router",
            namespace: namespace.into(),
            labels: vec![("istio".into(), "ingressgateway".into())],
            outbound: None,
            bind_ip: Some(ip),
            ..sidecar(ip, "gateway")?
        };
        let id = format!("spiffe://cluster.local/ns/{namespace}/sa/gateway");
        let files = ca.issue(folder.path().join(namespace), &id)?;
        let files = credentials(&files, &ca.roots());
        let proxy = Proxy::start(&who, secure, "gateway", &files).await?;
        proxy.ready().await?;
        proxies.push(proxy);
    }
    let dump = async |name: &str| {
        let page = format!("/debug/config_dump?proxyID=gateway.{name}");
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&get(plane.http, &page).await?).into_owned())
    };
    assert!(dump("istio-system").await?.contains("SecretsConfigDump"));
    let held = |dump: &str| dump.contains("kubernetes://shop-cert") && dump.contains("[redacted]");
    let own = dump("istio-system").await?;
    assert!(held(&own), "{own}");
    let other = dump("prod").await?;
    assert!(!held(&other), "{other}");
    // A key is nowhere to be seen: not of a gateway's Secret, not of an identity, not of the authority.
    let mut keys = vec![testkit::pki::identity("shop.example.com")?.key.clone()];
    for file in ["ca/ca-key.pem", "istio-system/key.pem", "prod/key.pem"] {
        keys.push(std::fs::read_to_string(folder.path().join(file))?);
    }
    let mut shown = vec![own, other, plane.process.lines().join("\n")];
    for page in ["/debug/world", "/debug/syncz", "/debug/diagnostics", "/metrics"] {
        shown.push(String::from_utf8_lossy(&get(plane.http, page).await?).into_owned());
    }
    for proxy in &proxies {
        shown.push(proxy.process.lines().join("\n"));
        for page in ["/config_dump", "/certs", "/server_info", "/clusters", "/listeners", "/stats"] {
            shown.push(String::from_utf8_lossy(&get(proxy.admin, page).await?).into_owned());
        }
    }
    for text in &shown {
        assert!(!text.contains("PRIVATE KEY"), "{text}");
        for key in &keys {
            let line = key.lines().nth(1).unwrap();
            assert!(!text.contains(line), "a key is shown");
        }
    }
    Ok(())
}

#[test]
fn certificates_and_roots_rotate_under_load_and_no_request_fails() {
    runtime().block_on(rotation()).unwrap();
}

async fn rotation() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(&folder.path().join("ca"))?;
    let config = folder.path().join("config");
    std::fs::create_dir_all(&config)?;
    let mesh = Mesh::new(&config)?;
    let _servers = testkit::serve::start(&mesh.world).await?;
    let source = config.to_string_lossy().into_owned();
    let (plane, secure) = plane(&["--config-dir", &source], &ca.folder, &["--workload-cert-ttl", "8s"]).await?;
    let roots = folder.path().join("roots.pem");
    std::fs::copy(ca.roots(), &roots)?;
    let start = async |who: &Proxied, account: &str| {
        let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
        let bootstrap = ca.issue(folder.path().join(account), &id)?;
        let proxy = Proxy::start(who, secure, account, &credentials(&bootstrap, &roots)).await?;
        proxy.ready().await.map(|()| proxy)
    };
    let server = start(&mesh.server, "reviews").await?;
    let client = start(&mesh.client, "client").await?;
    let both = [&client, &server];
    let load = Load::start(mesh.client.outbound.unwrap())?;

    // Twice by itself.
    let mut serials = serials(&both).await?;
    for _ in 0..2 {
        serials = renewed(&both, &serials).await?;
    }

    // A new root: all trust both, then certificates come from the new one, then the old one goes.
    let next = Ca::new(&folder.path().join("next"))?;
    let old_and_new = format!("{}{}", std::fs::read_to_string(ca.roots())?, std::fs::read_to_string(next.roots())?);
    write(&ca.folder, "root-cert.pem", &old_and_new)?;
    std::fs::write(&roots, &old_and_new)?;
    trusted(&both, 2).await?;
    for name in ["ca-cert.pem", "ca-key.pem"] {
        std::fs::copy(next.folder.join(name), ca.folder.join(name))?;
    }
    let mut process = plane.process;
    process.line_with(next.authority.serial(), SOON).await?;
    serials = renewed(&both, &serials).await?;
    // One more: the first may have been under way when the authority changed.
    serials = renewed(&both, &serials).await?;
    std::fs::copy(next.roots(), ca.folder.join("root-cert.pem"))?;
    std::fs::copy(next.roots(), &roots)?;
    renewed(&both, &serials).await?;
    trusted(&both, 1).await?;

    // The control plane is away past half of the life: what is there is used, and asked for until there is more.
    process.kill().await?;
    let last = client.serial().await?;
    let mut client = client;
    client.process.line_with("no new certificate", SOON).await?;
    assert_eq!(client.serial().await?, last);
    let (sent, failed) = load.end().await?;
    let counted = String::from_utf8_lossy(&get(server.admin, "/stats/prometheus").await?).into_owned();
    let by = "source_principal=\"spiffe://cluster.local/ns/default/sa/client\"";
    let secured = |line: &&str| line.contains("connection_security_policy=\"mutual_tls\"") && line.contains(by);
    assert!(counted.lines().any(|line| secured(&line)), "{counted}");
    println!("{sent} requests while certificates and roots were replaced, {failed} failed");
    assert_eq!(failed, 0);
    assert!(sent > 100, "{sent}");

    // Past its end it is said loudly, and nothing goes in plaintext instead.
    client.process.line_with("EXPIRED", SOON).await?;
    let plaintext = testkit::call::send(SocketAddr::new(mesh.server.ip, 9080), &call()?).await;
    assert!(plaintext.is_err(), "{plaintext:?}");
    Ok(())
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

/// A client and a server with a sidecar each, that speak mutual TLS only.
struct Mesh {
    world: World,
    client: Proxied,
    server: Proxied,
}

impl Mesh {
    fn new(config: &Path) -> Result<Self> {
        let case: Case = serde_saphyr::from_str("rule: x\nservices: [{name: reviews}]\n")?;
        let mut world = lay_out(&case, BLOCK);
        for pod in world.objects.iter_mut().filter(|object| object["kind"] == "Pod") {
            pod["metadata"]["labels"]["security.istio.io/tlsMode"] = json!("istio");
            let account = if pod["metadata"]["labels"]["app"] == "reviews" { "reviews" } else { "client" };
            pod["spec"]["serviceAccountName"] = json!(account);
        }
        write(config, "world.yaml", &to_yaml(&world.objects))?;
        write(config, "strict.yaml", STRICT)?;
        // The application is behind its sidecar, which has the pod's address.
        let app: IpAddr = "127.251.9.9".parse()?;
        let pod = world.pods.first_mut().context("a pod")?;
        let server = Proxied {
            labels: vec![("app".into(), "reviews".into())],
            outbound: None,
            app_ip: Some(app),
            ..sidecar(pod.ip, &pod.name)?
        };
        pod.ip = app;
        Ok(Self { client: sidecar(world.client_ip, "client")?, server, world })
    }
}

fn credentials(bootstrap: &Path, roots: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    vec!["--bootstrap-identity-dir".into(), text(bootstrap), "--root-cert-file".into(), text(roots)]
}

async fn serials(proxies: &[&Proxy]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for proxy in proxies {
        all.push(proxy.serial().await?);
    }
    Ok(all)
}

async fn renewed(proxies: &[&Proxy], before: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (proxy, before) in proxies.iter().zip(before) {
        all.push(proxy.renewed(before).await.with_context(|| proxy.process.tail())?);
    }
    Ok(all)
}

async fn trusted(proxies: &[&Proxy], count: usize) -> Result<()> {
    for proxy in proxies {
        wait::until(&format!("{count} roots are trusted"), SOON, || async {
            match proxy.roots().await? {
                found if found == count => Ok(()),
                found => bail!("{found} are"),
            }
        })
        .await?;
    }
    Ok(())
}

fn call() -> Result<Call> {
    let text = "request: GET http://reviews.default.svc.cluster.local:9080/\nexpect: {}\n";
    Ok(serde_saphyr::from_str(text)?)
}

/// Requests one after the other, until it is ended.
struct Load {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<(u32, u32)>,
}

impl Load {
    fn start(outbound: SocketAddr) -> Result<Self> {
        let call = call()?;
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let (mut sent, mut failed) = (0, 0);
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tokio::select! {
                    _ = &mut stopped => return (sent, failed),
                    _ = tick.tick() => {}
                }
                sent += 1;
                match testkit::call::send(outbound, &call).await {
                    Ok(answer) if answer.status == 200 => {}
                    other => {
                        eprintln!("request {sent}: {other:?}");
                        failed += 1;
                    }
                }
            }
        });
        Ok(Self { stop, task })
    }

    async fn end(self) -> Result<(u32, u32)> {
        let _ = self.stop.send(());
        Ok(self.task.await?)
    }
}

const WORKLOAD: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reviews, namespace: default}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: default}
spec: {serviceAccountName: reviews, containers: [{name: app, image: none}], automountServiceAccountToken: false}
";

#[test]
fn tokens_are_checked_by_the_api_server_and_roots_are_written_everywhere() {
    runtime().block_on(tokens()).unwrap();
}

async fn tokens() -> Result<()> {
    let server = ApiServer::start("identity")?;
    server.define()?;
    server.kubectl(&["create", "namespace", "istio-system"], "")?;
    server.kubectl(&["apply", "-f", "-"], WORKLOAD)?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = server.kubeconfig();
    let nowhere = folder.path().join("cacerts");
    let (first, secure) = plane(&["--kubeconfig", &kubeconfig, "--pod-name", "a"], &nowhere, &[]).await?;

    // The root is made once and shared; the leader writes it into every namespace, new ones too.
    let roots = folder.path().join("root-cert.pem");
    let of = |namespace: &str| {
        server.kubectl(
            &["get", "configmap", "istio-ca-root-cert", "-n", namespace, "-o", "jsonpath={.data.root-cert\\.pem}"],
            "",
        )
    };
    let written = wait::until("the roots are written", SOON, || async { of("default") }).await?;
    std::fs::write(&roots, &written)?;
    server.kubectl(&["create", "namespace", "later"], "")?;
    assert_eq!(wait::until("the new namespace has them", SOON, || async { of("later") }).await?, written);
    let (second, another) = plane(&["--kubeconfig", &kubeconfig, "--pod-name", "b"], &nowhere, &[]).await?;
    let version = || {
        server.kubectl(&["get", "configmap", "istio-ca-root-cert", "-o", "jsonpath={.metadata.resourceVersion}"], "")
    };
    let before = version()?;

    let uid = server.kubectl(&["get", "pod", "one", "-o", "jsonpath={.metadata.uid}"], "")?;
    let bound = ["--bound-object-kind", "Pod", "--bound-object-name", "one", "--bound-object-uid", &uid];
    let token = |name: &str, more: &[&str]| {
        let mut args = vec!["create", "token", "reviews", "-n", "default", "--duration", "600s"];
        args.extend(more);
        let path = folder.path().join(name);
        std::fs::write(&path, server.kubectl(&args, "")?)?;
        Ok::<_, anyhow::Error>(Caller { secure, roots: roots.clone(), token: Some(path), certificate: None })
    };
    let good = token("good", &[&["--audience", "istio-ca"][..], &bound].concat())?;
    let (id, metadata) = node("default", "reviews");
    let request = Enrolment::new(None).map_err(anyhow::Error::msg)?.request;
    for port in [secure, another] {
        let caller = Caller { secure: port, ..good.clone() };
        let (chain, given) = caller.create(&request).await?.parts().map(|(a, b)| (a, b.to_owned())).unwrap();
        assert_eq!(given, written, "replicas share the root");
        assert_eq!(Certificate::read_all(chain.as_bytes())?[0].id()?.service_account, "reviews");
        caller.stream(&id, metadata.clone()).await?;
    }
    let (code, words) = refused(good.stream(&id.replace("~one.", "~two."), metadata.clone()).await);
    assert!(code == Code::PermissionDenied && words.contains("\"two\""), "{words}");
    let (other, claims) = node("prod", "reviews");
    assert_eq!(refused(good.stream(&other, claims).await).0, Code::PermissionDenied);
    let admin = Enrolment::new(SpiffeId::parse("spiffe://cluster.local/ns/default/sa/admin").as_ref());
    let admin = admin.map_err(anyhow::Error::msg)?.request;
    assert_eq!(refused(good.create(&admin).await).0, Code::PermissionDenied);
    // The same of a caller with a certificate, which names no pod.
    let made = Enrolment::new(None).map_err(anyhow::Error::msg)?;
    let (chain, _) = good.create(&made.request).await?.parts().map(|(chain, roots)| (chain, roots.to_owned())).unwrap();
    let renewed = folder.path().join("renewed");
    std::fs::create_dir_all(&renewed)?;
    write(&renewed, "cert-chain.pem", &chain)?;
    write(&renewed, "key.pem", &made.key)?;
    let by_certificate = Caller { token: None, certificate: Some(renewed), ..good.clone() };
    by_certificate.create(&request).await?;
    let claims = json!({"NAMESPACE": "default", "SERVICE_ACCOUNT": "king"});
    assert_eq!(refused(by_certificate.stream(&id, claims).await).0, Code::PermissionDenied);
    told_to_the_owner(&server, &uid).await?;

    let mut process = first.process;
    let spoiled = folder.path().join("spoiled");
    let text = std::fs::read_to_string(folder.path().join("good"))?;
    std::fs::write(&spoiled, format!("{}AAAA", &text[..text.len() - 4]))?;
    let expired = folder.path().join("expired");
    std::fs::write(&expired, old_token(&server, &uid)?)?;
    let file = |path: &Path| Caller { token: Some(path.to_owned()), ..good.clone() };
    for (caller, word) in [
        (token("audience", &bound)?, "is not for the audience istio-ca"),
        (token("unbound", &["--audience", "istio-ca"])?, "bound to no pod"),
        (file(&spoiled), "invalid bearer token"),
        (file(&expired), "token has expired"),
    ] {
        let (code, words) = refused(caller.create(&request).await);
        assert_eq!(code, Code::Unauthenticated, "{word}: {words}");
        assert!(!words.contains(word), "{words}");
        process.line_with(word, SOON).await?;
    }
    // A pod that is gone takes its tokens with it; one that was never asked about is in no memory.
    let orphan = token("orphan", &[&["--audience", "istio-ca", "--duration", "700s"][..], &bound].concat())?;
    server.kubectl(&["delete", "pod", "one", "--force", "--grace-period=0"], "")?;
    assert_eq!(refused(orphan.create(&request).await).0, Code::Unauthenticated);
    // Nor does a certificate go on being renewed when nothing runs as its service account any more.
    wait::until("a certificate is not renewed", SOON, || async {
        match by_certificate.create(&request).await {
            Err(status) if status.code() == Code::PermissionDenied => Ok(()),
            other => bail!("{:?}", other.map(drop)),
        }
    })
    .await?;
    assert_eq!(version()?, before, "nothing is written when nothing has changed");
    drop(second);
    Ok(())
}

const EDGE: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: other, namespace: istio-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: edge, namespace: istio-system}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: istio-system}
spec: {serviceAccountName: other, containers: [{name: app, image: none}], automountServiceAccountToken: false}
---
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: istio-system}
spec: {serviceAccountName: edge, containers: [{name: app, image: none}], automountServiceAccountToken: false}
---
apiVersion: v1
kind: Secret
metadata: {name: shop-cert, namespace: istio-system}
type: kubernetes.io/tls
data:
  tls.crt: ${cert shop.example.com}
  tls.key: ${key shop.example.com}
";

#[test]
fn only_who_may_list_secrets_is_given_them() {
    runtime().block_on(rights()).unwrap();
}

async fn rights() -> Result<()> {
    let server = ApiServer::start("rights")?;
    server.define()?;
    server.kubectl(&["create", "namespace", "istio-system"], "")?;
    let folder = tempfile::tempdir()?;
    let ca = Ca::new(&folder.path().join("ca"))?;
    server.kubectl(&["apply", "-f", "-"], &testkit::pki::fill_in(EDGE, folder.path())?)?;
    server.kubectl(&["apply", "-f", "-"], &GATEWAY.replace("NAMESPACE", "istio-system"))?;
    let (plane, secure) = plane(&["--kubeconfig", &server.kubeconfig()], &ca.folder, &[]).await?;
    // The same that the chart makes for its gateways.
    let role = ["create", "role", "edge", "-n", "istio-system", "--verb=get,watch,list", "--resource=secrets"];
    server.kubectl(&role, "")?;
    let binding = ["create", "rolebinding", "edge", "-n", "istio-system", "--role=edge"];
    server.kubectl(&[&binding[..], &["--serviceaccount=istio-system:edge"]].concat(), "")?;
    let ip: IpAddr = "127.0.251.30".parse()?;
    // Any pod of the namespace can say this of itself.
    let who = Proxied {
        role: "router",
        namespace: "istio-system".into(),
        labels: vec![("istio".into(), "ingressgateway".into())],
        outbound: None,
        bind_ip: Some(ip),
        ..sidecar(ip, "gateway")?
    };
    let start = async |account: &str| {
        let id = format!("spiffe://cluster.local/ns/istio-system/sa/{account}");
        let bootstrap = ca.issue(folder.path().join(account), &id)?;
        let proxy = Proxy::start(&who, secure, account, &credentials(&bootstrap, &ca.roots())).await?;
        proxy.ready().await.map(|()| proxy)
    };
    let page = "/debug/config_dump?proxyID=gateway.istio-system";
    let dump = async || Ok::<_, anyhow::Error>(String::from_utf8_lossy(&get(plane.http, page).await?).into_owned());
    let held = |dump: &str| dump.contains("kubernetes://shop-cert") && dump.contains("[redacted]");
    let other = start("other").await?;
    wait::until("it is known why", SOON, || async {
        let said = String::from_utf8_lossy(&get(plane.http, "/debug/diagnostics").await?).into_owned();
        match said.contains("needs a Role in istio-system") {
            true => Ok(()),
            false => bail!("{said}"),
        }
    })
    .await?;
    let without = dump().await?;
    assert!(!held(&without), "{without}");
    drop(other);
    let _edge = start("edge").await?;
    wait::until("it holds the Secret", SOON, || async {
        let dump = dump().await?;
        if held(&dump) { Ok(()) } else { bail!("{dump}") }
    })
    .await
}

// What `kubectl describe pod` shows of refusals.
async fn told_to_the_owner(server: &ApiServer, uid: &str) -> Result<()> {
    let of_pod = format!("--field-selector=involvedObject.name=one,involvedObject.uid={uid},type=Warning");
    let form = "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}";
    wait::until("the pod's owner is told", SOON, || async {
        let events = server.kubectl(&["get", "events", "-n", "default", &of_pod, "-o", form], "")?;
        let wanted =
            ["claims namespace \"prod\"", "claims service account \"king\"", "CertificateRefused: ", "sa/admin"];
        match wanted.iter().find(|word| !events.contains(*word)) {
            Some(word) => bail!("{word} is not in {events:?}"),
            None => Ok(()),
        }
    })
    .await
}

// Signed by the API server's own key, with an end that is over.
fn old_token(server: &ApiServer, uid: &str) -> Result<String> {
    let certs = server.folder().join("certs");
    let claims = json!({
        "aud": ["istio-ca"], "exp": 1_700_000_600, "iat": 1_700_000_000, "nbf": 1_700_000_000,
        "iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:default:reviews",
        "kubernetes.io": {
            "namespace": "default", "pod": {"name": "one", "uid": uid},
            "serviceaccount": {"name": "reviews", "uid": server.kubectl(&["get", "sa", "reviews", "-o", "jsonpath={.metadata.uid}"], "")?}
        }
    });
    let script = format!(
        "b() {{ base64 -w0 | tr '+/' '-_' | tr -d '='; }}; h=$(printf '%s' '{{\"alg\":\"RS256\",\"typ\":\"JWT\"}}' | b); \
         p=$(printf '%s' '{claims}' | b); s=$(printf '%s.%s' \"$h\" \"$p\" | openssl dgst -sha256 -sign service-account.key | b); \
         printf '%s.%s.%s' \"$h\" \"$p\" \"$s\""
    );
    let output = std::process::Command::new("bash").args(["-c", &script]).current_dir(certs).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
