//! On a real kube-apiserver: the tutorials' YAML by kubectl, and traffic that follows.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use suite::kube::ApiServer;
use suite::mesh::{ControlPlane, Proxied, Proxy};
use testkit::backend::Seen;
use testkit::case::{Call, Case};
use testkit::process::{free_address, workspace};
use testkit::wait;
use testkit::world::{World, lay_out};

const SOON: Duration = Duration::from_secs(10);
const BLOCK: u8 = 220;

fn seed(prefix: &str) -> Result<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(workspace().join("tests/seeds"))?
        .map(|entry| entry.map(|one| one.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let fits = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    files.into_iter().find(fits).with_context(|| format!("no seed {prefix}"))
}

// An API server refuses loopback addresses in EndpointSlices, so that nobody points a Service at the node itself; a
// ServiceEntry may have them, and has labels for subsets too.
fn entries(world: &World) -> String {
    let mut text = String::new();
    for app in ["reviews", "ratings", "details", "productpage"] {
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {app}}}\nspec:\n  \
             hosts: [{app}.default.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: 9080, name: http, protocol: HTTP}}]\n  endpoints:\n"
        );
        for pod in world.pods.iter().filter(|pod| pod.name.starts_with(app)) {
            let version = pod.name.rsplit('-').next().unwrap_or_default();
            text += &format!("  - {{address: {}, labels: {{app: {app}, version: {version}}}}}\n", pod.ip);
        }
    }
    text
}

async fn ask(proxy: &Proxied, url: &str, header: &str) -> Result<String> {
    let call: Call = serde_saphyr::from_str(&format!("request: GET {url}\nheaders: {{{header}}}\nexpect: {{}}\n"))?;
    let answer = testkit::call::send(proxy.outbound.context("a sidecar")?, &call).await?;
    let seen: Seen = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)))?;
    Ok(seen.pod)
}

async fn until_by(proxy: &Proxied, header: &str, pod: &str) -> Result<()> {
    wait::until(&format!("{pod} answers"), SOON, || async {
        // Several in a row: a split could give one answer by chance.
        for _ in 0..10 {
            let by = ask(proxy, "http://reviews.default.svc.cluster.local:9080/", header).await?;
            if by != pod {
                bail!("{by} answers");
            }
        }
        Ok(())
    })
    .await
}

#[test]
fn kubectl_apply_changes_what_running_proxies_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(scenario()).unwrap();
}

async fn scenario() -> Result<()> {
    let server = ApiServer::start("suite")?;
    server.define()?;
    let case: Case = serde_saphyr::from_str(
        "rule: x\nservices: [{name: reviews, versions: [v1, v2, v3]}, {name: ratings}, {name: details}, {name: productpage}]\n",
    )?;
    let world = lay_out(&case, BLOCK);
    let _servers = testkit::serve::start(&world).await?;
    server.kubectl(&["apply", "-f", "-"], &entries(&world))?;
    let kubeconfig = server.folder().join("kubeconfig").to_string_lossy().into_owned();
    let plane = ControlPlane::start(&["--kubeconfig", &kubeconfig]).await?;
    let who = Proxied {
        role: "sidecar",
        pod: "client".into(),
        namespace: "default".into(),
        ip: world.client_ip,
        labels: vec![("app".into(), "client".into())],
        outbound: Some(free_address(&world.client_ip.to_string())?),
        bind_ip: None,
        app_ip: None,
        captured: false,
        resolver: None,
        dns: None,
        identity: None,
    };
    let proxy = Proxy::start(&who, plane.xds).await.with_context(|| plane.process.tail())?;

    // The tutorial's subsets and its 10/10/80 split.
    server.apply(&seed("06-")?)?;
    server.apply(&seed("07-")?)?;
    split(&who).await.with_context(|| plane.process.tail())?;
    // jason gets v2, everybody else v1: the same object, changed.
    server.apply(&seed("01-")?)?;
    until_by(&who, "end-user: jason", "reviews-v2").await.with_context(|| plane.process.tail())?;
    until_by(&who, "", "reviews-v1").await?;
    // An edit by patch, and the end of the rule.
    let patch = r#"[{"op": "replace", "path": "/spec/http/1/route/0/destination/subset", "value": "v3"}]"#;
    server.kubectl(&["patch", "vs", "reviews", "--type=json", "-p", patch], "")?;
    until_by(&who, "", "reviews-v3").await?;
    // A mistake that the schema cannot see: the rest of the mesh is served, and the finding names the object.
    server.kubectl(&["patch", "vs", "reviews", "--type=json", "-p", &patch.replace("v3", "v9")], "")?;
    wait::until("the missing subset is reported", SOON, || async {
        let found = plane.findings().await?;
        if found.iter().any(|one| one == "IST0101 VirtualService default/reviews") {
            Ok(())
        } else {
            bail!("{found:?}")
        }
    })
    .await?;
    until_by(&who, "end-user: jason", "reviews-v2").await?;
    server.kubectl(&["delete", "vs", "reviews"], "")?;
    wait::until("all versions answer", SOON, || async {
        let mut by = std::collections::BTreeSet::new();
        for _ in 0..60 {
            by.insert(ask(&who, "http://reviews.default.svc.cluster.local:9080/", "").await?);
        }
        if by.len() == 3 { Ok(()) } else { bail!("only {by:?}") }
    })
    .await?;
    every_seed(&server)?;
    // After all of them, one after the other, the last ones that name reviews hold, and everything is acknowledged.
    plane.synced(1).await?;
    drop(proxy);
    Ok(())
}

async fn split(who: &Proxied) -> Result<()> {
    wait::until("the split of 10/10/80", SOON, || async {
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..300 {
            *counts.entry(ask(who, "http://reviews.default.svc.cluster.local:9080/", "").await?).or_default() += 1;
        }
        let of = |pod: &str| counts.get(pod).copied().unwrap_or(0);
        // Five standard deviations around 30, 30 and 240.
        let fits = (4..=56).contains(&of("reviews-v1"))
            && (4..=56).contains(&of("reviews-v2"))
            && (205..=275).contains(&of("reviews-v3"));
        if fits { Ok(()) } else { bail!("{counts:?}") }
    })
    .await
}

fn every_seed(server: &ApiServer) -> Result<()> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(workspace().join("tests/seeds"))?
        .map(|entry| entry.map(|one| one.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut applied = 0;
    for file in files.iter().filter(|file| !file.to_string_lossy().contains("Deployment")) {
        let said = server.apply(file).with_context(|| format!("{}", file.display()))?;
        if !["created", "configured", "unchanged"].iter().any(|word| said.contains(word)) {
            bail!("{}: {said}", file.display());
        }
        applied += 1;
    }
    if applied != 38 {
        bail!("{applied} seeds were applied, not 38");
    }
    Ok(())
}

const REVIEWS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v1, namespace: default, labels: {app: reviews, version: v1}}
spec: {containers: [{name: app, image: none}], automountServiceAccountToken: false}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v9}}]}]}
";

/// S76 on a cluster, and files on top of it.
#[test]
fn sluicectl_analyzes_a_cluster_and_files_on_top_of_it() {
    analyzing().unwrap();
}

fn analyzing() -> Result<()> {
    let server = ApiServer::start("analyze")?;
    server.define()?;
    server.kubectl(&["apply", "-f", "-"], REVIEWS)?;
    let kubeconfig = server.folder().join("kubeconfig").to_string_lossy().into_owned();
    let program = testkit::process::program("sluicectl")?;
    let analyze = |args: &[&str]| -> Result<(i32, String)> {
        let output = Command::new(&program).args(["analyze", "--kubeconfig", &kubeconfig]).args(args).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.code().with_context(|| said.clone())?, said))
    };
    let (code, said) = analyze(&[])?;
    let line =
        "Error [IST0101] (VirtualService default/reviews) spec.http[0].route[0].destination.subset: subset \"v9\"";
    assert!(code == 79 && said.starts_with(line) && said.lines().count() == 1, "{code} {said}");
    assert_eq!(analyze(&["-n", "other"])?, (0, String::new()), "nothing is wrong there");

    let patch = r#"[{"op": "replace", "path": "/spec/http/0/route/0/destination/subset", "value": "v1"}]"#;
    server.kubectl(&["patch", "vs", "reviews", "--type=json", "-p", patch], "")?;
    assert_eq!(analyze(&["-A"])?, (0, String::new()));

    // What would be wrong after `kubectl apply`: the file stands before the cluster's object of its name.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("reviews.yaml");
    std::fs::write(&file, REVIEWS.rsplit("---").next().unwrap_or_default().trim_start())?;
    let (code, said) = analyze(&[&file.to_string_lossy()])?;
    assert!(
        code == 79 && said.contains("reviews.yaml:4:72) spec.http[0].route[0].destination.subset"),
        "{code} {said}"
    );
    Ok(())
}
