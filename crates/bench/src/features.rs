//! What a feature costs: CPU time per request of our proxy for the same call, with one feature each, interleaved.
//!
//! Every feature has a service of its own in one world, so that all are asked of the same process in the same round; the
//! cost is told against the service that has none.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::process::{Process, free_address, program};
use testkit::wait;
use tokio::process::Command;

use crate::table::{markdown, median};
use crate::{cpu, load, peers};

const CONNECTIONS: usize = 32;
const BODY_BYTES: usize = 100;
/// Requests that are counted under callgrind, which is slow.
const COUNTED: u64 = 500;
/// The service without any feature.
const BASE: &str = "base";

/// A feature as a user writes it: a part of the HTTP rule, of the DestinationRule's `trafficPolicy`, or of the spec of a
/// RateLimitPolicy.
struct Feature {
    name: &'static str,
    rule: &'static str,
    policy: &'static str,
    limits: &'static str,
}

const fn of_rule(name: &'static str, rule: &'static str) -> Feature {
    Feature { name, rule, policy: "", limits: "" }
}

const fn of_policy(name: &'static str, policy: &'static str) -> Feature {
    Feature { name, rule: "", policy, limits: "" }
}

const fn of_limits(name: &'static str, limits: &'static str) -> Feature {
    Feature { name, rule: "", policy: "", limits }
}

/// In the order of the table.
const FEATURES: &[Feature] = &[
    of_rule(BASE, ""),
    of_rule("match-header", "match: [{headers: {user-agent: {exact: bench}}}]"),
    of_rule("match-regex", "match: [{uri: {regex: '/[a-z]+/.*'}, headers: {user-agent: {regex: 'b.*h'}}}]"),
    of_rule("timeout", "timeout: 5s"),
    of_rule("retries", "retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx,reset'}"),
    of_rule("rewrite", "rewrite: {uri: /other, authority: other.example.com}"),
    of_rule("rewrite-regex", r"rewrite: {uriRegexRewrite: {match: '^/([a-z]+)/(.*)$', rewrite: '/\2/\1'}}"),
    of_rule("headers", "headers: {request: {set: {x-a: b}, remove: [x-two]}, response: {add: {x-c: d}}}"),
    of_rule("cors", "corsPolicy: {allowOrigins: [{exact: 'https://example.com'}], allowMethods: [GET]}"),
    of_rule("fault", "fault: {abort: {percentage: {value: 0.0001}, httpStatus: 503}}"),
    of_rule("mirror", "mirror: {host: base}"),
    of_policy("round-robin", "loadBalancer: {simple: ROUND_ROBIN}"),
    of_policy("consistent-hash", "loadBalancer: {consistentHash: {httpHeaderName: x-one}}"),
    of_policy("outlier", "outlierDetection: {consecutive5xxErrors: 5, interval: 5s}"),
    of_policy(
        "pool",
        "connectionPool: {tcp: {maxConnections: 1000}, http: {http1MaxPendingRequests: 1000, http2MaxRequests: 1000}}",
    ),
    of_limits("rate-limit", "limits: [{requests: 1000000}]"),
    of_limits("rate-limit-by-header", "limits: [{requests: 1000000, key: {header: x-one}}]"),
];

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Counted rounds.
    pub rounds: usize,
    /// Requests per feature and round.
    pub requests: u64,
}

/// Runs all features and prints the table.
pub async fn run(plan: &Plan) -> Result<()> {
    let stage = Stage::set(210).await?;
    let peer = peers::sluice(stage.target, stage.xds, stage.admin, stage.status)?;
    for feature in FEATURES {
        ready(stage.target, feature).await?;
    }
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); FEATURES.len()];
    for _ in 0..plan.rounds {
        for (index, feature) in FEATURES.iter().enumerate() {
            let before = cpu::tree_seconds(peer.pid()?)?;
            let ran = ask(stage.target, feature, CONNECTIONS, plan.requests).await?;
            costs[index].push((cpu::tree_seconds(peer.pid()?)? - before) * 1e6 / ran.requests as f64);
        }
    }
    peer.stop().await;
    let mut rows = Vec::new();
    let mut base = None;
    for (index, (feature, cost)) in FEATURES.iter().zip(&costs).enumerate() {
        let over: Vec<f64> = cost.iter().zip(&costs[0]).map(|(with, without)| with - without).collect();
        let mut row = vec![feature.name.to_owned(), format!("{:.1}", median(cost)), format!("{:+.1}", median(&over))];
        // Without valgrind the time has to do.
        let each = per_request(&program("sluice-proxy")?, index, plan.requests.min(COUNTED)).await.ok();
        base = base.or(each);
        row.push(each.map_or("-".to_owned(), |each| format!("{each:.0}")));
        row.push(
            each.zip(base).map_or("-".to_owned(), |(each, base)| format!("{:+.1} %", (each / base - 1.0) * 100.0)),
        );
        rows.push(row);
    }
    println!("\n### What a feature costs, HTTP/1.1 keep-alive, {BODY_BYTES}-byte bodies, {CONNECTIONS} connections\n");
    let head = ["feature", "CPU us/request", "more than base", "instructions/request", "more than base"];
    println!("{}", markdown(&head, &rows));
    Ok(())
}

/// Instructions per request on the base path, counted by callgrind: the same for the same program, however busy the
/// machine is. What starting and stopping cost is taken out by counting a short and a long run.
pub async fn instructions(proxy: &std::path::Path, requests: u64) -> Result<()> {
    let each = per_request(proxy, 0, requests).await?;
    println!("{each:.0} instructions per request ({})", proxy.display());
    Ok(())
}

async fn per_request(proxy: &std::path::Path, feature: usize, requests: u64) -> Result<f64> {
    let short = counted(proxy, feature, 211, requests).await?;
    let long = counted(proxy, feature, 212, 3 * requests).await?;
    Ok((long.saturating_sub(short)) as f64 / (2 * requests) as f64)
}

async fn counted(proxy: &std::path::Path, feature: usize, third: u8, requests: u64) -> Result<u64> {
    let feature = &FEATURES[feature];
    let stage = Stage::set(third).await?;
    let out = stage.folder.path().join("callgrind.out");
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())])
        .arg(proxy)
        .args(peers::sluice_args(stage.target, stage.xds, stage.admin, stage.status))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("valgrind is not installed")?;
    ready(stage.target, feature).await?;
    ask(stage.target, feature, 1, requests).await?;
    let pid = child.id().context("it has ended")?;
    let stopped = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
    if !stopped.success() {
        bail!("the proxy under callgrind has gone");
    }
    child.wait().await?;
    let text = std::fs::read_to_string(&out).with_context(|| format!("read {}", out.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    Ok(total.context("callgrind wrote no total")?.trim().parse()?)
}

/// A control plane with the world of all features, and backends.
struct Stage {
    folder: tempfile::TempDir,
    target: SocketAddr,
    xds: SocketAddr,
    admin: SocketAddr,
    status: SocketAddr,
    _control: Process,
    _backends: Vec<tokio::task::JoinSet<()>>,
}

impl Stage {
    async fn set(third: u8) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let backends: Vec<SocketAddr> = (1..=2).map(|n| SocketAddr::from(([127, 201, third, n], 9080))).collect();
        let mut running = Vec::new();
        for address in &backends {
            running.push(load::backend(*address, BODY_BYTES).await?);
        }
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        std::fs::write(manifests.join("world.yaml"), world(&backends))?;
        let free = || free_address("127.0.0.1");
        let (xds, http) = (free()?, free()?);
        let dir = manifests.to_string_lossy().into_owned();
        let args = ["--config-dir", &dir, "--xds-address", &xds.to_string(), "--http-address", &http.to_string()]
            .map(str::to_owned);
        let control = Process::start(&program("sluiced")?, args)?;
        let (target, admin, status) = (free()?, free()?, free()?);
        Ok(Self { folder, target, xds, admin, status, _control: control, _backends: running })
    }
}

fn world(backends: &[SocketAddr]) -> String {
    let endpoints: String = backends
        .iter()
        .map(|one| format!("  - {{address: {}, ports: {{http: {}}}}}\n", one.ip(), one.port()))
        .collect();
    let mut text = String::new();
    for Feature { name, rule, policy, limits } in FEATURES {
        let host = format!("{name}.default.svc.cluster.local");
        let _ = write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default}}\n\
             spec:\n  hosts: [{host}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: 9080, name: http, protocol: HTTP}}]\n  endpoints:\n{endpoints}\
             ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: default}}\n\
             spec:\n  hosts: [{host}]\n  http:\n  - route: [{{destination: {{host: {host}}}}}]\n    {rule}\n"
        );
        if !policy.is_empty() {
            let _ = write!(
                text,
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: default}}\n\
                 spec:\n  host: {host}\n  trafficPolicy:\n    {policy}\n"
            );
        }
        if !limits.is_empty() {
            let _ = write!(
                text,
                "---\napiVersion: networking.sluice.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
                 spec:\n  hosts: [{host}]\n  {limits}\n"
            );
        }
    }
    text
}

async fn ask(target: SocketAddr, feature: &Feature, connections: usize, requests: u64) -> Result<load::Ran> {
    let host = format!("{}.default.svc.cluster.local:9080", feature.name);
    load::closed(target, &host, "/route/x", connections, requests, BODY_BYTES).await
}

async fn ready(target: SocketAddr, feature: &Feature) -> Result<()> {
    wait::until(&format!("{} answers", feature.name), Duration::from_secs(60), || ask(target, feature, 1, 1)).await?;
    ask(target, feature, CONNECTIONS, 320).await?;
    Ok(())
}
