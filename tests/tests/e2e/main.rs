//! The whole in a real cluster: Helm's release, injected pods, STRICT mTLS, the tutorials by kubectl, and no request lost
//! whatever is restarted. `make e2e` prepares the cluster and calls it; else it is skipped, and counted as skipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod availability;
mod bookinfo;
mod shop;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use suite::cluster::{Cluster, Page};
use testkit::wait;

/// Everything that the suite makes is in namespaces of its own, which end with it.
pub(crate) const BOOKINFO: &str = "sluice-e2e-bookinfo";
pub(crate) const SHOP: &str = "sluice-e2e-shop";
pub(crate) const OUTSIDE: &str = "sluice-e2e-outside";
pub(crate) const ROOT: &str = "istio-system";
/// By then, what kubectl applied has reached every proxy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_tutorials_in_a_real_cluster() {
    let Some(cluster) = Cluster::given().unwrap() else {
        return suite::skip::skip("e2e", "no cluster is given: make e2e");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Err(error) = runtime.block_on(all(&cluster)) {
        panic!("{error:#}");
    }
}

async fn all(cluster: &Cluster) -> Result<()> {
    let is_smoke = std::env::var("SLUICE_E2E_MODE").is_ok_and(|mode| mode == "smoke");
    let only = std::env::var("SLUICE_E2E_ONLY").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|name| name == part);
    step("debug pages answer nobody outside their pod", pages(cluster)).await?;
    step("namespaces, Bookinfo with sidecars", bookinfo::deploy(cluster)).await?;
    if wanted("strict") {
        step("STRICT mTLS", bookinfo::strict(cluster)).await?;
    }
    if wanted("bookinfo") {
        bookinfo::walk(cluster, is_smoke).await?;
    }
    if wanted("shop") {
        shop::walk(cluster, is_smoke).await?;
    }
    if wanted("availability") {
        availability::walk(cluster, is_smoke).await?;
    }
    Ok(())
}

// The API server's proxy comes to the pod from outside, as anybody in the cluster does; sluicectl, which e2e.sh calls, does not.
async fn pages(cluster: &Cluster) -> Result<()> {
    let page = |path: &str| {
        let service = format!("/api/v1/namespaces/{ROOT}/services/sluiced:15014/proxy{path}");
        cluster.kubectl(&["get", "--raw", &service], "")
    };
    page("/version").context("the port cannot be reached at all")?;
    for path in ["/debug/world", "/debug/syncz", "/debug/config_dump?proxyID=a.b"] {
        if let Ok(told) = page(path) {
            bail!("{path} is told to a stranger: {}", told.chars().take(200).collect::<String>());
        }
    }
    Ok(())
}

/// Runs a step and says what it took.
pub(crate) async fn step<T>(what: &str, doing: impl Future<Output = Result<T>>) -> Result<T> {
    let began = Instant::now();
    let done = doing.await.with_context(|| what.to_owned())?;
    println!("e2e: {:6.1} s  {what}", began.elapsed().as_secs_f64());
    Ok(done)
}

/// Answers by what `name` calls them.
pub(crate) type Split = BTreeMap<String, u32>;

/// Asks `times` and counts.
pub(crate) async fn split(
    cluster: &Cluster,
    (host, path, headers): (&str, &str, &[(&str, &str)]),
    times: u32,
    name: impl Fn(&Page) -> String,
) -> Result<Split> {
    let mut counts = Split::new();
    for _ in 0..times {
        *counts.entry(name(&cluster.get(host, path, headers).await?)).or_default() += 1;
    }
    Ok(counts)
}

/// Draws for a split that chance decides.
pub(crate) const MANY: u32 = 200;

/// Each share of `wanted` in percent, as near as so many draws of chance come (3.5 standard deviations: one run in two
/// thousand is farther off); everybody wanted answers, and nobody else.
pub(crate) fn fits(counts: &Split, wanted: &[(&str, u32)]) -> Result<()> {
    let all = f64::from(counts.values().sum::<u32>().max(1));
    for (name, percent) in wanted {
        let (found, expected) = (counts.get(*name).copied().unwrap_or(0), f64::from(*percent) / 100.0);
        let share = f64::from(found) / all;
        let slack = 3.5 * (expected * (1.0 - expected) / all).sqrt();
        if found == 0 || (share - expected).abs() > slack {
            bail!("{name} has {:.0} %, not {percent} %: {counts:?}", share * 100.0);
        }
    }
    match counts.keys().find(|name| !wanted.iter().any(|(known, _)| known == name)) {
        Some(other) => bail!("{other} answered: {counts:?}"),
        None => Ok(()),
    }
}

/// Asks again and again until the shares are as wanted: rules take a moment to reach the proxies.
pub(crate) async fn until_split(
    cluster: &Cluster,
    what: &str,
    call: (&str, &str, &[(&str, &str)]),
    name: impl Fn(&Page) -> String + Copy,
    wanted: &[(&str, u32)],
) -> Result<()> {
    let times = if wanted.len() == 1 { 20 } else { MANY };
    wait::until(what, SOON, || async { fits(&split(cluster, call, times, name).await?, wanted) }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_fits() {
        let counts = |one, two| Split::from([("v1".to_owned(), one), ("v2".to_owned(), two)]);
        let wanted = [("v1", 90), ("v2", 10)];
        assert!(fits(&counts(183, 17), &wanted).is_ok());
        for (one, two) in [(200, 0), (150, 50), (199, 1)] {
            assert!(fits(&counts(one, two), &wanted).is_err(), "{one}/{two}");
        }
        assert!(fits(&counts(20, 1), &[("v1", 100)]).is_err());
        assert!(fits(&Split::from([("v1".to_owned(), 200)]), &wanted).is_err());
    }
}
