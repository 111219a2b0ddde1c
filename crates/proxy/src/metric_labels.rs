//! Labels of Istio's metrics that are not as they usually are (Telemetry `metrics[].overrides`).

use config::{Label, Metric, MetricRule};
use http::HeaderName;

use crate::identity::UNKNOWN;
use crate::metrics::escape;
use crate::record::{Head, Record};

/// Longest value of a label, in bytes; the rest is cut off.
const VALUE_BYTES_MAX: usize = 256;

/// What is different, by metric.
#[derive(Debug)]
pub struct Changes([Change; 4]);

#[derive(Debug, Default)]
struct Change {
    is_dropped: bool,
    /// `None`: the label is taken away.
    labels: Vec<(String, Option<Source>)>,
}

#[derive(Clone, Debug)]
enum Source {
    Plain(Label),
    Request(HeaderName),
    Response(HeaderName),
}

impl Changes {
    /// Compiles rules; `None` when nothing is different. Of several rules the last counts.
    pub fn new(rules: &[MetricRule]) -> Option<Self> {
        if rules.is_empty() {
            return None;
        }
        let change = |metric: Metric| {
            let mut made = Change::default();
            for rule in rules.iter().filter(|rule| rule.metric.is_none_or(|of| of == metric)) {
                made.is_dropped = rule.dropped.unwrap_or(made.is_dropped);
                for (name, label) in &rule.labels {
                    made.labels.retain(|(other, _)| other != name);
                    made.labels.push((name.clone(), label.as_ref().map(source)));
                }
            }
            made
        };
        Some(Self(Metric::ALL.map(change)))
    }

    /// The labels of a metric, made of the usual ones; `None` when it is not kept.
    pub fn labels(&self, metric: Metric, usual: &str, record: &Record) -> Option<String> {
        let change = &self.0[metric as usize];
        if change.is_dropped {
            return None;
        }
        let head = record.head.as_deref();
        let values: Vec<(&str, Option<String>)> = change
            .labels
            .iter()
            .map(|(name, source)| (name.as_str(), source.as_ref().map(|source| value(source, head, record.status))))
            .collect();
        Some(edited(usual, &values))
    }
}

fn source(label: &Label) -> Source {
    let parsed = |name: &String| name.parse::<HeaderName>().ok();
    match label {
        Label::Header(name) => parsed(name).map_or(Source::Plain(Label::Literal(UNKNOWN.into())), Source::Request),
        Label::ResponseHeader(name) => {
            parsed(name).map_or(Source::Plain(Label::Literal(UNKNOWN.into())), Source::Response)
        }
        other => Source::Plain(other.clone()),
    }
}

fn value(source: &Source, head: Option<&Head>, status: u16) -> String {
    let of_head = |text: fn(&Head) -> &str| head.map_or(UNKNOWN, text).to_owned();
    let header = |headers: Option<&http::HeaderMap>, name: &HeaderName| {
        let found = headers.and_then(|headers| headers.get(name));
        found.map_or_else(|| UNKNOWN.to_owned(), |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut text = match source {
        Source::Plain(Label::Literal(text)) => text.clone(),
        Source::Plain(Label::Method) => of_head(|head| &head.method),
        Source::Plain(Label::Host) => of_head(|head| &head.authority),
        Source::Plain(Label::Path) => of_head(|head| &head.path),
        Source::Plain(Label::UrlPath) => of_head(|head| head.path.split('?').next().unwrap_or_default()),
        Source::Plain(Label::Code) => status.to_string(),
        Source::Plain(Label::Header(_) | Label::ResponseHeader(_)) => UNKNOWN.to_owned(),
        Source::Request(name) => header(head.map(|head| &head.headers), name),
        Source::Response(name) => header(head.map(|head| &head.response_headers), name),
    };
    if text.len() > VALUE_BYTES_MAX {
        let end = (0..=VALUE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

// `a="x",b="y"` with some labels changed, added or taken away. What is added stands at the end.
fn edited(usual: &str, values: &[(&str, Option<String>)]) -> String {
    let mut out = String::with_capacity(usual.len() + 64);
    let mut put = |name: &str, escaped: &str| {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        out.push_str(escaped);
        out.push('"');
    };
    let mut rest = usual;
    let mut seen = Vec::new();
    while let Some((name, tail)) = rest.split_once("=\"") {
        let end = closing(tail);
        match values.iter().find(|(changed, _)| *changed == name) {
            None => put(name, &tail[..end]),
            Some((_, value)) => {
                seen.push(name);
                if let Some(value) = value {
                    put(name, &escape(value));
                }
            }
        }
        rest = tail.get(end + 1..).unwrap_or_default().trim_start_matches(',');
    }
    for (name, value) in values.iter().filter(|(name, _)| !seen.contains(name)) {
        if let Some(value) = value {
            put(name, &escape(value));
        }
    }
    out
}

// Where the quotation mark is that ends a value.
fn closing(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn te01_labels_are_changed_added_and_taken_away() {
        let usual = r#"a="1",b="x\",y",c="3""#;
        let values = [("b", None), ("c", Some("4".to_owned())), ("d", Some("a\"b".to_owned())), ("e", None)];
        assert_eq!(edited(usual, &values), r#"a="1",c="4",d="a\"b""#);
        assert_eq!(edited(usual, &[]), usual);
    }

    #[test]
    fn te01_the_last_rule_counts() {
        let rule = |metric, dropped, labels: &[(&str, Option<Label>)]| MetricRule {
            metric,
            dropped,
            labels: labels.iter().map(|(name, label)| ((*name).to_owned(), label.clone())).collect::<BTreeMap<_, _>>(),
        };
        let rules = [
            rule(None, Some(true), &[("a", Some(Label::Host))]),
            rule(Some(Metric::Requests), Some(false), &[("a", None)]),
        ];
        let Changes([requests, duration, ..]) = Changes::new(&rules).unwrap();
        assert!(!requests.is_dropped && duration.is_dropped);
        assert!(matches!(&requests.labels[..], [(name, None)] if name == "a"));
        assert!(Changes::new(&[]).is_none());
    }
}
