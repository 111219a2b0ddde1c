//! Access logs and metrics as Telemetry wants them, written by our proxy and by stock Envoy: who is logged where, and the response
//! flags of clients that misbehave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::Duration;

use suite::envoy::{self, Envoy};
use suite::mesh::{ControlPlane, Proxied, Proxy, get, write};
use suite::skip::skip;
use testkit::case::{Call, Case};
use testkit::process::free_address;
use testkit::wait;
use testkit::world::{lay_out, to_yaml};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);

const RULES: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /ok}}, {uri: {prefix: /quiet}}]
    route: [{destination: {host: reviews}}]
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: logs, namespace: istio-system}
spec:
  accessLogging:
  - providers: [{name: errors}]
    filter: {expression: 'response.code >= 400 || response.flags != 0'}
  - providers: [{name: objects}]
    filter: {expression: '!request.url_path.startsWith("/quiet")'}
  metrics:
  - overrides:
    - match: {metric: REQUEST_COUNT}
      tagOverrides:
        path: {value: request.url_path}
        team: {value: "'blue'"}
        source_principal: {operation: REMOVE}
    - match: {metric: REQUEST_SIZE}
      disabled: true
"#;

async fn line(file: &Path, of: &str) -> String {
    wait::until(&format!("a line of {of}"), SOON, || async {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().find(|line| line.contains(of)).map(str::to_owned).ok_or(text)
    })
    .await
    .unwrap()
}

// Sends bytes as they are; gives what comes back until the end.
async fn raw(to: std::net::SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut some = [0; 1024];
    // Until the head is there.
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut some).await.unwrap() {
            0 => break,
            count => answer.extend_from_slice(&some[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

async fn logs_are_as_wanted(block: u8, by_envoy: bool) {
    let case = "rule: x\nservices: [{name: reviews, behaviour: {v1: {delayMs: 300}}}]\n";
    let case: Case = serde_saphyr::from_str(case).unwrap();
    let world = lay_out(&case, block);
    let folder = tempfile::tempdir().unwrap();
    let (errors, objects) = (folder.path().join("errors.log"), folder.path().join("objects.log"));
    let manifests = folder.path().join("manifests");
    std::fs::create_dir_all(&manifests).unwrap();
    write(&manifests, "world.yaml", &to_yaml(&world.objects)).unwrap();
    write(&manifests, "rules.yaml", RULES).unwrap();
    let _servers = testkit::serve::start(&world).await.unwrap();
    let directory = manifests.to_string_lossy().into_owned();
    let (one, other) = (format!("errors={}", errors.display()), format!("objects={},json", objects.display()));
    let arguments = ["--config-dir", &directory, "--access-log-provider", &one, "--access-log-provider", &other];
    let plane = ControlPlane::start(&arguments).await.unwrap();
    let at = free_address(&world.client_ip.to_string()).unwrap();
    let who = Proxied {
        role: "sidecar",
        pod: "client".into(),
        namespace: "default".into(),
        ip: world.client_ip,
        labels: vec![("app".into(), "client".into())],
        outbound: Some(at),
        bind_ip: None,
        app_ip: None,
        captured: false,
        resolver: None,
        dns: None,
        identity: None,
    };
    let (mut ours, mut envoys) = (None, None);
    match by_envoy {
        true => {
            let binary = envoy::binary().unwrap();
            envoys = Some(Envoy::start(&binary, folder.path(), &who, plane.xds, true).await.unwrap());
        }
        false => ours = Some(Proxy::start(&who, plane.xds).await.unwrap()),
    }
    let admin = ours.as_ref().map(|one| one.admin).or(envoys.as_ref().map(|one| one.admin)).unwrap();
    plane.synced(1).await.unwrap();
    let ask = async |path: &str| {
        let call: Call =
            serde_saphyr::from_str(&format!("request: GET http://reviews:9080{path}\nexpect: {{}}\n")).unwrap();
        testkit::call::send(at, &call).await.unwrap().status
    };
    assert_eq!(ask("/ok").await, 200);
    assert_eq!(ask("/quiet").await, 200);
    assert_eq!(ask("/none").await, 404);
    // A client that does not wait.
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET /ok-but-gone HTTP/1.1\r\nhost: reviews:9080\r\n\r\n").await.unwrap();
    wait::until("its request is under way", SOON, || async {
        let text = String::from_utf8_lossy(&get(admin, "/stats").await?).into_owned();
        let line = "cluster.outbound|9080||reviews.default.svc.cluster.local.upstream_rq_active: 1";
        if text.contains(line) { Ok(()) } else { anyhow::bail!("the pod is not asked") }
    })
    .await
    .unwrap();
    drop(stream);
    // A client that does not speak HTTP.
    assert!(raw(at, "GET /bad HTTP/1.1\r\nthis is no header\r\n\r\n").await.starts_with("HTTP/1.1 400 "));

    assert!(line(&errors, "/none").await.contains("\" 404 NR route_not_found "));
    let gone = line(&errors, "/ok-but-gone").await;
    assert!(gone.contains("\" 0 DC downstream_remote_disconnect "), "{gone}");
    let bad = line(&errors, " DPE ").await;
    assert!(bad.contains("\" 400 DPE http1.codec_error "), "{bad}");
    let ok: serde_json::Value = serde_json::from_str(&line(&objects, "\"/ok\"").await).unwrap();
    assert_eq!((&ok["response_code"], &ok["response_flags"], &ok["method"]), (&200.into(), &"-".into(), &"GET".into()));
    // Written in order: what came before these lines would be there.
    line(&objects, "/ok-but-gone").await;
    let errors = std::fs::read_to_string(&errors).unwrap();
    let objects = std::fs::read_to_string(&objects).unwrap();
    assert!(!errors.contains("GET /ok HTTP") && !errors.contains("/quiet"), "{errors}");
    assert!(!objects.contains("/quiet"), "{objects}");
    if let Some(proxy) = &ours {
        metrics_are_as_wanted(proxy).await;
    }
    if let Some(envoy) = &envoys {
        assert_eq!(envoy.rejected().await.unwrap(), 0, "what Envoy has not, it passes over");
    }
}

async fn metrics_are_as_wanted(proxy: &Proxy) {
    let page = get(proxy.admin, "/stats/prometheus").await.unwrap();
    let page = String::from_utf8_lossy(&page).into_owned();
    let lines = |name: &str| page.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    let requests = lines("istio_requests_total{");
    let none = requests.iter().find(|line| line.contains("path=\"/none\"")).unwrap();
    assert!(none.contains("response_code=\"404\"") && none.contains("team=\"blue\""), "{none}");
    assert!(requests.iter().all(|line| !line.contains("source_principal=")), "{requests:?}");
    assert!(lines("istio_request_bytes").is_empty(), "{page}");
    let responses = lines("istio_response_bytes_count{");
    assert!(!responses.is_empty() && responses.iter().all(|line| line.contains("source_principal=")), "{responses:?}");
}

fn run(test: &str, block: u8, by_envoy: bool) {
    if by_envoy && envoy::binary().is_none() {
        return skip(test, "no Envoy: run scripts/fetch-envoy.sh");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(logs_are_as_wanted(block, by_envoy));
}

#[test]
fn te01_our_proxy_logs_what_telemetry_says() {
    run("te01_our_proxy_logs_what_telemetry_says", 231, false);
}

#[test]
fn te01_envoy_logs_what_telemetry_says() {
    run("te01_envoy_logs_what_telemetry_says", 232, true);
}
