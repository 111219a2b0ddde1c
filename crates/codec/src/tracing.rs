//! Spans (Envoy `HttpConnectionManager.Tracing`, `config.trace.v3.OpenTelemetryConfig`).

use config::{Share, SpanTag, TagSource, Tracing};
use envoy_types::pb::envoy::config::core::v3::{GrpcService, grpc_service};
use envoy_types::pb::envoy::config::trace::v3 as trace;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::r#type::tracing::v3::CustomTag;
use envoy_types::pb::envoy::r#type::tracing::v3::custom_tag as custom;
use envoy_types::pb::envoy::r#type::v3::Percent;

use crate::common::{At, Reason, any, boolean, is_true, read_any};

const TRACER: &str = "envoy.tracers.opentelemetry";

pub(crate) fn encode(tracing: &Tracing) -> hcm::Tracing {
    let Tracing { collector, authority, service_name, sampling, by_request_id: _, upstream_spans, tags } = tracing;
    let grpc = grpc_service::EnvoyGrpc {
        cluster_name: collector.to_string(),
        authority: authority.clone(),
        ..Default::default()
    };
    let tracer = trace::OpenTelemetryConfig {
        grpc_service: Some(GrpcService {
            target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc)),
            ..Default::default()
        }),
        service_name: service_name.clone(),
        ..Default::default()
    };
    hcm::Tracing {
        random_sampling: Some(Percent { value: sampling.as_percent() }),
        custom_tags: tags.iter().map(encode_tag).collect(),
        provider: Some(trace::tracing::Http {
            name: TRACER.into(),
            config_type: Some(trace::tracing::http::ConfigType::TypedConfig(any(&tracer))),
        }),
        spawn_upstream_span: boolean(*upstream_spans),
        ..Default::default()
    }
}

/// Said only where the request's id does not decide: Envoy's default is that it does.
pub(crate) fn encode_request_id(tracing: &Tracing) -> Option<pb::RequestIdExtension> {
    let config =
        UuidRequestIdConfig { use_request_id_for_trace_sampling: boolean(false), ..UuidRequestIdConfig::default() };
    (!tracing.by_request_id).then(|| pb::RequestIdExtension { typed_config: Some(any(&config)) })
}

fn encode_tag(tag: &SpanTag) -> CustomTag {
    let (name, default_value) = match &tag.source {
        TagSource::Literal(_) => (String::new(), String::new()),
        TagSource::Environment(name, default) | TagSource::Header(name, default) => (name.clone(), default.clone()),
    };
    let source = match &tag.source {
        TagSource::Literal(value) => custom::Type::Literal(custom::Literal { value: value.clone() }),
        TagSource::Environment(..) => custom::Type::Environment(custom::Environment { name, default_value }),
        TagSource::Header(..) => custom::Type::RequestHeader(custom::Header { name, default_value }),
    };
    CustomTag { tag: tag.name.clone(), r#type: Some(source) }
}

/// `None`: no spans, and none with a tracer of another kind, which is noted.
pub(crate) fn decode(http: &pb::HttpConnectionManager, notes: &mut Vec<String>) -> Result<Option<Tracing>, Reason> {
    let Some(tracing) = &http.tracing else { return Ok(None) };
    let Some(provider) = &tracing.provider else { return Ok(None) };
    let Some(trace::tracing::http::ConfigType::TypedConfig(config)) = &provider.config_type else { return Ok(None) };
    let Some(tracer) = read_any::<trace::OpenTelemetryConfig>(config) else {
        notes.push(format!("tracer {:?} is not obeyed here", provider.name));
        return Ok(None);
    };
    let tracer = tracer?;
    let target = tracer.grpc_service.and_then(|service| service.target_specifier);
    let Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc)) = target else {
        notes.push("a tracer without a gRPC cluster is not obeyed here".to_owned());
        return Ok(None);
    };
    Ok(Some(Tracing {
        collector: grpc.cluster_name.as_str().into(),
        authority: grpc.authority,
        service_name: tracer.service_name,
        sampling: read_sampling(tracing).at("random_sampling")?,
        by_request_id: by_request_id(http)?,
        upstream_spans: is_true(&tracing.spawn_upstream_span, false),
        tags: tracing.custom_tags.iter().filter_map(|tag| decode_tag(tag, notes)).collect(),
    }))
}

// Envoy's overall rate bounds the other one.
fn read_sampling(tracing: &hcm::Tracing) -> Result<Share, Reason> {
    let percent = |percent: &Option<Percent>| percent.as_ref().map_or(100.0, |percent| percent.value);
    let value = percent(&tracing.random_sampling).min(percent(&tracing.overall_sampling));
    // Rounded: a percentage that was written from a share is that share again.
    let counted = (0.0..=100.0).contains(&value).then(|| Share::per_million((value * 10_000.0).round() as u32));
    counted.ok_or_else(|| format!("{value} is not within 0 to 100"))
}

fn by_request_id(http: &pb::HttpConnectionManager) -> Result<bool, Reason> {
    let config = http.request_id_extension.as_ref().and_then(|extension| extension.typed_config.as_ref());
    let Some(uuid) = config.and_then(read_any::<UuidRequestIdConfig>) else { return Ok(true) };
    Ok(is_true(&uuid?.use_request_id_for_trace_sampling, true))
}

fn decode_tag(tag: &CustomTag, notes: &mut Vec<String>) -> Option<SpanTag> {
    let source = match &tag.r#type {
        Some(custom::Type::Literal(literal)) => TagSource::Literal(literal.value.clone()),
        Some(custom::Type::Environment(one)) => TagSource::Environment(one.name.clone(), one.default_value.clone()),
        Some(custom::Type::RequestHeader(one)) => TagSource::Header(one.name.clone(), one.default_value.clone()),
        _ => {
            notes.push(format!("span tag {:?} is of a kind that is not obeyed here", tag.tag));
            return None;
        }
    };
    Some(SpanTag { name: tag.tag.clone(), source })
}
