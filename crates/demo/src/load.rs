//! Load at a constant rate, that counts every failure.
//!
//! In: an address, a Host header, a rate, how long. Out: one line of JSON with counts by status, latencies, and each
//! failure with its time; the same line, of what was counted so far, every second when asked for.
//!
//! Each of a few connections sends its share, one request after the other, and is kept for as long as the server keeps
//! it. A connection that was closed before a request was written to it costs nothing: that request goes to a new one.
//! Everything else that is no answer is a failure; so is an answer with a status of 500 or more, or, where a text is
//! demanded, with any status that is no success or without the text.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;

/// Failures that are told one by one; all are counted. A line of a container's log holds 16 KiB.
const FAILURES_TOLD_MAX: usize = 50;
/// Largest answer, in bytes.
const BODY_BYTES_MAX: usize = 8 << 20;
/// A request without an answer by then has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Latencies are counted in steps of this, and the last step holds all that took longer.
const STEP: Duration = Duration::from_millis(1);
const STEPS_MAX: usize = 20_000;

/// What to send.
#[derive(clap::Args, Clone, Debug)]
pub struct Load {
    /// Where to: http://host:port/path.
    pub url: Uri,
    /// Host header, when it is not the URL's own.
    #[arg(long)]
    pub host: Option<String>,
    /// A header, `name: value`; may be repeated.
    #[arg(long = "header")]
    pub headers: Vec<String>,
    /// Requests per second, of all connections together.
    #[arg(long, default_value_t = 20.0)]
    pub rate: f64,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    pub connections: u32,
    /// How long; until SIGTERM when absent.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Each answer is a success (2xx) and holds this text; may be repeated.
    #[arg(long)]
    pub contains: Vec<String>,
    /// No answer holds this text; may be repeated.
    #[arg(long)]
    pub lacks: Vec<String>,
    /// Print what was counted so far every second.
    #[arg(long)]
    pub every_second: bool,
}

/// A failed request.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// When it was sent, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// How long it took to fail.
    pub after_ms: u64,
    /// What happened.
    pub what: String,
}

/// What was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Requests that ended.
    pub requests: u64,
    /// Since the first was sent.
    pub seconds: f64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections that were opened.
    pub connections: u64,
    /// Requests that failed.
    pub failures: u64,
    /// The first of them.
    pub failed: Vec<Failure>,
    /// Latencies in milliseconds: half of the requests, 99 of 100, the slowest.
    pub p50_ms: u64,
    /// See `p50_ms`.
    pub p99_ms: u64,
    /// See `p50_ms`.
    pub max_ms: u64,
}

#[derive(Default)]
struct Counts {
    report: Report,
    /// Requests by latency, in steps.
    steps: Vec<u64>,
}

impl Counts {
    fn add(&mut self, sent: SystemTime, took: Duration, status: Option<u16>, failure: Option<String>) {
        let report = &mut self.report;
        report.requests += 1;
        if let Some(status) = status {
            *report.statuses.entry(status).or_default() += 1;
        }
        if let Some(what) = failure {
            report.failures += 1;
            if report.failed.len() < FAILURES_TOLD_MAX {
                let at_unix_ms = sent.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
                report.failed.push(Failure { at_unix_ms, after_ms: took.as_millis() as u64, what });
            }
        }
        report.max_ms = report.max_ms.max(took.as_millis() as u64);
        let step = ((took.as_micros() / STEP.as_micros()) as usize).min(STEPS_MAX);
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += 1;
    }

    fn told(&self, began: Instant) -> Report {
        let mut report = self.report.clone();
        report.seconds = began.elapsed().as_secs_f64();
        (report.p50_ms, report.p99_ms) = (self.quantile(0.50), self.quantile(0.99));
        report
    }

    fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.report.requests as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (step, count) in self.steps.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return step as u64;
            }
        }
        0
    }
}

/// Sends until the time is over or SIGTERM comes; what was counted.
pub async fn run(load: Load) -> Result<Report> {
    let target = Rc::new(Target::of(load)?);
    let counts = Rc::new(RefCell::new(Counts::default()));
    let began = Instant::now();
    let senders = (0..target.load.connections).map(|number| send_share(target.clone(), counts.clone(), began, number));
    tokio::select! {
        _ = futures::future::join_all(senders) => {}
        () = crate::serve::asked_to_end() => {}
        () = tell_every_second(&target.load, &counts, began) => {}
    }
    let report = counts.borrow().told(began);
    Ok(report)
}

async fn tell_every_second(load: &Load, counts: &RefCell<Counts>, began: Instant) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if load.every_second
            && let Ok(line) = serde_json::to_string(&counts.borrow().told(began))
        {
            println!("{line}");
        }
    }
}

struct Target {
    load: Load,
    address: String,
    path: String,
    headers: HeaderMap,
}

impl Target {
    fn of(load: Load) -> Result<Self> {
        if !(load.rate > 0.0 && load.rate <= 100_000.0) || load.connections == 0 || load.connections > 1000 {
            bail!("a rate is above 0 and at most 100000 per second, connections are 1 to 1000");
        }
        if load.url.scheme_str() != Some("http") {
            bail!("{}: only http:// is spoken", load.url);
        }
        let host = load.url.host().context("the URL has no host")?;
        let address = format!("{host}:{}", load.url.port_u16().unwrap_or(80));
        let path = load.url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut headers = HeaderMap::new();
        let authority = load.url.authority().map(|authority| authority.as_str()).unwrap_or_default();
        headers.insert("host", HeaderValue::from_str(load.host.as_deref().unwrap_or(authority))?);
        headers.insert("user-agent", HeaderValue::from_static("bookinfo-load"));
        for header in &load.headers {
            let (name, value) = header.split_once(':').with_context(|| format!("{header:?} is no `name: value`"))?;
            headers.append(HeaderName::from_bytes(name.trim().as_bytes())?, HeaderValue::from_str(value.trim())?);
        }
        Ok(Self { load, address, path, headers })
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>> {
        let mut request = Request::get(&self.path).body(Empty::new())?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    /// What is wrong with an answer, if anything is.
    fn judge(&self, status: u16, body: &[u8]) -> Option<String> {
        let is_success = (200..300).contains(&status);
        if status >= 500 || !(is_success || self.load.contains.is_empty()) {
            let text = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
            return Some(format!("status {status}: {text}"));
        }
        let text = String::from_utf8_lossy(body);
        let absent = self.load.contains.iter().find(|wanted| !text.contains(wanted.as_str()));
        if let Some(wanted) = absent {
            return Some(format!("status {status}, without {wanted:?}"));
        }
        let present = self.load.lacks.iter().find(|unwanted| text.contains(unwanted.as_str()));
        present.map(|unwanted| format!("status {status}, with {unwanted:?}"))
    }
}

type Sender = SendRequest<Empty<Bytes>>;

// A slow answer delays the sender's later requests, which are then sent at once: the count of a run is that of its rate.
async fn send_share(target: Rc<Target>, counts: Rc<RefCell<Counts>>, began: Instant, number: u32) {
    let period = f64::from(target.load.connections) / target.load.rate;
    let mut due = period * f64::from(number) / f64::from(target.load.connections);
    let mut connection: Option<Sender> = None;
    while target.load.seconds.is_none_or(|seconds| due < seconds as f64) {
        tokio::time::sleep_until((began + Duration::from_secs_f64(due)).into()).await;
        due += period;
        let (sent, clock) = (SystemTime::now(), Instant::now());
        let answered = tokio::time::timeout(PATIENCE, exchange(&target, &counts, &mut connection)).await;
        let (status, failure) = match answered {
            Ok(Ok((status, body))) => (Some(status), target.judge(status, &body)),
            Ok(Err(error)) => (None, Some(format!("{error:#}"))),
            Err(_) => (None, Some(format!("no answer after {PATIENCE:?}"))),
        };
        if status.is_none() {
            connection = None;
        }
        counts.borrow_mut().add(sent, clock.elapsed(), status, failure);
    }
}

async fn exchange(target: &Target, counts: &RefCell<Counts>, connection: &mut Option<Sender>) -> Result<(u16, Bytes)> {
    if let Some(mut sender) = connection.take()
        && sender.ready().await.is_ok()
    {
        match sender.try_send_request(target.request()?).await {
            Ok(response) => return read(response, sender, connection).await,
            // Closed before any of it was written: not yet sent.
            Err(mut error) => {
                if error.take_message().is_none() {
                    return Err(error.into_error()).context("on a kept connection");
                }
            }
        }
    }
    let mut sender = connect(&target.address).await?;
    counts.borrow_mut().report.connections += 1;
    let response = sender.send_request(target.request()?).await.context("on a new connection")?;
    read(response, sender, connection).await
}

async fn connect(address: &str) -> Result<Sender> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection; what became of it is known to who sent.
    tokio::spawn(connection);
    Ok(sender)
}

async fn read(
    response: hyper::Response<hyper::body::Incoming>,
    sender: Sender,
    connection: &mut Option<Sender>,
) -> Result<(u16, Bytes)> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("read the answer ({status}): {error}"))?.to_bytes();
    *connection = Some(sender);
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        load: Load,
    }

    fn target(args: &[&str]) -> Result<Target> {
        Target::of(Args::parse_from([&["load"], args].concat()).load)
    }

    #[test]
    fn what_is_wrong_with_an_answer() {
        let target = target(&["http://a/x", "--contains", "served by", "--lacks", "Sorry"]).unwrap();
        assert_eq!(target.judge(200, b"served by v1"), None);
        assert!(target.judge(404, b"not found").is_some());
        assert!(target.judge(403, b"served by: RBAC").is_some());
        assert!(target.judge(503, b"no healthy upstream").is_some_and(|what| what.contains("no healthy upstream")));
        assert!(target.judge(200, b"empty").is_some());
        assert!(target.judge(200, b"served by nobody. Sorry").is_some());
        let any = Target::of(Args::parse_from(["load", "http://a/x"]).load).unwrap();
        assert_eq!((any.judge(404, b""), any.judge(500, b"").is_some()), (None, true));
    }

    #[test]
    fn the_host_header_may_differ_from_the_address() {
        let target = target(&["http://10.0.0.1:8080/a?b", "--host", "shop.example.com", "--header", "x: y"]).unwrap();
        let request = target.request().unwrap();
        assert_eq!((target.address.as_str(), request.uri().path()), ("10.0.0.1:8080", "/a"));
        assert_eq!(request.headers()["host"], "shop.example.com");
        assert_eq!(request.headers()["x"], "y");
    }

    #[test]
    fn latencies_by_rank() {
        let mut counts = Counts::default();
        for ms in 1..=100 {
            counts.add(SystemTime::now(), Duration::from_millis(ms), Some(200), None);
        }
        counts.add(SystemTime::now(), Duration::from_secs(60), None, Some("late".into()));
        let report = counts.told(Instant::now());
        assert_eq!((report.p50_ms, report.p99_ms, report.max_ms, report.failures), (51, 100, 60_000, 1));
    }
}
