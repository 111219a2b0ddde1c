//! Access logs to a file (Envoy `envoy.access_loggers.file`).

use std::collections::BTreeMap;

use config::{AccessLog, AccessLogFormat};
use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::{
    SubstitutionFormatString, data_source, substitution_format_string::Format,
};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat as Form,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

use crate::common::{Reason, any, read_any};
use crate::log_filter;

/// Istio's default line, operators only (feature DP09).
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Istio's JSON keys, and who the client has proved to be.
const DEFAULT_JSON: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
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

fn default_json() -> BTreeMap<String, String> {
    DEFAULT_JSON.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
}

pub(crate) fn encode(logs: &[AccessLog]) -> Vec<pb::AccessLog> {
    logs.iter().map(encode_one).collect()
}

fn encode_one(log: &AccessLog) -> pb::AccessLog {
    let format = match &log.format {
        AccessLogFormat::Default => text(DEFAULT),
        AccessLogFormat::Text(line) => text(line),
        // Envoy has no default: it would write empty objects.
        AccessLogFormat::Json(keys) if keys.is_empty() => Format::JsonFormat(json(&default_json())),
        AccessLogFormat::Json(keys) => Format::JsonFormat(json(keys)),
    };
    let file = FileAccessLog {
        path: log.path.clone(),
        access_log_format: Some(Form::LogFormat(SubstitutionFormatString {
            format: Some(format),
            ..Default::default()
        })),
    };
    pb::AccessLog {
        name: "envoy.access_loggers.file".into(),
        filter: log.filter.as_ref().map(log_filter::encode),
        config_type: Some(pb::access_log::ConfigType::TypedConfig(any(&file))),
    }
}

fn text(line: &str) -> Format {
    let specifier = Some(data_source::Specifier::InlineString(line.to_owned()));
    Format::TextFormatSource(DataSource { specifier, ..Default::default() })
}

fn json(keys: &BTreeMap<String, String>) -> Struct {
    let value = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
    Struct { fields: keys.iter().map(|(key, text)| (key.clone(), value(text))).collect() }
}

pub(crate) fn decode(logs: &[pb::AccessLog], notes: &mut Vec<String>) -> Result<Vec<AccessLog>, Reason> {
    let mut read = Vec::new();
    for log in logs {
        let Some(pb::access_log::ConfigType::TypedConfig(config)) = &log.config_type else { continue };
        let filter = match log.filter.as_ref().map(log_filter::decode).transpose() {
            Ok(filter) => filter,
            Err(reason) => {
                // Too many lines are better than none: they show what is wrong.
                notes.push(format!("access log {:?}: every line is written: filter: {reason}", log.name));
                None
            }
        };
        match read_any::<FileAccessLog>(config) {
            Some(file) => read.push(AccessLog { filter, ..decode_file(file?) }),
            None => notes.push(format!("access log {:?} is not written here", log.name)),
        }
    }
    Ok(read)
}

fn decode_file(file: FileAccessLog) -> AccessLog {
    let line = |line: String| if line == DEFAULT { AccessLogFormat::Default } else { AccessLogFormat::Text(line) };
    let format = match file.access_log_format {
        #[allow(deprecated, reason = "older control planes still send it")]
        Some(Form::Format(text)) => line(text),
        #[allow(deprecated, reason = "older control planes still send it")]
        Some(Form::JsonFormat(keys)) | Some(Form::TypedJsonFormat(keys)) => AccessLogFormat::Json(decode_json(keys)),
        Some(Form::LogFormat(format)) => match format.format {
            Some(Format::JsonFormat(keys)) => AccessLogFormat::Json(decode_json(keys)),
            #[allow(deprecated, reason = "older control planes still send it")]
            Some(Format::TextFormat(text)) => line(text),
            Some(Format::TextFormatSource(DataSource {
                specifier: Some(data_source::Specifier::InlineString(text)),
                ..
            })) => line(text),
            _ => AccessLogFormat::Default,
        },
        None => AccessLogFormat::Default,
    };
    AccessLog { path: file.path, format, filter: None }
}

fn decode_json(keys: Struct) -> BTreeMap<String, String> {
    let text = |value: Value| match value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    };
    let keys = keys.fields.into_iter().filter_map(|(key, value)| Some((key, text(value)?))).collect();
    if keys == default_json() { BTreeMap::new() } else { keys }
}
