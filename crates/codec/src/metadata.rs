//! Istio's metadata: which object a resource comes from, and which service and workload it stands for (X55).

use std::collections::HashMap;

use config::{ServiceMeta, Workload};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use words::Origin;

const NAMESPACE: &str = "istio";
/// What Envoy compares the matches of transport sockets with.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";
/// The key there, and its value for endpoints that take mutual TLS (Istio's `TLSModeLabelShortname`).
pub(crate) const TLS_MODE: &str = "tlsMode";
/// See [`TLS_MODE`].
pub(crate) const TLS_MODE_ISTIO: &str = "istio";
/// In a cluster's metadata: what requests to it offer by ALPN.
pub(crate) const ALPN: &str = "alpn";
/// Istio's words for requests. None of HTTP's own: what is spoken shows in the first bytes.
const REQUESTS: &str = "istio-http/1.1,istio";

fn string(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn number(value: u16) -> Value {
    Value { kind: Some(Kind::NumberValue(value.into())) }
}

fn fields(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
    Struct { fields: entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

fn metadata(istio: Struct) -> Option<core::Metadata> {
    (!istio.fields.is_empty())
        .then(|| core::Metadata { filter_metadata: HashMap::from([(NAMESPACE.into(), istio)]), ..Default::default() })
}

fn istio(metadata: &Option<core::Metadata>) -> Option<&Struct> {
    metadata.as_ref()?.filter_metadata.get(NAMESPACE)
}

fn text<'a>(fields: &'a Struct, key: &str) -> Option<&'a str> {
    match fields.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

pub(crate) fn origin(origin: &Option<Origin>) -> Option<core::Metadata> {
    metadata(fields(origin.iter().map(|origin| ("config", string(&origin.config_path())))))
}

pub(crate) fn read_origin(metadata: &Option<core::Metadata>) -> Option<Origin> {
    Origin::from_config_path(text(istio(metadata)?, "config")?)
}

pub(crate) fn cluster(
    origin: &Option<Origin>,
    service: &Option<ServiceMeta>,
    announces: bool,
) -> Option<core::Metadata> {
    let mut entries: Vec<(&str, Value)> = Vec::new();
    if announces {
        entries.push((ALPN, string(REQUESTS)));
    }
    if let Some(origin) = origin {
        entries.push(("config", string(&origin.config_path())));
    }
    if let Some(ServiceMeta { host, name, namespace, subset, port }) = service {
        let one = fields([("host", string(host)), ("name", string(name)), ("namespace", string(namespace))]);
        let list = ListValue { values: vec![Value { kind: Some(Kind::StructValue(one)) }] };
        entries.push(("services", Value { kind: Some(Kind::ListValue(list)) }));
        entries.push(("default_original_port", number(*port)));
        if !subset.is_empty() {
            entries.push(("subset", string(subset)));
        }
    }
    metadata(fields(entries))
}

pub(crate) fn read_announces(metadata: &Option<core::Metadata>) -> bool {
    istio(metadata).is_some_and(|istio| istio.fields.contains_key(ALPN))
}

pub(crate) fn read_service(metadata: &Option<core::Metadata>) -> Option<ServiceMeta> {
    let istio = istio(metadata)?;
    let Kind::ListValue(services) = istio.fields.get("services")?.kind.as_ref()? else { return None };
    let Kind::StructValue(one) = services.values.first()?.kind.as_ref()? else { return None };
    let port = match istio.fields.get("default_original_port").and_then(|value| value.kind.as_ref()) {
        Some(Kind::NumberValue(port)) if (0.0..=65535.0).contains(port) => *port as u16,
        _ => 0,
    };
    let own = |key| text(one, key).unwrap_or_default().to_owned();
    let subset = text(istio, "subset").unwrap_or_default().to_owned();
    Some(ServiceMeta { host: own("host"), name: own("name"), namespace: own("namespace"), subset, port })
}

/// The workload in Istio's form, `name;namespace;canonical name;canonical revision;cluster`, and what it takes.
pub(crate) fn endpoint(workload: &Option<Workload>, mtls: bool) -> Option<core::Metadata> {
    let istio = workload.as_ref().map(|workload| {
        let Workload { name, namespace, canonical_name, canonical_revision, cluster_id } = workload;
        let joined = format!("{name};{namespace};{canonical_name};{canonical_revision};{cluster_id}");
        (NAMESPACE.to_owned(), fields([("workload", string(&joined))]))
    });
    let matched = mtls.then(|| (SOCKET_MATCH.to_owned(), tls_mode_istio()));
    let filter_metadata: HashMap<_, _> = istio.into_iter().chain(matched).collect();
    (!filter_metadata.is_empty()).then(|| core::Metadata { filter_metadata, ..Default::default() })
}

/// What the endpoints have that take mutual TLS.
pub(crate) fn tls_mode_istio() -> Struct {
    fields([(TLS_MODE, string(TLS_MODE_ISTIO))])
}

/// True for [`tls_mode_istio`], whatever else is there.
pub(crate) fn is_tls_mode_istio(fields: &Struct) -> bool {
    text(fields, TLS_MODE) == Some(TLS_MODE_ISTIO)
}

pub(crate) fn read_mtls(metadata: &Option<core::Metadata>) -> bool {
    let matched = metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get(SOCKET_MATCH));
    matched.is_some_and(is_tls_mode_istio)
}

pub(crate) fn read_workload(metadata: &Option<core::Metadata>) -> Option<Workload> {
    let mut parts = text(istio(metadata)?, "workload")?.split(';').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Some(Workload {
        name: next(),
        namespace: next(),
        canonical_name: next(),
        canonical_revision: next(),
        cluster_id: next(),
    })
}
