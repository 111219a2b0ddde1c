//! Reading YAML files: many documents, each an object; every error names file, line and, where there is one, the field.
//!
//! In: text. Out: a result per document, in order; a bad document never hides its neighbours. As strict as `kubectl
//! apply`: unknown fields of Istio's kinds are errors. Documents of kinds that a mesh does not read are skipped with a
//! note; empty documents silently (S02).

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use words::{Diagnostic, Location, Origin, Severity};

use crate::node::Document;
use crate::{Acting, Kind, Object, schema, validate};

/// Largest file read, in bytes.
pub const FILE_BYTES_MAX: usize = 8 << 20;
/// Most documents of one file.
pub const DOCUMENTS_MAX: usize = 10_000;
/// Said of an object of a kind that a mesh does not read.
pub const NOT_READ: &str = "SLU0001";

// What an object's metadata may say in Kubernetes.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Why a document gives no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// Where; `None` for input that is not from a file.
    pub location: Option<Box<Location>>,
    /// Which object, as far as it is known.
    pub object: Option<Origin>,
    /// Which field; may be empty.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic().fmt(f)
    }
}

impl ParseError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { location: None, object: None, field: String::new(), message: message.into() }
    }

    pub(crate) fn at_field(mut self, field: &str) -> Self {
        self.field = field.to_owned();
        self
    }

    pub(crate) fn of(mut self, kind: Kind, namespace: &str, name: &str) -> Self {
        self.object = Some(Origin::new(kind.name(), namespace, name));
        self
    }

    /// The error as a finding, with Istio's code for schema errors.
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic {
            code: "IST0106".into(),
            severity: Severity::Error,
            object: self.object.clone(),
            field: self.field.clone(),
            message: self.message.clone(),
            fix: None,
            location: self.location.as_deref().cloned(),
        }
    }
}

/// What a document gives.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The object; `None` for a kind that a mesh does not read.
    pub object: Option<Object>,
    /// Where it begins.
    pub location: Location,
    /// Deprecations and other findings that do not refuse it.
    pub diagnostics: Vec<Diagnostic>,
}

/// A document, read as far as it goes: for `analyze`, which has something to say about refused objects too.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The object, even a refused one; `None` when it could not be read, or is of a kind that a mesh does not read.
    pub object: Option<Object>,
    /// The document of a kind that a mesh does not read.
    pub other: Option<Value>,
    /// Where it stands.
    pub places: Places,
    /// Errors that refuse it, and what else there is to say.
    pub findings: Vec<Diagnostic>,
    /// What acts all the same, of a refused object that restricts.
    pub acting: Option<Acting>,
    /// False when it is no object at all.
    pub is_object: bool,
}

/// Where an object and its fields stand.
#[derive(Clone, Debug)]
pub struct Places {
    document: Option<Arc<Document>>,
    prefix: Arc<str>,
    file: Arc<str>,
    lines_before: u64,
}

impl Places {
    fn whole(file: &str, lines_before: u64) -> Self {
        Self { document: None, prefix: "".into(), file: file.into(), lines_before }
    }

    /// The place of a field such as `spec.http[0].route`, or of the nearest one above it that is there.
    pub fn locate(&self, field: &str) -> Location {
        let place = |document: &Arc<Document>| document.place(&format!("{}{field}", self.prefix));
        self.at(self.document.as_ref().map_or((1, 0), place))
    }

    fn at(&self, (line, column): (u64, u64)) -> Location {
        Location { file: self.file.to_string(), line: self.lines_before + line.max(1), column }
    }
}

/// Reads a file's text. `file` is only for messages. Objects of namespaced kinds without a namespace get `default`.
pub fn parse_yaml(text: &str, file: &str) -> Vec<Result<Parsed, ParseError>> {
    inspect_yaml(text, file).into_iter().flat_map(verdict).collect()
}

// An error refuses the object, unless it restricts; the rest goes with it.
fn verdict(document: Inspected) -> Vec<Result<Parsed, ParseError>> {
    let Inspected { object, places, findings, acting, .. } = document;
    if let Some(acting) = acting {
        let diagnostics = acting.explain(findings);
        return vec![Ok(Parsed { object: Some(acting.object), location: places.locate(""), diagnostics })];
    }
    let (errors, notes): (Vec<_>, Vec<_>) = findings.into_iter().partition(|found| found.severity == Severity::Error);
    if errors.is_empty() {
        return vec![Ok(Parsed { object, location: places.locate(""), diagnostics: notes })];
    }
    errors.into_iter().map(|found| Err(found.into())).collect()
}

/// Reads a file's text as [`parse_yaml`] does, and keeps refused objects and all places.
pub fn inspect_yaml(text: &str, file: &str) -> Vec<Inspected> {
    inspect_yaml_in(text, file, "default")
}

/// As [`inspect_yaml`]; objects of namespaced kinds without a namespace get `namespace`.
pub fn inspect_yaml_in(text: &str, file: &str, namespace: &str) -> Vec<Inspected> {
    let whole = |message: String| vec![unreadable(message, Places::whole(file, 0), (1, 0))];
    if text.len() > FILE_BYTES_MAX {
        return whole(format!("{} bytes are more than {FILE_BYTES_MAX}", text.len()));
    }
    let documents = split(text);
    if documents.len() > DOCUMENTS_MAX {
        return whole(format!("{} documents are more than {DOCUMENTS_MAX}", documents.len()));
    }
    documents.into_iter().flat_map(|(line, document)| read_document(document, file, line, namespace)).collect()
}

// Documents with the number of lines before each. `---` at the start of a line always separates: YAML allows it in no
// scalar.
fn split(text: &str) -> Vec<(u64, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset, mut line) = (0, 0, 0, 0);
    for one in text.split_inclusive('\n') {
        let is_marker = one.starts_with("---") && one[3..].chars().next().is_none_or(char::is_whitespace);
        if is_marker {
            documents.push((start_line, &text[start..offset]));
            // The rest of the marker's line may hold a comment or a value; it stays with the new document.
            (start, start_line) = (offset + 3, line);
        }
        offset += one.len();
        line += 1;
    }
    documents.push((start_line, &text[start..]));
    documents
}

fn read_document(text: &str, file: &str, lines_before: u64, namespace: &str) -> Vec<Inspected> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Vec::new();
    }
    let nowhere = Places::whole(file, lines_before);
    let document = match Document::read(text) {
        Ok(document) => document,
        Err((sentence, place)) => {
            return vec![unreadable(format!("not valid YAML: {sentence}"), nowhere, place.unwrap_or((1, 0)))];
        }
    };
    let value = document.value();
    if value.is_null() {
        return Vec::new();
    }
    let places = Places { document: Some(Arc::new(document)), ..nowhere };
    let read = |(prefix, item): (String, Value)| {
        read_object(item, Places { prefix: prefix.into(), ..places.clone() }, namespace)
    };
    items(value).into_iter().map(read).collect()
}

fn unreadable(message: String, places: Places, place: (u64, u64)) -> Inspected {
    let found = ParseError::new(message).diagnostic().at(places.at(place));
    Inspected { object: None, other: None, places, findings: vec![found], acting: None, is_object: false }
}

// The objects of a document, each with its path's beginning: itself, or the items of `kind: List` or of a typed list such
// as VirtualServiceList, whose items may leave out what the list says.
fn items(mut value: Value) -> Vec<(String, Value)> {
    let kind = value.get("kind").and_then(Value::as_str).and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
    let (Some(kind), Some(Value::Array(items))) = (kind, value.get_mut("items").map(Value::take)) else {
        return vec![(String::new(), value)];
    };
    let api_version = value.get("apiVersion").cloned().unwrap_or_default();
    let complete = |(index, mut item): (usize, Value)| {
        if let (Some(fields), false) = (item.as_object_mut(), kind.is_empty()) {
            fields.entry("kind").or_insert_with(|| json!(kind));
            fields.entry("apiVersion").or_insert_with(|| api_version.clone());
        }
        (format!("items[{index}]."), item)
    };
    items.into_iter().enumerate().map(complete).collect()
}

fn read_object(mut value: Value, places: Places, default_namespace: &str) -> Inspected {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind_name) = (text("apiVersion"), text("kind"));
    if api_version.is_empty() || kind_name.is_empty() {
        let place = places.locate("");
        let message = "not an object: apiVersion and kind are required".to_owned();
        let found = ParseError::new(message).diagnostic().at(place);
        return Inspected { object: None, other: None, places, findings: vec![found], acting: None, is_object: false };
    }
    let Some(kind) = Kind::of(api_version, kind_name) else {
        let note = unread(api_version, kind_name, &value).at(places.locate(""));
        return Inspected {
            object: None,
            other: Some(value),
            places,
            findings: vec![note],
            acting: None,
            is_object: true,
        };
    };
    let metadata = value.get("metadata").cloned().unwrap_or(Value::Null);
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let namespace = match metadata.get("namespace").and_then(Value::as_str) {
        _ if kind.is_cluster_scoped() => String::new(),
        Some(namespace) if !namespace.is_empty() => namespace.to_owned(),
        _ => default_namespace.to_owned(),
    };
    let errors = refused(kind, &mut value);
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".into(), json!(namespace));
    }
    let written = kind.restricts().then(|| value.clone());
    let instead = || written.as_ref().and_then(|written| Acting::instead_of(kind, written));
    let (object, found, acting) = match Object::from_parts(kind, value) {
        // The schema's errors say more than what follows from them.
        object if !errors.is_empty() => {
            let named = |error: ParseError| error.of(kind, &namespace, &name).diagnostic();
            // A field of a rule that nobody knows may have been what narrows it.
            let acting = match errors.iter().any(|error| error.field.starts_with("spec")) {
                true => instead(),
                false => object.as_ref().ok().and_then(Acting::read),
            };
            (object.ok(), errors.into_iter().map(named).collect(), acting)
        }
        Ok(object) => {
            let found: Vec<Diagnostic> = validate::object(&object);
            let is_refused = found.iter().any(|one| one.severity == Severity::Error);
            let acting = is_refused.then(|| Acting::read(&object)).flatten();
            (Some(object), found, acting)
        }
        Err(error) => (None, vec![error.of(kind, &namespace, &name).diagnostic()], instead()),
    };
    let located = |found: Diagnostic| {
        let place = places.locate(&found.field);
        found.at(place)
    };
    let findings = found.into_iter().map(located).collect();
    Inspected { object, other: None, places, findings, acting, is_object: true }
}

impl From<Diagnostic> for ParseError {
    fn from(found: Diagnostic) -> Self {
        let Diagnostic { code: _, severity: _, object, field, message, fix, location } = found;
        let message = fix.map_or(message.clone(), |fix| format!("{message}; {fix}"));
        Self { location: location.map(Box::new), object, field, message }
    }
}

fn unread(api_version: &str, kind: &str, value: &Value) -> Diagnostic {
    let metadata = &value["metadata"];
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let origin = Origin::new(kind, text("namespace"), text("name"));
    let message = format!("{api_version} {kind} is not a kind that routes traffic; skipped");
    Diagnostic::new(NOT_READ, Severity::Info, origin, "", message)
}

// What an API server with strict field validation would refuse.
fn refused(kind: Kind, value: &mut Value) -> Vec<ParseError> {
    if !kind.is_custom() {
        return Vec::new();
    }
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let top = value.as_object().into_iter().flat_map(Map::keys).filter(|key| !known.contains(&key.as_str()));
    let mut errors: Vec<ParseError> =
        top.map(|key| ParseError::new("unknown field at the top level").at_field(key)).collect();
    let metadata = value.get("metadata").and_then(Value::as_object);
    let unknown = metadata.into_iter().flat_map(Map::keys).filter(|key| !METADATA.contains(&key.as_str()));
    errors.extend(unknown.map(|key| {
        let near = schema::nearest(key, METADATA.into_iter()).map(|near| format!("; did you mean {near:?}?"));
        ParseError::new(format!("unknown field{}", near.unwrap_or_default())).at_field(&format!("metadata.{key}"))
    }));
    if let Some(spec) = value.get_mut("spec") {
        schema::canonicalize(kind, spec);
        let found = schema::check(kind, spec).into_iter();
        errors.extend(found.map(|found| ParseError::new(found.message).at_field(&found.path)));
    }
    errors
}
