//! What is different of Istio's metrics (`istio.stats`, which stock Envoy does not have).

use std::collections::BTreeMap;

use serde::Serialize;

/// One change; of several that say something of the same label, the last counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct MetricRule {
    /// Which metric; `None` for all.
    pub metric: Option<Metric>,
    /// It is not kept (`Some(true)`), or kept again; `None`: as it was.
    pub dropped: Option<bool>,
    /// Labels by name: what they say, or `None` for labels that are taken away.
    pub labels: BTreeMap<String, Option<Label>>,
}

/// Istio's metrics of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Metric {
    /// `istio_requests_total`.
    Requests,
    /// `istio_request_duration_milliseconds`.
    Duration,
    /// `istio_request_bytes`.
    RequestBytes,
    /// `istio_response_bytes`.
    ResponseBytes,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 4] = [Metric::Requests, Metric::Duration, Metric::RequestBytes, Metric::ResponseBytes];

    /// Its name in the filter's configuration, without `istio_`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Requests => "requests_total",
            Metric::Duration => "request_duration_milliseconds",
            Metric::RequestBytes => "request_bytes",
            Metric::ResponseBytes => "response_bytes",
        }
    }
}

/// What a label says: the subset of CEL that is obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Label {
    /// `"a"` or `'a'`; without backslashes and quotes.
    Literal(String),
    /// `request.method`.
    Method,
    /// `request.host`.
    Host,
    /// `request.path`: with the query.
    Path,
    /// `request.url_path`: without it.
    UrlPath,
    /// `request.headers["a"]`, lower case.
    Header(String),
    /// `response.headers["a"]`, lower case.
    ResponseHeader(String),
    /// `response.code`.
    Code,
}

impl Label {
    /// Reads an expression; `None` for one that is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        Some(match text {
            "request.method" => Self::Method,
            "request.host" => Self::Host,
            "request.path" => Self::Path,
            "request.url_path" => Self::UrlPath,
            "response.code" => Self::Code,
            _ => {
                let header = |of: &str| {
                    let inner = text.strip_prefix(of)?.trim().strip_prefix('[')?.strip_suffix(']')?;
                    Some(quoted(inner.trim())?.to_ascii_lowercase())
                };
                if let Some(name) = header("request.headers") {
                    return Some(Self::Header(name));
                }
                if let Some(name) = header("response.headers") {
                    return Some(Self::ResponseHeader(name));
                }
                Self::Literal(quoted(text)?.to_owned())
            }
        })
    }

    /// The expression.
    pub fn text(&self) -> String {
        match self {
            Self::Literal(text) => format!("'{text}'"),
            Self::Method => "request.method".into(),
            Self::Host => "request.host".into(),
            Self::Path => "request.path".into(),
            Self::UrlPath => "request.url_path".into(),
            Self::Header(name) => format!("request.headers['{name}']"),
            Self::ResponseHeader(name) => format!("response.headers['{name}']"),
            Self::Code => "response.code".into(),
        }
    }
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(['\\', '\'', '"'])).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn te01_labels_are_read_and_written() {
        for text in ["request.host", "response.code", "request.headers['x-a']", "response.headers['x-a']", "'blue'"] {
            assert_eq!(Label::parse(text).unwrap().text(), text);
        }
        assert_eq!(Label::parse("request.headers[\"X-A\"]"), Some(Label::Header("x-a".into())));
        for text in ["", "'", "request.size", "request.host + 'a'", "'a' + 'b'", "request.headers[x]"] {
            assert_eq!(Label::parse(text), None, "{text}");
        }
    }
}
