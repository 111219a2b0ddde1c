//! On a real kube-apiserver: what the control plane writes there, and who writes it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use anyhow::{Context, Result, bail};
use suite::kube::ApiServer;
use suite::mesh::{ControlPlane, Proxied, Proxy, get};
use testkit::process::{Process, free_address, program};
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

const CRUMB: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 127.230.1.1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: quiet, namespace: elsewhere}
spec: {accessLogging: [{disabled: true}]}
";

/// One of two replicas, on an address of its own and the port of all, as in a cluster.
async fn replica(server: &ApiServer, name: &str, host: &str, port: u16) -> Result<ControlPlane> {
    let http: std::net::SocketAddr = format!("{host}:{port}").parse()?;
    let xds = free_address(host)?;
    let args = [
        "--kubeconfig",
        &server.kubeconfig(),
        "--pod-name",
        name,
        "--xds-address",
        &xds.to_string(),
        "--http-address",
        &http.to_string(),
    ];
    let process = Process::start(&program("sluiced")?, args)?;
    let plane = ControlPlane { process, xds, http };
    let ready = wait::until("sluiced is ready", SOON, || get(http, "/healthz/ready")).await;
    ready.with_context(|| plane.process.tail())?;
    Ok(plane)
}

/// The pod of a replica, as a cluster would have it.
fn pod(server: &ApiServer, name: &str, ip: &str) -> Result<()> {
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: istio-system, labels: {{app: sluiced}}}}\n\
         spec: {{automountServiceAccountToken: false, containers: [{{name: a, image: none}}]}}\n"
    );
    server.kubectl(&["apply", "-f", "-"], &pod)?;
    let status = format!(
        r#"{{"status": {{"phase": "Running", "podIP": "{ip}", "podIPs": [{{"ip": "{ip}"}}], "conditions": [{{"type": "Ready", "status": "True"}}]}}}}"#
    );
    let args = ["patch", "pod", name, "-n", "istio-system", "--subresource=status", "--type=merge", "-p", &status];
    server.kubectl(&args, "").map(drop)
}

fn client(name: &str, ip: &str) -> Result<Proxied> {
    Ok(Proxied {
        role: "sidecar",
        pod: name.into(),
        namespace: "default".into(),
        ip: ip.parse()?,
        labels: vec![("app".into(), name.into())],
        outbound: Some(free_address(ip)?),
        bind_ip: None,
        app_ip: None,
        captured: false,
        resolver: None,
        dns: None,
        identity: None,
    })
}

fn condition(server: &ApiServer, object: &str, kind: &str, field: &str) -> Result<String> {
    let path = format!("jsonpath={{.status.conditions[?(@.type==\"{kind}\")].{field}}}");
    server.kubectl(&["get", object, "-o", &path], "")
}

async fn until_says(server: &ApiServer, object: &str, kind: &str, field: &str, words: &str) -> Result<String> {
    wait::until(&format!("{kind} of {object} says {words:?}"), SOON, || async {
        let said = condition(server, object, kind, field)?;
        if said.contains(words) { Ok(said) } else { bail!("{said:?}") }
    })
    .await
}

fn version(server: &ApiServer, object: &str) -> Result<String> {
    server.kubectl(&["get", object, "-o", "jsonpath={.metadata.resourceVersion}"], "")
}

fn wait_for(server: &ApiServer, object: &str, what: &str) -> Result<String> {
    server.kubectl(&["wait", &format!("--for={what}"), object, "--timeout=40s"], "")
}

const TO: &str = r#"[{"op": "replace", "path": "/spec/http/0/route/0/destination/subset", "value": "V"}]"#;

fn patch(server: &ApiServer, subset: &str) -> Result<()> {
    server.kubectl(&["patch", "vs", "reviews", "--type=json", "-p", &TO.replace('V', subset)], "").map(drop)
}

#[test]
fn conditions_say_what_became_of_an_object_and_count_the_proxies_of_all_replicas() {
    runtime().block_on(conditions()).unwrap();
}

async fn conditions() -> Result<()> {
    let server = ApiServer::start("status")?;
    server.define()?;
    server.kubectl(&["create", "namespace", "istio-system"], "")?;
    server.kubectl(&["create", "namespace", "elsewhere"], "")?;
    let port = free_address("127.230.0.1")?.port();
    let a = replica(&server, "sluiced-a", "127.230.0.1", port).await?;
    until_led_by(&server, "sluiced-a").await?;
    let b = replica(&server, "sluiced-b", "127.230.0.2", port).await?;
    pod(&server, "sluiced-a", "127.230.0.1")?;
    pod(&server, "sluiced-b", "127.230.0.2")?;
    let (one, two, three) =
        (client("one", "127.230.9.1")?, client("two", "127.230.9.2")?, client("three", "127.230.9.3")?);
    let _one = Proxy::start(&one, a.xds).await?;
    let _two = Proxy::start(&two, b.xds).await?;
    let _three = Proxy::start(&three, b.xds).await?;
    server.kubectl(&["apply", "-f", "-"], CRUMB)?;
    // As the issue has it.
    let said = wait_for(&server, "vs/reviews", "condition=Programmed");
    said.with_context(|| format!("{}\n{}", a.process.tail(), b.process.tail()))?;
    wait_for(&server, "vs/reviews", "jsonpath={.status.conditions[?(@.type==\"Accepted\")].status}=True")?;
    assert_eq!(condition(&server, "vs/reviews", "ResolvedRefs", "status")?, "True");
    let said = condition(&server, "vs/reviews", "Programmed", "message")?;
    assert!(said.starts_with("3/3 proxies"), "{said}");
    // It concerns another namespace: none of these proxies.
    server
        .kubectl(&["wait", "--for=condition=Programmed", "telemetry/quiet", "-n", "elsewhere", "--timeout=20s"], "")?;
    let path = "jsonpath={.status.conditions[?(@.type==\"Programmed\")].message}";
    let said = server.kubectl(&["get", "telemetry", "quiet", "-n", "elsewhere", "-o", path], "")?;
    assert_eq!(said, "no proxy is affected");
    let wide = server.kubectl(&["get", "vs", "-o", "wide"], "")?;
    assert!(wide.contains("STATUS") && wide.contains("Programmed"), "{wide}");

    // A subset that is not there: a condition, an event, and it is programmed all the same.
    let (since, before) =
        (condition(&server, "vs/reviews", "Accepted", "lastTransitionTime")?, version(&server, "dr/reviews")?);
    patch(&server, "v9")?;
    until_says(&server, "vs/reviews", "ResolvedRefs", "message", "subset \"v9\" is in no DestinationRule").await?;
    wait_for(&server, "vs/reviews", "condition=Programmed")?;
    wait_for(&server, "vs/reviews", "jsonpath={.status.observedGeneration}=2")?;
    assert_eq!(condition(&server, "vs/reviews", "ResolvedRefs", "observedGeneration")?, "2");
    assert_eq!(condition(&server, "vs/reviews", "Accepted", "lastTransitionTime")?, since, "its status did not change");
    wait::until("kubectl describe shows the event", SOON, || async {
        let said = server.kubectl(&["describe", "vs", "reviews"], "")?;
        if said.contains("RefsNotResolved") && said.contains("sluiced") { Ok(()) } else { bail!("{said}") }
    })
    .await?;
    patch(&server, "v1")?;
    until_says(&server, "vs/reviews", "ResolvedRefs", "status", "True").await?;
    assert_eq!(version(&server, "dr/reviews")?, before, "nothing changed for it, nothing was written");

    // Only labels change: no generation, no word. A new leader: all is said already.
    let before = version(&server, "vs/reviews")?;
    a.process.terminate(SOON).await?;
    server.kubectl(&["delete", "pod", "sluiced-a", "-n", "istio-system", "--force", "--grace-period=0"], "")?;
    until_led_by(&server, "sluiced-b").await?;
    patch(&server, "v1")?;
    server.kubectl(&["annotate", "dr", "reviews", "note=x"], "")?;
    // The one that was with the other replica comes here, or has gone; what is new is programmed.
    server.kubectl(
        &[
            "patch",
            "dr",
            "reviews",
            "--type=merge",
            "-p",
            r#"{"spec": {"trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}}"#,
        ],
        "",
    )?;
    wait_for(&server, "dr/reviews", "condition=Programmed")?;
    let said = condition(&server, "dr/reviews", "Programmed", "message")?;
    assert!(said.starts_with("2/2 proxies, "), "{said}");
    assert_eq!(version(&server, "vs/reviews")?, before, "a new leader writes nothing that is written");
    Ok(())
}

// Two on one host and port at the gateway, and one that the schema let in: the webhook was not there.
const DOUBTFUL: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews-2, namespace: default}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: weights, namespace: default}
spec: {hosts: [weights.example.com], http: [{route: [{destination: {host: reviews}, weight: -1}]}]}
";

#[test]
fn rel27_rel29_invalid_and_conflicting_objects_say_so_on_themselves() {
    runtime().block_on(doubtful()).unwrap();
}

async fn doubtful() -> Result<()> {
    let server = ApiServer::start("doubtful")?;
    server.define()?;
    server.kubectl(&["create", "namespace", "istio-system"], "")?;
    server.kubectl(&["create", "namespace", "elsewhere"], "")?;
    server.kubectl(&["apply", "-f", "-"], CRUMB)?;
    server.kubectl(&["apply", "-f", "-"], DOUBTFUL)?;
    let plane = ControlPlane::start(&["--kubeconfig", &server.kubeconfig()]).await?;
    let said = until_says(&server, "vs/weights", "Accepted", "reason", "Invalid").await;
    said.with_context(|| plane.process.tail())?;
    assert_eq!(condition(&server, "vs/weights", "Programmed", "reason")?, "NotAccepted");
    let said = condition(&server, "vs/weights", "Accepted", "message")?;
    assert!(said.contains("weight") && said.contains("it is left out"), "{said}");
    until_says(&server, "vs/reviews-2", "Conflicted", "message", "VirtualService default/reviews").await?;
    let code = "jsonpath={.status.validationMessages[?(@.type.code==\"IST0109\")].type.name}";
    let said = server.kubectl(&["get", "vs", "reviews-2", "-o", code], "")?;
    assert_eq!(said, "ConflictingMeshGatewayVirtualServiceHosts");
    wait::until("events of both", SOON, || async {
        let said = server.kubectl(&["get", "events"], "")?;
        if said.contains("ConfigRejected") && said.contains("ConfigConflict") { Ok(()) } else { bail!("{said}") }
    })
    .await?;
    server.kubectl(&["delete", "vs", "reviews-2"], "")?;
    wait::until("the conflict is over", SOON, || async {
        let said = condition(&server, "vs/reviews", "Conflicted", "status")?;
        if said.is_empty() { Ok(()) } else { bail!("{said}") }
    })
    .await
}
