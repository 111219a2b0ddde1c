//! Data plane: CPU time per request of our proxy and its peers, interleaved, one pinned worker each.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use testkit::process::{Process, free_address, program};
use testkit::wait;

use crate::peers::{self, Peer};
use crate::table::{markdown, median, percentile};
use crate::{cpu, load};

/// Client connections.
const CONNECTIONS: usize = 32;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Counted rounds.
    pub rounds: usize,
    /// Requests per peer and round.
    pub requests: u64,
    /// Routes that our proxy and Envoy have.
    pub routes: usize,
}

/// Runs the comparison for each body size and prints the tables.
pub async fn run(plan: &Plan) -> Result<()> {
    for body in [100, 1024] {
        println!("\n### HTTP/1.1 keep-alive, {body}-byte bodies, {} routes, {CONNECTIONS} connections\n", plan.routes);
        println!("{}", compare(plan, body).await?);
    }
    Ok(())
}

async fn compare(plan: &Plan, body: usize) -> Result<String> {
    let folder = tempfile::tempdir()?;
    // Addresses of their own: those of the round before may not be free yet.
    let third = (body % 251) as u8;
    let backends: Vec<SocketAddr> = (1..=2).map(|n| SocketAddr::from(([127, 200, third, n], 9080))).collect();
    let mut running = Vec::new();
    for address in &backends {
        running.push(load::backend(*address, body).await?);
    }
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests)?;
    std::fs::write(manifests.join("world.yaml"), crate::world::routes(plan.routes, &backends))?;
    let (xds, http) = (free_address("127.0.0.1")?, free_address("127.0.0.1")?);
    let dir = manifests.to_string_lossy().into_owned();
    let args = ["--config-dir", &dir, "--xds-address", &xds.to_string(), "--http-address", &http.to_string()]
        .map(str::to_owned);
    let _control = Process::start(&program("sluiced")?, args)?;
    let all = start_all(folder.path(), xds, &backends)?;
    for peer in &all {
        ready(peer, body).await?;
    }
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    let mut rates = costs.clone();
    let mut tails = costs.clone();
    for _ in 0..plan.rounds {
        for (index, peer) in all.iter().enumerate() {
            let before = cpu::tree_seconds(peer.pid()?)?;
            let ran = load::closed(
                peer.target,
                "bench.default.svc.cluster.local:9080",
                "/route-99/x",
                CONNECTIONS,
                plan.requests,
                body,
            )
            .await?;
            let used = cpu::tree_seconds(peer.pid()?)? - before;
            costs[index].push(used * 1e6 / ran.requests as f64);
            rates[index].push(ran.requests as f64 / ran.wall.as_secs_f64());
            let latencies: Vec<f64> = ran.latencies_us.iter().map(|us| f64::from(*us)).collect();
            tails[index].push(percentile(&latencies, 99.0));
        }
    }
    let names: Vec<String> = all.iter().map(|peer| peer.name.clone()).collect();
    let memory: Vec<f64> = all.iter().map(|peer| peer.pid().and_then(cpu::resident_mib).unwrap_or(0.0)).collect();
    for peer in all {
        peer.stop().await;
    }
    Ok(render(&names, &costs, &rates, &tails, &memory))
}

fn start_all(folder: &std::path::Path, xds: SocketAddr, backends: &[SocketAddr]) -> Result<Vec<Peer>> {
    let free = || free_address("127.0.0.1");
    Ok(vec![
        peers::sluice(free()?, xds, free()?, free()?)?,
        peers::envoy(folder, free()?, xds, free()?)?,
        peers::haproxy(folder, free()?, backends)?,
        peers::nginx(folder, free()?, backends)?,
    ])
}

// Up, and warmed with a few thousand requests that do not count.
async fn ready(peer: &Peer, body: usize) -> Result<()> {
    wait::until(&format!("{} answers", peer.name), Duration::from_secs(20), || {
        load::closed(peer.target, "bench.default.svc.cluster.local:9080", "/route-99/x", 1, 1, body)
    })
    .await?;
    load::closed(peer.target, "bench.default.svc.cluster.local:9080", "/route-99/x", CONNECTIONS, 3200, body).await?;
    Ok(())
}

fn render(names: &[String], costs: &[Vec<f64>], rates: &[Vec<f64>], tails: &[Vec<f64>], memory: &[f64]) -> String {
    let row = |index: usize| {
        // Ours over theirs, round by round: what drifts with the machine cancels out.
        let ratios: Vec<f64> = costs[0].iter().zip(&costs[index]).map(|(ours, theirs)| ours / theirs).collect();
        vec![
            names[index].clone(),
            format!("{:.1}", median(&costs[index])),
            format!("{:.2}", median(&ratios)),
            format!("{:.0}", median(&rates[index])),
            format!("{:.0}", median(&tails[index])),
            format!("{:.0}", memory[index]),
        ]
    };
    let rows: Vec<Vec<String>> = (0..names.len()).map(row).collect();
    markdown(&["proxy", "CPU us/request", "ours / theirs", "requests/s", "p99 us (closed loop)", "MiB"], &rows)
}
