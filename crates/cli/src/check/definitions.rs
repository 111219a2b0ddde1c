//! The CustomResourceDefinitions: that they are there, whose they are, and what their schemas would refuse.

use serde_json::Value;

use super::ask::{Cluster, Found};
use super::{Check, bad, good, warning};

/// Fields that are named; the rest is counted.
const FIELDS_SHOWN: usize = 3;
/// How deep schemas are compared.
const DEPTH_MAX: usize = 64;

pub(super) async fn check(cluster: &Cluster, is_before: bool) -> Vec<Check> {
    let (mut missing, mut unready, mut narrower, mut newer) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ours in api::crd::all() {
        let name = ours.file.trim_end_matches(".yaml").to_owned();
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        match cluster.get(&path).await {
            Found::Value(theirs) => {
                if !is_established(&theirs) {
                    unready.push(name.clone());
                }
                let whose = owner(&theirs).map_or(String::new(), |owner| format!(" (of {owner})"));
                for (lacking, into) in
                    [(lacks(&ours.value, &theirs), &mut narrower), (lacks(&theirs, &ours.value), &mut newer)]
                {
                    if !lacking.is_empty() {
                        into.push(format!("{name}{whose}: {}", shown(&lacking)));
                    }
                }
            }
            Found::Missing => missing.push(name),
            // Said once, not for each.
            other => return vec![super::ask::unseen("definitions are installed", &other)],
        }
    }
    let list = |what: &[String]| what.join("; ");
    let mut checks = Vec::new();
    if !is_before {
        checks.push(judge("definitions are installed", &missing, |about| {
            bad(about, list(&missing), "helm upgrade with crds.install=auto, or kubectl apply -f crds/")
        }));
        checks.push(judge("definitions are established", &unready, |about| {
            bad(about, list(&unready), "kubectl describe crd says why")
        }));
    }
    checks.push(judge("schemas take everything that Sluice takes", &narrower, |about| {
        let hint = "objects with these fields are refused; helm upgrade with crds.adopt=true and --take-ownership \
                    replaces the definitions";
        warning(about, list(&narrower), hint)
    }));
    checks.push(judge("schemas know nothing that Sluice does not", &newer, |about| {
        warning(
            about,
            list(&newer),
            "objects with these fields are taken and the fields are not obeyed; upgrade Sluice",
        )
    }));
    checks
}

fn judge(about: &str, found: &[String], otherwise: impl FnOnce(&str) -> Check) -> Check {
    if found.is_empty() { good(about) } else { otherwise(about) }
}

fn shown(fields: &[String]) -> String {
    let some = fields.iter().take(FIELDS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match fields.len().saturating_sub(FIELDS_SHOWN) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Established" && one["status"] == "True")
}

fn owner(definition: &Value) -> Option<&str> {
    definition["metadata"]["annotations"]["meta.helm.sh/release-name"].as_str()
}

// Versions and fields of the stored version that `here` has and `there` lacks. The chart compares in the same way
// (templates/crds/_compare.tpl).
fn lacks(here: &Value, there: &Value) -> Vec<String> {
    let versions = |of: &Value| of["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let (here, there) = (versions(here), versions(there));
    let known = |name: &Value| there.iter().any(|one| one["name"] == *name);
    let mut found: Vec<String> = here
        .iter()
        .filter(|one| one["served"] == true && !known(&one["name"]))
        .map(|one| format!("version {}", one["name"].as_str().unwrap_or_default()))
        .collect();
    let spec = |of: &[Value]| -> Option<Value> {
        let stored = of.iter().find(|one| one["storage"] == true)?;
        Some(stored["schema"]["openAPIV3Schema"]["properties"]["spec"].clone())
    };
    if let (Some(here), Some(there)) = (spec(&here), spec(&there)) {
        fields(&here, &there, "spec", 0, &mut found);
    }
    found
}

fn fields(here: &Value, there: &Value, path: &str, depth: usize, found: &mut Vec<String>) {
    if depth > DEPTH_MAX || there["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (name, field) in here["properties"].as_object().into_iter().flatten() {
        match there["properties"].get(name) {
            Some(known) => fields(field, known, &format!("{path}.{name}"), depth + 1, found),
            None => found.push(format!("{path}.{name}")),
        }
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if here[key].is_object() && there[key].is_object() {
            fields(&here[key], &there[key], &format!("{path}{mark}"), depth + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(spec: Value) -> Value {
        json!({"spec": {"versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"properties": {"spec": spec}}}}
        ]}})
    }

    #[test]
    fn what_a_schema_lacks_is_named_by_its_path() {
        let here = definition(json!({"properties": {"a": {"items": {"properties": {"b": {}, "c": {}}}}, "d": {}}}));
        let there = definition(json!({"properties": {"a": {"items": {"properties": {"b": {}}}}}}));
        assert_eq!(lacks(&here, &there), ["spec.a[].c", "spec.d"]);
        assert_eq!(lacks(&there, &here), Vec::<String>::new());
    }

    #[test]
    fn a_schema_that_keeps_unknown_fields_lacks_nothing() {
        let there = definition(json!({"x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!(lacks(&definition(json!({"properties": {"a": {}}})), &there), Vec::<String>::new());
    }

    #[test]
    fn our_definitions_lack_nothing_of_themselves() {
        for one in api::crd::all() {
            assert_eq!(lacks(&one.value, &one.value), Vec::<String>::new());
        }
    }
}
