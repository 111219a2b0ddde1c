//! Constant load from a pod of the mesh and through the gateway, while parts are restarted: no request is lost.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use suite::cluster::Cluster;
use testkit::wait;

use crate::{BOOKINFO, OUTSIDE, ROOT, bookinfo, step};

/// Both loads together send twice as many requests per second.
const RATE: u32 = 15;
/// After each disturbance the load goes on for so long: what breaks late is seen too.
const AFTER: Duration = Duration::from_secs(8);
const LONG: Duration = Duration::from_secs(180);

struct Load<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    name: &'a str,
    /// Failures that were told already.
    told: Cell<usize>,
}

impl<'a> Load<'a> {
    fn start(cluster: &'a Cluster, namespace: &'a str, name: &'a str, url: &str) -> Result<Self> {
        let rate = RATE.to_string();
        let injected = namespace == BOOKINFO;
        // Between pods the host is the service's: any other is a stranger's to the mesh, and goes out as it is.
        let host = if injected { "productpage:9080" } else { "bookinfo.example.com" };
        cluster.kubectl(&["delete", "pod", "--namespace", namespace, name, "--ignore-not-found"], "")?;
        cluster.apply(
            namespace,
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}, \
                 sidecar.istio.io/inject: \"{injected}\"}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n  \
                 containers:\n  - name: app\n    image: sluice/bookinfo:dev\n    imagePullPolicy: IfNotPresent\n    \
                 args: [load, \"{url}\", --host, \"{host}\", --rate, \"{rate}\", --connections, \"6\", --every-second, \
                 --contains, Reviews served by, --contains, ISBN, --lacks, Sorry, --lacks, currently unavailable]\n"
            ),
        )?;
        Ok(Self { cluster, namespace, name, told: Cell::new(0) })
    }

    /// What it counted so far.
    fn report(&self) -> Result<Value> {
        let args = ["logs", "--namespace", self.namespace, self.name, "--container", "app", "--tail=1"];
        let line = self.cluster.kubectl(&args, "")?;
        serde_json::from_str(&line).with_context(|| format!("{}: {line}", self.name))
    }

    fn stop(&self) {
        // The namespace goes in the end.
        let _ = self.cluster.kubectl(&["delete", "pod", "--namespace", self.namespace, self.name, "--wait=false"], "");
    }
}

struct Loads<'a>([Load<'a>; 2]);

impl<'a> Loads<'a> {
    async fn start(cluster: &'a Cluster) -> Result<Self> {
        let inside = Load::start(cluster, BOOKINFO, "load-inside", "http://productpage:9080/productpage")?;
        let gateway = format!("http://istio-ingressgateway.{ROOT}/productpage");
        let loads = Self([inside, Load::start(cluster, OUTSIDE, "load-gateway", &gateway)?]);
        loads.go_on(Duration::from_secs(6)).await?;
        Ok(loads)
    }

    /// Waits until so much more was sent, then looks.
    async fn go_on(&self, time: Duration) -> Result<()> {
        let goals = self.0.iter().map(|load| sent(load) + u64::from(RATE) * time.as_secs()).collect::<Vec<_>>();
        wait::until("the load goes on", LONG, || async {
            for (load, goal) in self.0.iter().zip(&goals) {
                let done = sent(load);
                if done < *goal {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    bail!("{} of {goal} requests of {}", done, load.name);
                }
            }
            Ok(())
        })
        .await
    }

    /// The counts, and an error when a request was lost.
    fn judge(&self, what: &str) -> Result<()> {
        let mut lost = Vec::new();
        for load in &self.0 {
            let report = load.report()?;
            println!(
                "e2e:           {what}: {}: {} requests, {} failed, statuses {}, p50 {} ms, p99 {} ms, slowest {} ms",
                load.name,
                report["requests"],
                report["failures"],
                report["statuses"],
                report["p50_ms"],
                report["p99_ms"],
                report["max_ms"]
            );
            let failed = report["failed"].as_array().context("failed")?;
            let since = load.told.replace(failed.len());
            if failed.len() > since {
                lost.push(format!("{}: {}", load.name, serde_json::to_string(&failed[since..])?));
            }
        }
        if lost.is_empty() { Ok(()) } else { bail!("{what}: requests were lost: {}", lost.join("; ")) }
    }
}

fn sent(load: &Load<'_>) -> u64 {
    load.report().ok().and_then(|report| report["requests"].as_u64()).unwrap_or(0)
}

pub(crate) async fn walk(cluster: &Cluster, is_smoke: bool) -> Result<()> {
    bookinfo::forget(cluster)?;
    let loads = step("load from a pod and through the gateway", Loads::start(cluster)).await?;
    let outcome = disturb(cluster, &loads, is_smoke).await;
    for load in &loads.0 {
        load.stop();
    }
    outcome
}

/// Every disturbance is made even when one before it lost requests: the list is what helps.
async fn disturb(cluster: &Cluster, loads: &Loads<'_>, is_smoke: bool) -> Result<()> {
    let mut lost = Vec::new();
    let mut note = |what: &str, outcome: Result<()>| {
        let outcome = outcome.and_then(|()| loads.judge(what));
        if let Err(error) = outcome {
            println!("e2e: LOST: {error:#}");
            lost.push(format!("{error:#}"));
        }
    };
    note("nothing", loads.go_on(AFTER).await);
    note("the control plane is rolled", step("roll the control plane", roll_control_plane(cluster, loads)).await);
    note("Bookinfo is scaled and rolled", step("scale and roll Bookinfo", roll_bookinfo(cluster, loads)).await);
    if cluster.node_is_ours {
        note("kill -9 of a replica", step("kill -9 of a control plane replica", kill_replica(cluster, loads)).await);
        let away = Duration::from_secs(if is_smoke { 15 } else { 120 });
        note(
            "the API server is away",
            step("the API server is away, and comes back", api_server(cluster, loads, away)).await,
        );
    } else {
        suite::skip::skip(
            "e2e/kill",
            "the node is not ours: nobody kills a replica or the API server of a stranger's cluster",
        );
    }
    if !is_smoke {
        note("certificates are renewed", step("certificates are renewed", certificates(cluster, loads)).await);
    }
    if lost.is_empty() { Ok(()) } else { bail!("{}", lost.join("\n")) }
}

async fn roll_control_plane(cluster: &Cluster, loads: &Loads<'_>) -> Result<()> {
    cluster.kubectl(&["rollout", "restart", "--namespace", ROOT, "deployment/sluiced"], "")?;
    cluster.kubectl(&["rollout", "status", "--namespace", ROOT, "deployment/sluiced", "--timeout=180s"], "")?;
    loads.go_on(AFTER).await
}

async fn roll_bookinfo(cluster: &Cluster, loads: &Loads<'_>) -> Result<()> {
    let all = ["details-v1", "productpage-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3"];
    for (replicas, name) in [("3", "reviews-v1"), ("2", "productpage-v1"), ("2", "details-v1")] {
        let replicas = format!("--replicas={replicas}");
        cluster.kubectl(&["scale", "--namespace", BOOKINFO, &format!("deployment/{name}"), &replicas], "")?;
    }
    cluster.wait_for_rollout(BOOKINFO)?;
    for name in all {
        cluster.kubectl(&["rollout", "restart", "--namespace", BOOKINFO, &format!("deployment/{name}")], "")?;
    }
    cluster.wait_for_rollout(BOOKINFO)?;
    for name in all {
        cluster.kubectl(&["scale", "--namespace", BOOKINFO, &format!("deployment/{name}"), "--replicas=1"], "")?;
    }
    cluster.wait_for_rollout(BOOKINFO)?;
    loads.go_on(AFTER).await
}

async fn kill_replica(cluster: &Cluster, loads: &Loads<'_>) -> Result<()> {
    let pods = cluster.kubectl(&["get", "pods", "--namespace", ROOT, "--selector=app=sluiced", "--output=name"], "")?;
    let pod = pods.lines().next().and_then(|name| name.strip_prefix("pod/")).context("a replica")?;
    cluster.node(&["kill", ROOT, pod, "discovery"])?;
    loads.go_on(AFTER).await?;
    cluster.kubectl(&["rollout", "status", "--namespace", ROOT, "deployment/sluiced", "--timeout=180s"], "").map(drop)
}

// While it is away nobody can be asked for counts; the time itself is what matters. The controllers end with it, as they
// do everywhere when they cannot renew their lease: one that went on would take the silence for the node's, and call
// every pod unready as soon as the API server is back.
async fn api_server(cluster: &Cluster, loads: &Loads<'_>, away: Duration) -> Result<()> {
    let before = renewed(cluster)?;
    cluster.node(&["stop", "kube-controller-manager"])?;
    cluster.node(&["stop", "kube-apiserver"])?;
    tokio::time::sleep(away).await;
    cluster.node(&["start", "kube-apiserver"])?;
    wait::until("the API server", LONG, || async { cluster.kubectl(&["get", "--raw", "/readyz"], "").map(drop) })
        .await?;
    cluster.node(&["start", "kube-controller-manager"])?;
    leads_again(cluster, &before).await?;
    loads.go_on(AFTER).await
}

// When the replica that leads last said so.
fn renewed(cluster: &Cluster) -> Result<String> {
    let said = "jsonpath={.spec.holderIdentity} {.spec.renewTime}";
    let lease = cluster.kubectl(&["get", "lease", "--namespace", ROOT, "sluice-leader", "--output", said], "")?;
    match lease.split_once(' ') {
        Some((holder, time)) if !holder.is_empty() => Ok(time.to_owned()),
        _ => bail!("nobody holds the Lease: {lease:?}"),
    }
}

// No leader lives through the silence; one stands again, and writes what becomes of a new object.
async fn leads_again(cluster: &Cluster, before: &str) -> Result<()> {
    wait::until("a replica leads again", LONG, || async {
        let now = renewed(cluster)?;
        if now == before { bail!("the Lease is as old as it was: {now}") } else { Ok(()) }
    })
    .await?;
    let name = "after-the-silence";
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  \
         hosts: [{name}.example.com]\n  http: [{{route: [{{destination: {{host: reviews}}}}]}}]\n"
    );
    // Webhooks fail closed until the API server has found their endpoints again.
    wait::until("an object is admitted", LONG, || async { cluster.apply(BOOKINFO, &rule) }).await?;
    let object = format!("virtualservice/{name}");
    let programmed = ["wait", "--for=condition=Programmed", "--timeout=120s", "--namespace", BOOKINFO, &object];
    cluster.kubectl(&programmed, "").context("nobody writes the status of a new object")?;
    cluster.kubectl(&["delete", "--namespace", BOOKINFO, &object], "").map(drop)
}

// The suite's release makes certificates that are renewed after half a minute.
async fn certificates(cluster: &Cluster, loads: &Loads<'_>) -> Result<()> {
    let pods = cluster.kubectl(
        &[
            "get",
            "pods",
            "--namespace",
            BOOKINFO,
            "--selector=app=productpage",
            "--output=jsonpath={.items[0].metadata.name}",
        ],
        "",
    )?;
    let serial = || cluster.exec(BOOKINFO, "client", &["/bookinfo", "get", "http://127.0.0.1:15000/certs"]);
    let first = serial().with_context(|| pods.clone())?;
    wait::until("another certificate", LONG, || async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if serial()? != first { Ok(()) } else { bail!("the same certificate") }
    })
    .await?;
    loads.go_on(Duration::from_secs(60)).await
}
