//! On a real kube-apiserver: what the control plane writes there, and who writes it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use anyhow::{Result, bail};
use suite::kube::ApiServer;
use suite::mesh::ControlPlane;
use testkit::wait;

const SOON: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn leader(server: &ApiServer) -> Result<String> {
    let path = "jsonpath={.spec.holderIdentity}";
    server.kubectl(&["get", "lease", "sluice-leader", "-n", "istio-system", "-o", path], "")
}

async fn until_led_by(server: &ApiServer, who: &str) -> Result<()> {
    wait::until(&format!("{who} leads"), SOON, || async {
        match leader(server)? {
            holder if holder == who => Ok(()),
            holder => bail!("{holder:?} leads"),
        }
    })
    .await
}

#[test]
fn of_two_replicas_one_leads_and_the_other_follows_it() {
    runtime().block_on(async {
        let server = ApiServer::start("leader").unwrap();
        server.define().unwrap();
        server.kubectl(&["create", "namespace", "istio-system"], "").unwrap();
        let kubeconfig = server.kubeconfig();
        let replica =
            async |name: &str| ControlPlane::start(&["--kubeconfig", &kubeconfig, "--pod-name", name]).await.unwrap();
        let a = replica("sluiced-a").await;
        until_led_by(&server, "sluiced-a").await.unwrap();
        let mut b = replica("sluiced-b").await;
        // It ends in order: the Lease is free at once, not after 15 seconds.
        assert_eq!(a.process.terminate(SOON).await.unwrap(), 0);
        let begun = std::time::Instant::now();
        until_led_by(&server, "sluiced-b").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        b.process.line_with("this replica leads", SOON).await.unwrap();
        // It is killed: the Lease runs out.
        b.process.kill().await.unwrap();
        let _c = replica("sluiced-c").await;
        assert_eq!(leader(&server).unwrap(), "sluiced-b");
        until_led_by(&server, "sluiced-c").await.unwrap();
    });
}
