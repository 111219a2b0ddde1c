//! The CustomResourceDefinitions of Istio's kinds, as `make gen` writes them to `crds/`.
//!
//! In: the schemas. Out: one YAML text per kind, always the same for the same types. Versions v1 (stored), v1beta1 and
//! v1alpha3 are served with the same schema, so no conversion is needed (S40).

use serde_json::{Value, json};

use crate::object::{OWN_GROUP, SECURITY_GROUP, TELEMETRY_GROUP};
use crate::{Kind, schema};

/// A CustomResourceDefinition with its file name, `virtualservices.networking.istio.io.yaml`.
pub struct Definition {
    /// File name.
    pub file: String,
    /// The definition.
    pub value: Value,
}

/// Every definition, by kind.
pub fn all() -> Vec<Definition> {
    let ours = Kind::ALL.iter().copied().filter(|kind| kind.is_custom());
    ours.filter_map(|kind| Some(definition(kind, schema::of(kind)?.clone()))).collect()
}

fn definition(kind: Kind, mut spec: Value) -> Definition {
    let (plural, name) = (kind.plural(), kind.name());
    drop_rules_of_the_alias(&mut spec, false);
    let versions: Vec<Value> = kind.versions().iter().map(|version| self::version(kind, version, &spec)).collect();
    let group = kind.group();
    let categories = match group {
        OWN_GROUP => json!(["sluice"]),
        TELEMETRY_GROUP => json!(["istio-io", "telemetry-istio-io"]),
        SECURITY_GROUP => json!(["istio-io", "security-istio-io"]),
        _ => json!(["istio-io", "networking-istio-io"]),
    };
    let mut names = json!({
        "kind": name, "listKind": format!("{name}List"), "plural": plural, "singular": name.to_ascii_lowercase(),
        "categories": categories
    });
    if let Some(short) = short_name(kind) {
        names["shortNames"] = json!([short]);
    }
    let value = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": labels(group)
        },
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": versions}
    });
    Definition { file: format!("{plural}.{group}.yaml"), value }
}

// An API server bounds what all CEL rules of a schema may cost, and those that Istio's DestinationRule has use nearly all
// of it: with the same rules for the durations of `circuitBreaker` it refuses the definition (1.09 times the budget).
// The alias is ours alone, so it is the one that goes without; a pattern keeps nonsense out and costs nothing there.
fn drop_rules_of_the_alias(schema: &mut Value, inside: bool) {
    let Some(fields) = schema.as_object_mut() else { return };
    if inside && fields.remove("x-kubernetes-validations").is_some() {
        fields.insert("pattern".into(), json!(r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$"));
    }
    for (name, field) in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        drop_rules_of_the_alias(field, inside || name == "circuitBreaker");
    }
    if let Some(items) = fields.get_mut("items") {
        drop_rules_of_the_alias(items, inside);
    }
}

fn version(kind: Kind, version: &str, spec: &Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "properties": {"spec": spec, "status": status()}
    });
    // X03: for the others an object without spec is legal.
    if matches!(kind, Kind::ServiceEntry | Kind::WorkloadEntry | Kind::WorkloadGroup) {
        schema["required"] = json!(["spec"]);
    }
    json!({
        "name": version, "served": true, "storage": Some(&version) == kind.versions().first(),
        "subresources": {"status": {}},
        "additionalPrinterColumns": with_status(columns(kind)),
        "schema": {"openAPIV3Schema": schema}
    })
}

// Istio's definitions carry the labels of its chart, so that tools find them.
fn labels(group: &str) -> Value {
    match group {
        OWN_GROUP => json!({"app": "sluice"}),
        _ => json!({"app": "istio-pilot", "chart": "istio", "release": "istio"}),
    }
}

fn short_name(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::VirtualService => "vs",
        Kind::DestinationRule => "dr",
        Kind::Gateway => "gw",
        Kind::ServiceEntry => "se",
        Kind::WorkloadEntry => "we",
        Kind::WorkloadGroup => "wg",
        Kind::RateLimitPolicy => "rlp",
        Kind::Telemetry => "telemetry",
        Kind::RequestAuthentication => "ra",
        Kind::AuthorizationPolicy => "ap",
        Kind::PeerAuthentication => "pa",
        _ => return None,
    })
}

// Ours, only with `-o wide`: what became of the object, in the word of its condition.
fn with_status(mut columns: Value) -> Value {
    if let Some(list) = columns.as_array_mut() {
        list.push(json!({
            "name": "Status", "type": "string", "priority": 1,
            "jsonPath": ".status.conditions[?(@.type==\"Programmed\")].reason",
            "description": "Programmed once every connected proxy has acknowledged it."
        }));
    }
    columns
}

// As Istio's (X02): `kubectl get` must look the same.
fn columns(kind: Kind) -> Value {
    let column = |name: &str, path: &str, kind: &str, text: &str| json!({"name": name, "jsonPath": path, "type": kind, "description": text});
    let age = column("Age", ".metadata.creationTimestamp", "date", "When it was created.");
    let string = |name: &str, field: &str, text: &str| column(name, &format!(".spec.{field}"), "string", text);
    match kind {
        Kind::VirtualService => json!([
            string("Gateways", "gateways", "Where it applies."),
            string("Hosts", "hosts", "Hosts that clients address."),
            age
        ]),
        Kind::DestinationRule => json!([string("Host", "host", "The service's host."), age]),
        Kind::ServiceEntry => json!([
            string("Hosts", "hosts", "Its hosts."),
            string("Location", "location", "Inside (MESH_INTERNAL) or outside (MESH_EXTERNAL) of the mesh."),
            string("Resolution", "resolution", "Where endpoints come from."),
            age
        ]),
        Kind::WorkloadEntry => json!([age, string("Address", "address", "Its address.")]),
        Kind::AuthorizationPolicy => json!([string("Action", "action", "What becomes of requests that match."), age]),
        Kind::PeerAuthentication => {
            json!([string("Mode", "mtls.mode", "Defines the mTLS mode used for peer authentication."), age])
        }
        Kind::RateLimitPolicy => json!([string("Hosts", "hosts", "Hosts that are limited."), age]),
        // Where a definition has no column an API server adds this one; ours have one more.
        _ => json!([age]),
    }
}

fn status() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "observedGeneration": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "conditions": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "type": text, "status": text, "reason": text, "message": text,
                    "lastProbeTime": time, "lastTransitionTime": time,
                    "observedGeneration": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}
                }
            }},
            "validationMessages": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "documentationUrl": text,
                    "level": {"type": "string", "enum": ["UNKNOWN", "ERROR", "WARNING", "INFO"]},
                    "type": {"type": "object", "properties": {"code": text, "name": text}}
                }
            }}
        }
    })
}
