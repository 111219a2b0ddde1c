//! The admin pages, under Envoy's paths, and readiness.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use transport::door::{Bounds, Door};

use crate::run::App;
use crate::stats;

/// Which pages an address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// All of them.
    All,
    /// Only `/healthz/ready`: this address is reached from outside of the pod.
    Readiness,
    /// Only `/stats/prometheus`, for the same reason.
    Metrics,
}

/// Who may be at each of the proxy's own ports: kubelet and Prometheus come with few connections from their own addresses,
/// but whoever reaches the pod can come here.
pub(crate) const BOUNDS: Bounds =
    Bounds { connections: 128, of_one_source: 32, silence: Duration::from_secs(30), stall: Duration::from_secs(30) };
/// How long a request's head may take to come.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// What pages for people and for Prometheus are.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

const HELP: &str = "\
/certs                         certificates in use, and until when
/memory, /runtime              not kept here
/clusters[?format=json]        clusters, hosts, their counts and bounds
/config_dump                   what is obeyed now, with versions
/drain_listeners               POST: take no new connections; ?graceful: after a drain, &skip_exit: not even then; ?inboundonly (also /drain)
/healthcheck/fail|ok           POST: be not ready, be ready
/healthz/ready, /ready         200 when requests may be sent here
/listeners                     names and addresses
/logging?level=                POST: what is logged
/quitquitquit                  POST: finish and end
/server_info                   version, state, node
/stats[?filter=]               counters
/stats/prometheus              counters and Istio's metrics for Prometheus
";

/// Serves until the program ends.
pub async fn serve(listener: TcpListener, app: Rc<App>, pages: Pages) {
    let door = Door::new(listener, BOUNDS);
    loop {
        let (stream, _) = door.next().await;
        let app = app.clone();
        spawn_local(async move {
            let service = service_fn(move |request| {
                let app = app.clone();
                async move { Ok::<_, Infallible>(respond::<Incoming>(&app, pages, &request).await) }
            });
            // A client that goes away is no news.
            let _ = server().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// What serves a connection; one without a request ends.
pub(crate) fn server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    server
}

/// The answer to a request for a page.
pub async fn respond<B>(app: &App, pages: Pages, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if matches!(path, "/ready" | "/healthz/ready") {
        return match app.is_ready() {
            true => text(200, "LIVE\n"),
            false if app.is_draining() => text(503, "DRAINING\n"),
            false => text(503, "PRE_INITIALIZING\n"),
        };
    }
    if pages == Pages::Metrics {
        return match path {
            "/stats/prometheus" | "/metrics" => text(200, &app.scrape().await.text()),
            _ => text(404, "only /stats/prometheus is here\n"),
        };
    }
    if pages == Pages::Readiness {
        return text(404, "only /healthz/ready is here\n");
    }
    match *request.method() {
        Method::GET => show(app, request).await,
        Method::POST => change(app, request).await,
        _ => text(405, "only GET and POST\n"),
    }
}

fn parameter<'a, B>(request: &'a Request<B>, name: &str) -> Option<&'a str> {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

async fn show<B>(app: &App, request: &Request<B>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/" | "/help" => text(200, HELP),
        "/certs" => {
            let certs = crate::certs::page(&app.snapshot.borrow(), std::time::SystemTime::now());
            page(200, "application/json", format!("{certs:#}\n"))
        }
        "/config_dump" => page(200, "application/json", format!("{:#}\n", config_dump(app))),
        "/clusters" => {
            let clusters = app.scrape().await.clusters;
            match parameter(request, "format") {
                Some("json") => page(200, "application/json", format!("{:#}\n", stats::clusters_json(&clusters))),
                _ => text(200, &stats::clusters(&clusters)),
            }
        }
        "/listeners" => {
            let snapshot = app.snapshot.borrow();
            let bound = snapshot.listeners.values().filter(|listener| listener.bind_to_port);
            let lines = bound.flat_map(|one| one.addresses().map(move |address| format!("{}::{address}\n", one.name)));
            text(200, &lines.collect::<String>())
        }
        "/stats" => {
            let all = stats::plain(&app.scrape().await.clusters);
            let filter = parameter(request, "filter").unwrap_or_default();
            text(
                200,
                &all.lines().filter(|line| line.contains(filter)).map(|line| format!("{line}\n")).collect::<String>(),
            )
        }
        "/stats/prometheus" | "/metrics" => text(200, &app.scrape().await.text()),
        "/server_info" => page(200, "application/json", format!("{:#}\n", server_info(app))),
        _ => text(404, &format!("no such page\n\n{HELP}")),
    }
}

async fn change<B>(app: &App, request: &Request<B>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/logging" => match parameter(request, "level") {
            None => text(400, "which level? add ?level=debug\n"),
            Some(level) => match (app.set_log_level)(level) {
                Ok(()) => text(200, "OK\n"),
                Err(reason) => text(400, &format!("{reason}\n")),
            },
        },
        "/drain" | "/drain_listeners" => {
            // Envoy: `graceful` drains first, and closes nothing afterwards with `skip_exit`; `inboundonly` leaves what our
            // own application sends alone.
            let query = request.uri().query().unwrap_or_default();
            let says = |word: &str| query.split('&').any(|one| one == word);
            if says("graceful") {
                app.drain().await;
                if !says("skip_exit") {
                    // Asked twice is asked once.
                    let _ = app.closes_later.try_send(says("inboundonly"));
                }
            } else {
                app.close(says("inboundonly")).await;
            }
            text(200, "OK\n")
        }
        "/healthcheck/fail" => {
            app.fail(true).await;
            text(200, "OK\n")
        }
        "/healthcheck/ok" => {
            app.fail(false).await;
            text(200, "OK\n")
        }
        "/quitquitquit" => {
            app.quit.notify_one();
            text(200, "OK\n")
        }
        _ => text(404, &format!("nothing to POST to\n\n{HELP}")),
    }
}

fn server_info(app: &App) -> Value {
    let state = match (app.is_draining(), app.ready.get()) {
        (true, _) => "DRAINING",
        (false, true) => "LIVE",
        (false, false) => "PRE_INITIALIZING",
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"), "state": state,
        "uptime_all_epochs": format!("{}s", app.started.elapsed().as_secs()),
        "node": {"id": app.identity.node_id, "metadata": app.identity.metadata}
    })
}

fn config_dump(app: &App) -> Value {
    let versions = app.versions.borrow();
    codec::json::config_dump(&app.snapshot.borrow(), |kind, name| {
        versions
            .iter()
            .find(|((held, of), _)| of == name && held.url() == kind.type_url())
            .map_or_else(String::new, |(_, version)| version.clone())
    })
}

/// A page of text.
pub(crate) fn text(status: u16, body: &str) -> Response<Full<Bytes>> {
    page(status, TEXT, body.to_owned())
}

pub(crate) fn page(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
