//! Bookinfo's tutorials, in their order and one object at a time: what the reader of the page is promised.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use suite::cluster::{Cluster, Page};
use testkit::process::workspace;
use testkit::wait;

use crate::{BOOKINFO, MANY, OUTSIDE, ROOT, SHOP, SOON, Split, fits, split, step};

const SORRY: &str = "Sorry, product reviews are currently unavailable";
const NO_STARS: &str = "Ratings service is currently unavailable";

/// Istio's own sample of this name: every version of every service is a subset.
const ALL_RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: productpage}
spec: {host: productpage, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: details}
spec: {host: details, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings}
spec: {host: ratings, subsets: [{name: v1, labels: {version: v1}}]}
";

/// A pod that sends what the suite tells it to; `inject` says whether it has a sidecar.
pub(crate) fn client(name: &str, inject: bool) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}, sidecar.istio.io/inject: \"{inject}\"}}}}\n\
         spec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: app\n    image: sluice/bookinfo:dev\n    \
         imagePullPolicy: IfNotPresent\n    args: [echo, {name}]\n"
    )
}

pub(crate) async fn deploy(cluster: &Cluster) -> Result<()> {
    for (namespace, injected) in [(BOOKINFO, true), (SHOP, true), (OUTSIDE, false)] {
        let label = if injected { "enabled" } else { "disabled" };
        let namespace = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{istio-injection: {label}}}}}\n"
        );
        cluster.kubectl(&["apply", "-f", "-"], &namespace)?;
    }
    // What a run that was cut off has left.
    cluster.forget_rules(SHOP)?;
    forget(cluster)?;
    let kind = "peerauthentications.security.istio.io";
    cluster.kubectl(&["delete", kind, "default", "--namespace", ROOT, "--ignore-not-found"], "")?;
    cluster.apply(BOOKINFO, &std::fs::read_to_string(workspace().join("deploy/samples/bookinfo/bookinfo.yaml"))?)?;
    cluster.apply(BOOKINFO, &client("client", true))?;
    cluster.apply(OUTSIDE, &client("client", false))?;
    cluster.wait_for_rollout(BOOKINFO)?;
    for namespace in [BOOKINFO, OUTSIDE] {
        cluster
            .kubectl(&["wait", "--namespace", namespace, "--for=condition=Ready", "pod/client", "--timeout=60s"], "")?;
    }
    let pods = cluster.kubectl(&["get", "pods", "--namespace", BOOKINFO, "--no-headers"], "")?;
    if let Some(line) = pods.lines().find(|line| line.split_whitespace().nth(1) != Some("2/2")) {
        bail!("every pod has its sidecar, READY 2/2: {line}");
    }
    wait::until("the page at the gateway", SOON, || async {
        let page = read(cluster, "").await?;
        if page.text.contains("ISBN") && page.reviews() != "none" { Ok(()) } else { bail!("status {}", page.status) }
    })
    .await
}

/// From here on nobody without an identity of the mesh is let in.
pub(crate) async fn strict(cluster: &Cluster) -> Result<()> {
    let plain = || cluster.exec(OUTSIDE, "client", &ten_of(&format!("http://reviews.{BOOKINFO}:9080/reviews/0")));
    wait::until("plaintext is let in: PERMISSIVE is the default", SOON, || async {
        if failures(&plain()?)? == 0 { Ok(()) } else { bail!("plaintext is refused") }
    })
    .await?;
    cluster.apply(
        ROOT,
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n",
    )?;
    wait::until("plaintext is refused", SOON, || async {
        if failures(&plain()?)? == 10 { Ok(()) } else { bail!("plaintext is answered") }
    })
    .await?;
    let own = cluster.exec(BOOKINFO, "client", &ten_of("http://reviews:9080/reviews/0"))?;
    if failures(&own)? != 0 {
        bail!("a pod of the mesh is refused: {own}");
    }
    Ok(())
}

fn ten_of(url: &str) -> [&str; 9] {
    ["/bookinfo", "load", url, "--rate", "10", "--seconds", "1", "--connections", "10"]
}

fn failures(report: &str) -> Result<u64> {
    let report: serde_json::Value = serde_json::from_str(report).with_context(|| report.to_owned())?;
    report["failures"].as_u64().context("failures")
}

pub(crate) async fn read(cluster: &Cluster, user: &str) -> Result<Page> {
    let cookie = format!("session={user}");
    let headers: &[(&str, &str)] = if user.is_empty() { &[] } else { &[("cookie", &cookie)] };
    let page = cluster.get("bookinfo.example.com", "/productpage", headers).await?;
    if page.status != 200 {
        bail!("the page answers {}: {}", page.status, page.text);
    }
    Ok(page)
}

async fn versions(cluster: &Cluster, user: &str, times: u32) -> Result<Split> {
    let cookie = format!("session={user}");
    let headers: &[(&str, &str)] = if user.is_empty() { &[] } else { &[("cookie", &cookie)] };
    split(cluster, ("bookinfo.example.com", "/productpage", headers), times, |page| page.reviews().to_owned()).await
}

async fn until_versions(cluster: &Cluster, what: &str, user: &str, wanted: &[(&str, u32)]) -> Result<()> {
    let times = if wanted.len() == 1 { 12 } else { MANY };
    wait::until(what, SOON, || async { fits(&versions(cluster, user, times).await?, wanted) }).await
}

async fn until_page(cluster: &Cluster, what: &str, user: &str, is_right: impl Fn(&Page) -> bool) -> Result<()> {
    wait::until(what, Duration::from_secs(60), || async {
        let page = read(cluster, user).await?;
        if is_right(&page) { Ok(()) } else { bail!("{} after {:?}", page.reviews(), page.took) }
    })
    .await
}

fn only(version: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews}}\nspec:\n  hosts: [reviews]\n  \
         http: [{{route: [{{destination: {{host: reviews, subset: {version}}}}}]}}]\n"
    )
}

fn took(page: &Page, least: f64, most: f64) -> bool {
    (least..most).contains(&page.took.as_secs_f64())
}

pub(crate) async fn walk(cluster: &Cluster, is_smoke: bool) -> Result<()> {
    step("all versions answer when nobody says which", until_thirds(cluster)).await?;
    step("one user's version, all others' version (01-06)", by_user(cluster)).await?;
    step("weights, a header before weights (07, 08)", weights(cluster)).await?;
    step("delay and abort for one user (09, 10)", faults(cluster)).await?;
    if !is_smoke {
        step("timeout, retries (11, 12)", timeouts(cluster)).await?;
    }
    step("mirror (13)", mirror(cluster)).await?;
    step("load balancers, subsets of their own (14-17)", balancers(cluster)).await?;
    step("stickiness by cookie (18)", stickiness(cluster)).await?;
    step("circuit breaking (19, 20)", circuit(cluster)).await?;
    step("the third tutorial (35-39)", third(cluster)).await?;
    forget(cluster)
}

/// Only the way in stays.
pub(crate) fn forget(cluster: &Cluster) -> Result<()> {
    cluster.forget_rules(BOOKINFO)?;
    let gateway = std::fs::read_to_string(workspace().join("deploy/samples/bookinfo/gateway.yaml"))?;
    cluster.apply(BOOKINFO, &gateway).map(drop)
}

async fn until_thirds(cluster: &Cluster) -> Result<()> {
    until_versions(cluster, "a third each", "", &[("v1", 33), ("v2", 33), ("v3", 33)]).await
}

// A VirtualService alone names subsets that nobody defined: the trap that every reader meets first.
async fn by_user(cluster: &Cluster) -> Result<()> {
    cluster.seed(BOOKINFO, "01")?;
    until_page(cluster, "subsets without a DestinationRule", "", |page| page.text.contains(SORRY)).await?;
    for prefix in ["02", "04", "05", "06"] {
        cluster.seed(BOOKINFO, prefix)?;
    }
    cluster.apply(BOOKINFO, ALL_RULES)?;
    until_versions(cluster, "nobody is signed in: v1", "", &[("v1", 100)]).await?;
    until_versions(cluster, "jason: v2", "jason", &[("v2", 100)]).await?;
    cluster.seed(BOOKINFO, "03")?;
    until_versions(cluster, "v1 for jason too", "jason", &[("v1", 100)]).await?;
    until_page(cluster, "details by their subset", "", |page| page.text.contains("ISBN")).await
}

async fn weights(cluster: &Cluster) -> Result<()> {
    cluster.seed(BOOKINFO, "07")?;
    until_versions(cluster, "10, 10, 80", "", &[("v1", 10), ("v2", 10), ("v3", 80)]).await?;
    cluster.seed(BOOKINFO, "08")?;
    until_versions(cluster, "one user gets no stars", "log-in-as-this-user", &[("v1", 100)]).await?;
    until_versions(cluster, "all others as before", "", &[("v1", 10), ("v2", 10), ("v3", 80)]).await
}

// With black stars reviews waits 10 s for ratings, so the page gives up first: two tries of 3 s.
async fn faults(cluster: &Cluster) -> Result<()> {
    cluster.apply(BOOKINFO, &only("v2"))?;
    cluster.seed(BOOKINFO, "09")?;
    until_page(cluster, "the delay", "tester", |page| page.text.contains(SORRY) && took(page, 5.9, 9.0)).await?;
    let page = read(cluster, "").await?;
    if page.reviews() != "v2" || page.took > Duration::from_secs(3) {
        bail!("others must not notice: {} after {:?}", page.reviews(), page.took);
    }
    cluster.seed(BOOKINFO, "10")?;
    until_page(cluster, "the abort, at once", "tester", |page| page.text.contains(NO_STARS) && took(page, 0.0, 2.0))
        .await
}

async fn timeouts(cluster: &Cluster) -> Result<()> {
    cluster.seed(BOOKINFO, "09")?;
    cluster.seed(BOOKINFO, "11")?;
    until_page(cluster, "the timeout cuts both tries", "tester", |page| {
        page.text.contains(SORRY) && took(page, 1.9, 4.0)
    })
    .await?;
    cluster.apply(BOOKINFO, &only("v2"))?;
    cluster.seed(BOOKINFO, "12")?;
    until_page(cluster, "a delay is not retried", "tester", |page| page.text.contains(SORRY) && took(page, 5.9, 9.0))
        .await
}

async fn mirror(cluster: &Cluster) -> Result<()> {
    cluster.seed(BOOKINFO, "04")?;
    cluster.seed(BOOKINFO, "13")?;
    until_versions(cluster, "v3 answers", "", &[("v3", 100)]).await?;
    wait::until("copies reach v1", SOON, || async {
        read(cluster, "").await?;
        let log = cluster.kubectl(
            &["logs", "--namespace", BOOKINFO, "deployment/reviews-v1", "--container", "istio-proxy", "--tail=200"],
            "",
        )?;
        if log.contains("reviews-shadow") { Ok(()) } else { bail!("no copy in the log of v1's sidecar") }
    })
    .await
}

// The tutorial replaces the DestinationRule and does not say that the subsets are gone with it.
async fn balancers(cluster: &Cluster) -> Result<()> {
    cluster.seed(BOOKINFO, "14")?;
    until_page(cluster, "the subsets are gone", "", |page| page.text.contains(SORRY)).await?;
    cluster.kubectl(&["delete", "--namespace", BOOKINFO, "virtualservices.networking.istio.io", "reviews"], "")?;
    for prefix in ["14", "15", "16"] {
        cluster.seed(BOOKINFO, prefix)?;
        until_thirds(cluster).await.with_context(|| format!("seed {prefix}"))?;
    }
    cluster.seed(BOOKINFO, "17")?;
    cluster.apply(BOOKINFO, &only("v2"))?;
    until_versions(cluster, "a subset with a balancer of its own", "", &[("v2", 100)]).await
}

async fn stickiness(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "--namespace", BOOKINFO, "virtualservices.networking.istio.io", "reviews"], "")?;
    cluster.seed(BOOKINFO, "18")?;
    let stays = |user: u32| async move {
        let cookie = format!("user=somebody-{user}");
        let call = ("bookinfo.example.com", "/productpage", &[("cookie", cookie.as_str())][..]);
        split(cluster, call, 12, |page| page.reviews().to_owned()).await
    };
    wait::until("each stays with a version, not all with the same", SOON, || async {
        let mut seen = Split::new();
        for user in 0..8 {
            let counts = stays(user).await?;
            if counts.len() != 1 || counts.contains_key("none") {
                bail!("somebody-{user} went from one to another: {counts:?}");
            }
            for name in counts.into_keys() {
                *seen.entry(name).or_default() += 1;
            }
        }
        if seen.len() > 1 { Ok(()) } else { bail!("all stay with {seen:?}") }
    })
    .await
}

// More at once than the one request that the rule allows: the rest is refused at once, and the page is as before.
async fn circuit(cluster: &Cluster) -> Result<()> {
    cluster.seed(BOOKINFO, "19")?;
    let crowd = [
        "/bookinfo",
        "load",
        "http://reviews:9080/reviews/0",
        "--rate",
        "600",
        "--connections",
        "40",
        "--seconds",
        "2",
    ];
    wait::until("some are refused, some are answered", SOON, || async {
        let report: serde_json::Value = serde_json::from_str(&cluster.exec(BOOKINFO, "client", &crowd)?)?;
        let of = |status: &str| report["statuses"][status].as_u64().unwrap_or(0);
        if of("503") > 0 && of("200") > 0 { Ok(()) } else { bail!("{}", report["statuses"]) }
    })
    .await?;
    cluster.seed(BOOKINFO, "20")?;
    until_thirds(cluster).await
}

async fn third(cluster: &Cluster) -> Result<()> {
    forget(cluster)?;
    cluster.seed(BOOKINFO, "35")?;
    cluster.seed(BOOKINFO, "36")?;
    until_versions(cluster, "nobody is signed in: v1", "", &[("v1", 100)]).await?;
    until_versions(cluster, "jason: v2", "jason", &[("v2", 100)]).await?;
    cluster.seed(BOOKINFO, "37")?;
    cluster.seed(BOOKINFO, "38")?;
    cluster.apply(BOOKINFO, ALL_RULES)?;
    cluster.seed(BOOKINFO, "39")?;
    let asking =
        ["/bookinfo", "load", "http://ratings:9080/ratings/0", "--rate", "40", "--connections", "80", "--seconds", "3"];
    wait::until("one in ten waits 5 s", SOON, || async {
        let report: serde_json::Value = serde_json::from_str(&cluster.exec(BOOKINFO, "client", &asking)?)?;
        let (p50, max) = (report["p50_ms"].as_u64().unwrap_or(0), report["max_ms"].as_u64().unwrap_or(0));
        if p50 < 2500 && (4900..9000).contains(&max) {
            Ok(())
        } else {
            bail!("half within {p50} ms, all within {max} ms")
        }
    })
    .await
}
