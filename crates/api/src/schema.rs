//! The schemas of Istio's kinds, structural as an API server wants them, and the check of a value against one.
//!
//! In: the Rust types (by schemars), or a value. Out: an OpenAPI v3 schema without references; or what an API server
//! with strict field validation would refuse, each with its path. So a YAML file gets the same answers as `kubectl`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{
    AuthorizationPolicySpec, DestinationRuleSpec, GatewaySpec, Kind, PeerAuthenticationSpec, ProxyConfigSpec,
    RateLimitPolicySpec, RequestAuthenticationSpec, ServiceEntrySpec, SidecarSpec, TelemetrySpec, VirtualServiceSpec,
    WorkloadEntrySpec, WorkloadGroupSpec,
};

/// The structural schema of a kind's spec; `None` for Kubernetes' own kinds.
pub fn of(kind: Kind) -> Option<&'static Value> {
    static SCHEMAS: OnceLock<BTreeMap<Kind, Value>> = OnceLock::new();
    let make = || {
        BTreeMap::from([
            (Kind::VirtualService, structural::<VirtualServiceSpec>()),
            (Kind::DestinationRule, structural::<DestinationRuleSpec>()),
            (Kind::Gateway, structural::<GatewaySpec>()),
            (Kind::ServiceEntry, structural::<ServiceEntrySpec>()),
            (Kind::Sidecar, structural::<SidecarSpec>()),
            (Kind::WorkloadEntry, structural::<WorkloadEntrySpec>()),
            (Kind::WorkloadGroup, structural::<WorkloadGroupSpec>()),
            (Kind::RateLimitPolicy, structural::<RateLimitPolicySpec>()),
            (Kind::ProxyConfig, structural::<ProxyConfigSpec>()),
            (Kind::Telemetry, structural::<TelemetrySpec>()),
            (Kind::RequestAuthentication, structural::<RequestAuthenticationSpec>()),
            (Kind::AuthorizationPolicy, structural::<AuthorizationPolicySpec>()),
            (Kind::PeerAuthentication, structural::<PeerAuthenticationSpec>()),
        ])
    };
    SCHEMAS.get_or_init(make).get(&kind)
}

// Marks a field that the schema requires. schemars' own `required` does not work for a field that serde may default,
// and serde defaults all of them: one bad object must not stop a reader (X04).
const REQUIRED: &str = "x-sluice-required";

fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    shape(&mut schema);
    schema
}

// Rewrites one schema node, and all below it, into what a CustomResourceDefinition may hold.
fn shape(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for key in ["$schema", "title", "default", "$defs"] {
        fields.remove(key);
    }
    unwrap_optional(fields);
    unit_enum(fields);
    numbers(fields);
    if let Some(nullable) = fields.remove("x-sluice-nullable") {
        fields.insert("nullable".into(), nullable);
    }
    one_of(fields);
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        // The proto name of a deprecated field, which Istio's schema lists beside its JSON name (TR10).
        if let Some(percent) = properties.get("mirrorPercent").cloned() {
            properties.insert("mirror_percent".into(), percent);
        }
        let is_marked = |field: &mut Value| field.as_object_mut().is_some_and(|field| field.remove(REQUIRED).is_some());
        let required: Vec<Value> =
            properties.iter_mut().filter_map(|(name, field)| is_marked(field).then(|| json!(name))).collect();
        properties.values_mut().for_each(shape);
        if !required.is_empty() {
            fields.insert("required".into(), Value::Array(required));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            shape(inner);
        }
    }
}

// `Option<T>` is `T` here: absent is how Kubernetes says null.
fn unwrap_optional(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get("type") {
        let real = types.iter().find(|name| *name != "null").cloned();
        fields.insert("type".into(), real.unwrap_or_else(|| json!("object")));
    }
    let Some(Value::Array(options)) = fields.remove("anyOf") else { return };
    let real = options.into_iter().find(|option| option.get("type") != Some(&json!("null")));
    if let Some(Value::Object(real)) = real {
        let description = fields.get("description").cloned();
        fields.extend(real);
        // What the field is for says more than what its type is.
        fields.extend(description.map(|text| ("description".to_owned(), text)));
    }
}

// schemars writes a documented unit variant as `const`; Kubernetes wants one `enum`.
fn unit_enum(fields: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = fields.get("oneOf") else {
        if let Some(Value::Array(values)) = fields.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
        return;
    };
    let names: Option<Vec<Value>> = variants
        .iter()
        .filter(|variant| variant.get("type") != Some(&json!("null")))
        .map(|variant| variant.get("const").cloned())
        .collect();
    if let Some(names) = names {
        fields.remove("oneOf");
        fields.insert("type".into(), json!("string"));
        fields.insert("enum".into(), Value::Array(names));
    }
}

fn numbers(fields: &mut Map<String, Value>) {
    match fields.get("format").and_then(Value::as_str) {
        Some("uint32") => {
            fields.remove("format");
            fields.entry("minimum").or_insert(json!(0));
            fields.entry("maximum").or_insert(json!(u32::MAX));
        }
        Some("uint64") => {
            fields.remove("format");
            fields.entry("minimum").or_insert(json!(0));
        }
        _ => {}
    }
    // Whole bounds are written whole, as the API server writes them back.
    for key in ["minimum", "maximum"] {
        let whole = fields.get(key).and_then(Value::as_f64).filter(|bound| bound.fract() == 0.0 && bound.abs() < 9e15);
        if let Some(whole) = whole {
            fields.insert(key.into(), json!(whole as i64));
        }
    }
}

// At most one of the named fields, structurally: none of them, or exactly one.
fn one_of(fields: &mut Map<String, Value>) {
    let groups: Vec<Value> = ["x-sluice-one-of", "x-sluice-one-of-2"]
        .iter()
        .filter_map(|key| fields.remove(*key))
        .map(at_most_one)
        .collect();
    match groups.len() {
        0 => {}
        1 => {
            fields.extend(groups.into_iter().next().map(|group| ("oneOf".to_owned(), group["oneOf"].clone())));
        }
        _ => {
            fields.insert("allOf".into(), Value::Array(groups));
        }
    }
}

fn at_most_one(names: Value) -> Value {
    let each: Vec<Value> = names.as_array().into_iter().flatten().map(|name| json!({"required": [name]})).collect();
    let mut options = vec![json!({"not": {"anyOf": each}})];
    options.extend(each);
    json!({"oneOf": options})
}

/// One thing that is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field, `spec.http[0].route`.
    pub path: String,
    /// What is wrong, with the value and what was expected.
    pub message: String,
    /// True for a field that is not in the schema.
    pub is_unknown_field: bool,
}

/// Checks a spec against its kind's schema; nothing for Kubernetes' own kinds. At most 100 findings.
pub fn check(kind: Kind, spec: &Value) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(schema) = of(kind) {
        check_node(schema, spec, "spec", &mut found);
    }
    found.truncate(100);
    found
}

fn check_node(schema: &Value, value: &Value, path: &str, found: &mut Vec<Finding>) {
    // The API server drops a null of a field that is not nullable before it validates.
    if value.is_null() {
        return;
    }
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or("object");
    if !is_type(wanted, value) {
        let message = format!("expected {}, got {}", with_article(wanted), describe(value));
        return found.push(Finding { path: path.to_owned(), message, is_unknown_field: false });
    }
    let mut wrong = |message: String| found.push(Finding { path: path.to_owned(), message, is_unknown_field: false });
    check_scalar(schema, value, &mut wrong);
    check_groups(schema, value, &mut wrong);
    match value {
        Value::Object(fields) => check_fields(schema, fields, path, found),
        Value::Array(items) => {
            let inner = schema.get("items").unwrap_or(&Value::Null);
            for (index, item) in items.iter().enumerate() {
                check_inner(inner, item, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

// An item of a list or an entry of a map: a null in it is no absent field. The API server drops a null header match, which
// then matches everything; Istio's webhook refuses it (V-26), and so does this.
fn check_inner(schema: &Value, value: &Value, path: &str, found: &mut Vec<Finding>) {
    if value.is_null() {
        let wanted = with_article(schema.get("type").and_then(Value::as_str).unwrap_or("object"));
        found.push(Finding {
            path: path.to_owned(),
            message: format!("expected {wanted}, got null"),
            is_unknown_field: false,
        });
    }
    check_node(schema, value, path, found);
}

fn check_fields(schema: &Value, fields: &Map<String, Value>, path: &str, found: &mut Vec<Finding>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let extra = schema.get("additionalProperties");
    for (key, value) in fields {
        let inner = format!("{path}.{key}");
        match (properties.and_then(|properties| properties.get(key)), extra) {
            (Some(schema), _) => check_node(schema, value, &inner, found),
            (None, Some(schema)) => check_inner(schema, value, &inner, found),
            (None, None) => {
                let near = properties.and_then(|properties| nearest(key, properties.keys().map(String::as_str)));
                let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                found.push(Finding { path: inner, message: format!("unknown field{hint}"), is_unknown_field: true });
            }
        }
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if fields.get(name).is_none_or(Value::is_null) {
            let message = "required, but absent".to_owned();
            found.push(Finding { path: format!("{path}.{name}"), message, is_unknown_field: false });
        }
    }
}

fn check_scalar(schema: &Value, value: &Value, wrong: &mut impl FnMut(String)) {
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        wrong(format!("{} is none of {}", describe(value), allowed.join(", ")));
    }
    if let Some(number) = value.as_f64() {
        check_bounds(schema, number, wrong);
    }
    if let (Some(text), true) = (value.as_str(), is_duration(schema))
        && words::duration::parse(text).is_none_or(|duration| duration.as_millis() < 1)
    {
        wrong(format!("{text:?} is not a duration of at least 1ms, such as \"1s\" or \"250ms\""));
    }
    if let (Some(text), Some(most)) = (value.as_str(), schema.get("maxLength").and_then(Value::as_u64))
        && text.chars().count() as u64 > most
    {
        wrong(format!("{} characters are more than {most}", text.chars().count()));
    }
}

fn check_bounds(schema: &Value, number: f64, wrong: &mut impl FnMut(String)) {
    let implied = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        _ => (None, None),
    };
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    match (bound("minimum").or(implied.0), bound("maximum").or(implied.1)) {
        (Some(least), Some(most)) if number < least || number > most => {
            wrong(format!("{number} is not within {least} to {most}"));
        }
        (Some(least), None) if number < least => wrong(format!("{number} is less than {least}")),
        (None, Some(most)) if number > most => wrong(format!("{number} is more than {most}")),
        _ => {}
    }
}

fn is_duration(schema: &Value) -> bool {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| rule["rule"] == "duration(self) >= duration('1ms')")
}

fn check_groups(schema: &Value, value: &Value, wrong: &mut impl FnMut(String)) {
    let Some(fields) = value.as_object() else { return };
    let nested = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
    for group in nested.chain([schema]) {
        let options = group.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<&str> = options.filter_map(|option| option["required"][0].as_str()).collect();
        let set: Vec<&str> = names.into_iter().filter(|name| fields.contains_key(*name)).collect();
        if set.len() > 1 {
            wrong(format!("only one of {} may be set", set.join(", ")));
        }
    }
}

fn is_type(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        // `100.0` is an integer too (S14).
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

fn with_article(kind: &str) -> String {
    match kind {
        "object" => "a mapping".into(),
        "array" => "a list".into(),
        "integer" => "an integer".into(),
        other => format!("a {other}"),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Object(_) => "a mapping".into(),
        Value::Array(_) => "a list".into(),
        scalar => scalar.to_string(),
    }
}

// The known field that differs least, when that is little: a slip of the finger, not another word.
pub(crate) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|name| (distance(&key.to_ascii_lowercase(), &name.to_ascii_lowercase()), name));
    scored.filter(|(distance, _)| *distance <= 1 + key.len() / 5).min().map(|(_, name)| name)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let next = (diagonal + usize::from(left != *right)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

/// Renames proto names (`fixed_delay`) to JSON names (`fixedDelay`) wherever the schema knows the latter (X04). Keys of
/// maps, such as labels, are never touched.
pub fn canonicalize(kind: Kind, spec: &mut Value) {
    if let Some(schema) = of(kind) {
        canonicalize_node(schema, spec);
    }
}

fn canonicalize_node(schema: &Value, value: &mut Value) {
    match value {
        Value::Array(items) => {
            if let Some(inner) = schema.get("items") {
                items.iter_mut().for_each(|item| canonicalize_node(inner, item));
            }
        }
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            if let Some(properties) = properties {
                let snake: Vec<String> = fields.keys().filter(|key| key.contains('_')).cloned().collect();
                for key in snake.into_iter().filter(|key| !properties.contains_key(key)) {
                    let camel = camel(&key);
                    if properties.contains_key(&camel) && !fields.contains_key(&camel) {
                        let moved = fields.remove(&key).unwrap_or(Value::Null);
                        fields.insert(camel, moved);
                    }
                }
            }
            let extra = schema.get("additionalProperties");
            for (key, inner) in fields {
                if let Some(schema) = properties.and_then(|properties| properties.get(key)).or(extra) {
                    canonicalize_node(schema, inner);
                }
            }
        }
        _ => {}
    }
}

pub(crate) fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut out, word| {
        let mut letters = word.chars();
        out.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        out.push_str(letters.as_str());
        out
    })
}
