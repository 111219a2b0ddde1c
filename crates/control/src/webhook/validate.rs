//! An object's review: refused with field and reason when it is wrong by itself; warnings for everything else there is to
//! say, also beside the other objects. What only shows beside others never refuses: they may come later.

use api::{Change, Kind, Object};
use compile::{Compiler, MeshConfig, World};
use serde_json::{Value, json};
use words::{Diagnostic, Severity};

use super::Known;
use super::review::{Answer, Operation, Review};

/// With more objects than this the others are not looked at: an answer comes within a tenth of a second.
const OTHERS_MAX: usize = 4000;
/// Errors that an answer names, at most.
const ERRORS_MAX: usize = 20;

/// Kinds that rules refer to.
const REFERRED: [Kind; 5] =
    [Kind::Service, Kind::ServiceEntry, Kind::Gateway, Kind::VirtualService, Kind::DestinationRule];

/// True for what findings across objects are about.
pub(crate) fn is_referred(kind: Kind) -> bool {
    REFERRED.contains(&kind)
}

/// Whether the other objects matter.
pub(super) fn needs_others(review: &Review) -> bool {
    kind_of(review).is_some_and(Kind::is_custom)
}

fn kind_of(review: &Review) -> Option<Kind> {
    let text = |name: &str| review.object[name].as_str().unwrap_or_default();
    let is_write = matches!(review.operation, Operation::Create | Operation::Update) && !review.has_subresource;
    Kind::of(text("apiVersion"), text("kind")).filter(|_| is_write)
}

/// The answer.
pub(super) fn answer(review: &Review, known: &Known, mesh: &MeshConfig) -> Answer {
    let Some(kind) = kind_of(review).filter(|kind| kind.is_custom()) else { return Answer::default() };
    // Its owner wants it gone: finalizers must be removable from what an older version of this program let in.
    if !review.object["metadata"]["deletionTimestamp"].is_null() {
        return Answer::default();
    }
    let name = review.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let object = match Object::from_parts(kind, complete(review)) {
        Ok(object) => object,
        Err(error) => return refuse(kind, &name, &[error.diagnostic()]),
    };
    let found = api::validate::object(&object);
    let (errors, mut rest): (Vec<Diagnostic>, Vec<Diagnostic>) =
        found.into_iter().partition(|one| one.severity == Severity::Error);
    if !errors.is_empty() {
        return refuse(kind, &name, &errors);
    }
    rest.retain(|one| one.severity > Severity::Info);
    rest.extend(beside(object, known, mesh));
    rest.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| (&a.field, &a.code).cmp(&(&b.field, &b.code))));
    rest.dedup_by(|a, b| (&a.field, &a.message) == (&b.field, &b.message));
    Answer { warnings: rest.iter().map(line).collect(), ..Answer::default() }
}

// What an API server fills in later.
fn complete(review: &Review) -> Value {
    let mut object = review.object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let generated = metadata.get("generateName").and_then(Value::as_str).map(|stem| format!("{stem}x"));
        metadata.entry("name").or_insert_with(|| json!(generated.unwrap_or_default()));
        metadata.entry("namespace").or_insert_with(|| json!(review.namespace));
    }
    object
}

// What the compiler says about it in a world of its own, made of what rules refer to.
fn beside(object: Object, known: &Known, mesh: &MeshConfig) -> Vec<Diagnostic> {
    let origin = object.origin();
    let mut world = World::new(mesh.clone());
    if known.others.len() <= OTHERS_MAX {
        for other in &known.others {
            world.apply(Change::Upsert(other.clone()));
        }
    }
    world.apply(Change::Upsert(std::sync::Arc::new(object)));
    let mut found = Compiler::default().diagnostics(&world);
    found.retain(|one| one.severity > Severity::Info && one.object.as_ref() == Some(&origin));
    if known.others.len() > OTHERS_MAX {
        // Without the others everything is missing.
        found.retain(|one| one.code.starts_with("SLU010"));
    }
    found
}

fn line(found: &Diagnostic) -> String {
    let field = if found.field.is_empty() { String::new() } else { format!("{}: ", found.field) };
    let fix = found.fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default();
    format!("[{}] {field}{}{fix}", found.code, found.message)
}

// As an API server refuses an object itself, so that kubectl prints it in the same words.
fn refuse(kind: Kind, name: &str, errors: &[Diagnostic]) -> Answer {
    let causes: Vec<Value> = errors
        .iter()
        .take(ERRORS_MAX)
        .map(|one| json!({"reason": "FieldValueInvalid", "message": one.message, "field": one.field}))
        .collect();
    let lines: Vec<String> = errors.iter().take(ERRORS_MAX).map(line).collect();
    let status = json!({
        "status": "Failure", "code": 422, "reason": "Invalid", "message": lines.join("; "),
        "details": {"name": name, "group": kind.group(), "kind": kind.name(), "causes": causes}
    });
    Answer { refused: Some(status), ..Answer::default() }
}
