//! The tutorials' objects and the common slips, read as a directory source reads them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use api::{Object, parse_yaml};

fn seeds() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/seeds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    files.iter().map(read).collect()
}

fn only_error(text: &str) -> String {
    let mut results = parse_yaml(text, "f.yaml");
    assert_eq!(results.len(), 1, "{results:?}");
    results.remove(0).unwrap_err().to_string()
}

#[test]
fn every_seed_object_is_read() {
    let seeds = seeds();
    assert_eq!(seeds.len(), 39);
    for (name, text) in seeds {
        let results = parse_yaml(&text, &name);
        assert_eq!(results.len(), 1, "{name}");
        let parsed = results[0].as_ref().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.object.is_none(), name.contains("Deployment"), "{name}");
    }
}

#[test]
fn deprecated_spellings_work_and_teach() {
    let teaches = |file: &str| {
        let (name, text) = seeds().into_iter().find(|(name, _)| name.starts_with(file)).unwrap();
        let parsed = parse_yaml(&text, &name).remove(0).unwrap();
        parsed.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(teaches("23-").contains("circuitBreaker is no field of Istio's"), "{}", teaches("23-"));
    assert!(teaches("13-").contains("write mirrorPercentage"), "{}", teaches("13-"));
    assert!(teaches("16-").contains("LEAST_CONN is deprecated"), "{}", teaches("16-"));
    assert!(teaches("20-").contains("consecutiveErrors is deprecated"), "{}", teaches("20-"));
}

#[test]
fn aliases_are_heard() {
    let text = "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {name: x}\nspec:\n  host: x\n  \
                trafficPolicy:\n    circuitBreaker: {consecutiveErrors: 3.0, base_ejection_time: 30s}\n";
    let Some(Object::DestinationRule(rule)) = parse_yaml(text, "f.yaml").remove(0).unwrap().object else { panic!() };
    let policy = rule.spec.traffic_policy.unwrap();
    let outlier = policy.outlier().unwrap();
    assert_eq!(outlier.errors_in_a_row(), Some(3));
    assert_eq!(outlier.base_ejection_time.as_ref().unwrap().0, "30s");
}

#[test]
fn unknown_field_names_its_place_and_its_neighbour() {
    let text = "# reviews\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: reviews\nspec:\n  \
                hosts: [reviews]\n  http:\n  - rout:\n    - destination: {host: reviews}\n";
    assert_eq!(
        only_error(text),
        "Error [IST0106] (VirtualService default/reviews f.yaml:9:5) spec.http[0].rout: unknown field; did you mean \"route\"?"
    );
}

#[test]
fn wrong_type_names_its_place() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  \
                http:\n  - timeout: 5\n    route: [{destination: {host: a}}]\n";
    assert!(
        only_error(text).contains("f.yaml:7:5) spec.http[0].timeout: expected a string, got 5"),
        "{}",
        only_error(text)
    );
}

#[test]
fn malformed_yaml_names_file_line_and_column() {
    let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
    let results = parse_yaml(&format!("{good}kind: [a\nx: y\n"), "f.yaml");
    assert!(results[0].is_ok());
    let error = results[1].as_ref().unwrap_err().to_string();
    assert!(error.starts_with("Error [IST0106] (f.yaml:"), "{error}");
    let line: u64 = error.split(':').nth(1).unwrap().trim_end_matches(')').parse().unwrap();
    assert!((5..=7).contains(&line), "{error}");
}

#[test]
fn a_bad_document_hides_no_neighbour() {
    let text = "---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: Broken\n---\n# only a comment\n---\n\
                apiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n---\n";
    let results = parse_yaml(text, "f.yaml");
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_bad_regex_is_refused_by_name() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  \
                - match: [{uri: {regex: \"(\"}}]\n    route: [{destination: {host: a}}]\n";
    assert!(
        only_error(text).contains("spec.http[0].match[0].uri.regex: the regex \"(\" does not compile"),
        "{}",
        only_error(text)
    );
}

#[test]
fn lists_and_json_are_read() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}]}"#;
    let parsed = parse_yaml(list, "f.json").remove(0).unwrap();
    assert_eq!(parsed.object.unwrap().metadata().name, "a");
}

#[test]
fn a_pod_knows_its_deployment() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: reviews-v1-abc-x\n  ownerReferences:\n  - {kind: ReplicaSet, \
                name: reviews-v1-abc, controller: true}\nspec: {containers: [{name: c, ports: [{name: http, containerPort: 9080}]}]}\n";
    let Some(Object::Pod(pod)) = parse_yaml(text, "f.yaml").remove(0).unwrap().object else { panic!() };
    assert_eq!(pod.spec.workload_name("reviews-v1-abc-x"), "reviews-v1");
    assert_eq!(pod.spec.named_port("http"), Some(9080));
}
