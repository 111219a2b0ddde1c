//! The HTTP side: metrics, readiness, debug pages. Read-only; every answer comes from the loop, or is a counter.
//!
//! In: GETs, and who sends them. Out: pages. What `/debug` shows of the mesh is told to whoever is on this machine, which in a
//! cluster is this pod: `kubectl port-forward` comes from there, and asks who its user is (CVE-2026-31838 is an Istio that
//! told everybody). Other replicas are told how far generations have come.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use transport::door::{Bounds, Door};

use crate::event::{About, Answer, Event, Question};
use crate::metrics::Metrics;
use crate::peers::QUESTIONS_MAX;
use crate::reporting::parse_question;

/// Who may be here: kubelet and Prometheus come with few connections, but everybody reaches the port.
const BOUNDS: Bounds =
    Bounds { connections: 256, of_one_source: 64, silence: Duration::from_secs(10), stall: Duration::from_secs(30) };
/// How long a request's head may take to come.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// Pages put together at a time that grow with the mesh; more wait.
const DUMPS_MAX: usize = 2;

/// What each request needs.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
    /// How pods are injected.
    pub(crate) settings: watch::Receiver<Arc<inject::Settings>>,
    dumps: Arc<Semaphore>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Asker {
    address: IpAddr,
    /// It is on this machine, or in this pod.
    is_here: bool,
}

impl Asker {
    // A machine's own addresses are as good as loopback: the kernel takes them from nobody else.
    fn of(peer: IpAddr, own: Option<IpAddr>) -> Self {
        let address = peer.to_canonical();
        Self { address, is_here: address.is_loopback() || own.is_some_and(|own| own.to_canonical() == address) }
    }
}

impl Pages {
    pub(crate) fn new(
        events: mpsc::Sender<Event>,
        metrics: Arc<Metrics>,
        settings: watch::Receiver<Arc<inject::Settings>>,
    ) -> Self {
        Self { events, metrics, settings, dumps: Arc::new(Semaphore::new(DUMPS_MAX)) }
    }
}

/// Serves until the program ends.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    let door = Door::new(listener, BOUNDS);
    loop {
        let (stream, peer, place) = door.accept().await;
        let asker = Asker::of(peer.ip(), stream.local_addr().ok().map(|own| own.ip()));
        let (stream, pages) = (place.guard(stream), pages.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(pages.clone(), asker, request));
            let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
            server.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_MAX);
            // A client that goes away is no news.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond<B>(pages: Pages, asker: Asker, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET {
        return Ok(text(405, "only GET\n"));
    }
    let query = request.uri().query().unwrap_or_default();
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let path = request.uri().path();
    if path.starts_with("/debug") && path != "/debug/progress" && !asker.is_here {
        return Ok(text(403, &not_here(path)));
    }
    let about = match path {
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
            let from = Some(asker.address).filter(|_| !asker.is_here);
            About::Progress { of: asked.map(parse_question).collect(), from }
        }
        "/debug/config_dump" => match parameter("proxyID") {
            Some(name) => About::ConfigDump(name.replace("%7E", "~")),
            None => return Ok(text(400, "which proxy? add ?proxyID=<pod>.<namespace>; /debug/syncz lists them\n")),
        },
        _ => return Ok(text(404, &format!("no such page\n\n{INDEX}"))),
    };
    // Never closed. Held until the page is whole.
    let _place = match about {
        About::Ready | About::Progress { .. } => None,
        _ => pages.dumps.clone().acquire_owned().await.ok(),
    };
    let (answer, ready) = oneshot::channel();
    let question = Event::Question(Question { about, answer });
    if pages.events.send(question).await.is_err() {
        return Ok(text(503, "the control plane is stopping\n"));
    }
    let Ok(Answer { status, body }) = ready.await else { return Ok(text(503, "the control plane is stopping\n")) };
    let page = tokio::task::spawn_blocking(move || match body() {
        serde_json::Value::String(line) => text(status, &line),
        body => json(status, &body),
    });
    Ok(page.await.unwrap_or_else(|_| text(500, "this page could not be put together\n")))
}

fn not_here(path: &str) -> String {
    format!(
        "{path} is told to who is on this machine only: use sluicectl, or `kubectl port-forward -n NAMESPACE POD 15014` \
         and http://127.0.0.1:15014{path}\n"
    )
}

const INDEX: &str = "\
/metrics                      Prometheus metrics
/healthz/ready                200 once the world is complete
/version                      the version
/debug/progress?of=           for other replicas: how far a generation has come with the proxies of this one

From this machine only (kubectl port-forward, sluicectl):

/debug/inject                 how pods are injected, for `sluicectl inject --settings`
/debug/syncz                  each proxy, each type: sent, acknowledged, latency
/debug/config_dump?proxyID=   what a proxy was told to hold, in Envoy's form
/debug/world                  the objects, and what is to be said about them
/debug/diagnostics            only what is to be said
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

    const STRANGER: &str = "10.0.0.9";

    fn pages() -> Pages {
        let (events, mut queue) = mpsc::channel::<Event>(4);
        tokio::spawn(async move {
            while let Some(event) = queue.recv().await {
                if let Event::Question(Question { about, answer }) = event {
                    let _ = answer.send(Answer::of(200, format!("{about:?}").into()));
                }
            }
        });
        Pages::new(events, Arc::new(Metrics::new()), watch::channel(Arc::default()).1)
    }

    async fn asked(from: &str, own: &str, path: &str) -> (u16, String) {
        let asker = Asker::of(from.parse().unwrap(), own.parse().ok());
        let Ok(response) = respond(pages(), asker, Request::get(path).body(()).unwrap()).await;
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    // CVE-2026-31838: debug pages that told everybody who reached the port.
    #[tokio::test]
    async fn what_the_mesh_is_like_is_told_to_who_is_here() {
        let here = [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
        ];
        for page in ["syncz", "world", "diagnostics", "config_dump?proxyID=a.b", "inject", "list", "nothing"] {
            let (status, words) = asked(STRANGER, "10.0.0.1", &format!("/debug/{page}")).await;
            assert_eq!(status, 403, "{page}");
            assert!(words.contains("sluicectl") && words.contains("kubectl port-forward"), "{words}");
            for (from, own) in here {
                assert_ne!(asked(from, own, &format!("/debug/{page}")).await.0, 403, "{page} from {from}");
            }
        }
        for page in ["/metrics", "/healthz/ready", "/ready", "/version", "/"] {
            assert_eq!(asked(STRANGER, "10.0.0.1", page).await.0, 200, "{page}");
        }
    }

    #[tokio::test]
    async fn the_loop_is_told_who_asks_for_progress() {
        assert!(asked(STRANGER, "10.0.0.1", "/debug/progress").await.1.contains("from: Some(10.0.0.9)"));
        assert!(asked("127.0.0.1", "127.0.0.1", "/debug/progress").await.1.contains("from: None"));
    }

    #[tokio::test]
    async fn who_holds_connections_does_not_stop_kubelet() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, pages()));
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
