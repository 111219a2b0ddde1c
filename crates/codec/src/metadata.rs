//! Istio's metadata: which object a resource comes from, and which service and workload it stands for (X55).

use std::collections::HashMap;

use config::{ServiceMeta, Workload};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use words::Origin;

const NAMESPACE: &str = "istio";

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

pub(crate) fn cluster(origin: &Option<Origin>, service: &Option<ServiceMeta>) -> Option<core::Metadata> {
    let mut entries: Vec<(&str, Value)> = Vec::new();
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

/// Istio's form: `name;namespace;canonical name;canonical revision;cluster`.
pub(crate) fn workload(workload: &Option<Workload>) -> Option<core::Metadata> {
    let Workload { name, namespace, canonical_name, canonical_revision, cluster_id } = workload.as_ref()?;
    let joined = format!("{name};{namespace};{canonical_name};{canonical_revision};{cluster_id}");
    metadata(fields([("workload", string(&joined))]))
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
