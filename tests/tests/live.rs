//! What happens while everything runs: edits, mistakes, and parts that are not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use suite::mesh::{ControlPlane, Proxied, Proxy, get, write};
use testkit::case::{Call, Case};
use testkit::process::{Process, free_address, program};
use testkit::wait;
use testkit::world::{World, lay_out, to_yaml};

const SOON: Duration = Duration::from_secs(10);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

struct Mesh {
    plane: ControlPlane,
    proxy: Proxy,
    who: Proxied,
    _servers: testkit::serve::Servers,
}

fn world(block: u8) -> Result<World> {
    let case: Case = serde_saphyr::from_str("rule: x\nservices: [{name: reviews, versions: [v1, v2, v3]}]\n")?;
    Ok(lay_out(&case, block))
}

fn sidecar(world: &World) -> Result<Proxied> {
    Ok(Proxied {
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
    })
}

fn to_version(version: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: reviews}}\nspec:\n  host: reviews\n  subsets:\n  \
         - {{name: v1, labels: {{version: v1}}}}\n  - {{name: v2, labels: {{version: v2}}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews}}\nspec:\n  hosts: [reviews]\n  http:\n  \
         - route: [{{destination: {{host: reviews, subset: {version}}}}}]\n"
    )
}

async fn start(block: u8, folder: &Path) -> Result<Mesh> {
    let world = world(block)?;
    write(folder, "world.yaml", &to_yaml(&world.objects))?;
    write(folder, "rules.yaml", &to_version("v1"))?;
    let servers = testkit::serve::start(&world).await?;
    let plane = ControlPlane::start(&["--config-dir", &folder.to_string_lossy()]).await?;
    let who = sidecar(&world)?;
    let proxy = Proxy::start(&who, plane.xds).await?;
    Ok(Mesh { plane, proxy, who, _servers: servers })
}

impl Mesh {
    async fn answers(&self) -> Result<String> {
        let call: Call = serde_saphyr::from_str("request: GET http://reviews:9080/\nexpect: {}\n")?;
        let answer = testkit::call::send(self.who.outbound.context("a sidecar")?, &call).await?;
        let seen: testkit::backend::Seen = serde_json::from_slice(&answer.body)
            .with_context(|| format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)))?;
        Ok(seen.pod)
    }

    async fn until_answered_by(&self, pod: &str) -> Result<()> {
        wait::until(&format!("{pod} answers"), SOON, || async {
            match self.answers().await?.as_str() {
                one if one == pod => Ok(()),
                other => bail!("{other} answers"),
            }
        })
        .await
    }
}

#[test]
fn an_edit_of_a_file_is_followed() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mesh = start(201, folder.path()).await.unwrap();
        mesh.until_answered_by("reviews-v1").await.unwrap();
        write(folder.path(), "rules.yaml", &to_version("v2")).unwrap();
        mesh.until_answered_by("reviews-v2").await.unwrap();
    });
}

#[test]
fn an_invalid_edit_keeps_the_last_good_state_and_names_its_place() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut mesh = start(202, folder.path()).await.unwrap();
        mesh.until_answered_by("reviews-v1").await.unwrap();
        write(folder.path(), "rules.yaml", &to_version("v2").replace("subset: v2}", "subset: v2")).unwrap();
        let line = mesh.plane.process.line_with("rules.yaml:", SOON).await.unwrap();
        assert!(line.contains("ERROR") && line.contains("not valid YAML"), "{line}");
        assert_eq!(mesh.answers().await.unwrap(), "reviews-v1");
        write(folder.path(), "rules.yaml", &to_version("v2").replace("route:", "rout:")).unwrap();
        let line = mesh.plane.process.line_with("did you mean", SOON).await.unwrap();
        assert!(line.contains("VirtualService default/reviews") && line.contains("spec.http[0].rout"), "{line}");
        assert_eq!(mesh.answers().await.unwrap(), "reviews-v1");
        write(folder.path(), "rules.yaml", &to_version("v2")).unwrap();
        mesh.until_answered_by("reviews-v2").await.unwrap();
    });
}

#[test]
fn a_proxy_serves_on_while_the_control_plane_is_gone_and_comes_back() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let Mesh { plane, proxy, who, _servers } = start(203, folder.path()).await.unwrap();
        let (xds, http) = (plane.xds.to_string(), plane.http.to_string());
        plane.process.kill().await.unwrap();
        let other = ControlPlane {
            process: Process::start(Path::new("/bin/true"), [""; 0]).unwrap(),
            xds: plane.xds,
            http: plane.http,
        };
        let mut mesh = Mesh { plane: other, proxy, who, _servers };
        mesh.proxy.process.line_with("control plane", SOON).await.unwrap();
        for _ in 0..20 {
            assert_eq!(mesh.answers().await.unwrap(), "reviews-v1");
        }
        write(folder.path(), "rules.yaml", &to_version("v2")).unwrap();
        let dir = folder.path().to_string_lossy().into_owned();
        let args = ["--config-dir", &dir, "--xds-address", &xds, "--http-address", &http];
        mesh.plane.process = Process::start(&program("sluiced").unwrap(), args).unwrap();
        mesh.until_answered_by("reviews-v2").await.unwrap();
    });
}

#[test]
fn a_taken_port_is_one_clear_message() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let args = [
            "--config-dir",
            &folder.path().to_string_lossy(),
            "--xds-address",
            &address,
            "--http-address",
            "127.0.0.1:0",
        ];
        let mut sluiced = Process::start(&program("sluiced").unwrap(), args).unwrap();
        let line = sluiced.line_with("error:", SOON).await.unwrap();
        assert!(line.contains(&format!("cannot listen on {address} (--xds-address)")), "{line}");
        let node = "sidecar~127.0.0.1~a.default~default.svc.cluster.local";
        let args = [
            "--node",
            node,
            "--control-plane",
            "http://127.0.0.1:1",
            "--admin-address",
            &address,
            "--status-address",
            "127.0.0.1:0",
        ];
        let mut proxy = Process::start(&program("sluice-proxy").unwrap(), args).unwrap();
        let line = proxy.line_with("error:", SOON).await.unwrap();
        assert!(line.contains(&format!("cannot listen on {address} (--admin-address)")), "{line}");
    });
}

#[test]
fn a_listener_whose_port_is_taken_is_refused_by_name_and_the_rest_serves() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mesh = start(204, folder.path()).await.unwrap();
        let taken = std::net::TcpListener::bind("127.204.0.1:0").unwrap();
        let mut who = mesh.who.clone();
        who.pod = "second".into();
        who.outbound = Some(taken.local_addr().unwrap());
        let args = [
            "--node".to_owned(),
            who.node(),
            "--control-plane".into(),
            format!("http://{}", mesh.plane.xds),
            "--interception".into(),
            "none".into(),
            "--outbound-address".into(),
            taken.local_addr().unwrap().to_string(),
            "--admin-address".into(),
            free_address("127.0.0.1").unwrap().to_string(),
            "--status-address".into(),
            "127.0.0.1:0".into(),
        ];
        let mut second = Process::start(&program("sluice-proxy").unwrap(), args).unwrap();
        let line = second.line_with("cannot listen on", SOON).await.unwrap();
        assert!(line.contains("refused") && line.contains(&taken.local_addr().unwrap().to_string()), "{line}");
        let mut mesh = mesh;
        let line = mesh.plane.process.line_with("second.default", SOON).await.unwrap();
        assert!(!line.is_empty());
        mesh.plane.process.line_with("refused, it keeps what it had", SOON).await.unwrap();
        assert_eq!(mesh.answers().await.unwrap(), "reviews-v1");
    });
}

#[test]
fn a_bad_node_id_is_refused_with_what_was_expected() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut plane = ControlPlane::start(&["--config-dir", &folder.path().to_string_lossy()]).await.unwrap();
        let args = [
            "--node",
            "nobody",
            "--control-plane",
            &format!("http://{}", plane.xds),
            "--admin-address",
            "127.0.0.1:0",
            "--status-address",
            "127.0.0.1:0",
        ];
        let mut proxy = Process::start(&program("sluice-proxy").unwrap(), args.map(str::to_owned)).unwrap();
        proxy.line_with("node id \"nobody\" is not of the form", SOON).await.unwrap();
        plane.process.line_with("node id \"nobody\" is not of the form", SOON).await.unwrap();
    });
}

#[test]
fn the_pages_say_what_runs() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mesh = start(205, folder.path()).await.unwrap();
        mesh.until_answered_by("reviews-v1").await.unwrap();
        let text = |bytes: bytes::Bytes| String::from_utf8_lossy(&bytes).into_owned();
        let metrics = text(get(mesh.proxy.admin, "/stats/prometheus").await.unwrap());
        let series = metrics.lines().find(|line| line.starts_with("istio_requests_total")).unwrap();
        for label in [
            "reporter=\"source\"",
            "source_app=\"client\"",
            "destination_workload=\"reviews-v1\"",
            "destination_service_name=\"reviews\"",
            "response_code=\"200\"",
            "response_flags=\"-\"",
        ] {
            assert!(series.contains(label), "{label} in {series}");
        }
        assert!(metrics.contains("istio_request_duration_milliseconds_bucket"));
        let clusters = text(get(mesh.proxy.admin, "/clusters").await.unwrap());
        assert!(
            clusters.contains("outbound|9080|v1|reviews.default.svc.cluster.local::127.205.1.1:9080::rq_total::"),
            "{clusters}"
        );
        let metrics = text(get(mesh.plane.http, "/metrics").await.unwrap());
        assert!(metrics.contains("pilot_xds 1"), "{metrics}");
        let admin = format!("http://{}", mesh.proxy.admin);
        let control = format!("http://{}", mesh.plane.http);
        let ask = |args: &[&str]| {
            let output = std::process::Command::new(program("sluicectl").unwrap()).args(args).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let routes = ask(&["--admin", &admin, "proxy-config", "routes"]);
        assert!(routes.contains("reviews.default") && routes.starts_with("NAME"), "{routes}");
        let sent = ask(&["--control-plane", &control, "pc", "routes", "client"]);
        let squeeze = |table: &str| {
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let sent = squeeze(&sent);
        // The control plane also offers tables that this proxy has no listener for.
        assert!(squeeze(&routes).iter().all(|line| sent.contains(line)), "what runs was sent");
        let endpoints =
            ask(&["--admin", &admin, "pc", "ep", "--cluster", "outbound|9080|v2|reviews.default.svc.cluster.local"]);
        assert!(endpoints.contains("127.205.1.2:9080") && !endpoints.contains("127.205.1.1:9080"), "{endpoints}");
        let status = ask(&["--control-plane", &control, "ps", "-v", "1"]);
        assert!(status.contains("client.default") && status.contains("SYNCED"), "{status}");
    });
}

#[test]
fn a_drain_finishes_what_is_under_way() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let case = "rule: x\nservices: [{name: reviews, behaviour: {v1: {delayMs: 800}}}]\n";
        let case: Case = serde_saphyr::from_str(case).unwrap();
        let world = lay_out(&case, 206);
        write(folder.path(), "world.yaml", &to_yaml(&world.objects)).unwrap();
        let _servers = testkit::serve::start(&world).await.unwrap();
        let plane = ControlPlane::start(&["--config-dir", &folder.path().to_string_lossy()]).await.unwrap();
        let who = sidecar(&world).unwrap();
        let proxy = Proxy::start(&who, plane.xds).await.unwrap();
        let target = who.outbound.unwrap();
        let call: Call = serde_saphyr::from_str("request: GET http://reviews:9080/\nexpect: {}\n").unwrap();
        let under_way = tokio::spawn(async move { testkit::call::send(target, &call).await });
        wait::until("the request is under way", SOON, || async {
            let clusters = get(proxy.admin, "/clusters").await?;
            let text = String::from_utf8_lossy(&clusters).into_owned();
            if text.lines().any(|line| line.ends_with("rq_active::1")) { Ok(()) } else { bail!("not yet") }
        })
        .await
        .unwrap();
        let code = proxy.process.terminate(SOON).await.unwrap();
        assert_eq!(code, 0);
        assert_eq!(under_way.await.unwrap().unwrap().status, 200);
    });
}

/// Who answers each of many users.
async fn users(mesh: &Mesh) -> Result<Vec<String>> {
    let mut pods = Vec::new();
    for user in 0..USERS {
        let call: Call = serde_saphyr::from_str(&format!(
            "request: GET http://reviews:9080/\nheaders: {{x-user: user-{user}}}\nexpect: {{}}\n"
        ))?;
        let answer = testkit::call::send(mesh.who.outbound.context("a sidecar")?, &call).await?;
        let seen: testkit::backend::Seen = serde_json::from_slice(&answer.body)?;
        pods.push(seen.pod);
    }
    Ok(pods)
}

const USERS: usize = 60;

/// Waits until just these pods share the users, each of whom stays at one.
async fn shared_by(mesh: &Mesh, pods: &[&str]) -> Result<Vec<String>> {
    wait::until(&format!("{pods:?} share the users for good"), SOON, || async {
        let (first, second) = (users(mesh).await?, users(mesh).await?);
        let who: std::collections::BTreeSet<&str> = first.iter().map(String::as_str).collect();
        if first == second && who == pods.iter().copied().collect() {
            Ok(first)
        } else {
            bail!("{first:?}, {second:?}")
        }
    })
    .await
}

#[test]
fn s50_users_stay_at_their_pods_while_one_is_added() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mesh = start(209, folder.path()).await.unwrap();
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\n\
                    spec: {host: reviews, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}\n";
        let world = world(209).unwrap();
        let mut without_v3 = world.objects.clone();
        for endpoints in without_v3.iter_mut().filter_map(|object| object["endpoints"].as_array_mut()) {
            endpoints.retain(|one| one["targetRef"]["name"] != "reviews-v3");
        }
        write(folder.path(), "world.yaml", &to_yaml(&without_v3)).unwrap();
        write(folder.path(), "rules.yaml", rule).unwrap();
        let before = shared_by(&mesh, &["reviews-v1", "reviews-v2"]).await.unwrap();
        write(folder.path(), "world.yaml", &to_yaml(&world.objects)).unwrap();
        let after = shared_by(&mesh, &["reviews-v1", "reviews-v2", "reviews-v3"]).await.unwrap();
        let stayed = before.iter().zip(&after).filter(|(before, after)| before == after).count();
        // A third has to move; the ring has fewer points per pod now, which moves a few more (as in Envoy).
        assert!(stayed * 2 > USERS, "{stayed} of {USERS} stayed");
    });
}
