use std::sync::Arc;

use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;
use tokio::task::LocalSet;

use super::*;
use crate::identity::Identity;

fn app() -> Rc<App> {
    let identity = Identity::new("sidecar~10.0.0.1~a.b~b.svc.cluster.local", &Default::default(), Default::default());
    Rc::new(App::new(Arc::new(identity), Vec::new(), Box::new(|_| Ok(()))))
}

/// An application: `/live` is well, `/sick` is not, `/slow` never answers, `/m` has metrics.
async fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(hyper::server::conn::http1::Builder::new().serve_connection(
                TokioIo::new(stream),
                service_fn(|request: Request<Incoming>| async move {
                    let header =
                        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
                    match request.uri().path() {
                        "/live" => Ok::<_, Infallible>(text(200, "")),
                        "/who" if header("host") == "me" && header("user-agent") == "kube-probe/1.36" => {
                            Ok(text(204, ""))
                        }
                        "/moved" => Ok(moved("/sick")),
                        "/folder/here" => Ok(moved("../live")),
                        "/folder/../live" => Ok(text(200, "")),
                        "/away" => Ok(moved("http://login.example.com/")),
                        "/round" => Ok(moved("/round")),
                        "/whole" => Ok(moved(&format!("http://{}/moved", header("host")))),
                        "/m" => Ok(text(200, "app_requests_total 7\n")),
                        "/slow" => std::future::pending().await,
                        _ => Ok(text(503, "")),
                    }
                }),
            ));
        }
    });
    port
}

fn moved(to: &str) -> Response<Full<Bytes>> {
    let mut response = text(302, "");
    response.headers_mut().insert("location", to.parse().unwrap());
    response
}

/// A gRPC server whose health is this.
async fn health_of(status: u8) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(hyper::server::conn::http2::Builder::new(transport::exec::LocalExec).serve_connection(
                TokioIo::new(stream),
                service_fn(move |request: Request<Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let asked = request.into_body().collect().await.unwrap().to_bytes();
                    // Field 1 of the message is the service's name.
                    let known = asked.ends_with(b"\x0a\x04live") || asked.len() == 5;
                    let mut trailers = hyper::HeaderMap::new();
                    trailers.insert("grpc-status", if known { "0" } else { "5" }.parse().unwrap());
                    let data = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
                    let frames = [Ok::<_, Infallible>(Frame::data(data)), Ok(Frame::trailers(trailers))];
                    Ok::<_, Infallible>(Response::new(StreamBody::new(futures::stream::iter(frames))))
                }),
            ));
        }
    });
    port
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let stream = transport::io::connect(address, &Default::default()).await.unwrap();
    let request =
        Request::builder().method(method).uri(path).header("host", "x").header("user-agent", "kube-probe/1.36");
    let response = probe::answer(transport::io::Io::Tcp(stream), request.body(Full::default()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn served(probes: serde_json::Value, metrics: Option<serde_json::Value>) -> SocketAddr {
    let metrics = metrics.map(|value| value.to_string());
    let application =
        Application::new(Some(&probes.to_string()), metrics.as_deref(), "127.0.0.1".parse().ok()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(serve(listener, app(), Rc::new(application)));
    address
}

#[tokio::test]
async fn dp01_health_of_the_application_on_behalf_of_kubelet() {
    LocalSet::new().run_until(health()).await;
}

async fn health() {
    let port = application().await;
    let (well, ill) = (health_of(1).await, health_of(2).await);
    let address = served(
        json!({
            "/app-health/a/livez": {"httpGet": {"path": "/live", "port": port}},
            "/app-health/a/readyz": {"httpGet": {"path": "sick", "port": port.to_string(), "scheme": "HTTP"}},
            "/app-health/a/startupz": {"httpGet": {"path": "/slow", "port": port}, "timeoutSeconds": 1},
            "/app-health/b/livez": {"httpGet": {"path": "/who", "port": port, "httpHeaders": [{"name": "Host", "value": "me"}]}},
            "/app-health/b/readyz": {"tcpSocket": {"port": port}},
            "/app-health/b/startupz": {"tcpSocket": {"port": 1}},
            "/app-health/c/livez": {"grpc": {"port": well, "service": "live"}},
            "/app-health/c/readyz": {"grpc": {"port": well, "service": null}},
            "/app-health/c/startupz": {"grpc": {"port": well, "service": "none"}},
            "/app-health/d/livez": {"grpc": {"port": ill}},
            "/app-health/d/readyz": {"httpGet": {"path": "/live", "port": "web"}},
            "/app-health/e/livez": {"httpGet": {"path": "/moved", "port": port}},
            "/app-health/e/readyz": {"httpGet": {"path": "/folder/here", "port": port, "httpHeaders": null}},
            "/app-health/e/startupz": {"httpGet": {"path": "/away", "port": port}},
            "/app-health/f/livez": {"httpGet": {"path": "/round", "port": port}},
            "/app-health/f/readyz": {"httpGet": {"path": "/whole", "port": port}},
            "/app-lifecycle/a/prestopz": {"httpGet": {"path": "/live", "port": port}}
        }),
        None,
    )
    .await;
    for (path, expected) in [
        ("/app-health/a/livez", 200),
        ("/app-health/a/readyz", 503),
        ("/app-health/a/startupz", 500),
        ("/app-health/b/livez", 204),
        ("/app-health/b/readyz", 200),
        ("/app-health/b/startupz", 500),
        ("/app-health/c/livez", 200),
        ("/app-health/c/readyz", 200),
        ("/app-health/c/startupz", 500),
        ("/app-health/d/livez", 500),
        ("/app-health/d/readyz", 500),
        // kubelet follows redirects, to the same host only.
        ("/app-health/e/livez", 503),
        ("/app-health/e/readyz", 200),
        ("/app-health/e/startupz", 302),
        ("/app-health/f/livez", 500),
        ("/app-health/f/readyz", 503),
        ("/app-health/nobody/livez", 404),
        ("/app-lifecycle/a/prestopz", 200),
        // Nothing else of the application is reached this way.
        ("/live", 404),
        ("/app-health/../live", 404),
        ("/healthz/ready", 503),
    ] {
        let (status, body) = ask(address, "GET", path).await;
        assert_eq!(status, expected, "{path}: {body}");
    }
    assert_eq!(ask(address, "POST", "/app-health/a/livez").await.0, 404);
}

#[tokio::test]
async fn dp01_metrics_of_proxy_and_application_are_one_page() {
    LocalSet::new().run_until(metrics()).await;
}

async fn metrics() {
    let port = application().await;
    let said = |path: &str, port: u16| json!({"scrape": "true", "path": path, "port": port.to_string()});
    let (status, text) = ask(served(json!({}), Some(said("/m", port))).await, "GET", "/stats/prometheus").await;
    assert!(status == 200 && text.contains("app_requests_total 7") && text.contains("istio_build"), "{text}");
    // An application that does not answer costs only its own.
    let (status, text) = ask(served(json!({}), Some(said("/none", port))).await, "GET", "/stats/prometheus").await;
    assert!(status == 200 && !text.contains("app_requests_total"), "{text}");
    assert!(text.contains("istio_agent_scrape_failures_total{type=\"application\"} 1\n"), "{text}");
    // TLS where the pod said so: an application without it does not answer.
    let mut secured = said("/m", port);
    secured["scheme"] = json!("https");
    let (status, text) = ask(served(json!({}), Some(secured)).await, "GET", "/metrics").await;
    assert!(status == 200 && !text.contains("app_requests_total"), "{text}");
    assert_eq!(ask(served(json!({}), None).await, "GET", "/metrics").await.0, 200);
}

#[tokio::test]
async fn who_holds_connections_does_not_stop_kubelet() {
    LocalSet::new().run_until(crowd()).await;
}

async fn crowd() {
    let address = served(json!({"/app-health/a/livez": {"tcpSocket": {"port": health_of(1).await}}}), None).await;
    let connect = async |source: u8| {
        let options = transport::io::ConnectOptions {
            source: Some([127, 0, 0, source].into()),
            ..transport::io::ConnectOptions::default()
        };
        transport::io::connect(address, &options).await.unwrap()
    };
    let mut held = Vec::new();
    for source in 2..9 {
        for _ in 0..32 {
            held.push(connect(source).await);
        }
    }
    assert_eq!(ask(address, "GET", "/app-health/a/livez").await.0, 200);
    // Nor do many of kubelet's own node.
    for _ in 0..64 {
        held.push(connect(1).await);
    }
    assert_eq!(ask(address, "GET", "/app-health/a/livez").await.0, 200);
    drop(held);
}

#[tokio::test]
async fn the_application_is_not_asked_for_more_metrics_than_fit() {
    LocalSet::new().run_until(scrapes()).await;
}

async fn scrapes() {
    let application = Application::new(None, Some(r#"{"scrape": "true", "port": "1"}"#), None).unwrap();
    let app = app();
    let (first, second) = (merged(&app, &application).await, merged(&app, &application).await);
    let mut third = Box::pin(merged(&app, &application));
    assert!(futures::poll!(third.as_mut()).is_pending());
    // A page that is sent makes room.
    drop(first);
    assert_eq!(third.await.status(), 200);
    drop(second);
}

#[test]
fn what_is_known_of_the_application_is_checked() {
    assert!(Application::new(Some("{"), None, None).unwrap_err().starts_with("--app-probers: "));
    // One that is wrong costs the others nothing.
    let probes = |text: &str| Application::new(Some(text), None, None).unwrap().probes;
    let words = |text: &str| probes(text)["/a"].clone().unwrap_err();
    assert_eq!(words(r#"{"/a": {}, "/b": {"tcpSocket": {"port": 80}}}"#), "neither httpGet nor tcpSocket nor grpc");
    assert_eq!(words(r#"{"/a": {"httpGet": {"port": "web"}}}"#), "\"web\" is no port of a container");
    assert_eq!(words(r#"{"/a": {"tcpSocket": {"port": 70000}}}"#), "70000 is no port of a container");
    assert!(words("{\"/a\": 7}").contains("invalid type"));
    let nulls = r#"{"/a": {"httpGet": {"port": 80, "path": null, "scheme": null, "httpHeaders": null}, "grpc": null}}"#;
    assert!(probes(nulls)["/a"].is_ok());
    assert!(Application::new(None, Some("7"), None).unwrap_err().starts_with("--app-metrics: "));
    assert!(Application::new(Some(""), Some(""), None).is_ok());
}

#[tokio::test]
async fn a_pod_that_begins_to_end_is_served_until_the_sidecar_is_told_to_end() {
    let app = app();
    let drain = async |query: &str| {
        let request = Request::post(format!("/drain_listeners?{query}")).body(()).unwrap();
        assert_eq!(admin::respond(&app, Pages::All, &request).await.status(), 200);
    };
    drain("graceful&skip_exit").await;
    assert!(app.is_draining() && !app.is_ready());
    assert_eq!(app.closes_later.capacity(), 1, "nothing is closed later");
    drain("graceful&inboundonly").await;
    assert_eq!(app.closes_later.capacity(), 0);
}
