//! The application beside the proxy, for those who are not in the mesh: its health for kubelet and its metrics, merged with
//! ours, for Prometheus. Istio's port 15020 (DP01).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;
use transport::door::Door;

use crate::admin::{self, Pages, page, text};
use crate::probe::{self, Probe};
use crate::run::App;

/// How long the application may take to say its metrics.
const METRICS_MAX: Duration = Duration::from_secs(5);
/// Its metrics, in bytes.
const METRICS_BYTES_MAX: usize = 32 << 20;
/// Pages with its metrics that are made or sent at a time: each may be as large as that. More wait.
const MERGED_MAX: usize = 2;

/// What is known of the application.
#[derive(Debug)]
pub struct Application {
    probes: BTreeMap<String, Result<Probe, String>>,
    metrics: Option<Metrics>,
    ip: Option<IpAddr>,
    merging: Arc<Semaphore>,
    // Metrics that were asked for and did not come.
    failures: Cell<u64>,
}

// A page, and the leave to hold it in memory until it is sent.
struct Held {
    text: String,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

// Istio's ISTIO_PROMETHEUS_ANNOTATIONS.
#[derive(Debug, Deserialize)]
struct Metrics {
    #[serde(default)]
    scrape: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    port: String,
}

impl Application {
    /// `probes`: ISTIO_KUBE_APP_PROBERS; `metrics`: ISTIO_PROMETHEUS_ANNOTATIONS; `ip`: where the application listens.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn new(probes: Option<&str>, metrics: Option<&str>, ip: Option<IpAddr>) -> Result<Self, String> {
        let probes = probes.filter(|text| !text.is_empty()).map(probe::parse).transpose();
        let probes = probes.map_err(|error| format!("--app-probers: {error}"))?.unwrap_or_default();
        for (path, reason) in probes.iter().filter_map(|(path, probe)| Some((path, probe.as_ref().err()?))) {
            tracing::warn!("--app-probers: {path}: {reason}");
        }
        let metrics = metrics.filter(|text| !text.is_empty()).map(serde_json::from_str::<Metrics>).transpose();
        let metrics = metrics.map_err(|error| format!("--app-metrics: {error}"))?;
        let metrics = metrics.filter(|metrics| metrics.scrape == "true");
        Ok(Self { probes, metrics, ip, merging: Arc::new(Semaphore::new(MERGED_MAX)), failures: Cell::new(0) })
    }

    fn ip(&self) -> IpAddr {
        self.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    async fn metrics(&self) -> Result<Bytes, String> {
        let Some(metrics) = &self.metrics else { return Ok(Bytes::new()) };
        let default = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let port: u16 = default(&metrics.port, "80").parse().map_err(|_| format!("port {:?}", metrics.port))?;
        let ask = async {
            let stream = probe::open(self.ip(), port, metrics.scheme.eq_ignore_ascii_case("https")).await?;
            let request = Request::get(default(&metrics.path, "/metrics"))
                .header("host", SocketAddr::new(self.ip(), port).to_string())
                .header("accept", "text/plain;version=0.0.4")
                .body(Full::default())
                .map_err(|error| error.to_string())?;
            let response = probe::answer(stream, request).await?;
            if !response.status().is_success() {
                return Err(format!("status {}", response.status()));
            }
            let body = Limited::new(response.into_body(), METRICS_BYTES_MAX).collect().await;
            body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
        };
        tokio::time::timeout(METRICS_MAX, ask).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

/// Serves until the program ends.
pub async fn serve(listener: TcpListener, app: Rc<App>, application: Rc<Application>) {
    let door = Door::new(listener, admin::BOUNDS);
    loop {
        let (stream, peer) = door.next().await;
        let (app, application) = (app.clone(), application.clone());
        spawn_local(async move {
            let service = service_fn(move |request| {
                let (app, application) = (app.clone(), application.clone());
                async move { Ok::<_, Infallible>(respond(&app, &application, peer, &request).await) }
            });
            // A client that goes away is no news.
            let _ = admin::server().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    app: &App,
    application: &Application,
    peer: SocketAddr,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/stats/prometheus" | "/metrics") => merged(app, application).await,
        (&Method::GET, path) if path.starts_with("/app-health/") || path.starts_with("/app-lifecycle/") => {
            health(application, path, request).await
        }
        (&Method::GET, "/healthz/ready" | "/ready") => admin::respond(app, Pages::Readiness, request).await,
        // For a Job's container that has ended, from within the pod only (Istio).
        (&Method::POST, "/quitquitquit" | "/drain") if peer.ip().is_loopback() => {
            admin::respond(app, Pages::All, request).await
        }
        (&Method::POST, "/quitquitquit" | "/drain") => text(403, "only from within the pod\n"),
        _ => text(404, "here are /stats/prometheus, /app-health/, /healthz/ready and, by POST, /quitquitquit\n"),
    }
}

async fn merged(app: &App, application: &Application) -> Response<Full<Bytes>> {
    // Never closed. Without metrics of the application there is little to hold.
    let place = match application.metrics {
        Some(_) => application.merging.clone().acquire_owned().await.ok(),
        None => None,
    };
    let theirs = application.metrics().await;
    let mut all = app.scrape().await.text();
    if !all.ends_with('\n') {
        all.push('\n');
    }
    match theirs {
        Ok(theirs) => all.push_str(&String::from_utf8_lossy(&theirs)),
        Err(reason) => {
            application.failures.set(application.failures.get() + 1);
            tracing::debug!("the application's metrics are left out: {reason}");
        }
    }
    // The name of Istio's agent.
    if application.metrics.is_some() {
        const NAME: &str = "istio_agent_scrape_failures_total";
        let failures = application.failures.get();
        let line = format!("# TYPE {NAME} counter\n{NAME}{{type=\"application\"}} {failures}\n");
        all.insert_str(0, &line);
    }
    page(200, admin::TEXT, Bytes::from_owner(Held { text: all, _place: place }))
}

async fn health(application: &Application, path: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(probe) = application.probes.get(path) else {
        return text(404, "no probe of the application was given for this path\n");
    };
    let probe = match probe {
        Ok(probe) => probe,
        Err(reason) => return text(500, &format!("the probe cannot be read: {reason}\n")),
    };
    let agent = request.headers().get(hyper::header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    match probe.ask(application.ip(), agent.unwrap_or("kube-probe")).await {
        Ok(status) => text(status, "asked on behalf of kubelet\n"),
        Err(reason) => text(500, &format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests;
