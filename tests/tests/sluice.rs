//! Altitude c: every case through real processes of ours, sluiced and sluice-proxy.

use anyhow::{Context, Result, bail};
use suite::calls::{By, call_all, holds};
use suite::case::{NO_NETWORK, Outside, in_its_network, set};
use suite::mesh::{Proxy, get};
use suite::skip::skip;
use testkit::case;

const FIRST_BLOCK: u8 = 10;

async fn run(one: &case::Case, block: u8) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stage = set(one, block, folder.path()).await?;
    // Nobody has to learn that it goes: it need not linger.
    let proxy = Proxy::start_with(&stage.scene.who, stage.plane.xds, &["--drain-seconds", "0"]).await;
    let proxy = proxy.with_context(|| stage.plane.process.tail())?;
    let types: &[&str] = if stage.scene.who.dns.is_some() { &["CDS", "LDS", "NDS"] } else { &["CDS", "LDS"] };
    stage.plane.synced_in(1, types).await.with_context(|| stage.plane.process.tail())?;
    // The access log goes to standard output; our own log lines begin otherwise.
    let log = || proxy.process.lines().into_iter().filter(|line| line.starts_with('[')).collect::<Vec<_>>();
    let around = Outside { admin: proxy.admin, dns: stage.scene.who.dns, log: Some(&log) };
    let mut found = call_all(one, &stage.scene, By::Sluice, &around).await.with_context(|| proxy.process.tail())?;
    if one.config.says_something() {
        found.extend(holds(one, &String::from_utf8_lossy(&get(proxy.admin, "/config_dump").await?)));
    }
    if !one.diagnostics.is_empty() {
        let said = stage.plane.findings().await?;
        let missing = one.diagnostics.iter().filter(|wanted| !said.contains(wanted));
        found.extend(missing.map(|wanted| format!("diagnostic {wanted} is missing; said: {said:?}")));
    }
    if !found.is_empty() {
        bail!("{}", found.join("\n  "));
    }
    // What calls held open would be waited for: it is under way.
    stage.scene.held.borrow_mut().clear();
    let code = proxy.process.terminate(std::time::Duration::from_secs(10)).await?;
    if code != 0 {
        bail!("sluice-proxy ended with {code} on SIGTERM");
    }
    Ok(())
}

#[test]
fn sluice_obeys_every_case() {
    let only = std::env::var("CASE").unwrap_or_default();
    let cases = case::all(&case::root()).unwrap();
    let (mut failed, mut count) = (Vec::new(), 0);
    for (index, one) in cases.iter().enumerate().filter(|(_, one)| one.name.contains(&only)) {
        count += 1;
        match in_its_network(one, || run(one, FIRST_BLOCK + (index % 80) as u8)) {
            Ok(Some(())) => {}
            Ok(None) => skip(&one.name, NO_NETWORK),
            Err(error) => failed.push(format!("{}: {error:#}", one.name)),
        }
    }
    println!("sluice: {count} cases, {} failed", failed.len());
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    assert!(count > 0, "no case is named like {only:?}");
}
