//! The HTTP side: metrics, readiness, debug pages. Read-only; every answer comes from the loop, or is a counter.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use transport::door::{Bounds, Door};

use crate::event::{About, Answer, Event, Question};
use crate::metrics::Metrics;
use crate::peers::QUESTIONS_MAX;
use crate::reporting::parse_question;

/// Who may be here: kubelet and Prometheus come with few connections, but everybody reaches the port.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    of_one_source: 64,
    silence: Duration::from_secs(10),
    stall: Duration::from_secs(30),
};
/// How long a request's head may take to come.
const HEAD_MAX: Duration = Duration::from_secs(30);

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
    let door = Door::new(listener, BOUNDS);
    loop {
        let (stream, _) = door.next().await;
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(pages.clone(), request));
            let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
            server.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_MAX);
            // A client that goes away is no news.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};

    use super::*;

    #[tokio::test]
    async fn who_holds_connections_does_not_stop_kubelet() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (events, _queue) = mpsc::channel(1);
        let (_sender, settings) = watch::channel(Arc::default());
        tokio::spawn(serve(listener, Pages { events, metrics: Arc::new(Metrics::new()), settings }));
        let mut held = Vec::new();
        for source in 2..10 {
            for _ in 0..BOUNDS.of_one_source {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 0, source], 0).into()).unwrap();
                let mut stream = socket.connect(address).await.unwrap();
                // Not even the first line of a request.
                stream.write_all(b"G").await.unwrap();
                held.push(stream);
            }
        }
        let mut kubelet = TcpStream::connect(address).await.unwrap();
        kubelet.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        kubelet.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
