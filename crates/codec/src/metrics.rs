//! What is different of Istio's metrics: the filter `istio.stats` as istiod configures it, marked as optional, so that
//! proxies without it do without.

use std::collections::BTreeMap;

use config::{Label, Metric, MetricRule};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::google::protobuf::{Any, ListValue, Struct, Value, value::Kind};
use prost::Message;

/// The filter's name.
pub(crate) const FILTER: &str = "istio.stats";
const PLUGIN: &str = "type.googleapis.com/stats.PluginConfig";
const TYPED_STRUCTS: [&str; 2] =
    ["type.googleapis.com/xds.type.v3.TypedStruct", "type.googleapis.com/udpa.type.v1.TypedStruct"];

/// `xds.type.v3.TypedStruct`.
#[derive(Clone, PartialEq, Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

/// The filter; `None` when nothing is different.
pub(crate) fn encode(rules: &[MetricRule]) -> Option<pb::HttpFilter> {
    if rules.is_empty() {
        return None;
    }
    let value = object([("metrics", list(rules.iter().map(|rule| Kind::StructValue(encode_rule(rule)))))]);
    let config = TypedStruct { type_url: PLUGIN.into(), value: Some(value) };
    let config = Any { type_url: TYPED_STRUCTS[0].into(), value: config.encode_to_vec() };
    Some(pb::HttpFilter {
        name: FILTER.into(),
        is_optional: true,
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    })
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Kind)>) -> Struct {
    let value = |(name, kind): (&str, Kind)| (name.to_owned(), Value { kind: Some(kind) });
    Struct { fields: fields.into_iter().map(value).collect() }
}

fn list(kinds: impl Iterator<Item = Kind>) -> Kind {
    Kind::ListValue(ListValue { values: kinds.map(|kind| Value { kind: Some(kind) }).collect() })
}

fn encode_rule(rule: &MetricRule) -> Struct {
    let MetricRule { metric, dropped, labels } = rule;
    let mut fields = Vec::new();
    fields.extend(metric.map(|metric| ("name", Kind::StringValue(metric.name().into()))));
    fields.extend(dropped.map(|dropped| ("drop", Kind::BoolValue(dropped))));
    let said: Vec<(&str, Kind)> = labels
        .iter()
        .filter_map(|(name, label)| Some((name.as_str(), Kind::StringValue(label.as_ref()?.text()))))
        .collect();
    if !said.is_empty() {
        fields.push(("dimensions", Kind::StructValue(object(said))));
    }
    let removed: Vec<Kind> =
        labels.iter().filter(|(_, label)| label.is_none()).map(|(name, _)| Kind::StringValue(name.clone())).collect();
    if !removed.is_empty() {
        fields.push(("tags_to_remove", list(removed.into_iter())));
    }
    object(fields)
}

/// What the filters of a chain say; what is not understood is noted.
pub(crate) fn decode(filters: &[pb::HttpFilter], notes: &mut Vec<String>) -> Vec<MetricRule> {
    let configs =
        filters.iter().filter(|filter| filter.name == FILTER).filter_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(config)) if TYPED_STRUCTS.contains(&config.type_url.as_str()) => Some(config),
            _ => None,
        });
    let mut rules = Vec::new();
    for config in configs {
        let Ok(typed) = TypedStruct::decode(config.value.as_slice()) else {
            notes.push(format!("{FILTER} is not read"));
            continue;
        };
        let fields = typed.value.map(|value| value.fields).unwrap_or_default();
        let Some(Kind::ListValue(metrics)) = fields.get("metrics").and_then(|value| value.kind.as_ref()) else {
            continue;
        };
        rules.extend(metrics.values.iter().filter_map(|value| decode_rule(value, notes)));
    }
    rules
}

fn decode_rule(value: &Value, notes: &mut Vec<String>) -> Option<MetricRule> {
    let Some(Kind::StructValue(Struct { fields })) = &value.kind else { return None };
    let field = |name: &str| fields.get(name).and_then(|value| value.kind.as_ref());
    let metric = match field("name") {
        Some(Kind::StringValue(name)) if !name.is_empty() => {
            let known = Metric::ALL.into_iter().find(|metric| metric.name() == name);
            if known.is_none() {
                notes.push(format!("{FILTER}: metric {name:?} is not kept here"));
                return None;
            }
            known
        }
        _ => None,
    };
    let dropped = match field("drop") {
        Some(Kind::BoolValue(dropped)) => Some(*dropped),
        _ => None,
    };
    let mut labels: BTreeMap<String, Option<Label>> = BTreeMap::new();
    if let Some(Kind::StructValue(Struct { fields })) = field("dimensions") {
        for (name, value) in fields {
            match &value.kind {
                Some(Kind::StringValue(text)) if Label::parse(text).is_some() => {
                    labels.insert(name.clone(), Label::parse(text));
                }
                _ => notes.push(format!("{FILTER}: label {name:?} is of a form that is not obeyed here")),
            }
        }
    }
    if let Some(Kind::ListValue(removed)) = field("tags_to_remove") {
        labels.extend(removed.values.iter().filter_map(|value| match &value.kind {
            Some(Kind::StringValue(name)) => Some((name.clone(), None)),
            _ => None,
        }));
    }
    Some(MetricRule { metric, dropped, labels })
}
