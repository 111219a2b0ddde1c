//! Header changes of routes, ready: fixed values as they are, others filled in per request (Istio VS54; Envoy's header
//! parser).
//!
//! Measured with Envoy 1.40: removals come first, then all values are made from what is there, then overwriting ones are
//! written, then appending ones. A value that comes out empty is not written.

use std::fmt::Write;
use std::net::SocketAddr;

use config::template::{Operator, Part, parse};
use config::{HeaderChanges, HeaderEdits, HeaderPut, PutHow};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Longest value that is filled in, in bytes.
const VALUE_BYTES_MAX: usize = 16 << 10;

/// Changes of a request and its answer.
#[derive(Debug)]
pub struct Changes {
    /// On the way up.
    pub request: Edits,
    /// On the way back.
    pub response: Edits,
}

/// Changes of one head.
#[derive(Debug)]
pub struct Edits {
    remove: Box<[HeaderName]>,
    put: Box<[Put]>,
}

#[derive(Debug)]
struct Put {
    name: HeaderName,
    value: Value,
    how: PutHow,
}

#[derive(Debug)]
enum Value {
    Fixed(HeaderValue),
    Filled(Vec<Part>),
}

/// What values are filled in from. What is `None` fills in nothing.
#[derive(Clone, Copy, Default)]
pub struct Facts<'a> {
    /// `GET`.
    pub method: &'a str,
    /// `http`.
    pub scheme: &'a str,
    /// The authority.
    pub authority: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// The client.
    pub peer: Option<SocketAddr>,
    /// Our end of its connection.
    pub local: Option<SocketAddr>,
    /// The upstream.
    pub upstream: Option<SocketAddr>,
    /// The cluster.
    pub cluster: Option<&'a str>,
    /// The route's name.
    pub route: &'a str,
    /// The answer's status.
    pub status: Option<u16>,
    /// When the request began.
    pub started: Option<&'a dyn Fn() -> String>,
    /// The request's headers.
    pub request: Option<&'a HeaderMap>,
    /// The answer's headers.
    pub response: Option<&'a HeaderMap>,
}

impl Changes {
    pub(crate) fn new(changes: &HeaderChanges) -> Result<Self, String> {
        Ok(Self { request: Edits::new(&changes.request)?, response: Edits::new(&changes.response)? })
    }
}

impl Edits {
    fn new(edits: &HeaderEdits) -> Result<Self, String> {
        let remove = edits.remove.iter().map(|name| named(name)).collect::<Result<_, _>>()?;
        let put = edits.put.iter().map(Put::new).collect::<Result<_, _>>()?;
        Ok(Self { remove, put })
    }

    /// True when a value asks for the request: somebody must keep its head until the answer is there.
    pub fn reads_request(&self) -> bool {
        let asks = |part: &Part| matches!(part, Part::Operator(Operator::Request(..)));
        self.put.iter().any(|put| matches!(&put.value, Value::Filled(parts) if parts.iter().any(asks)))
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.put.is_empty()
    }

    /// Changes a request's headers.
    pub fn change_request(&self, headers: &mut HeaderMap, facts: &Facts<'_>) {
        self.change(headers, true, facts);
    }

    /// Changes an answer's headers.
    pub fn change_response(&self, headers: &mut HeaderMap, facts: &Facts<'_>) {
        self.change(headers, false, facts);
    }

    fn change(&self, headers: &mut HeaderMap, of_request: bool, facts: &Facts<'_>) {
        for name in &self.remove {
            headers.remove(name);
        }
        let facts = match of_request {
            true => Facts { request: Some(headers), ..*facts },
            false => Facts { response: Some(headers), ..*facts },
        };
        let made: Vec<Option<HeaderValue>> = self.put.iter().map(|put| put.value(headers, &facts)).collect();
        for (put, value) in self.put.iter().zip(&made) {
            if let (PutHow::Overwrite | PutHow::IfPresent, Some(value)) = (put.how, value) {
                headers.insert(put.name.clone(), value.clone());
            }
        }
        for (put, value) in self.put.iter().zip(made) {
            if let (PutHow::Append | PutHow::IfAbsent, Some(value)) = (put.how, value) {
                headers.append(put.name.clone(), value);
            }
        }
    }
}

impl Put {
    fn new(put: &HeaderPut) -> Result<Self, String> {
        let value = match parse(&put.value)?.as_slice() {
            [] => Value::Filled(Vec::new()),
            [Part::Literal(text)] => {
                let text =
                    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no header value"))?;
                Value::Fixed(text)
            }
            parts => Value::Filled(parts.to_vec()),
        };
        Ok(Self { name: named(&put.name)?, value, how: put.how })
    }

    // `None`: nothing is written.
    fn value(&self, headers: &HeaderMap, facts: &Facts<'_>) -> Option<HeaderValue> {
        match self.how {
            PutHow::IfAbsent if headers.contains_key(&self.name) => return None,
            PutHow::IfPresent if !headers.contains_key(&self.name) => return None,
            _ => {}
        }
        match &self.value {
            Value::Fixed(value) => Some(value.clone()),
            Value::Filled(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Literal(literal) => text.push_str(literal),
                        Part::Operator(operator) => facts.fill(operator, &mut text),
                    }
                }
                let is_good = !text.is_empty() && text.len() <= VALUE_BYTES_MAX;
                is_good.then(|| HeaderValue::from_bytes(text.as_bytes()).ok()).flatten()
            }
        }
    }
}

fn named(name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|_| format!("{name:?} is no header's name"))
}

impl Facts<'_> {
    fn fill(&self, operator: &Operator, out: &mut String) {
        // Writing to a String does not fail.
        let _ = match operator {
            Operator::Request(name, other, most) => {
                let found = self.request_header(name).or_else(|| self.request_header(other.as_deref()?));
                return shortened(found, *most, out);
            }
            Operator::Response(name, other, most) => {
                let found = self.response_header(name).or_else(|| self.response_header(other.as_deref()?));
                return shortened(found, *most, out);
            }
            Operator::RemoteAddress => write_some(out, self.peer),
            Operator::RemoteIp => write_some(out, self.peer.map(|peer| peer.ip())),
            Operator::RemotePort => write_some(out, self.peer.map(|peer| peer.port())),
            Operator::LocalAddress => write_some(out, self.local),
            Operator::LocalIp => write_some(out, self.local.map(|local| local.ip())),
            Operator::LocalPort => write_some(out, self.local.map(|local| local.port())),
            Operator::Protocol => out.write_str(self.protocol),
            Operator::UpstreamHost => write_some(out, self.upstream),
            Operator::UpstreamCluster => write_some(out, self.cluster),
            Operator::Status => write_some(out, self.status),
            Operator::RouteName => out.write_str(self.route),
            Operator::StartTime => write_some(out, self.started.map(|started| started())),
            Operator::Foreign(_) => Ok(()),
        };
    }

    fn request_header(&self, name: &str) -> Option<&[u8]> {
        let text = match name {
            ":method" => self.method,
            ":scheme" => self.scheme,
            ":authority" | "host" => self.authority,
            ":path" => self.path,
            name => return Some(self.request?.get(name)?.as_bytes()),
        };
        (!text.is_empty()).then_some(text.as_bytes())
    }

    fn response_header(&self, name: &str) -> Option<&[u8]> {
        Some(self.response?.get(name)?.as_bytes())
    }
}

fn write_some(out: &mut String, value: Option<impl std::fmt::Display>) -> std::fmt::Result {
    value.map_or(Ok(()), |value| write!(out, "{value}"))
}

fn shortened(value: Option<&[u8]>, most: Option<usize>, out: &mut String) {
    let Some(value) = value else { return };
    let end = most.unwrap_or(value.len()).min(value.len());
    out.push_str(&String::from_utf8_lossy(&value[..end]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str, value: &str, how: PutHow) -> HeaderPut {
        HeaderPut { name: name.into(), value: value.into(), how }
    }

    fn changed(before: &[(&'static str, &'static str)], edits: HeaderEdits) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let facts = Facts { path: "/p?q", peer: "1.2.3.4:5".parse().ok(), ..Facts::default() };
        Edits::new(&edits).expect("good edits").change_request(&mut headers, &facts);
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}={}", value.to_str().unwrap_or("?"));
        headers.iter().map(line).collect()
    }

    #[test]
    fn vs54_removals_then_overwrites_then_additions() {
        let edits = HeaderEdits {
            remove: vec!["x".into()],
            put: vec![put("x", "added", PutHow::Append), put("x", "set", PutHow::Overwrite)],
        };
        assert_eq!(changed(&[("x", "old"), ("x", "older")], edits), ["x=set", "x=added"]);
    }

    #[test]
    fn vs54_values_are_made_before_any_is_written() {
        let put = vec![put("a", "new", PutHow::Overwrite), put("b", "%REQ(a)%", PutHow::Overwrite)];
        assert_eq!(changed(&[("a", "old")], HeaderEdits { remove: Vec::new(), put }), ["a=new", "b=old"]);
    }

    #[test]
    fn vs54_operators_are_filled_in() {
        for (value, wanted) in [
            ("%REQ(:PATH)%", "x=/p?q"),
            ("%REQ(nope?a)%", "x=abcdef"),
            ("%REQ(a):3%!", "x=abc!"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "x=1.2.3.4"),
            ("100%%", "x=100%"),
        ] {
            let put = vec![put("x", value, PutHow::Overwrite)];
            assert_eq!(changed(&[("a", "abcdef")], HeaderEdits { remove: Vec::new(), put })[1], wanted);
        }
    }

    #[test]
    fn vs54_an_empty_value_is_not_written() {
        let put = vec![put("x", "%REQ(nope)%", PutHow::Overwrite), put("y", "", PutHow::Append)];
        assert_eq!(changed(&[("x", "old")], HeaderEdits { remove: Vec::new(), put }), ["x=old"]);
    }

    #[test]
    fn other_actions_of_envoy_look_at_what_is_there() {
        let put =
            vec![put("x", "1", PutHow::IfPresent), put("y", "2", PutHow::IfAbsent), put("z", "3", PutHow::IfPresent)];
        assert_eq!(changed(&[("x", "0"), ("y", "0")], HeaderEdits { remove: Vec::new(), put }), ["x=1", "y=0"]);
    }
}
