//! Every code, by the examples in `tests/corpus`: what finds it, and what does not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use analyze::{Inputs, Options, codes};
use api::inspect_yaml;
use serde::Deserialize;
use serde_json::{Value, json};
use words::Diagnostic;

/// 2025-01-01.
const NOW: u64 = 1_735_689_600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// In every example.
    #[serde(default)]
    also: Vec<BTreeMap<String, Value>>,
    finds: Vec<Example>,
    clean: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// `Kind name.namespace`, with the spec of Istio's kinds, the labels of a Pod, or the rest of another object.
    objects: Vec<BTreeMap<String, Value>>,
    /// `Kind namespace/name field: part of the message`, of this code, in order.
    #[serde(default)]
    expect: Vec<String>,
}

fn object(name: &str, body: &Value) -> Value {
    let (kind, name) = name.split_once(' ').unwrap();
    let (name, namespace) = name.split_once('.').unwrap_or((name, "default"));
    let istio = |body: &Value| json!({"apiVersion": "networking.istio.io/v1", "spec": body});
    let mut object = match kind {
        "Pod" => json!({"apiVersion": "v1", "metadata": {"labels": body}, "spec": {}}),
        "Service" => json!({"apiVersion": "v1", "spec": body}),
        "Secret" | "Namespace" | "ConfigMap" => with(body, "v1"),
        "Deployment" => with(body, "apps/v1"),
        "RequestAuthentication" | "AuthorizationPolicy" => json!({"apiVersion": "security.istio.io/v1", "spec": body}),
        _ => istio(body),
    };
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = namespace.into();
    object
}

fn with(body: &Value, api_version: &str) -> Value {
    let mut object = body.clone();
    object["apiVersion"] = api_version.into();
    object
}

fn found(objects: &[&BTreeMap<String, Value>]) -> Vec<Diagnostic> {
    let documents: Vec<String> =
        objects.iter().flat_map(|map| map.iter()).map(|(name, body)| object(name, body).to_string()).collect();
    let mut inputs = Inputs::default();
    for document in inspect_yaml(&documents.join("\n---\n"), "corpus.yaml") {
        inputs.add_document(document, "default");
    }
    analyze::run(&inputs, &Options { now_seconds: NOW, ..Options::default() })
}

fn judge(code: &str, file: &File, example: &Example) -> Result<(), String> {
    let objects: Vec<_> = file.also.iter().chain(&example.objects).collect();
    let all = found(&objects);
    let of_code: Vec<&Diagnostic> = all.iter().filter(|found| found.code == code).collect();
    let fits = |found: &Diagnostic, expected: &String| {
        let object = found.object.as_ref().unwrap();
        let field = if found.field.is_empty() { String::new() } else { format!(" {}", found.field) };
        let is_level = codes::of(code).is_some_and(|row| row.level == found.severity);
        let part = expected.strip_prefix(&format!("{object}{field}: "));
        is_level && found.location.is_some() && part.is_some_and(|part| found.message.contains(part))
    };
    let as_expected = of_code.len() == example.expect.len()
        && of_code.iter().zip(&example.expect).all(|(found, text)| fits(found, text));
    if as_expected {
        return Ok(());
    }
    let all: String = all.iter().map(|found| format!("\n    {found}")).collect();
    Err(format!("{code}: expected {:#?}, found{all}", example.expect))
}

#[test]
fn every_code_is_found_and_not_found() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let code = path.file_stem().unwrap().to_string_lossy().into_owned();
        let file: File = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{code}: {error}"));
        assert!(!file.finds.is_empty() && !file.clean.is_empty(), "{code} has too few examples");
        assert!(file.finds.iter().all(|example| !example.expect.is_empty()), "{code}: an example finds nothing");
        assert!(file.clean.iter().all(|example| example.expect.is_empty()), "{code}: a clean example finds something");
        wrong.extend(file.finds.iter().chain(&file.clean).filter_map(|example| judge(&code, &file, example).err()));
        seen.insert(code);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<String> = codes::ALL.iter().map(|row| row.code.to_owned()).collect();
    assert_eq!(seen, all, "one file for each code");
}

#[test]
fn analyzers_and_codes_agree() {
    let of_analyzers: BTreeSet<&str> =
        analyze::analyzers::ALL.iter().flat_map(|analyzer| analyzer.codes).copied().collect();
    let all: BTreeSet<&str> = codes::ALL.iter().map(|row| row.code).collect();
    assert_eq!(of_analyzers, all);
}

#[test]
fn the_table_of_the_documentation_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/analyze.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<String> = codes::ALL
        .iter()
        .map(|row| format!("| {} | {} | {} | {} |", row.code, row.name, row.level, row.trigger))
        .collect();
    let table = rows.join("\n");
    assert!(text.contains(&table), "docs/analyze.md should hold these rows:\n{table}");
    for analyzer in analyze::analyzers::ALL {
        let row = format!("| {} | {} | {} |", analyzer.name, analyzer.about, analyzer.codes.join(" "));
        assert!(text.contains(&row), "docs/analyze.md should hold {row}");
    }
}

fn seeds(wanted: &[&str]) -> Inputs {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/seeds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut inputs = Inputs::default();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if wanted.iter().any(|prefix| name.starts_with(prefix)) {
            for document in inspect_yaml(&std::fs::read_to_string(&path).unwrap(), &name) {
                inputs.add_document(document, "default");
            }
        }
    }
    inputs
}

fn lines(inputs: &Inputs, code: &str) -> Vec<String> {
    let found = analyze::run(inputs, &Options::default());
    found.iter().filter(|found| found.code == code).map(ToString::to_string).collect()
}

fn add(inputs: &mut Inputs, text: &str) {
    for document in inspect_yaml(text, "services.yaml") {
        inputs.add_document(document, "default");
    }
}

#[test]
fn s27_a_host_that_no_seed_creates_is_unknown() {
    let mut inputs = seeds(&["26-"]);
    assert_eq!(lines(&inputs, "IST0174"), [""; 0], "without any Service nothing is known of hosts");
    add(
        &mut inputs,
        "{apiVersion: v1, kind: Service, metadata: {name: ecommerce-frontend}, spec: {ports: [{port: 80, name: http}]}}",
    );
    let found = lines(&inputs, "IST0174");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("ecommerce-backend.default.svc.cluster.local"), "{found:?}");
}

#[test]
fn s34_two_subsets_of_the_ab_test_are_missing() {
    let found = lines(&seeds(&["31-", "34-"]), "IST0101");
    let subsets: Vec<bool> = ["premium", "standard"]
        .iter()
        .map(|name| found.iter().any(|line| line.contains(&format!("subset {name:?}"))))
        .collect();
    assert_eq!(
        (subsets, found.iter().filter(|line| line.contains("subset")).count()),
        (vec![true, true], 2),
        "{found:?}"
    );
}

#[test]
fn s35_two_virtual_services_of_the_mesh_share_reviews() {
    let found = lines(&seeds(&["01-", "35-"]), "IST0109");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("VirtualService default/reviews ") && found[1].contains("default/reviews-route"),
        "{found:?}"
    );
}

#[test]
fn s37_the_subsets_of_my_service_are_in_no_rule() {
    let found = lines(&seeds(&["37-"]), "IST0101");
    assert_eq!(
        found.iter().filter(|line| line.contains("is in no DestinationRule for my-service.default")).count(),
        2,
        "{found:?}"
    );
}

#[test]
fn findings_are_suppressed_by_option_and_by_annotation() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, annotations: {NOTE}}\nspec:\n  \
                hosts: [a]\n  http: [{route: [{destination: {host: a, subset: v1}}]}]\n";
    let of = |note: &str, options: &Options| {
        let mut inputs = Inputs::default();
        add(&mut inputs, &text.replace("NOTE", note));
        analyze::run(&inputs, options).len()
    };
    assert_eq!(of("", &Options::default()), 1);
    assert_eq!(of("galley.istio.io/analyze-suppress: 'IST0109, IST0101'", &Options::default()), 0);
    assert_eq!(of("galley.istio.io/analyze-suppress: '*'", &Options::default()), 0);
    assert_eq!(of("galley.istio.io/analyze-suppress: IST0109", &Options::default()), 1);
    let suppressed = vec![analyze::Suppression::parse("IST0101=VirtualService *.default").unwrap()];
    assert_eq!(of("", &Options { suppressed, ..Options::default() }), 0);
    let analyzers = BTreeSet::from(["virtualservice.GatewayAnalyzer".to_owned()]);
    assert_eq!(of("", &Options { analyzers, ..Options::default() }), 0);
    assert_eq!(of("", &Options { namespace: Some("other".into()), ..Options::default() }), 0);
}
