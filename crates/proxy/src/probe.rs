//! Probes of the application on behalf of kubelet, which has no identity in the mesh: HTTP, TCP, gRPC.
//!
//! In: a probe as the pod had it (Kubernetes `Probe`, Istio's `ISTIO_KUBE_APP_PROBERS`), the pod's address. Out: a status
//! code, as kubelet would have seen it: any answer from 200 to 399 is health, and redirects are followed as long as they stay
//! with the pod (Kubernetes, `pkg/probe/http`: another host is not asked, and its redirect is health). The application is
//! dialled from 127.0.0.6, which no capture rule touches, so that it is asked itself and not its proxy.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::LOCATION;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use transport::io::{ConnectOptions, Io};
use transport::tls;

/// kubelet's default.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Probes of one pod.
const PROBES_MAX: usize = 256;
/// What is read of an answer of gRPC, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Requests of one probe over HTTP: the first, and those that redirects lead to. Go's bound, and so kubelet's.
const REQUESTS_MAX: usize = 10;
/// `grpc.health.v1.HealthCheckResponse.SERVING`.
const SERVING: i32 = 1;

/// A probe.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    http_get: Option<HttpGet>,
    tcp_socket: Option<Port>,
    grpc: Option<Grpc>,
    timeout_seconds: Option<u64>,
}

// Every field may be null, as Kubernetes has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HttpGet {
    path: Option<String>,
    port: Value,
    scheme: Option<String>,
    http_headers: Option<Vec<Header>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    name: Option<String>,
    value: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    port: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Grpc {
    port: Value,
    service: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Reads the probes of a pod, by path; what is wrong with one is said of that one.
///
/// # Errors
/// It is no JSON object, or there are too many.
pub fn parse(text: &str) -> Result<BTreeMap<String, Result<Probe, String>>, String> {
    let all: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if all.len() > PROBES_MAX {
        return Err(format!("{} probes, more than {PROBES_MAX}", all.len()));
    }
    Ok(all.into_iter().map(|(path, value)| (path, read(value))).collect())
}

fn read(value: Value) -> Result<Probe, String> {
    let probe: Probe = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let ports = [
        probe.http_get.as_ref().map(|check| &check.port),
        probe.tcp_socket.as_ref().map(|check| &check.port),
        probe.grpc.as_ref().map(|check| &check.port),
    ];
    let port = ports.into_iter().flatten().next().ok_or("neither httpGet nor tcpSocket nor grpc")?;
    match number(port) {
        None => Err(format!("{port} is no port of a container")),
        Some(_) => Ok(probe),
    }
}

// A port by name was resolved when the pod was injected.
fn number(port: &Value) -> Option<u16> {
    match port {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|port| u16::try_from(port).ok()),
    }
    .filter(|port| *port > 0)
}

/// A connection to the application itself.
pub async fn dial(ip: IpAddr, port: u16) -> std::io::Result<Io> {
    let source = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
    };
    let address = SocketAddr::new(ip, port);
    let options = ConnectOptions { source: Some(source), ..ConnectOptions::default() };
    match transport::io::connect(address, &options).await {
        // ::6 is an address only where somebody has given it to the pod.
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            transport::io::connect(address, &ConnectOptions::default()).await
        }
        other => other,
    }
    .map(Io::Tcp)
}

impl Probe {
    /// Asks; `agent` is kubelet's user agent.
    ///
    /// # Errors
    /// The application does not answer, or not within the probe's time.
    pub async fn ask(&self, ip: IpAddr, agent: &str) -> Result<u16, String> {
        let limit = self.timeout_seconds.filter(|seconds| *seconds > 0).map_or(TIMEOUT, Duration::from_secs);
        match tokio::time::timeout(limit, self.check(ip, agent)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }

    async fn check(&self, ip: IpAddr, agent: &str) -> Result<u16, String> {
        let connect = async |port: &Value| {
            let port = number(port).ok_or("no port")?;
            dial(ip, port)
                .await
                .map(|stream| (stream, port))
                .map_err(|error| format!("connect to {ip}:{port}: {error}"))
        };
        if let Some(check) = &self.http_get {
            return http(ip, check, agent).await;
        }
        if let Some(Port { port }) = &self.tcp_socket {
            return connect(port).await.map(|_| 200);
        }
        let check = self.grpc.as_ref().ok_or("nothing to ask")?;
        let (stream, port) = connect(&check.port).await?;
        grpc(stream, SocketAddr::new(ip, port), check.service.clone().unwrap_or_default()).await
    }
}

/// A connection to the application, over TLS where `https` says so.
///
/// # Errors
/// There is none to be had.
pub async fn open(ip: IpAddr, port: u16, https: bool) -> Result<Io, String> {
    let stream = dial(ip, port).await.map_err(|error| format!("connect to {ip}:{port}: {error}"))?;
    if !https {
        return Ok(stream);
    }
    // kubelet looks at no certificate either.
    let parameters = tls::Parameters { tls12: true, tls13: true, ..tls::Parameters::default() };
    let config = tls::client(None, None, tls::Naming::default(), &parameters)?;
    tls::connect(stream, &ip.to_string(), &config).await.map_err(|error| format!("TLS: {error}"))
}

async fn http(ip: IpAddr, check: &HttpGet, agent: &str) -> Result<u16, String> {
    let path = check.path.as_deref().unwrap_or_default();
    let mut page = Page {
        https: check.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        port: number(&check.port).ok_or("no port")?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        host: None,
    };
    for header in check.http_headers.iter().flatten() {
        if header.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("host")) {
            page.host.clone_from(&header.value);
        }
    }
    for _ in 0..REQUESTS_MAX {
        let response = get(ip, &page, check, agent).await?;
        let status = response.status();
        let next = response.headers().get(LOCATION).and_then(|to| page.redirected(to.to_str().ok()?, ip));
        match next {
            Some(next) if [301, 302, 303, 307, 308].contains(&status.as_u16()) => page = next,
            _ => return Ok(status.as_u16()),
        }
    }
    Err(format!("stopped after {REQUESTS_MAX} redirects"))
}

/// What is asked for.
struct Page {
    https: bool,
    port: u16,
    path: String,
    // In the name of which host, where the probe says one.
    host: Option<String>,
}

impl Page {
    // Where a redirect leads; `None` where it leaves the pod.
    fn redirected(&self, to: &str, ip: IpAddr) -> Option<Self> {
        let to = to.split('#').next().unwrap_or_default();
        let scheme = if self.https { "https" } else { "http" };
        let whole = if to.starts_with("//") { format!("{scheme}:{to}") } else { to.to_owned() };
        if whole.contains("://") {
            let uri: hyper::Uri = whole.parse().ok()?;
            let host: IpAddr = uri.host()?.trim_matches(['[', ']']).parse().ok()?;
            let https = uri.scheme_str()? == "https";
            let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
            let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            return (host == ip).then_some(Self { https, port, path, host: None });
        }
        let old = self.path.split('?').next().unwrap_or_default();
        let path = match to.chars().next() {
            Some('/') => to.to_owned(),
            Some('?') => format!("{old}{to}"),
            _ => format!("{}/{to}", old.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        Some(Self { path, host: self.host.clone(), ..*self })
    }
}

async fn get(
    ip: IpAddr,
    page: &Page,
    check: &HttpGet,
    agent: &str,
) -> Result<hyper::Response<hyper::body::Incoming>, String> {
    let stream = open(ip, page.port, page.https).await?;
    let host = page.host.clone().unwrap_or_else(|| SocketAddr::new(ip, page.port).to_string());
    let mut request = Request::builder().method(Method::GET).uri(&page.path).header("host", host);
    let headers = || check.http_headers.iter().flatten().filter_map(|header| Some((header.name.as_deref()?, header)));
    for (name, value) in [("user-agent", agent), ("accept", "*/*")] {
        if !headers().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            request = request.header(name, value);
        }
    }
    for (name, header) in headers().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        request = request.header(name, header.value.as_deref().unwrap_or_default());
    }
    let request = request.body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
    answer(stream, request).await
}

/// The application's answer to a request of HTTP/1.1; the connection ends with it.
///
/// # Errors
/// It is none.
pub async fn answer(
    stream: Io,
    request: Request<Full<Bytes>>,
) -> Result<hyper::Response<hyper::body::Incoming>, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends when the answer is dropped.
    tokio::task::spawn_local(connection);
    sender.send_request(request).await.map_err(|error| error.to_string())
}

async fn grpc(stream: Io, address: SocketAddr, service: String) -> Result<u16, String> {
    let words = |error: hyper::Error| error.to_string();
    let executor = transport::exec::LocalExec;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.map_err(words)?;
    tokio::task::spawn_local(connection);
    let message = HealthCheckRequest { service }.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).map_err(|error| error.to_string())?.to_be_bytes());
    body.extend(message);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(words)?;
    let early = crate::headers_grpc_status(response.headers());
    let whole =
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    let status = early.or_else(|| whole.trailers().and_then(crate::headers_grpc_status));
    if let Some(status) = status.filter(|status| *status != 0) {
        return Err(format!("grpc-status {status}"));
    }
    let bytes = whole.to_bytes();
    // One frame: not compressed, its length, the message.
    let message = bytes.get(5..).filter(|_| bytes[0] == 0).ok_or("no message")?;
    let health = HealthCheckResponse::decode(message).map_err(|error| error.to_string())?;
    if health.status == SERVING { Ok(200) } else { Err(format!("its health is {}, not SERVING", health.status)) }
}
