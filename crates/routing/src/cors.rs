//! Cross-origin rules: is the origin allowed, and what is said about it (Istio VS110 to VS114; Envoy's CORS filter).
//!
//! In: a policy, compiled once, and a request's head. Out: the answer to a preflight, or what is added to an answer.

use config::{CorsPolicy, ValueMatch};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::{HeaderMap, HeaderValue};

use crate::value::Value;

/// A policy, ready.
#[derive(Debug)]
pub struct Cors {
    origins: Box<[Value]>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    forward_unmatched: bool,
}

/// What a request is to the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it names no origin, or one that is not allowed.
    Other,
    /// A request of an allowed origin: its answer is marked with [`Cors::mark`].
    Allowed(HeaderValue),
    /// A question that is answered here: 200, with these headers.
    Answer(HeaderMap),
}

impl Cors {
    pub(crate) fn new(policy: &CorsPolicy) -> Result<Self, String> {
        let CorsPolicy {
            allow_origins,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            allow_credentials,
            forward_unmatched,
        } = policy;
        let filled = |text: &str| match text {
            "" => Ok(None),
            text => {
                HeaderValue::from_bytes(text.as_bytes()).map(Some).map_err(|_| format!("{text:?} is no header value"))
            }
        };
        let any = ValueMatch::Exact("*".into());
        let origin = |origin: &ValueMatch| match *origin == any {
            true => Value::new(&ValueMatch::Present),
            false => Value::new(origin),
        };
        Ok(Self {
            origins: allow_origins.iter().map(origin).collect::<Result<_, _>>()?,
            methods: filled(allow_methods)?,
            headers: filled(allow_headers)?,
            expose: filled(expose_headers)?,
            max_age: filled(max_age)?,
            credentials: *allow_credentials,
            forward_unmatched: *forward_unmatched,
        })
    }

    /// Judges a request.
    pub fn judge(&self, method: &str, headers: &HeaderMap) -> Verdict {
        let Some(origin) = headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else { return Verdict::Other };
        let is_allowed = self.origins.iter().any(|allowed| allowed.holds(origin.as_bytes()));
        let asks = headers.get(ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| !method.is_empty());
        match (method == "OPTIONS" && asks, is_allowed) {
            (true, true) => Verdict::Answer(self.preflight(Some(origin))),
            (true, false) if !self.forward_unmatched => Verdict::Answer(self.preflight(None)),
            (false, true) => Verdict::Allowed(origin.clone()),
            (_, false) => Verdict::Other,
        }
    }

    // Measured with Envoy 1.40: where the origin is not allowed it is not named, and the rest is said all the same.
    fn preflight(&self, origin: Option<&HeaderValue>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(6);
        match origin {
            Some(origin) => self.mark(origin, &mut headers),
            None => self.allow_credentials(&mut headers),
        }
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        headers
    }

    /// Says in an answer that the origin may read it; what the upstream said of it goes.
    pub fn mark(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        self.allow_credentials(headers);
        if let Some(expose) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn allow_credentials(&self, headers: &mut HeaderMap) {
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], forward_unmatched: bool) -> Cors {
        let allow_origins = origins.iter().map(|origin| ValueMatch::Exact((*origin).into())).collect();
        Cors::new(&CorsPolicy { allow_origins, forward_unmatched, ..CorsPolicy::default() }).expect("a policy")
    }

    fn judged(cors: &Cors, method: &str, origin: &'static str) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        cors.judge(method, &headers)
    }

    #[test]
    fn vs110_an_exact_star_allows_every_origin() {
        assert!(matches!(judged(&cors(&["*"], true), "GET", "http://b"), Verdict::Allowed(_)));
        assert_eq!(judged(&cors(&["http://a"], true), "GET", "http://b"), Verdict::Other);
        assert_eq!(judged(&cors(&[], true), "GET", "http://b"), Verdict::Other);
    }

    #[test]
    fn vs114_a_preflight_of_another_origin_goes_on_or_is_answered_without_it() {
        assert_eq!(judged(&cors(&["http://a"], true), "OPTIONS", "http://b"), Verdict::Other);
        assert_eq!(judged(&cors(&["http://a"], false), "OPTIONS", "http://b"), Verdict::Answer(HeaderMap::new()));
        assert_eq!(judged(&cors(&["http://a"], false), "GET", "http://b"), Verdict::Other);
    }
}
