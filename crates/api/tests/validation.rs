//! Every rule of `validate`, by the examples in `tests/validation`: what it refuses or warns of, and what it lets pass.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use api::inspect_yaml;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The rules of one object by itself that a mesh's kinds have.
fn rules() -> BTreeSet<String> {
    let numbers = (1..=13)
        .chain(20..=43)
        .chain(50..=59)
        .chain(60..=68)
        .chain(70..=80)
        .chain(90..=93)
        .chain(100..=101)
        .chain(102..=105)
        .chain(108..=108);
    numbers.map(|number| format!("V-{number:02}")).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What the rule says.
    rule: String,
    kind: String,
    /// The spec as YAML; `$` stands for what an example has in `with`.
    spec: String,
    fails: Vec<Example>,
    passes: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// Stands for `$`.
    #[serde(default)]
    with: Value,
    /// Instead of `with`: a text of so many letters.
    long: Option<usize>,
    /// Instead of the file's.
    kind: Option<String>,
    /// Instead of the file's.
    spec: Option<String>,
    /// Besides a name.
    #[serde(default)]
    metadata: Map<String, Value>,
    /// Other fields of the object.
    #[serde(default)]
    top: Map<String, Value>,
    /// `Level [code] field: part of the message`, all of them in order.
    #[serde(default)]
    finds: Vec<String>,
}

impl Example {
    fn text(&self, file: &File) -> String {
        let with = match self.long {
            Some(length) => "x".repeat(length),
            None => self.with.to_string(),
        };
        let spec = self.spec.as_ref().unwrap_or(&file.spec).replace('$', &with);
        let mut metadata = self.metadata.clone();
        metadata.entry("name").or_insert(json!("it"));
        let kind = self.kind.as_ref().unwrap_or(&file.kind);
        let top: String = self.top.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        let metadata = Value::Object(metadata);
        let group = match kind.as_str() {
            "Telemetry" => "telemetry",
            "PeerAuthentication" | "RequestAuthentication" | "AuthorizationPolicy" => "security",
            _ => "networking",
        };
        format!("apiVersion: {group}.istio.io/v1\nkind: {kind}\n{top}metadata: {metadata}\nspec: {spec}\n")
    }
}

// `Level field: message` or, where the code is not the usual one, `Level code field: message`.
fn fits(found: &words::Diagnostic, expected: &str) -> bool {
    let usual = found.code == if found.severity == words::Severity::Error { "IST0106" } else { "IST0133" };
    let code = if usual { String::new() } else { format!("{} ", found.code) };
    let head = format!("{} {code}{}: ", found.severity, found.field);
    expected.strip_prefix(&head).is_some_and(|part| found.message.contains(part))
}

fn judge(name: &str, file: &File, example: &Example) -> Result<(), String> {
    let text = example.text(file);
    let documents = inspect_yaml(&text, "example.yaml");
    let found: Vec<&words::Diagnostic> = documents.iter().flat_map(|document| &document.findings).collect();
    let as_expected = found.len() == example.finds.len()
        && found.iter().zip(&example.finds).all(|(found, expected)| fits(found, expected));
    let is_placed = found.iter().all(|found| found.location.is_some());
    if as_expected && is_placed {
        return Ok(());
    }
    let found: String = found.iter().map(|found| format!("\n    {found}")).collect();
    let text: String = text.chars().take(400).collect();
    Err(format!("{name}: expected {:?}, found{found}\n  in\n{text}", example.finds))
}

#[test]
fn every_rule_refuses_and_lets_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/validation");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let file: File = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            !file.rule.is_empty() && !file.fails.is_empty() && !file.passes.is_empty(),
            "{name} has too few examples"
        );
        assert!(
            file.fails.iter().all(|example| !example.finds.is_empty()),
            "{name}: an example that fails finds something"
        );
        assert!(
            file.passes.iter().all(|example| example.finds.is_empty()),
            "{name}: an example that passes finds nothing"
        );
        wrong.extend(file.fails.iter().chain(&file.passes).filter_map(|example| judge(&name, &file, example).err()));
        seen.insert(name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen, rules(), "one file for each rule");
}
