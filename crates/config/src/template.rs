//! Header values with command operators, as Envoy reads them: `%REQ(x-user)%`, `%DOWNSTREAM_REMOTE_ADDRESS%`, `%%`.
//!
//! In: a text. Out: its parts, or why Envoy would refuse it. One value that Envoy refuses makes it refuse the whole
//! table, so the control plane reads every value with this before it is sent.

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Literal(String),
    /// Filled in per request.
    Operator(Operator),
}

/// What is filled in; empty where there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// A request header, or another one when it is absent; pseudo headers with their colon; at most so many bytes.
    Request(String, Option<String>, Option<usize>),
    /// The same of the answer.
    Response(String, Option<String>, Option<usize>),
    /// The client's address as it is known here, with its port.
    RemoteAddress,
    /// The same without the port.
    RemoteIp,
    /// The client's port.
    RemotePort,
    /// Our end of the client's connection.
    LocalAddress,
    /// The same without the port.
    LocalIp,
    /// The port of our end.
    LocalPort,
    /// `HTTP/1.1`.
    Protocol,
    /// The upstream's address, once there is one.
    UpstreamHost,
    /// The cluster.
    UpstreamCluster,
    /// The answer's status code.
    Status,
    /// The route's name.
    RouteName,
    /// When the request began, `2024-01-01T00:00:00.000Z`.
    StartTime,
    /// An operator that Envoy knows and our proxy does not: empty here.
    Foreign(String),
}

/// Operators of Envoy 1.40 that our proxy does not fill in.
const FOREIGN: &[&str] = &[
    "ACCESS_LOG_TYPE",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "CUSTOM_FLAGS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DURATION",
    "DYNAMIC_METADATA",
    "EMIT_TIME",
    "ENVIRONMENT",
    "FILTER_STATE",
    "HOSTNAME",
    "METADATA",
    "REQUESTED_SERVER_NAME",
    "REQUEST_DURATION",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "RESPONSE_TX_DURATION",
    "STREAM_ID",
    "TRACE_ID",
    "TRAILER",
    "UNIQUE_ID",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_METADATA",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "VIRTUAL_CLUSTER_NAME",
];

/// Splits a value.
///
/// # Errors
/// A single percent sign, or an operator that Envoy does not know.
pub fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        literal.push_str(&rest[..start]);
        let tail = &rest[start + 1..];
        if let Some(after) = tail.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (operator, after) = operator(tail).ok_or_else(|| {
            format!("{text:?} has a percent sign that begins no operator such as %REQ(name)%; write %% for the sign")
        })??;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Operator(operator));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

// What follows a percent sign: `NAME`, `NAME(argument)`, `NAME(argument):length`, then another sign. `None`: not that.
fn operator(tail: &str) -> Option<Result<(Operator, &str), String>> {
    let end = tail.find(|letter: char| !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'))?;
    let (name, mut rest) = tail.split_at(end);
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        // The first closing one that ends the operator.
        let (inner, after) = inside.split_once(')')?;
        (argument, rest) = (Some(inner), after);
    }
    let mut length = None;
    if let Some(after) = rest.strip_prefix(':') {
        let (digits, _) = after.split_once('%')?;
        length = Some(digits.parse().ok()?);
        rest = &after[digits.len()..];
    }
    let rest = rest.strip_prefix('%').filter(|_| !name.is_empty())?;
    Some(known(name, argument, length).map(|operator| (operator, rest)))
}

fn known(name: &str, argument: Option<&str>, length: Option<usize>) -> Result<Operator, String> {
    let header = |make: fn(String, Option<String>, Option<usize>) -> Operator| {
        let written = argument.filter(|written| !written.is_empty());
        let written = written.ok_or_else(|| format!("%{name}% needs a header's name, %{name}(x)%"))?;
        let (first, second) = match written.split_once('?') {
            Some((first, second)) => (first, Some(second.to_ascii_lowercase())),
            None => (written, None),
        };
        Ok(make(first.to_ascii_lowercase(), second, length))
    };
    if matches!(name, "REQ" | "RESP") {
        return header(if name == "REQ" { Operator::Request } else { Operator::Response });
    }
    let plain = match name {
        "DOWNSTREAM_REMOTE_ADDRESS" => Operator::RemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::RemoteIp,
        "DOWNSTREAM_REMOTE_PORT" => Operator::RemotePort,
        "DOWNSTREAM_LOCAL_ADDRESS" => Operator::LocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::LocalIp,
        "DOWNSTREAM_LOCAL_PORT" => Operator::LocalPort,
        "PROTOCOL" => Operator::Protocol,
        "UPSTREAM_HOST" => Operator::UpstreamHost,
        "UPSTREAM_CLUSTER" => Operator::UpstreamCluster,
        "RESPONSE_CODE" => Operator::Status,
        "ROUTE_NAME" => Operator::RouteName,
        "START_TIME" if argument.is_none() => return Ok(Operator::StartTime),
        "START_TIME" => return Ok(Operator::Foreign("START_TIME with a format".into())),
        name if FOREIGN.contains(&name) => return Ok(Operator::Foreign(name.to_owned())),
        other => return Err(format!("%{other}% is no command operator")),
    };
    match (argument, length) {
        (None, None) => Ok(plain),
        _ => Err(format!("%{name}% takes no argument")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Part {
        Part::Literal(text.into())
    }

    #[test]
    fn values_are_split_into_parts() {
        assert_eq!(parse("plain"), Ok(vec![literal("plain")]));
        assert_eq!(parse("100%%"), Ok(vec![literal("100%")]));
        let request = Operator::Request("x-a".into(), Some(":path".into()), Some(3));
        assert_eq!(parse("a%REQ(X-A?:PATH):3%b"), Ok(vec![literal("a"), Part::Operator(request), literal("b")]));
        assert_eq!(parse("%DOWNSTREAM_REMOTE_ADDRESS%"), Ok(vec![Part::Operator(Operator::RemoteAddress)]));
        assert_eq!(parse("%DURATION%"), Ok(vec![Part::Operator(Operator::Foreign("DURATION".into()))]));
    }

    #[test]
    fn what_envoy_refuses_is_refused() {
        for text in ["100%", "%", "% a %", "%NOPE%", "%REQ%", "%REQ()%", "%REQ(x", "%PROTOCOL(x)%", "%req(x)%"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
