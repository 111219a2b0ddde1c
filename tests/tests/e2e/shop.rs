//! The shop's tutorial: a gateway with TLS, a canary, headers, retries, faults, A/B; all objects at once, where they shadow
//! each other as in Istio (S31), and one at a time, where each shows what was promised.

use std::process::Command;

use anyhow::{Context, Result, bail};
use suite::cluster::{Cluster, Page};
use testkit::wait;

use crate::{ROOT, SHOP, SOON, fits, split, step, until_split};

const HOST: &str = "ecommerce.example.com";
const SECRET: &str = "ecommerce-tls-cert";

/// What the tutorial takes as there: the first version, and the Service.
const FRONTEND: &str = "\
apiVersion: v1
kind: Service
metadata: {name: ecommerce-frontend}
spec: {selector: {app: ecommerce-frontend}, ports: [{name: http, port: 80, targetPort: 3000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ecommerce-frontend-v1}
spec:
  selector: {matchLabels: {app: ecommerce-frontend, version: v1}}
  template:
    metadata: {labels: {app: ecommerce-frontend, version: v1}}
    spec:
      containers:
      - name: ecommerce-frontend
        image: sluice/bookinfo:dev
        imagePullPolicy: IfNotPresent
        args: [echo, ecommerce-frontend, --version, v1, --listen, \"0.0.0.0:3000\"]
        ports: [{containerPort: 3000}]
";

fn version(page: &Page) -> String {
    page.version()
}

pub(crate) async fn walk(cluster: &Cluster, is_smoke: bool) -> Result<()> {
    step("the shop's first version, its Gateway (21, 22)", open(cluster)).await?;
    step("TLS at the gateway with a Secret by kubectl", tls(cluster)).await?;
    step("the second version as the tutorial deploys it (30, 31)", second(cluster)).await?;
    step("all objects at once: the oldest catch-all and the headers (S31)", together(cluster)).await?;
    step("canary 90/10, then 75/25 (32, 33)", canary(cluster)).await?;
    step("canary by header (25)", by_header(cluster)).await?;
    if !is_smoke {
        step("retries, delay, abort (27-29)", faults(cluster)).await?;
        step("A/B by header (34)", ab(cluster)).await?;
    }
    step("circuit breakers by another name (23, 26)", breaker(cluster)).await?;
    cluster.forget_rules(SHOP)?;
    cluster.kubectl(&["delete", "secret", SECRET, "--namespace", ROOT, "--ignore-not-found"], "").map(drop)
}

async fn open(cluster: &Cluster) -> Result<()> {
    cluster.apply(SHOP, FRONTEND)?;
    cluster.wait_for_rollout(SHOP)?;
    cluster.seed(SHOP, "21")?;
    cluster.seed(SHOP, "22")?;
    until_split(cluster, "the shop answers", (HOST, "/", &[]), version, &[("v1", 100)]).await
}

async fn tls(cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (key, cert) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
    let (key, cert) = (key.to_string_lossy(), cert.to_string_lossy());
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=ecommerce.example.com",
            "-addext",
            "subjectAltName=DNS:ecommerce.example.com",
            "-keyout",
            &key,
            "-out",
            &cert,
        ],
    )?;
    cluster.kubectl(&["delete", "secret", SECRET, "--namespace", ROOT, "--ignore-not-found"], "")?;
    let (key_option, cert_option) = (format!("--key={key}"), format!("--cert={cert}"));
    cluster.kubectl(&["create", "secret", "tls", SECRET, "--namespace", ROOT, &key_option, &cert_option], "")?;
    let (ip, port) = (cluster.gateway_tls.ip(), cluster.gateway_tls.port());
    let (resolve, url) = (format!("{HOST}:{port}:{ip}"), format!("https://{HOST}:{port}/"));
    wait::until("HTTPS with that certificate", SOON, || async {
        let said = run("curl", &["-sS", "--max-time", "5", "--cacert", &cert, "--resolve", &resolve, &url])?;
        if said.contains("ecommerce-frontend") { Ok(()) } else { bail!("{said}") }
    })
    .await
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn second(cluster: &Cluster) -> Result<()> {
    cluster.seed(SHOP, "30")?;
    cluster.seed(SHOP, "31")?;
    cluster.wait_for_rollout(SHOP)
}

// v1 has one pod and v2 three: without subsets a quarter goes to v1.
async fn together(cluster: &Cluster) -> Result<()> {
    for prefix in ["24", "25", "27", "28", "29", "34"] {
        cluster.seed(SHOP, prefix)?;
    }
    until_split(cluster, "the canary by header acts", (HOST, "/", &[("canary", "true")]), version, &[("v2", 100)])
        .await?;
    until_split(cluster, "the oldest catch-all", (HOST, "/", &[]), version, &[("v1", 25), ("v2", 75)]).await?;
    until_split(cluster, "A/B has no such subset", (HOST, "/", &[("user-type", "premium")]), version, &[("503", 100)])
        .await
}

/// One object of the shop beside its Gateway, its DestinationRule and nothing else.
fn alone(cluster: &Cluster, prefix: &str) -> Result<()> {
    let kind = "virtualservices.networking.istio.io";
    cluster.kubectl(&["delete", "--namespace", SHOP, kind, "--all", "--ignore-not-found"], "")?;
    cluster.seed(SHOP, prefix).map(drop)
}

async fn canary(cluster: &Cluster) -> Result<()> {
    alone(cluster, "32")?;
    until_split(cluster, "90/10", (HOST, "/", &[]), version, &[("v1", 90), ("v2", 10)]).await?;
    cluster.seed(SHOP, "33")?;
    until_split(cluster, "75/25", (HOST, "/", &[]), version, &[("v1", 75), ("v2", 25)]).await
}

async fn by_header(cluster: &Cluster) -> Result<()> {
    alone(cluster, "25")?;
    until_split(cluster, "with the header", (HOST, "/", &[("canary", "true")]), version, &[("v2", 100)]).await?;
    until_split(cluster, "without", (HOST, "/", &[]), version, &[("v1", 100)]).await
}

async fn faults(cluster: &Cluster) -> Result<()> {
    alone(cluster, "27")?;
    until_split(cluster, "retries", (HOST, "/", &[]), version, &[("v1", 25), ("v2", 75)]).await?;
    alone(cluster, "28")?;
    wait::until("half of the marked wait 5 s", SOON * 3, || async {
        let slow = |page: &Page| if page.took.as_secs_f64() >= 4.9 { "slow".to_owned() } else { "fast".to_owned() };
        fits(
            &split(cluster, (HOST, "/", &[("fault-injection", "delay")]), 8, slow).await?,
            &[("slow", 50), ("fast", 50)],
        )
    })
    .await?;
    alone(cluster, "29")?;
    let status = |page: &Page| page.status.to_string();
    let wanted = [("500", 25), ("200", 75)];
    until_split(
        cluster,
        "a quarter of the marked fails",
        (HOST, "/", &[("fault-injection", "abort")]),
        status,
        &wanted,
    )
    .await?;
    until_split(cluster, "nobody else", (HOST, "/", &[]), status, &[("200", 100)]).await
}

async fn ab(cluster: &Cluster) -> Result<()> {
    alone(cluster, "34")?;
    until_split(cluster, "half each", (HOST, "/", &[]), version, &[("v1", 50), ("v2", 50)]).await?;
    until_split(cluster, "no such subset", (HOST, "/", &[("user-type", "standard")]), version, &[("503", 100)]).await
}

// A field that Istio never had, and that our definitions take for `outlierDetection`; whole, it must not harm.
async fn breaker(cluster: &Cluster) -> Result<()> {
    for prefix in ["23", "26"] {
        cluster.seed(SHOP, prefix)?;
    }
    alone(cluster, "22")?;
    until_split(cluster, "the shop answers", (HOST, "/", &[]), version, &[("v1", 25), ("v2", 75)]).await
}
