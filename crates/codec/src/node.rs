//! A proxy's node: who it is, and what it says of itself.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value as Pb, value::Kind};
use serde_json::{Map, Number, Value};

/// Deepest nesting of metadata that is read.
const DEPTH_MAX: u32 = 32;

/// A node with its metadata as JSON.
pub fn encode(id: &str, cluster: &str, metadata: &Value) -> Node {
    let metadata = match metadata {
        Value::Object(fields) => Some(encode_struct(fields)),
        _ => None,
    };
    Node {
        id: id.to_owned(),
        cluster: cluster.to_owned(),
        metadata,
        user_agent_name: "sluice-proxy".into(),
        ..Default::default()
    }
}

/// A node's metadata as JSON; null when it has none.
pub fn metadata(node: &Node) -> Value {
    node.metadata.as_ref().map_or(Value::Null, |fields| decode_struct(fields, 0))
}

fn encode_struct(fields: &Map<String, Value>) -> Struct {
    Struct { fields: fields.iter().map(|(key, value)| (key.clone(), encode_value(value))).collect() }
}

fn encode_value(value: &Value) -> Pb {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(encode_value).collect() }),
        Value::Object(fields) => Kind::StructValue(encode_struct(fields)),
    };
    Pb { kind: Some(kind) }
}

fn decode_struct(fields: &Struct, depth: u32) -> Value {
    Value::Object(fields.fields.iter().map(|(key, value)| (key.clone(), decode_value(value, depth))).collect())
}

fn decode_value(value: &Pb, depth: u32) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(number)) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => {
            Value::Array(list.values.iter().map(|value| decode_value(value, depth + 1)).collect())
        }
        Some(Kind::StructValue(fields)) => decode_struct(fields, depth + 1),
    }
}
