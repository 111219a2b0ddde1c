//! The demo: every part as a process of its own on loopback addresses, without root and without a cluster.
//!
//! In: a folder for the manifests, the gateway's address. Out: one printed URL. It ends everything it started, and
//! only that, when it is interrupted or when one part ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::client::{self, Way};
use crate::serve;

/// How long the first page may take.
const START_SECONDS_MAX: u64 = 30;
/// Ports tried after the wished one.
const PORTS_TRIED_MAX: u16 = 50;

const MANIFESTS: [(&str, &str); 4] = [
    ("10-bookinfo.yaml", include_str!("../manifests/10-bookinfo.yaml")),
    ("20-gateway.yaml", include_str!("../manifests/20-gateway.yaml")),
    ("30-versions.yaml", include_str!("../manifests/30-versions.yaml")),
    ("40-reviews.yaml", include_str!("../manifests/40-reviews.yaml")),
];

struct Workload {
    app: &'static str,
    version: &'static str,
    number: u8,
}

const WORKLOADS: [Workload; 6] = [
    Workload { app: "productpage", version: "v1", number: 1 },
    Workload { app: "details", version: "v1", number: 2 },
    Workload { app: "reviews", version: "v1", number: 3 },
    Workload { app: "reviews", version: "v2", number: 4 },
    Workload { app: "reviews", version: "v3", number: 5 },
    Workload { app: "ratings", version: "v1", number: 6 },
];

const GATEWAY_NUMBER: u8 = 10;
const PORT: u16 = 9080;

fn pod_ip(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 77, 0, number))
}

fn app_ip(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 77, 1, number))
}

fn at(ip: IpAddr, port: u16) -> String {
    SocketAddr::new(ip, port).to_string()
}

impl Workload {
    fn name(&self) -> String {
        format!("{}-{}", self.app, self.version)
    }
}

/// Runs the demo until Ctrl-C, SIGTERM, or the end of one of its parts.
pub async fn run(dir: Option<PathBuf>, wished: SocketAddr) -> Result<()> {
    let gateway = free_from(wished)?;
    let (dir, is_ours) = match dir {
        Some(dir) => (dir, false),
        None => (std::env::temp_dir().join(format!("sluice-demo-{}", std::process::id())), true),
    };
    write_manifests(&dir, gateway)?;
    let mut parts = Parts::default();
    let outcome = tokio::select! {
        outcome = start_and_watch(&mut parts, &dir, gateway) => outcome,
        () = serve::asked_to_end() => {
            println!("\nstopping");
            Ok(())
        }
    };
    parts.stop().await;
    if is_ours {
        // Only what we wrote ourselves, and only in a folder that we named.
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    outcome
}

async fn start_and_watch(parts: &mut Parts, dir: &Path, gateway: SocketAddr) -> Result<()> {
    let logs = dir.join("logs");
    let control = at(pod_ip(250), 15010);
    parts.start("sluiced", &logs, &control_args(dir, &control))?;
    for workload in &WORKLOADS {
        parts.start_named("bookinfo", &workload.name(), &logs, &app_args(workload))?;
        parts.start_named(
            "sluice-proxy",
            &format!("{}-sidecar", workload.name()),
            &logs,
            &sidecar_args(workload, &control),
        )?;
    }
    parts.start_named("sluice-proxy", "gateway", &logs, &gateway_args(gateway, &control))?;
    wait_for_page(parts, gateway).await?;
    print_banner(dir, gateway);
    parts.first_end().await
}

fn control_args(dir: &Path, control: &str) -> Vec<String> {
    let http = at(pod_ip(250), 15014);
    ["--config-dir", &dir.to_string_lossy(), "--xds-address", control, "--http-address", &http]
        .map(String::from)
        .to_vec()
}

fn app_args(workload: &Workload) -> Vec<String> {
    let listen = at(app_ip(workload.number), PORT);
    let sidecar = at(pod_ip(workload.number), 15080);
    ["serve", workload.app, "--version", workload.version, "--listen", &listen, "--sidecar", &sidecar]
        .map(String::from)
        .to_vec()
}

fn proxy_args(node: String, control: &str, number: u8, labels: &[(&str, &str)], workload: &str) -> Vec<String> {
    let mut args = vec!["--node".into(), node, "--control-plane".into(), format!("http://{control}")];
    for (key, value) in labels {
        args.extend(["--label".into(), format!("{key}={value}")]);
    }
    args.extend(["--workload".into(), workload.into(), "--interception".into(), "none".into()]);
    args.extend(["--admin-address".into(), at(pod_ip(number), 15000)]);
    args.extend(["--status-address".into(), at(pod_ip(number), 15021)]);
    args.extend(["--concurrency".into(), "1".into(), "--access-log".into(), "/dev/stdout".into()]);
    args
}

fn sidecar_args(workload: &Workload, control: &str) -> Vec<String> {
    let ip = pod_ip(workload.number);
    let node = format!("sidecar~{ip}~{}.default~default.svc.cluster.local", workload.name());
    let labels = [("app", workload.app), ("version", workload.version)];
    let mut args = proxy_args(node, control, workload.number, &labels, &workload.name());
    args.extend(["--outbound-address".into(), at(ip, 15080)]);
    args.extend(["--app-ip".into(), app_ip(workload.number).to_string()]);
    args
}

fn gateway_args(gateway: SocketAddr, control: &str) -> Vec<String> {
    let node =
        format!("router~{}~istio-ingressgateway.istio-system~istio-system.svc.cluster.local", pod_ip(GATEWAY_NUMBER));
    let labels = [("app", "istio-ingressgateway"), ("istio", "ingressgateway")];
    let mut args = proxy_args(node, control, GATEWAY_NUMBER, &labels, "istio-ingressgateway");
    args.extend(["--bind-ip".into(), gateway.ip().to_string()]);
    args
}

fn free_from(wished: SocketAddr) -> Result<SocketAddr> {
    for port in wished.port()..=wished.port().saturating_add(PORTS_TRIED_MAX) {
        let address = SocketAddr::new(wished.ip(), port);
        if TcpListener::bind(address).is_ok() {
            if address != wished {
                println!("{wished} is busy, taking {address}");
            }
            return Ok(address);
        }
    }
    bail!("no free port from {wished} on; choose another with --address")
}

fn write_manifests(dir: &Path, gateway: SocketAddr) -> Result<()> {
    std::fs::create_dir_all(dir.join("logs")).with_context(|| format!("create {}", dir.display()))?;
    let generated = [("11-pods.yaml", pods_yaml()), ("21-gateway-service.yaml", gateway_yaml(gateway))];
    let fixed = MANIFESTS.iter().map(|(name, text)| (*name, (*text).to_owned()));
    for (name, text) in fixed.chain(generated) {
        let path = dir.join(name);
        // What the user edited in an earlier run stays; what depends on this run's addresses is written anew.
        if MANIFESTS.iter().any(|(fixed, _)| *fixed == name) && path.exists() {
            continue;
        }
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn pods_yaml() -> String {
    let mut text = "# Written by the demo: the pods and their addresses.\n".to_owned();
    for workload in &WORKLOADS {
        let (name, ip) = (workload.name(), pod_ip(workload.number));
        let Workload { app, version, number } = workload;
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}, version: {version}}}}}\n\
             spec: {{serviceAccountName: bookinfo-{app}}}\nstatus: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: {app}-{number}, labels: {{kubernetes.io/service-name: {app}}}}}\n\
             endpoints: [{{addresses: [{ip}], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {name}, \
             namespace: default}}}}]\nports: [{{name: http, port: {PORT}, protocol: TCP}}]\n"
        );
    }
    text
}

fn gateway_yaml(gateway: SocketAddr) -> String {
    let port = gateway.port();
    format!(
        "# Written by the demo: the gateway's Service; port 80 of a Gateway is port {port} of the gateway pod.\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: istio-ingressgateway, namespace: istio-system}}\n\
         spec: {{clusterIP: 10.96.77.10, selector: {{istio: ingressgateway}}, \
         ports: [{{name: http2, port: 80, targetPort: {port}}}]}}\n"
    )
}

async fn wait_for_page(parts: &mut Parts, gateway: SocketAddr) -> Result<()> {
    let started = Instant::now();
    let limit = Duration::from_secs(START_SECONDS_MAX);
    loop {
        parts.check()?;
        let asked =
            client::get(Way::Sidecar(gateway), "localhost", "/productpage", &http::HeaderMap::new(), limit).await;
        let last = match asked {
            Ok((200, body)) if is_whole(&body) => return Ok(()),
            Ok((status, _)) => format!("the page answers {status}, or not yet with details and reviews"),
            Err(error) => format!("{error:#}"),
        };
        if started.elapsed() > limit {
            bail!("the page is not up after {limit:?}: {last}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_whole(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    text.contains("Reviews served by") && text.contains("ISBN")
}

fn print_banner(dir: &Path, gateway: SocketAddr) {
    println!("\n  page       http://{gateway}/productpage   (sign in as jason for black stars)");
    println!("  manifests  {}   (edit 40-reviews.yaml, save, reload the page)", dir.display());
    println!("  logs       {}", dir.join("logs").display());
    println!("  ask        sluicectl --control-plane http://{} proxy-status", at(pod_ip(250), 15014));
    println!("             sluicectl --admin http://{} proxy-config routes", at(pod_ip(1), 15000));
    println!("  stop       Ctrl-C\n");
}

/// The processes of the demo, in the order in which they were started.
#[derive(Default)]
struct Parts {
    running: Vec<(String, Child, PathBuf)>,
}

impl Parts {
    fn start(&mut self, program: &str, logs: &Path, args: &[String]) -> Result<()> {
        self.start_named(program, program, logs, args)
    }

    fn start_named(&mut self, program: &str, name: &str, logs: &Path, args: &[String]) -> Result<()> {
        let path = beside_us(program)?;
        let log = logs.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = ending_with_us(&path)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", path.display()))?;
        self.running.push((name.to_owned(), child, log));
        Ok(())
    }

    /// An error when a part has ended, with the end of its log.
    fn check(&mut self) -> Result<()> {
        for (name, child, log) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                let text = std::fs::read_to_string(&*log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                bail!("{name} ended with {status}:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
            }
        }
        Ok(())
    }

    async fn first_end(&mut self) -> Result<()> {
        loop {
            self.check()?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn stop(&mut self) {
        for (_, child, _) in &mut self.running {
            // Already ended is as good as killed.
            let _ = child.kill().await;
        }
    }
}

/// A command whose process ends when we do, however that comes about: else a demo that was killed would keep its ports.
fn ending_with_us(program: &Path) -> Command {
    let can = std::process::Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn beside_us(program: &str) -> Result<PathBuf> {
    let us = std::env::current_exe().context("path of this program")?;
    let path = us.with_file_name(program);
    if !path.is_file() {
        bail!("{} is not built; `make demo` builds it", path.display());
    }
    Ok(path)
}
