//! Control plane: a write to a real API server, and the moment the last of many clients has it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::Client;
use serde_json::{Value, json};
use testkit::process::{Process, free_address, program, workspace};

use crate::cpu;
use crate::fleet::{self, Fleet};
use crate::table::{markdown, median, percentile};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Services, each with a VirtualService, a DestinationRule with two subsets, and four endpoints.
    pub services: usize,
    /// Clients, one run each.
    pub clients: Vec<usize>,
    /// Edits of each kind.
    pub edits: usize,
}

/// An API server of our own, ended with this value.
struct ApiServer {
    folder: PathBuf,
}

impl ApiServer {
    fn start() -> Result<Self> {
        let folder = workspace().join(".cache/kube/run/bench");
        script("build-kube.sh", &[])?;
        script("kube-up.sh", &[&folder.to_string_lossy()])?;
        Ok(Self { folder })
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Err(error) = script("kube-down.sh", &[&self.folder.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

fn script(name: &str, args: &[&str]) -> Result<()> {
    let path = workspace().join("scripts").join(name);
    let output =
        std::process::Command::new(&path).args(args).output().with_context(|| format!("run {}", path.display()))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Runs the benchmark and prints its table.
pub async fn run(plan: &Plan) -> Result<()> {
    let server = ApiServer::start()?;
    let kubeconfig = server.kubeconfig();
    crate::control::kubectl(
        &kubeconfig,
        &["apply", "--server-side", "-f", &workspace().join("crds").to_string_lossy()],
    )?;
    kubectl(&kubeconfig, &["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"])?;
    let client = client(&kubeconfig).await?;
    fill(&client, plan.services).await?;
    let mut rows = Vec::new();
    for count in &plan.clients {
        rows.push(measure(plan, &kubeconfig, &client, *count).await?);
    }
    println!(
        "\n### {} services x 4 endpoints, a VirtualService and a DestinationRule with two subsets each\n",
        plan.services
    );
    let header = [
        "delta clients",
        "cold connect of all, s",
        "VirtualService edit p50 / p99, ms",
        "bytes per client and edit",
        "endpoint change p50 / p99, ms",
        "sluiced MiB",
    ];
    println!("{}", markdown(&header, &rows));
    println!(
        "From the moment the write is sent to the API server to the moment the last client has read the response."
    );
    Ok(())
}

fn kubectl(kubeconfig: &std::path::Path, args: &[&str]) -> Result<()> {
    let output = std::process::Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(args).output()?;
    if !output.status.success() {
        bail!("kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    let file = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn send(client: &Client, method: &str, path: &str, content: &str, body: &Value) -> Result<()> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(body.to_string().into_bytes())?;
    client.request::<Value>(request).await.with_context(|| format!("{method} {path}"))?;
    Ok(())
}

const ISTIO: &str = "/apis/networking.istio.io/v1/namespaces/bench";

async fn fill(client: &Client, services: usize) -> Result<()> {
    let json_type = "application/json";
    send(client, "POST", "/api/v1/namespaces", json_type, &json!({"metadata": {"name": "bench"}})).await?;
    for number in 0..services {
        let name = format!("svc-{number}");
        let service = json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 9080}]}});
        send(client, "POST", "/api/v1/namespaces/bench/services", json_type, &service).await?;
        send(client, "POST", "/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices", json_type, &slice(number, 4))
            .await?;
        let subsets = json!([{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]);
        let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": name},
            "spec": {"host": name, "subsets": subsets}});
        send(client, "POST", &format!("{ISTIO}/destinationrules"), json_type, &rule).await?;
        let virtual_service = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name},
            "spec": spec_of(number, 0)});
        send(client, "POST", &format!("{ISTIO}/virtualservices"), json_type, &virtual_service).await?;
    }
    Ok(())
}

fn spec_of(number: usize, edit: usize) -> Value {
    let name = format!("svc-{number}");
    json!({"hosts": [name], "http": [
        {"match": [{"headers": {"x-edit": {"exact": edit.to_string()}}}], "route": [{"destination": {"host": name, "subset": "v2"}}]},
        {"route": [{"destination": {"host": name, "subset": "v1"}}]}
    ]})
}

fn slice(number: usize, endpoints: usize) -> Value {
    let name = format!("svc-{number}");
    let one = |n: usize| json!({"addresses": [format!("10.2.{}.{}", number % 250, n + 1 + 5 * (number / 250))], "conditions": {"ready": true}});
    json!({"metadata": {"name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
        "endpoints": (0..endpoints).map(one).collect::<Vec<_>>(), "ports": [{"name": "http", "port": 9080}]})
}

async fn measure(plan: &Plan, kubeconfig: &std::path::Path, client: &Client, count: usize) -> Result<Vec<String>> {
    let (xds, http) = (free_address("127.0.0.1")?, free_address("127.0.0.1")?);
    let config = kubeconfig.to_string_lossy().into_owned();
    let args = [
        "--kubeconfig",
        &config,
        "--xds-address",
        &xds.to_string(),
        "--http-address",
        &http.to_string(),
        "--log-level",
        "warn",
    ];
    let sluiced = Process::start(&program("sluiced")?, args.map(str::to_owned))?;
    ready(http).await?;
    let began = Instant::now();
    let mut fleet = fleet::start(xds, count, true);
    let cold = until_quiet(&mut fleet, count, Duration::from_millis(500)).await?.duration_since(began);
    let (mut edits, mut bytes, mut endpoints) = (Vec::new(), Vec::new(), Vec::new());
    for edit in 1..=plan.edits {
        let number = edit * 7 % plan.services;
        // Another value for each count of clients: an edit to the state at hand changes nothing.
        let patch = json!({"spec": spec_of(number, count * 1_000_000 + edit)});
        let path = format!("{ISTIO}/virtualservices/svc-{number}");
        let (took, size) = one(&mut fleet, count, 'V', send(client, "PATCH", &path, MERGE, &patch)).await?;
        edits.push(took);
        bytes.push(size / count as f64);
    }
    for edit in 1..=plan.edits {
        let number = edit * 11 % plan.services;
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices/svc-{number}-1");
        // Away and back: every edit changes something.
        for ready in [3, 4] {
            let patch = json!({"endpoints": slice(number, ready)["endpoints"]});
            endpoints.push(one(&mut fleet, count, 'E', send(client, "PATCH", &path, MERGE, &patch)).await?.0);
        }
    }
    let memory = cpu::resident_mib(sluiced.pid().context("sluiced has ended")?)?;
    Ok(vec![
        count.to_string(),
        format!("{:.2}", cold.as_secs_f64()),
        format!("{:.1} / {:.1}", median(&edits), percentile(&edits, 99.0)),
        format!("{:.0}", median(&bytes)),
        format!("{:.1} / {:.1}", median(&endpoints), percentile(&endpoints, 99.0)),
        format!("{memory:.0}"),
    ])
}

const MERGE: &str = "application/merge-patch+json";

async fn ready(http: SocketAddr) -> Result<()> {
    testkit::wait::until("sluiced is ready", Duration::from_secs(30), || async move {
        let request = load_get(http, "/healthz/ready").await?;
        if request { Ok(()) } else { Err(anyhow::anyhow!("not yet")) }
    })
    .await
}

async fn load_get(address: SocketAddr, path: &str) -> Result<bool> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

// The moment of the last response, once nothing came for `quiet` and every client has its endpoints and virtual hosts.
async fn until_quiet(fleet: &mut Fleet, count: usize, quiet: Duration) -> Result<Instant> {
    let mut last = Instant::now();
    let mut whole: BTreeSet<(usize, char)> = BTreeSet::new();
    loop {
        match tokio::time::timeout(quiet, fleet.took.recv()).await {
            Ok(Some(took)) => {
                last = took.at;
                whole.insert((took.client, took.kind));
            }
            Ok(None) => bail!("the fleet is gone"),
            Err(_) if whole.len() >= count * 5 => return Ok(last),
            Err(_) if last.elapsed() > Duration::from_secs(60) => {
                let missing: Vec<_> = (0..count)
                    .flat_map(|client| ['C', 'E', 'L', 'R', 'V'].map(|kind| (client, kind)))
                    .filter(|one| !whole.contains(one))
                    .take(8)
                    .collect();
                bail!("{} of {} first responses came; missing are {missing:?} …", whole.len(), count * 5)
            }
            Err(_) => {}
        }
    }
}

// From sending a write to the last client's response of that kind, in milliseconds; and bytes over all clients.
async fn one(
    fleet: &mut Fleet,
    count: usize,
    kind: char,
    write: impl Future<Output = Result<()>>,
) -> Result<(f64, f64)> {
    while fleet.took.try_recv().is_ok() {}
    let began = Instant::now();
    write.await?;
    let (mut have, mut bytes, mut last) = (BTreeSet::new(), 0, began);
    while have.len() < count {
        let took = tokio::time::timeout(Duration::from_secs(20), fleet.took.recv()).await;
        let took = took.context("not every client got the change")?.context("the fleet is gone")?;
        bytes += took.bytes;
        if took.kind == kind {
            have.insert(took.client);
            last = last.max(took.at);
        }
    }
    Ok((last.duration_since(began).as_secs_f64() * 1000.0, bytes as f64))
}
