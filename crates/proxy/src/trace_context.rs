//! Trace context as it travels in headers: W3C `traceparent` and `tracestate`, and B3 in both of its forms.
//!
//! W3C is read first, and always written; B3 is read where there is no `traceparent`, and then written in the form that it
//! came in. Stock Envoy's OpenTelemetry tracer leaves B3 alone (measured with Envoy 1.40), which breaks traces of clients
//! that know nothing else.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// A span, as others are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; not 0.
    pub trace: u128,
    /// The span; not 0.
    pub span: u64,
    /// Somebody wants to see it.
    pub sampled: bool,
}

/// The form that a context came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `traceparent`.
    #[default]
    W3c,
    /// `b3`.
    B3,
    /// `x-b3-*`.
    B3Many,
}

/// What a request says of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Nothing.
    None,
    /// Something that cannot be read: the request is not traced, and its headers stay as they are (as Envoy).
    Broken,
    /// It belongs to no trace, but it is said whether it is wanted.
    Wanted(bool),
    /// The caller's span; `None` where the caller leaves it open whether it is wanted.
    Parent {
        /// The trace.
        trace: u128,
        /// The caller's span.
        span: u64,
        /// Whether it is wanted.
        sampled: Option<bool>,
        /// How it was said.
        form: Form,
    },
}

fn hex<const DIGITS: usize>(text: &str) -> Option<u128> {
    let is_hex = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

fn span_id(text: &str) -> Option<u64> {
    hex::<16>(text).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)
}

// B3 has traces of 64 bits too.
fn b3_trace_id(text: &str) -> Option<u128> {
    hex::<32>(text).or_else(|| hex::<16>(text)).filter(|id| *id != 0)
}

/// Reads the headers of a request.
pub fn extract(headers: &HeaderMap) -> Incoming {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(value) = text(&TRACEPARENT) {
        return w3c(value).unwrap_or(Incoming::Broken);
    }
    if let Some(value) = text(&B3) {
        return b3(value).unwrap_or(Incoming::Broken);
    }
    let sampled = match (text(&B3_FLAGS), text(&B3_SAMPLED)) {
        (Some("1"), _) | (_, Some("1" | "true" | "d")) => Some(true),
        (_, Some("0" | "false")) => Some(false),
        _ => None,
    };
    match (text(&B3_TRACE), text(&B3_SPAN)) {
        (None, None) => sampled.map_or(Incoming::None, Incoming::Wanted),
        (Some(trace), Some(span)) => match (b3_trace_id(trace), span_id(span)) {
            (Some(trace), Some(span)) => Incoming::Parent { trace, span, sampled, form: Form::B3Many },
            _ => Incoming::Broken,
        },
        _ => Incoming::Broken,
    }
}

// W3C Trace Context 2, section 3.2: version 00 is of 55 letters; a later one may have more behind a dash.
fn w3c(value: &str) -> Option<Incoming> {
    let mut parts = value.splitn(5, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let version = hex::<2>(version).filter(|version| *version != 0xff)?;
    if version == 0 && parts.next().is_some() {
        return None;
    }
    let trace = hex::<32>(trace).filter(|trace| *trace != 0)?;
    let sampled = hex::<2>(flags)? & 1 == 1;
    Some(Incoming::Parent { trace, span: span_id(span)?, sampled: Some(sampled), form: Form::W3c })
}

// `{trace}-{span}-{sampled}-{parent}`, the last two optional; or the sampling state alone.
fn b3(value: &str) -> Option<Incoming> {
    let state = |text: &str| match text {
        "1" | "d" => Some(true),
        "0" => Some(false),
        _ => None,
    };
    if let Some(wanted) = state(value) {
        return Some(Incoming::Wanted(wanted));
    }
    let mut parts = value.split('-');
    let (trace, span) = (b3_trace_id(parts.next()?)?, span_id(parts.next()?)?);
    let sampled = match parts.next() {
        None => None,
        Some(text) => Some(state(text)?),
    };
    Some(Incoming::Parent { trace, span, sampled, form: Form::B3 })
}

/// Says to whom the request goes which span it belongs to. `parent`: the caller's span, if any.
pub fn inject(headers: &mut HeaderMap, context: &Context, parent: Option<u64>, form: Form) {
    let Context { trace, span, sampled } = *context;
    let mut text = String::with_capacity(72);
    // Writing to a String does not fail.
    let _ = write!(text, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
    put(headers, TRACEPARENT, &text);
    let state = if sampled { "1" } else { "0" };
    match form {
        Form::W3c => {}
        Form::B3 => {
            text.clear();
            let _ = write!(text, "{trace:032x}-{span:016x}-{state}");
            if let Some(parent) = parent {
                let _ = write!(text, "-{parent:016x}");
            }
            put(headers, B3, &text);
        }
        Form::B3Many => {
            put(headers, B3_TRACE, &format!("{trace:032x}"));
            put(headers, B3_SPAN, &format!("{span:016x}"));
            put(headers, B3_SAMPLED, state);
            if let Some(parent) = parent {
                put(headers, B3_PARENT, &format!("{parent:016x}"));
            }
        }
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x463a_c35c_9f64_13ad_4848_5a39_53bb_6124;
    const SPAN: u64 = 0xa2fb_4a1d_1a96_d312;

    fn read(pairs: &[(&'static str, &'static str)]) -> Incoming {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        extract(&pairs.collect())
    }

    fn parent(sampled: Option<bool>, form: Form) -> Incoming {
        Incoming::Parent { trace: TRACE, span: SPAN, sampled, form }
    }

    #[test]
    fn w3c_is_read_as_its_recommendation_says() {
        let of = |value| read(&[("traceparent", value)]);
        let yes = parent(Some(true), Form::W3c);
        assert_eq!(of("00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01"), yes);
        assert_eq!(of("00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-00"), parent(Some(false), Form::W3c));
        assert_eq!(of("01-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-03-more-there"), yes);
        for broken in [
            "",
            "00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312",
            "00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01-more",
            "ff-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01",
            "00-00000000000000000000000000000000-a2fb4a1d1a96d312-01",
            "00-463ac35c9f6413ad48485a3953bb6124-0000000000000000-01",
            "00-463ac35c9f6413ad48485a3953bb612+-a2fb4a1d1a96d312-01",
        ] {
            assert_eq!(of(broken), Incoming::Broken, "{broken}");
        }
    }

    #[test]
    fn b3_is_read_in_both_forms() {
        let one = |value| read(&[("b3", value)]);
        assert_eq!(
            one("463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1-05e3ac9a4f6e3b90"),
            parent(Some(true), Form::B3)
        );
        assert_eq!(one("463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312"), parent(None, Form::B3));
        assert_eq!(one("0"), Incoming::Wanted(false));
        assert_eq!(one("nonsense"), Incoming::Broken);
        let ids = [("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"), ("x-b3-spanid", "a2fb4a1d1a96d312")];
        assert_eq!(read(&ids), parent(None, Form::B3Many));
        assert_eq!(read(&[ids[0], ids[1], ("x-b3-flags", "1")]), parent(Some(true), Form::B3Many));
        assert_eq!(read(&[ids[0], ids[1], ("x-b3-sampled", "0")]), parent(Some(false), Form::B3Many));
        assert_eq!(read(&ids[..1]), Incoming::Broken);
        assert_eq!(read(&[("x-b3-sampled", "1")]), Incoming::Wanted(true));
        assert_eq!(read(&[]), Incoming::None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let context = Context { trace: TRACE, span: 7, sampled: true };
        for form in [Form::W3c, Form::B3, Form::B3Many] {
            let mut headers = HeaderMap::new();
            inject(&mut headers, &context, Some(SPAN), form);
            let written = headers.remove(TRACEPARENT).unwrap();
            assert_eq!(written, "00-463ac35c9f6413ad48485a3953bb6124-0000000000000007-01");
            if form != Form::W3c {
                let read = Incoming::Parent { trace: TRACE, span: 7, sampled: Some(true), form };
                assert_eq!(extract(&headers), read);
            }
        }
    }
}
