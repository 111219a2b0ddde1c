//! Spans of real proxies in a real OpenTelemetry Collector: a request through two sidecars and two applications is one
//! trace, whichever proxies carry it.
//!
//! client's sidecar → front's sidecar → front → front's sidecar → reviews' sidecar → reviews. The applications do what
//! applications have to: front passes the trace headers on. Sidecars bind their pods' addresses; the applications are
//! elsewhere, since nothing is captured here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use suite::collector::{Collector, Span, binary};
use suite::envoy::{self, Envoy};
use suite::mesh::{ControlPlane, Proxied, Proxy, get, write};
use suite::skip::skip;
use testkit::case::{Call, Case};
use testkit::process::free_address;
use testkit::wait;
use testkit::world::{World, lay_out, to_yaml};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What an application passes on so that its proxy knows what a call belongs to.
const PASSED_ON: [&str; 6] = ["x-request-id", "traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid"];

/// A proxy of either kind.
enum Running {
    Ours(Proxy),
    Envoys { _process: Envoy },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Sluice,
    Envoy,
}

async fn run(by: By, folder: &Path, who: &Proxied, plane: &ControlPlane) -> Result<Running> {
    let own = folder.join(&who.pod);
    std::fs::create_dir_all(&own)?;
    match by {
        By::Sluice => Ok(Running::Ours(Proxy::start(who, plane.xds).await?)),
        By::Envoy => {
            let binary = envoy::binary().context("no Envoy")?;
            Ok(Running::Envoys { _process: Envoy::start(&binary, &own, who, plane.xds, true).await? })
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// True when the suite can run.
fn is_possible(test: &str) -> bool {
    let why = match (binary(), envoy::binary()) {
        (None, _) => "no collector: run scripts/build-otelcol.sh",
        (_, None) => "no Envoy: run scripts/fetch-envoy.sh",
        _ => return true,
    };
    skip(test, why);
    false
}

fn sidecar(pod: &str, ip: IpAddr, app: IpAddr) -> Proxied {
    Proxied {
        role: "sidecar",
        pod: pod.into(),
        namespace: "default".into(),
        ip,
        labels: vec![("app".into(), pod.split('-').next().unwrap_or_default().to_owned())],
        outbound: Some(free_address(&ip.to_string()).unwrap()),
        bind_ip: None,
        app_ip: Some(app),
        captured: false,
        resolver: None,
        dns: None,
        identity: None,
    }
}

async fn serve<F>(at: SocketAddr, tasks: &mut JoinSet<()>, answer: F) -> Result<()>
where
    F: AsyncFn(Request<hyper::body::Incoming>) -> u16 + Clone + 'static,
{
    let listener = TcpListener::bind(at).await?;
    tasks.spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer.clone();
                async move {
                    let mut response = Response::new(Empty::<Bytes>::new());
                    *response.status_mut() = answer(request).await.try_into().unwrap();
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(async move { drop(connection.await) });
        }
    });
    Ok(())
}

// Calls reviews through the sidecar, on behalf of a request.
async fn call_on(request: Request<hyper::body::Incoming>, proxy: SocketAddr) -> Result<u16> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(proxy).await?)).await?;
    let driver = tokio::task::spawn_local(connection);
    let mut onward = Request::get("/ratings").header("host", "reviews:9080");
    for name in PASSED_ON {
        if let Some(value) = request.headers().get(name) {
            onward = onward.header(name, value);
        }
    }
    let response = sender.send_request(onward.body(Empty::<Bytes>::new())?).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    driver.abort();
    Ok(status)
}

struct Mesh {
    client: SocketAddr,
    proxies: Vec<Running>,
    plane: ControlPlane,
    _apps: JoinSet<()>,
}

async fn start(block: u8, folder: &Path, collector: SocketAddr, by: [By; 3], telemetry: &str) -> Result<Mesh> {
    let case: Case = serde_saphyr::from_str("rule: x\nservices: [{name: front}, {name: reviews}]\n")?;
    let world: World = lay_out(&case, block);
    let manifests = folder.join("manifests");
    std::fs::create_dir_all(&manifests)?;
    write(&manifests, "world.yaml", &to_yaml(&world.objects))?;
    write(&manifests, "telemetry.yaml", telemetry)?;
    let (directory, at) = (manifests.to_string_lossy().into_owned(), collector.to_string());
    let plane = ControlPlane::start(&["--config-dir", &directory, "--tracing-otlp", &at]).await?;
    let app = |n| IpAddr::V4(Ipv4Addr::new(127, block, 100, n));
    let pod = |name: &str| world.pods.iter().find(|pod| pod.name == name).map(|pod| pod.ip).context("no pod");
    let who = [
        sidecar("client", world.client_ip, app(9)),
        sidecar("front-v1", pod("front-v1")?, app(1)),
        sidecar("reviews-v1", pod("reviews-v1")?, app(2)),
    ];
    let mut apps = JoinSet::new();
    let through = who[1].outbound.context("a sidecar")?;
    serve((app(1), 9080).into(), &mut apps, async move |request| call_on(request, through).await.unwrap_or(599))
        .await?;
    serve((app(2), 9080).into(), &mut apps, async move |_| 200).await?;
    let mut proxies = Vec::new();
    for (who, by) in who.iter().zip(by) {
        proxies.push(run(by, folder, who, &plane).await?);
    }
    plane.synced(3).await?;
    Ok(Mesh { client: who[0].outbound.context("a sidecar")?, proxies, plane, _apps: apps })
}

const ALL: &str = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: all, namespace: istio-system}\n\
    spec: {tracing: [{randomSamplingPercentage: 100, customTags: {team: {literal: {value: blue}}, who: {header: {name: x-who}}}}]}\n";

async fn ask(mesh: &Mesh, headers: &str) -> Result<u16> {
    let call: Call = serde_saphyr::from_str(&format!(
        "request: GET http://front:9080/page?a=b\nheaders: {{{headers}}}\nexpect: {{}}\n"
    ))?;
    Ok(testkit::call::send(mesh.client, &call).await?.status)
}

// The four spans of a trace from its beginning, when all are there.
fn chain(spans: &[Span], root: impl Fn(&Span) -> bool) -> Option<Vec<Span>> {
    let mut chain = vec![spans.iter().find(|span| root(span))?.clone()];
    while let Some(next) = spans.iter().find(|span| chain.last().is_some_and(|last| last.id == span.parent)) {
        chain.push(next.clone());
    }
    (chain.len() == 4).then_some(chain)
}

fn judge(spans: &[Span]) {
    let told: Vec<String> = spans.iter().map(|span| format!("{} {} {}", span.service, span.kind, span.name)).collect();
    let expected = [
        "client.default client front.default.svc.cluster.local:9080/*",
        "front.default server front.default.svc.cluster.local:9080/*",
        "front.default client reviews.default.svc.cluster.local:9080/*",
        "reviews.default server reviews.default.svc.cluster.local:9080/*",
    ];
    assert_eq!(told, expected);
    assert!(spans.iter().all(|span| span.trace == spans[0].trace && !span.is_error), "{spans:#?}");
    for (span, cluster) in spans.iter().zip([
        "outbound|9080||front.default.svc.cluster.local",
        "inbound|9080||",
        "outbound|9080||reviews.default.svc.cluster.local",
        "inbound|9080||",
    ]) {
        let has = |key: &str, value: &str| {
            assert_eq!(span.attributes.get(key).map(String::as_str), Some(value), "{key} of {span:#?}");
        };
        has("upstream_cluster.name", cluster);
        has("http.method", "GET");
        has("http.protocol", "HTTP/1.1");
        has("http.status_code", "200");
        has("response_flags", "-");
        has("component", "proxy");
        has("downstream_cluster", "-");
        has("istio.canonical_service", span.service.split('.').next().unwrap());
        has("istio.namespace", "default");
        has("team", "blue");
        assert!(span.attributes["node_id"].starts_with("sidecar~"), "{span:#?}");
        assert_eq!(span.attributes["guid:x-request-id"], spans[0].attributes["guid:x-request-id"]);
    }
    assert_eq!(spans[0].attributes["http.url"], "http://front:9080/page?a=b");
    assert_eq!(spans[0].attributes.get("who").map(String::as_str), Some("me"));
    assert_eq!(spans[3].attributes.get("who"), None, "front has not passed it on");
}

fn a_request_is_one_trace(test: &str, block: u8, by: [By; 3]) {
    if !is_possible(test) {
        return;
    }
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime(), async {
        let folder = tempfile::tempdir().unwrap();
        let at = free_address("127.0.0.1").unwrap();
        let collector = Collector::start(&binary().unwrap(), folder.path(), at).await.unwrap();
        let mesh = start(block, folder.path(), at, by, ALL).await.unwrap();
        assert_eq!(ask(&mesh, "x-who: me").await.unwrap(), 200);
        let spans = collector
            .until("four spans, each the parent of the next", |spans| chain(spans, |span| span.parent.is_empty()))
            .await
            .unwrap();
        judge(&spans);
        // A caller of its own: W3C's example, wanted and not wanted.
        let caller = "4bf92f3577b34da6a3ce929d0e0e4736";
        let header = |flags: &str| format!("x-who: me, traceparent: 00-{caller}-00f067aa0ba902b7-{flags}");
        assert_eq!(ask(&mesh, &header("00")).await.unwrap(), 200);
        assert_eq!(ask(&mesh, &header("01")).await.unwrap(), 200);
        let found =
            collector.until("the caller's trace", |spans| chain(spans, |span| span.parent == "00f067aa0ba902b7"));
        let spans = found.await.unwrap();
        assert_eq!(spans[0].trace, caller);
        judge(&spans);
        let all = collector.spans().unwrap();
        assert_eq!(all.iter().filter(|span| span.trace == caller).count(), 4, "what is not wanted is not reported");
    });
}

#[test]
fn a_request_through_our_proxies_is_one_trace() {
    a_request_is_one_trace("a_request_through_our_proxies_is_one_trace", 221, [By::Sluice; 3]);
}

#[test]
fn a_request_through_envoys_is_one_trace() {
    a_request_is_one_trace("a_request_through_envoys_is_one_trace", 222, [By::Envoy; 3]);
}

#[test]
fn a_request_through_both_is_one_trace() {
    a_request_is_one_trace("a_request_through_both_is_one_trace", 223, [By::Sluice, By::Envoy, By::Sluice]);
}

#[test]
fn spans_wait_for_a_collector_that_comes_late() {
    let test = "spans_wait_for_a_collector_that_comes_late";
    if !is_possible(test) {
        return;
    }
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime(), async {
        let folder = tempfile::tempdir().unwrap();
        let at = free_address("127.0.0.1").unwrap();
        let mesh = start(224, folder.path(), at, [By::Sluice; 3], ALL).await.unwrap();
        assert_eq!(ask(&mesh, "x-who: me").await.unwrap(), 200);
        let Some(Running::Ours(proxy)) = mesh.proxies.first() else { panic!("the client's proxy is ours") };
        wait::until("a failed export is counted", std::time::Duration::from_secs(10), || async {
            let page = get(proxy.admin, "/stats/prometheus").await?;
            let page = String::from_utf8_lossy(&page).into_owned();
            let counted = page.lines().any(|line| {
                line.strip_prefix("sluice_span_exports_failed ")
                    .is_some_and(|count| count.parse::<u64>().is_ok_and(|n| n > 0))
            });
            anyhow::ensure!(counted, "not yet");
            Ok(())
        })
        .await
        .unwrap();
        let collector = Collector::start(&binary().unwrap(), folder.path(), at).await.unwrap();
        let found = collector.until("the spans of before", |spans| chain(spans, |span| span.parent.is_empty()));
        judge(&found.await.unwrap());
        drop(mesh.plane);
    });
}

const EDGE: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  selector: {app: edge}\n  \
    servers:\n  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: [shop.example.com]}\n---\n\
    apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\nspec:\n  hosts: [shop.example.com]\n  \
    gateways: [edge]\n  http:\n  - retries: {attempts: 1, retryOn: 5xx}\n    route: [{destination: {host: reviews}}]\n";

fn tries_have_spans(test: &str, block: u8, by: By) {
    if !is_possible(test) {
        return;
    }
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime(), async {
        let folder = tempfile::tempdir().unwrap();
        let at = free_address("127.0.0.1").unwrap();
        let collector = Collector::start(&binary().unwrap(), folder.path(), at).await.unwrap();
        let case = "rule: x\nservices: [{name: reviews, behaviour: {v1: {status: 503, times: 1}}}]\n";
        let case: Case = serde_saphyr::from_str(case).unwrap();
        let world = lay_out(&case, block);
        let manifests = folder.path().join("manifests");
        std::fs::create_dir_all(&manifests).unwrap();
        write(&manifests, "world.yaml", &to_yaml(&world.objects)).unwrap();
        write(&manifests, "edge.yaml", EDGE).unwrap();
        let _servers = testkit::serve::start(&world).await.unwrap();
        let (directory, to) = (manifests.to_string_lossy().into_owned(), at.to_string());
        let arguments = ["--config-dir", &directory, "--tracing-otlp", &to, "--tracing-sampling", "100"];
        let plane = ControlPlane::start(&arguments).await.unwrap();
        let ip = world.client_ip;
        let who =
            Proxied { role: "router", outbound: None, bind_ip: Some(ip), app_ip: None, ..sidecar("edge", ip, ip) };
        let _proxy = run(by, folder.path(), &who, &plane).await.unwrap();
        plane.synced(1).await.unwrap();
        let call: Call = serde_saphyr::from_str("request: GET http://shop.example.com:8080/\nexpect: {}\n").unwrap();
        let answer = testkit::call::send(SocketAddr::new(ip, 8080), &call).await.unwrap();
        assert_eq!(answer.status, 200);
        let enough = |spans: &[Span]| (spans.len() == 3).then(|| spans.to_vec());
        let spans = collector.until("a span of the request and one of each try", enough).await.unwrap();
        let server = spans.iter().find(|span| span.kind == "server").unwrap();
        assert!(server.parent.is_empty() && !server.is_error, "{server:#?}");
        assert_eq!(server.attributes["http.status_code"], "200");
        let tries: Vec<&Span> = spans.iter().filter(|span| span.kind == "client").collect();
        assert!(tries.iter().all(|span| span.parent == server.id && span.trace == server.trace), "{spans:#?}");
        let mut told: Vec<String> = tries
            .iter()
            .map(|span| {
                let attribute = |key: &str| span.attributes.get(key).cloned().unwrap_or_default();
                format!(
                    "{} {} {} retry {:?}",
                    span.name,
                    attribute("http.status_code"),
                    span.is_error,
                    attribute("retry.count")
                )
            })
            .collect();
        told.sort();
        let name = "router outbound|9080||reviews.default.svc.cluster.local egress";
        assert_eq!(told, [format!("{name} 200 false retry \"1\""), format!("{name} 503 true retry \"\"")]);
    });
}

#[test]
fn tries_of_our_gateway_have_spans() {
    tries_have_spans("tries_of_our_gateway_have_spans", 225, By::Sluice);
}

#[test]
fn tries_of_envoys_gateway_have_spans() {
    tries_have_spans("tries_of_envoys_gateway_have_spans", 226, By::Envoy);
}
