//! A request's span: whether there is one, what it says, and what those behind are told (Envoy's OpenTelemetry tracer).
//!
//! As in Envoy, a sidecar makes one span a request, of the caller's or the callee's side; a gateway makes one of the callee's
//! side and below it one a try (`spawn_upstream_span`). Names and attributes are Envoy's (measured with Envoy 1.40).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use config::{Direction, Name, TagSource, Tracing};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::failure::Flags;
use crate::headers::REQUEST_ID;
use crate::otlp::{self, KeyValue, attribute};
use crate::record::{Head, Record};
use crate::trace_context::{self as context, Context, Form, Incoming, TRACESTATE};

/// `x-envoy-decorator-operation`: the name that the caller's side gives the span of the callee's.
const OPERATION: HeaderName = HeaderName::from_static("x-envoy-decorator-operation");
const CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");
const FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
/// Longest path in `http.url`, in bytes (Envoy `max_path_tag_length`).
const PATH_BYTES_MAX: usize = 256;
/// Longest value of a header in an attribute, in bytes.
const VALUE_BYTES_MAX: usize = 1024;
/// Most tries that have spans of their own.
const TRIES_MAX: usize = 32;

/// The tracer of a chain, ready.
#[derive(Debug)]
pub struct Tracer {
    /// What the snapshot says.
    pub config: Tracing,
    /// Slot of the collector's cluster.
    pub slot: u32,
    direction: Direction,
    /// Attributes that are always the same.
    fixed: Vec<KeyValue>,
    /// Attributes from headers: name, header, default.
    from_headers: Vec<(String, HeaderName, String)>,
}

impl Tracer {
    /// A tracer of a listener's chain. Reads the variables of the environment that tags name.
    pub fn new(config: &Tracing, slot: u32, direction: Direction) -> Self {
        let (mut fixed, mut from_headers) = (Vec::new(), Vec::new());
        for tag in &config.tags {
            match &tag.source {
                TagSource::Literal(value) => fixed.push(attribute(&tag.name, value)),
                TagSource::Environment(name, default) => {
                    let value = std::env::var(name).unwrap_or_else(|_| default.clone());
                    fixed.extend((!value.is_empty()).then(|| attribute(&tag.name, value)));
                }
                TagSource::Header(name, default) => {
                    from_headers.extend(name.parse().ok().map(|header| (tag.name.clone(), header, default.clone())));
                }
            }
        }
        Self { config: config.clone(), slot, direction, fixed, from_headers }
    }

    fn tags(&self, headers: &HeaderMap) -> impl Iterator<Item = KeyValue> {
        let found = |(name, header, default): &(String, HeaderName, String)| {
            let value = text(headers, header).unwrap_or_else(|| default.clone());
            (!value.is_empty()).then(|| attribute(name, value))
        };
        self.fixed.iter().cloned().chain(self.from_headers.iter().filter_map(found))
    }

    // As Envoy decides: what the request's id says is obeyed, else the id is compared with the rate; it then says so to
    // others, in the digit that is a UUID's version.
    fn samples(&self, headers: &mut HeaderMap) -> bool {
        if !self.config.by_request_id {
            return true;
        }
        let Some(id) = headers.get(REQUEST_ID).map(|id| id.as_bytes().to_owned()).filter(|id| id.len() == 36) else {
            return false;
        };
        let Some(number) = std::str::from_utf8(&id[..8]).ok().and_then(|text| u32::from_str_radix(text, 16).ok())
        else {
            return false;
        };
        if matches!(id[14], FORCED | SAMPLED | CLIENT) {
            return true;
        }
        let reason = if headers.contains_key(CLIENT_TRACE_ID) {
            CLIENT
        } else if headers.contains_key(FORCE_TRACE) {
            FORCED
        } else if number % 10_000 < self.config.sampling.count() / 100 {
            SAMPLED
        } else {
            return false;
        };
        let mut id = id;
        id[14] = reason;
        if let Ok(id) = HeaderValue::from_bytes(&id) {
            headers.insert(REQUEST_ID, id);
        }
        true
    }
}

// Why a request is traced, as Envoy's UUID extension writes it.
const SAMPLED: u8 = b'9';
const FORCED: u8 = b'a';
const CLIENT: u8 = b'b';

/// The span of a request.
#[derive(Debug)]
pub struct Trace {
    tracer: Arc<Tracer>,
    context: Context,
    parent: Option<u64>,
    form: Form,
    began: u64,
    operation: String,
    tries: Vec<Try>,
}

// The span of one try.
#[derive(Debug)]
struct Try {
    span: u64,
    began: u64,
    // `None`: as long as the request.
    ended: Option<u64>,
    status: u16,
    flags: Flags,
    host: Option<SocketAddr>,
}

impl Trace {
    /// The span of a request that comes with these headers; `None` when it cannot be told to whom it belongs.
    pub fn begin(tracer: &Arc<Tracer>, headers: &mut HeaderMap, mut draw: impl FnMut() -> u64) -> Option<Box<Self>> {
        // Measured with Envoy 1.40: both the caller and this proxy have to want it.
        let decided = tracer.samples(headers);
        // 0 is no id.
        let mut id = || draw().max(1);
        let new_trace = |id: &mut dyn FnMut() -> u64| u128::from(id()) << 64 | u128::from(id());
        let (trace, parent, sampled, form) = match context::extract(headers) {
            Incoming::Broken => return None,
            Incoming::None => (new_trace(&mut id), None, decided, Form::W3c),
            Incoming::Wanted(wanted) => (new_trace(&mut id), None, wanted && decided, Form::W3c),
            Incoming::Parent { trace, span, sampled, form } => {
                (trace, Some(span), sampled.unwrap_or(true) && decided, form)
            }
        };
        let context = Context { trace, span: id(), sampled };
        let named = match tracer.direction {
            Direction::Inbound => headers.remove(OPERATION),
            Direction::Outbound => None,
        };
        let operation = named.and_then(|name| name.to_str().ok().map(str::to_owned)).unwrap_or_default();
        let tracer = tracer.clone();
        Some(Box::new(Self { tracer, context, parent, form, began: now(), operation, tries: Vec::new() }))
    }

    /// True when the collector will get it.
    pub fn is_sampled(&self) -> bool {
        self.context.sampled
    }

    /// The route says how the request is called, where the caller's side has not.
    pub fn name(&mut self, operation: &str) {
        if self.operation.is_empty() {
            operation.clone_into(&mut self.operation);
        }
    }

    /// Tells those behind.
    pub fn inject(&self, headers: &mut HeaderMap) {
        context::inject(headers, &self.context, self.parent, self.form);
        if self.tracer.direction == Direction::Outbound
            && let Ok(name) = HeaderValue::from_str(&self.operation)
            && !self.operation.is_empty()
        {
            headers.insert(OPERATION, name);
        }
    }

    /// A try begins. Gives what its host is told of its own span, where tries have spans.
    pub fn begin_try(&mut self, draw: impl FnOnce() -> u64) -> Option<Told> {
        if !self.tracer.config.upstream_spans || self.tries.len() >= TRIES_MAX {
            return None;
        }
        let began = now();
        if let Some(last) = self.tries.last_mut() {
            last.ended.get_or_insert(began);
        }
        let span = draw().max(1);
        self.tries.push(Try { span, began, ended: None, status: 0, flags: Flags::default(), host: None });
        Some(Told { context: Context { span, ..self.context }, parent: self.context.span, form: self.form })
    }

    /// What a try came to: a status, or why there is none.
    pub fn tried(&mut self, host: Option<SocketAddr>, outcome: Result<u16, Flags>) {
        let Some(last) = self.tries.last_mut() else { return };
        last.host = host;
        match outcome {
            Ok(status) => last.status = status,
            Err(flags) => (last.flags, last.ended) = (flags, Some(now())),
        }
    }

    /// The spans of a request that is over, for the collector.
    pub fn end(
        self,
        record: &Record,
        head: &Head,
        cluster: Option<&Name>,
        node: &str,
    ) -> (Arc<Tracer>, Vec<otlp::Span>) {
        let ended = now();
        let state = text(&head.headers, &TRACESTATE).unwrap_or_default();
        let mut spans = Vec::with_capacity(self.tries.len() + 1);
        for (index, one) in self.tries.iter().enumerate() {
            let parts = Parts {
                span: one.span,
                parent: Some(self.context.span),
                name: format!("router {} egress", cluster.map_or("", |name| name)),
                kind: otlp::CLIENT,
                began: one.began,
                ended: one.ended.unwrap_or(ended),
                status: one.status,
                // The parent is a span of this process.
                flags: 0x100,
            };
            let attributes = self.of_try(index, one, head, cluster);
            spans.push(self.span(parts, &state, attributes));
        }
        let is_hop = self.tracer.config.upstream_spans || self.tracer.direction == Direction::Inbound;
        let name = match (self.operation.as_str(), self.tracer.direction) {
            ("", Direction::Outbound) => format!("egress {}", head.authority),
            ("", Direction::Inbound) => "ingress".to_owned(),
            (name, _) => name.to_owned(),
        };
        let parts = Parts {
            span: self.context.span,
            parent: self.parent,
            name,
            kind: if is_hop { otlp::SERVER } else { otlp::CLIENT },
            began: self.began,
            ended,
            status: record.status,
            flags: if self.parent.is_some() { 0x300 } else { 0x100 },
        };
        let attributes = self.of_request(record, head, cluster, node);
        spans.push(self.span(parts, &state, attributes));
        (self.tracer, spans)
    }

    fn span(&self, parts: Parts, state: &str, attributes: Vec<KeyValue>) -> otlp::Span {
        let Parts { span, parent, name, kind, began, ended, status, flags } = parts;
        // A client calls it an error where a server does not (OpenTelemetry's rules for HTTP).
        let is_error = status >= 500 || status == 0 || (kind == otlp::CLIENT && status >= 400);
        otlp::Span {
            trace_id: Bytes::copy_from_slice(&self.context.trace.to_be_bytes()),
            span_id: Bytes::copy_from_slice(&span.to_be_bytes()),
            trace_state: state.to_owned(),
            parent_span_id: parent.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.to_be_bytes())),
            name,
            kind,
            start: began,
            end: ended.max(began),
            attributes,
            status: Some(otlp::Status { code: if is_error { otlp::ERROR } else { 0 } }),
            flags: flags | u32::from(self.context.sampled),
        }
    }

    fn of_try(&self, index: usize, one: &Try, head: &Head, cluster: Option<&Name>) -> Vec<KeyValue> {
        let mut all = vec![attribute("http.protocol", head.protocol)];
        if let Some(host) = one.host {
            all.push(attribute("upstream_address", host.to_string()));
            all.push(attribute("peer.address", host.to_string()));
        }
        if index > 0 {
            all.push(attribute("retry.count", index.to_string()));
        }
        self.common(&mut all, head, cluster, one.status, one.flags);
        all
    }

    fn of_request(&self, record: &Record, head: &Head, cluster: Option<&Name>, node: &str) -> Vec<KeyValue> {
        let header = |name: &'static str| text(&head.headers, &HeaderName::from_static(name));
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let scheme = header("x-forwarded-proto").unwrap_or_else(|| "http".to_owned());
        let mut path = head.path.as_str();
        if path.len() > PATH_BYTES_MAX {
            path = path.get(..PATH_BYTES_MAX).unwrap_or_default();
        }
        let mut all = vec![attribute("node_id", node)];
        all.extend(header("x-request-id").map(|id| attribute("guid:x-request-id", id)));
        all.push(attribute("http.url", format!("{scheme}://{}{path}", head.authority)));
        all.push(attribute("http.method", &head.method));
        all.push(attribute("downstream_cluster", or_dash(header("x-envoy-downstream-service-cluster"))));
        all.push(attribute("user_agent", or_dash(header("user-agent"))));
        all.push(attribute("http.protocol", head.protocol));
        all.extend(head.peer.map(|peer| attribute("peer.address", peer.ip().to_string())));
        all.extend(header("x-client-trace-id").map(|id| attribute("guid:x-client-trace-id", id)));
        all.push(attribute("request_size", record.received.to_string()));
        all.push(attribute("response_size", record.sent.to_string()));
        if record.is_grpc {
            all.push(attribute("grpc.path", path));
            all.push(attribute("grpc.authority", &head.authority));
            all.extend(header("content-type").map(|kind| attribute("grpc.content_type", kind)));
            all.extend(header("grpc-timeout").map(|timeout| attribute("grpc.timeout", timeout)));
            all.extend(record.grpc_status.map(|status| attribute("grpc.status_code", status.to_string())));
        }
        self.common(&mut all, head, cluster, record.status, record.flags);
        all
    }

    fn common(&self, all: &mut Vec<KeyValue>, head: &Head, cluster: Option<&Name>, status: u16, flags: Flags) {
        all.push(attribute("component", "proxy"));
        if let Some(name) = cluster {
            all.push(attribute("upstream_cluster", &**name));
            all.push(attribute("upstream_cluster.name", &**name));
        }
        all.push(attribute("http.status_code", status.to_string()));
        all.push(attribute("response_flags", flags.to_string()));
        if status == 0 || status >= 500 {
            all.push(attribute("error", "true"));
        }
        all.extend(self.tracer.tags(&head.headers));
    }
}

/// What the host of a try is told.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    context: Context,
    parent: u64,
    form: Form,
}

impl Told {
    /// Tells it.
    pub fn inject(&self, headers: &mut HeaderMap) {
        context::inject(headers, &self.context, Some(self.parent), self.form);
    }
}

struct Parts {
    span: u64,
    parent: Option<u64>,
    name: String,
    kind: i32,
    began: u64,
    ended: u64,
    status: u16,
    flags: u32,
}

/// Takes out of an answer what is between two proxies only.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(OPERATION);
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
    Some(value.chars().take(VALUE_BYTES_MAX).collect())
}

// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use config::Share;

    use super::*;

    fn tracer(percent: f64, direction: Direction, upstream_spans: bool) -> Arc<Tracer> {
        let config = Tracing {
            collector: "otlp".into(),
            authority: "otlp".into(),
            service_name: "a.b".into(),
            sampling: Share::percent(percent).unwrap(),
            by_request_id: true,
            upstream_spans,
            tags: Vec::new(),
        };
        Arc::new(Tracer::new(&config, 0, direction))
    }

    // 0x00000100 is 256: traced from 2.57 % on.
    const ID: &str = "00000100-2222-4333-8444-555555555555";

    fn with(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.chain([(REQUEST_ID, HeaderValue::from_static(ID))]).collect()
    }

    fn begin(percent: f64, headers: &mut HeaderMap) -> Option<Box<Trace>> {
        Trace::begin(&tracer(percent, Direction::Outbound, false), headers, || 7)
    }

    #[test]
    fn the_id_decides_and_says_so() {
        let (mut no, mut yes) = (with(&[]), with(&[]));
        assert!(!begin(2.56, &mut no).unwrap().is_sampled());
        assert_eq!(no[REQUEST_ID], ID);
        assert!(begin(2.57, &mut yes).unwrap().is_sampled());
        assert_eq!(yes[REQUEST_ID], "00000100-2222-9333-8444-555555555555");
        // Who comes later obeys, at whatever rate.
        assert!(begin(0.0, &mut yes).unwrap().is_sampled());
        let mut forced = with(&[("x-envoy-force-trace", "1")]);
        assert!(begin(0.0, &mut forced).unwrap().is_sampled());
        assert_eq!(forced[REQUEST_ID], "00000100-2222-a333-8444-555555555555");
        let mut client = with(&[("x-client-trace-id", "1")]);
        assert!(begin(0.0, &mut client).unwrap().is_sampled());
        assert_eq!(client[REQUEST_ID], "00000100-2222-b333-8444-555555555555");
    }

    #[test]
    fn a_parent_may_say_no() {
        let with_flags = |flags: &'static str, percent: f64| {
            let mut headers = with(&[("traceparent", flags)]);
            let trace = begin(percent, &mut headers).unwrap();
            trace.inject(&mut headers);
            headers["traceparent"].to_str().unwrap().to_owned()
        };
        let (no, yes) = (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        assert_eq!(with_flags(no, 100.0), "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-00");
        assert_eq!(with_flags(yes, 100.0), "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01");
        assert_eq!(with_flags(yes, 0.0), "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-00");
        let mut broken = with(&[("traceparent", "00-1-2-3")]);
        assert!(begin(100.0, &mut broken).is_none());
    }

    #[test]
    fn tries_of_a_gateway_have_spans() {
        let mut headers = with(&[]);
        let mut trace = Trace::begin(&tracer(100.0, Direction::Outbound, true), &mut headers, || 7).unwrap();
        let told = trace.begin_try(|| 8).unwrap();
        told.inject(&mut headers);
        assert_eq!(headers["traceparent"], "00-00000000000000070000000000000007-0000000000000008-01");
        trace.tried(None, Err(Flags::UPSTREAM_CONNECT));
        trace.begin_try(|| 9).unwrap();
        trace.tried(None, Ok(200));
        assert_eq!(
            trace.tries.iter().map(|one| (one.span, one.ended.is_some())).collect::<Vec<_>>(),
            [(8, true), (9, false)]
        );
        let plain = begin(100.0, &mut with(&[])).unwrap().begin_try(|| 1).is_none();
        assert!(plain, "a sidecar makes one span");
    }

    #[test]
    fn the_callers_side_names_the_span() {
        let mut headers = with(&[("x-envoy-decorator-operation", "reviews:9080/*")]);
        let mut trace = Trace::begin(&tracer(100.0, Direction::Inbound, false), &mut headers, || 7).unwrap();
        trace.name("inbound");
        assert_eq!(trace.operation, "reviews:9080/*");
        assert!(!headers.contains_key(OPERATION));
    }
}
