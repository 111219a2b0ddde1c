//! Access logs: Envoy's command operators, compiled to a list once, written to a buffer per worker.

use std::fmt::Write;
use std::time::Duration;

use config::{AccessLog, AccessLogFormat};
use http::HeaderMap;

use crate::failure::Flags;
use crate::log_filter::Filter;
use crate::principals::Parties;
use crate::record::Head;

/// A log: its file, and how a line is made.
#[derive(Debug)]
pub struct Format {
    /// The file.
    pub path: String,
    form: Form,
    filter: Option<Filter>,
}

#[derive(Debug)]
enum Form {
    Text(Vec<Part>),
    Json(Vec<(String, Vec<Part>)>),
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Operator(Operator),
}

#[derive(Debug)]
enum Operator {
    StartTime,
    Method,
    Path,
    Protocol,
    Status,
    Flags,
    Details,
    TransportFailure,
    Received,
    Sent,
    Duration,
    Request(String),
    Response(String),
    Authority,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocal,
    Local,
    Peer,
    Route,
    Origin,
    ServerName,
    /// The URI of a certificate that was shown.
    Uri(Shown),
    /// An operator that we know nothing about: `-`, as Envoy prints what is absent.
    Absent,
}

/// Who has shown a certificate.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Client,
    Local,
    Upstream,
    UpstreamLocal,
}

/// A request or a connection to be logged.
pub struct Line<'a> {
    /// Status code; 0 for a connection.
    pub status: u16,
    /// What went wrong.
    pub flags: Flags,
    /// Envoy's response code details; may be empty.
    pub details: &'a str,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// What only the log needs.
    pub head: &'a Head,
    /// From the first byte to the last.
    pub elapsed: Duration,
    /// Who takes part.
    pub parties: Parties,
}

/// Istio's default line (DP09), and the route's origin object at its end.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME% \
%SLUICE_ORIGIN%\n";

/// Istio's JSON keys, and ours.
const DEFAULT_JSON: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("route_origin", "%SLUICE_ORIGIN%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("source_principal", "%DOWNSTREAM_PEER_URI_SAN%"),
];

impl Format {
    /// Compiles a log.
    pub fn new(log: &AccessLog) -> Self {
        let owned = |(key, text): &(&str, &str)| ((*key).to_owned(), parse(text));
        let form = match &log.format {
            AccessLogFormat::Default => Form::Text(parse(DEFAULT)),
            AccessLogFormat::Text(text) => Form::Text(parse(text)),
            AccessLogFormat::Json(keys) if keys.is_empty() => Form::Json(DEFAULT_JSON.iter().map(owned).collect()),
            AccessLogFormat::Json(keys) => {
                Form::Json(keys.iter().map(|(key, text)| (key.clone(), parse(text))).collect())
            }
        };
        // What does not compile was refused by the check; if it was not, too many lines are better than none.
        let filter = log.filter.as_ref().and_then(|filter| Filter::new(filter).ok());
        Self { path: log.path.clone(), form, filter }
    }

    /// True when this log has the line.
    pub fn takes(&self, line: &Line<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.takes(line))
    }

    /// Writes a line.
    pub fn write(&self, line: &Line<'_>, out: &mut String) {
        match &self.form {
            Form::Text(parts) => parts.iter().for_each(|part| part.write(line, out)),
            Form::Json(keys) => {
                let mut object = serde_json::Map::new();
                for (key, parts) in keys {
                    let mut text = String::new();
                    parts.iter().for_each(|part| part.write(line, &mut text));
                    // Flags are always there.
                    let is_flags = matches!(&parts[..], [Part::Operator(Operator::Flags)]);
                    object.insert(key.clone(), if is_flags { text.into() } else { json_value(text) });
                }
                let _ = writeln!(out, "{}", serde_json::Value::Object(object));
            }
        }
    }
}

// Envoy writes numbers as numbers, and what is absent as null.
fn json_value(text: String) -> serde_json::Value {
    match text.parse::<u64>() {
        _ if text == "-" => serde_json::Value::Null,
        Ok(number) => number.into(),
        Err(_) => text.into(),
    }
}

fn parse(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        let (literal, tail) = rest.split_at(start);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        let Some(end) = tail[1..].find('%') else {
            parts.push(Part::Literal(tail.to_owned()));
            return parts;
        };
        let name = &tail[1..=end];
        // `%%` is a percent sign.
        parts.push(if name.is_empty() { Part::Literal("%".into()) } else { Part::Operator(operator(name)) });
        rest = &tail[end + 2..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    parts
}

fn operator(text: &str) -> Operator {
    let (name, argument) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.split(')').next().unwrap_or_default()),
        None => (text, ""),
    };
    match (name, argument) {
        ("START_TIME", _) => Operator::StartTime,
        ("REQ", argument) => request(argument),
        ("RESP", argument) => Operator::Response(argument.to_ascii_lowercase()),
        ("PROTOCOL", _) => Operator::Protocol,
        ("RESPONSE_CODE", _) => Operator::Status,
        ("RESPONSE_FLAGS", _) => Operator::Flags,
        ("RESPONSE_CODE_DETAILS", _) => Operator::Details,
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", _) => Operator::TransportFailure,
        ("BYTES_RECEIVED", _) => Operator::Received,
        ("BYTES_SENT", _) => Operator::Sent,
        ("DURATION", _) => Operator::Duration,
        ("UPSTREAM_HOST", _) => Operator::UpstreamHost,
        ("UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW", _) => Operator::UpstreamCluster,
        ("UPSTREAM_LOCAL_ADDRESS", _) => Operator::UpstreamLocal,
        ("DOWNSTREAM_LOCAL_ADDRESS", _) => Operator::Local,
        ("DOWNSTREAM_REMOTE_ADDRESS", _) => Operator::Peer,
        ("ROUTE_NAME", _) => Operator::Route,
        ("REQUESTED_SERVER_NAME", _) => Operator::ServerName,
        ("DOWNSTREAM_PEER_URI_SAN", _) => Operator::Uri(Shown::Client),
        ("DOWNSTREAM_LOCAL_URI_SAN", _) => Operator::Uri(Shown::Local),
        ("UPSTREAM_PEER_URI_SAN", _) => Operator::Uri(Shown::Upstream),
        ("UPSTREAM_LOCAL_URI_SAN", _) => Operator::Uri(Shown::UpstreamLocal),
        ("SLUICE_ORIGIN", _) => Operator::Origin,
        _ => Operator::Absent,
    }
}

fn request(argument: &str) -> Operator {
    // `A?B`: B when A is absent; the only such form in use names the original path.
    let name = argument.rsplit('?').next().unwrap_or_default().to_ascii_lowercase();
    match name.as_str() {
        ":method" => Operator::Method,
        ":path" => Operator::Path,
        ":authority" => Operator::Authority,
        _ => Operator::Request(name),
    }
}

impl Part {
    fn write(&self, line: &Line<'_>, out: &mut String) {
        let operator = match self {
            Part::Literal(text) => return out.push_str(text),
            Part::Operator(operator) => operator,
        };
        let before = out.len();
        operator.write(line, out);
        if out.len() == before {
            out.push('-');
        }
    }
}

impl Operator {
    fn write(&self, line: &Line<'_>, out: &mut String) {
        let Line { status, flags, details, received, sent, head, elapsed, parties } = line;
        // Writing to a String does not fail.
        let _ = match self {
            Self::StartTime => write!(out, "{}", start_time(*elapsed)),
            Self::Method => write!(out, "{}", head.method),
            Self::Path => write!(out, "{}", head.path),
            Self::Protocol => write!(out, "{}", head.protocol),
            Self::Status => write!(out, "{status}"),
            Self::Flags => write!(out, "{flags}"),
            Self::Details => write!(out, "{details}"),
            Self::TransportFailure => write!(out, "{}", head.transport_failure),
            Self::Received => write!(out, "{received}"),
            Self::Sent => write!(out, "{sent}"),
            Self::Duration => write!(out, "{}", elapsed.as_millis()),
            Self::Request(name) => header(out, &head.headers, name),
            Self::Response(name) => header(out, &head.response_headers, name),
            Self::Authority => write!(out, "{}", head.authority),
            Self::UpstreamHost => optional(out, head.upstream),
            Self::UpstreamCluster => optional(out, head.cluster.as_deref()),
            Self::UpstreamLocal => optional(out, head.upstream_local),
            Self::Local => optional(out, head.local),
            Self::Peer => optional(out, head.peer),
            Self::Route => write!(out, "{}", head.route),
            Self::Origin => optional(out, head.origin.as_ref()),
            Self::ServerName => optional(out, head.server_name.as_deref()),
            Self::Uri(Shown::Client) => optional(out, parties.client.id()),
            Self::Uri(Shown::Local) => optional(out, parties.local.id()),
            Self::Uri(Shown::Upstream) => optional(out, parties.upstream.id()),
            Self::Uri(Shown::UpstreamLocal) => optional(out, parties.upstream_local.id()),
            Self::Absent => Ok(()),
        };
    }
}

fn optional(out: &mut String, value: Option<impl std::fmt::Display>) -> std::fmt::Result {
    value.map_or(Ok(()), |value| write!(out, "{value}"))
}

// A line is one line, whatever a client sends.
fn header(out: &mut String, headers: &HeaderMap, name: &str) -> std::fmt::Result {
    let Some(value) = headers.get(name) else { return Ok(()) };
    for letter in String::from_utf8_lossy(value.as_bytes()).chars() {
        if letter.is_control() {
            out.push('?');
        } else {
            out.push(letter);
        }
    }
    Ok(())
}

/// When something began that has lasted so long, as Envoy writes it.
pub fn start_time(elapsed: Duration) -> String {
    let started = std::time::SystemTime::now() - elapsed;
    match jiff::Timestamp::try_from(started) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dp09_a_line_says_who_the_client_has_proved_to_be() {
        let format = AccessLogFormat::Text("%DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_PEER_URI_SAN%".into());
        let format = Format::new(&AccessLog { path: String::new(), format, filter: None });
        let id = words::SpiffeId::parse("spiffe://cluster.local/ns/a/sa/b");
        let parties = Parties { client: crate::principals::Principal::of_any(id.as_ref()), ..Parties::default() };
        let (head, elapsed) = (Head::default(), Duration::ZERO);
        let line = Line {
            status: 200,
            flags: Flags::default(),
            details: "",
            received: 0,
            sent: 0,
            head: &head,
            elapsed,
            parties,
        };
        let mut out = String::new();
        format.write(&line, &mut out);
        assert_eq!(out, "spiffe://cluster.local/ns/a/sa/b -");
    }

    #[test]
    fn formats_are_split_into_parts() {
        let parts = parse("a %RESPONSE_CODE%%% %REQ(X-Foo?USER-AGENT)% %NOPE% %");
        assert_eq!(
            format!("{parts:?}"),
            "[Literal(\"a \"), Operator(Status), Literal(\"%\"), Literal(\" \"), Operator(Request(\"user-agent\")), \
             Literal(\" \"), Operator(Absent), Literal(\" \"), Literal(\"%\")]"
        );
    }
}
