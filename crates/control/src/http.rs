//! The HTTP side: metrics, readiness, debug pages. Read-only; every answer comes from the loop, or is a counter.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::event::{About, Answer, Event, Question};
use crate::metrics::Metrics;
use crate::peers::QUESTIONS_MAX;
use crate::reporting::parse_question;

/// Connections at a time; more wait in the kernel.
const CONNECTIONS_MAX: usize = 256;

/// What each request needs.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
    /// How pods are injected.
    pub(crate) settings: watch::Receiver<Arc<inject::Settings>>,
}

/// Serves until the program ends.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(pages.clone(), request));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that goes away is no news.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn respond(pages: Pages, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET {
        return Ok(text(405, "only GET\n"));
    }
    let query = request.uri().query().unwrap_or_default();
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let about = match request.uri().path() {
        "/metrics" => return Ok(text(200, &pages.metrics.text())),
        "/version" => return Ok(text(200, concat!(env!("CARGO_PKG_VERSION"), "\n"))),
        "/" | "/debug" | "/debug/list" => return Ok(text(200, INDEX)),
        "/healthz/ready" | "/ready" => About::Ready,
        "/debug/inject" => return Ok(json(200, &serde_json::json!(**pages.settings.borrow()))),
        "/debug/syncz" => About::Syncz,
        "/debug/world" => About::World,
        "/debug/diagnostics" => About::Diagnostics,
        "/debug/progress" => {
            let asked = parameter("of").unwrap_or_default().split(',').take(QUESTIONS_MAX);
            About::Progress(asked.map(parse_question).collect())
        }
        "/debug/config_dump" => match parameter("proxyID") {
            Some(name) => About::ConfigDump(name.replace("%7E", "~")),
            None => return Ok(text(400, "which proxy? add ?proxyID=<pod>.<namespace>; /debug/syncz lists them\n")),
        },
        _ => return Ok(text(404, &format!("no such page\n\n{INDEX}"))),
    };
    let (answer, ready) = oneshot::channel();
    let question = Event::Question(Question { about, answer });
    if pages.events.send(question).await.is_err() {
        return Ok(text(503, "the control plane is stopping\n"));
    }
    Ok(match ready.await {
        Ok(Answer { status, body: serde_json::Value::String(line) }) => text(status, &line),
        Ok(Answer { status, body }) => json(status, &body),
        Err(_) => text(503, "the control plane is stopping\n"),
    })
}

const INDEX: &str = "\
/metrics                      Prometheus metrics
/healthz/ready                200 once the world is complete
/debug/inject                 how pods are injected, for `sluicectl inject --settings`
/debug/syncz                  each proxy, each type: sent, acknowledged, latency
/debug/config_dump?proxyID=   what a proxy was told to hold, in Envoy's form
/debug/world                  the objects, and what is to be said about them
/debug/diagnostics            only what is to be said
/debug/progress?of=           for other replicas: how far a generation has come with the proxies of this one
/version                      the version
";

fn text(status: u16, body: &str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", Bytes::copy_from_slice(body.as_bytes()))
}

fn json(status: u16, body: &serde_json::Value) -> Response<Full<Bytes>> {
    with_type(status, "application/json", Bytes::from(format!("{body:#}\n")))
}

fn with_type(status: u16, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
