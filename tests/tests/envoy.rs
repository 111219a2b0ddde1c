//! Altitude d: every case through stock Envoy, fed by our control plane over ADS, incremental and state of the world.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use anyhow::{Context, Result, bail};
use suite::calls::{By, call_all, holds};
use suite::case::{NO_NETWORK, Outside, in_its_network, set};
use suite::envoy::{Envoy, binary};
use suite::mesh::get;
use suite::skip::skip;
use testkit::case;

// Blocks 100 and up: other suites use the ones below.
const FIRST_BLOCK: u8 = 100;

async fn run(one: &case::Case, block: u8, delta: bool, envoy: &std::path::Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests)?;
    let stage = set(one, block, &manifests).await?;
    let proxy = Envoy::start(envoy, folder.path(), &stage.scene.who, stage.plane.xds, delta).await?;
    stage.plane.synced(1).await.with_context(|| stage.plane.process.tail())?;
    let around = Outside { admin: proxy.admin, dns: None, log: None };
    let mut found = call_all(one, &stage.scene, By::Envoy, &around).await?;
    if one.config.says_something() {
        found.extend(holds(one, &String::from_utf8_lossy(&get(proxy.admin, "/config_dump?include_eds").await?)));
    }
    let rejected = proxy.rejected().await?;
    if rejected > 0 {
        found.push(format!(
            "envoy refused {rejected} updates: {}",
            std::fs::read_to_string(folder.path().join("envoy.log"))?
        ));
    }
    if !found.is_empty() {
        bail!("{}", found.join("\n  "));
    }
    Ok(())
}

fn run_all(delta: bool, first_block: u8) {
    let Some(envoy) = binary() else {
        return skip("envoy corpus", "no Envoy; scripts/fetch-envoy.sh gets it, or set ENVOY");
    };
    let only = std::env::var("CASE").unwrap_or_default();
    let cases = case::all(&case::root()).unwrap();
    let mut failed = Vec::new();
    let mut count = 0;
    for (index, one) in cases.iter().enumerate().filter(|(_, one)| one.name.contains(&only)) {
        count += 1;
        match in_its_network(one, || run(one, first_block + (index % 50) as u8, delta, &envoy)) {
            Ok(Some(())) => {}
            Ok(None) => skip(&one.name, NO_NETWORK),
            Err(error) => failed.push(format!("{}: {error:#}", one.name)),
        }
    }
    println!("envoy ({}): {count} cases, {} failed", if delta { "delta" } else { "sotw" }, failed.len());
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    assert!(count > 0, "no case is named like {only:?}");
}

#[test]
fn envoy_agrees_on_every_case_delta() {
    run_all(true, FIRST_BLOCK);
}

#[test]
fn envoy_agrees_on_every_case_sotw() {
    run_all(false, FIRST_BLOCK + 60);
}
