//! Where a proxy writes a line per request or connection (Envoy `envoy.access_loggers.file`).

use std::collections::BTreeMap;

use serde::Serialize;

/// One access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct AccessLog {
    /// A file path; `/dev/stdout` as in Istio's `accessLogFile`.
    pub path: String,
    /// How a line is made.
    pub format: AccessLogFormat,
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
