//! Where a proxy writes a line per request or connection (Envoy `envoy.access_loggers.file`).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::HeaderMatch;

/// One access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct AccessLog {
    /// A file path; `/dev/stdout` as in Istio's `accessLogFile`.
    pub path: String,
    /// How a line is made.
    pub format: AccessLogFormat,
    /// Which requests and connections; `None`: all.
    pub filter: Option<LogFilter>,
}

/// Which requests and connections are logged (Envoy `AccessLogFilter`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LogFilter {
    /// The status code, 0 for a connection.
    Status(Compare, u32),
    /// How long it took, in milliseconds.
    Millis(Compare, u32),
    /// Some response flag is set: any of these, or any at all when empty.
    Flags(Vec<String>),
    /// A request header.
    Header(HeaderMatch),
    /// All of these; at least two.
    All(Vec<LogFilter>),
    /// One of these; at least two.
    Any(Vec<LogFilter>),
}

/// A comparison of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Compare {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// As much or more.
    Ge,
    /// As much or less.
    Le,
}

impl Compare {
    /// True when `left` stands so to `right`.
    pub fn holds(self, left: u64, right: u32) -> bool {
        let right = u64::from(right);
        match self {
            Self::Eq => left == right,
            Self::Ne => left != right,
            Self::Ge => left >= right,
            Self::Le => left <= right,
        }
    }
}

/// The form of a line; operators such as `%RESPONSE_CODE%` as Envoy's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum AccessLogFormat {
    /// Istio's default text line (feature DP09).
    Default,
    /// A text line with command operators; the line's end is part of it.
    Text(String),
    /// A JSON object a line: key to operators. Empty means Istio's default JSON keys.
    Json(BTreeMap<String, String>),
}
