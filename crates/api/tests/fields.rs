//! Every field of the seven networking kinds is in the generated schemas with its type.
//!
//! In: `tests/fields/<Kind>.txt`, one `path type` a line, and the CRDs that `crd` makes. Never looks at descriptions.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;

const KINDS: [(&str, &str); 7] = [
    ("VirtualService", "virtualservices"),
    ("DestinationRule", "destinationrules"),
    ("Gateway", "gateways"),
    ("ServiceEntry", "serviceentries"),
    ("Sidecar", "sidecars"),
    ("WorkloadEntry", "workloadentries"),
    ("WorkloadGroup", "workloadgroups"),
];

fn crd(plural: &str) -> Value {
    let path = format!("{}/../../crds/{plural}.networking.istio.io.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The schema at `http[].match[].headers{}.exact`: `[]` goes into items, `{}` into the values of a map.
fn at<'a>(spec: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(spec, |schema, step| {
        let name = step.trim_end_matches(['[', ']', '{', '}']);
        let field = schema.get("properties")?.get(name)?;
        match &step[name.len()..] {
            "" => Some(field),
            "[]" => field.get("items"),
            "{}" => field.get("additionalProperties"),
            _ => None,
        }
    })
}

#[test]
fn every_field_of_the_tables_is_in_the_schema() {
    let mut wrong = Vec::new();
    for (kind, plural) in KINDS {
        let crd = crd(plural);
        let list = format!("{}/tests/fields/{kind}.txt", env!("CARGO_MANIFEST_DIR"));
        let list = std::fs::read_to_string(&list).unwrap();
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
            for line in list.lines() {
                let (path, expected) = line.split_once(' ').unwrap();
                let found = at(spec, path).and_then(|schema| schema["type"].as_str());
                if found != Some(expected) {
                    wrong.push(format!("{kind} {} {path}: {found:?}, not {expected}", version["name"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_versions_are_served_with_one_schema() {
    for (kind, plural) in KINDS {
        let crd = crd(plural);
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let names: Vec<_> = versions.iter().map(|version| version["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["v1", "v1beta1", "v1alpha3"], "{kind}");
        for version in versions {
            assert_eq!(version["served"], true, "{kind}");
            assert_eq!(version["storage"], version["name"] == "v1", "{kind}");
            assert_eq!(version["schema"], versions[0]["schema"], "{kind}");
            assert_eq!(version["subresources"], serde_json::json!({"status": {}}), "{kind}");
        }
    }
}

#[test]
fn schemas_are_structural() {
    fn walk(path: &str, value: &Value, wrong: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    let refused = name.starts_with("x-sluice")
                        || ["$ref", "$defs", "definitions", "const"].contains(&name.as_str());
                    if refused || (name == "type" && inner.is_array()) {
                        wrong.push(format!("{path}.{name}"));
                    }
                    walk(&format!("{path}.{name}"), inner, wrong);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(path, item, wrong)),
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    for (kind, plural) in KINDS {
        walk(kind, &crd(plural)["spec"]["versions"], &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// kube-apiserver 1.36 refuses the whole definition when the alias has the rules too: the cost of all CEL rules of a
/// schema is bounded, and Istio's own use nearly all of it.
#[test]
fn the_alias_of_outlier_detection_costs_no_cel() {
    let crd = crd("destinationrules");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for policy in ["trafficPolicy", "trafficPolicy.portLevelSettings[]", "subsets[].trafficPolicy"] {
        let interval = |block: &str| at(spec, &format!("{policy}.{block}.interval")).unwrap();
        assert!(interval("circuitBreaker").get("x-kubernetes-validations").is_none(), "{policy}");
        assert!(interval("circuitBreaker").get("pattern").is_some(), "{policy}");
        assert!(interval("outlierDetection").get("x-kubernetes-validations").is_some(), "{policy}");
    }
}
