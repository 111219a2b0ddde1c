//! What the files say: each file's last good objects, and the one set of objects that they make together.
//!
//! In: the texts of files as they come and go. Out: changes of the whole set, and each file's findings. Pure: reads no
//! file.
//!
//! A file that is no YAML any more keeps its last good objects, all of them: its documents cannot be told apart. An
//! object that is refused, in a file that can be read, keeps its own last good version, unless it restricts
//! ([`api::Acting`]). The same object in two files counts from the first by name; so renaming a file, or moving an object,
//! changes nothing.

use std::cmp::Reverse;
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::{Change, Object, ObjectKey, ParseError, Parsed};
use words::{Diagnostic, Fingerprint, Location};

/// The same object is written twice; the second is ignored.
pub const DUPLICATE_OBJECT: &str = "SLU0010";
/// A file could not be read.
pub const UNREADABLE_FILE: &str = "SLU0011";

/// All files' last good objects.
#[derive(Default)]
pub(crate) struct Files {
    by_name: BTreeMap<String, File>,
    published: BTreeMap<ObjectKey, Arc<Object>>,
    said: BTreeMap<String, Vec<Diagnostic>>,
    /// Counts calls of `settle`.
    settled: u64,
}

#[derive(Default)]
struct File {
    content: Option<Fingerprint>,
    objects: Vec<Placed>,
    findings: Vec<Diagnostic>,
    /// It is no longer there, but may come back at once: it yields to every other, the more the longer it has been gone.
    left_at: Option<Reverse<u64>>,
}

#[derive(Clone)]
struct Placed {
    object: Arc<Object>,
    location: Location,
}

/// The difference to the last time.
#[derive(Default)]
pub(crate) struct Difference {
    pub(crate) changes: Vec<Change>,
    /// Each file whose findings changed, with all of them.
    pub(crate) findings: Vec<(String, Vec<Diagnostic>)>,
}

impl Files {
    /// True when objects depend on this file.
    pub(crate) fn has_objects(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|file| !file.objects.is_empty())
    }

    /// The file has this content now.
    pub(crate) fn read(&mut self, name: &str, bytes: &[u8]) {
        let file = self.by_name.entry(name.to_owned()).or_default();
        file.left_at = None;
        let content = Fingerprint::of_bytes(bytes);
        if file.content.replace(content) == Some(content) {
            return;
        }
        match std::str::from_utf8(bytes) {
            // A fault of ours in reading one file costs that file, not the source.
            Ok(text) => match std::panic::catch_unwind(|| api::parse_yaml(text.trim_start_matches('\u{feff}'), name)) {
                Ok(documents) => file.take(documents),
                Err(_) => {
                    let location = Location { file: name.to_owned(), line: 1, column: 0 };
                    let message = "reading it failed; this is a fault of the reader".to_owned();
                    file.findings = vec![unreadable(message, location)];
                }
            },
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
                let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() as u64 + 1;
                let location = Location { file: name.to_owned(), line, column };
                file.findings = vec![unreadable("not UTF-8 text".into(), location)];
            }
        }
    }

    /// The file is there but cannot be read; what it said last stays.
    pub(crate) fn refuse(&mut self, name: &str, reason: String) {
        let file = self.by_name.entry(name.to_owned()).or_default();
        file.left_at = None;
        file.content = None;
        file.findings = vec![unreadable(reason, Location { file: name.to_owned(), line: 1, column: 0 })];
    }

    /// The file is not there, maybe only for a moment.
    pub(crate) fn leave(&mut self, name: &str) {
        if let Some(file) = self.by_name.get_mut(name) {
            file.left_at.get_or_insert(Reverse(self.settled));
        }
    }

    /// The file is there after all, as it was.
    pub(crate) fn stay(&mut self, name: &str) {
        if let Some(file) = self.by_name.get_mut(name) {
            file.left_at = None;
        }
    }

    /// The file is gone.
    pub(crate) fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// What changed since the last call.
    pub(crate) fn settle(&mut self) -> Difference {
        let mut objects: BTreeMap<ObjectKey, Placed> = BTreeMap::new();
        let mut findings: BTreeMap<String, Vec<Diagnostic>> = BTreeMap::new();
        self.settled += 1;
        let mut files: Vec<_> = self.by_name.iter().collect();
        // Stable: by name among those that are there, which sort first.
        files.sort_by_key(|(_, file)| file.left_at);
        for (name, file) in files {
            let mut said = file.findings.clone();
            for placed in &file.objects {
                match objects.entry(placed.object.key()) {
                    Slot::Vacant(slot) => _ = slot.insert(placed.clone()),
                    Slot::Occupied(first) if file.left_at.is_none() => {
                        said.push(duplicate(placed, &first.get().location))
                    }
                    Slot::Occupied(_) => {}
                }
            }
            if !said.is_empty() {
                findings.insert(name.clone(), said);
            }
        }
        Difference { changes: self.publish(objects), findings: self.say(findings) }
    }

    fn publish(&mut self, objects: BTreeMap<ObjectKey, Placed>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.published.retain(|key, _| {
            let stays = objects.contains_key(key);
            if !stays {
                changes.push(Change::Delete(key.clone()));
            }
            stays
        });
        for (key, Placed { object, location: _ }) in objects {
            let is_news = self.published.get(&key).is_none_or(|old| !Arc::ptr_eq(old, &object) && **old != *object);
            if is_news {
                changes.push(Change::Upsert(object.clone()));
                self.published.insert(key, object);
            }
        }
        changes
    }

    fn say(&mut self, findings: BTreeMap<String, Vec<Diagnostic>>) -> Vec<(String, Vec<Diagnostic>)> {
        let names: BTreeSet<&String> = self.said.keys().chain(findings.keys()).collect();
        let differs = |name: &&&String| self.said.get(**name) != findings.get(**name);
        let news = names.iter().filter(differs);
        let news = news.map(|name| ((*name).clone(), findings.get(*name).cloned().unwrap_or_default())).collect();
        self.said = findings;
        news
    }
}

impl File {
    fn take(&mut self, documents: Vec<Result<Parsed, ParseError>>) {
        let old = std::mem::take(&mut self.objects);
        let known: HashMap<ObjectKey, Arc<Object>> =
            old.iter().map(|placed| (placed.object.key(), placed.object.clone())).collect();
        let (mut refused, mut is_torn) = (Vec::new(), false);
        self.findings.clear();
        for document in documents {
            match document {
                Ok(parsed) => {
                    self.findings.extend(parsed.diagnostics);
                    let Some(object) = parsed.object else { continue };
                    // The old value when nothing changed: the new one need not live beside it.
                    let object = match known.get(&object.key()) {
                        Some(same) if **same == object => same.clone(),
                        _ => Arc::new(object),
                    };
                    self.objects.push(Placed { object, location: parsed.location });
                }
                Err(error) => {
                    self.findings.push(error.diagnostic());
                    is_torn |= error.object.is_none();
                    refused.extend(error.object);
                }
            }
        }
        if is_torn && !old.is_empty() {
            self.objects = old;
            return;
        }
        let renewed: BTreeSet<ObjectKey> = self.objects.iter().map(|placed| placed.object.key()).collect();
        for placed in old {
            let origin = placed.object.origin();
            let is_same = |refused: &words::Origin| {
                let namespace = if refused.namespace.is_empty() { "default" } else { &refused.namespace };
                (refused.kind == origin.kind && refused.name == origin.name)
                    && (*origin.namespace == *refused.namespace || *origin.namespace == *namespace)
            };
            if refused.iter().any(is_same) && !renewed.contains(&placed.object.key()) {
                self.objects.push(placed);
            }
        }
    }
}

fn duplicate(placed: &Placed, first: &Location) -> Diagnostic {
    let message = format!("the same object is in {first} already, which counts; this one is ignored");
    Diagnostic::error(DUPLICATE_OBJECT, placed.object.origin(), "", message)
        .with_fix("delete one of them")
        .at(placed.location.clone())
}

fn unreadable(message: String, location: Location) -> Diagnostic {
    Diagnostic {
        code: UNREADABLE_FILE.into(),
        severity: words::Severity::Error,
        object: None,
        field: String::new(),
        message,
        fix: None,
        location: Some(location),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, host: &str) -> String {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec: {{host: {host}}}\n"
        )
    }

    fn told(files: &mut Files) -> Vec<String> {
        let difference = files.settle();
        let change = |change: &Change| match change {
            Change::Upsert(object) => match &**object {
                Object::DestinationRule(rule) => format!("+{} {}", object.key().name, rule.spec.host),
                _ => unreachable!("a DestinationRule"),
            },
            Change::Delete(key) => format!("-{}", key.name),
        };
        let said = difference.findings.iter().map(|(name, list)| format!("!{name} {}", list.len()));
        difference.changes.iter().map(change).chain(said).collect()
    }

    #[test]
    fn of_files_that_left_the_latest_counts() {
        let mut files = Files::default();
        files.read("a", rule("x", "old").as_bytes());
        assert_eq!(told(&mut files), ["+x old"]);
        files.leave("a");
        files.read("b", rule("x", "new").as_bytes());
        assert_eq!(told(&mut files), ["+x new"]);
        files.leave("b");
        assert_eq!(told(&mut files), Vec::<String>::new());
        files.remove("a");
        files.remove("b");
        assert_eq!(told(&mut files), ["-x"]);
    }

    #[test]
    fn a_torn_file_read_for_the_first_time_gives_what_can_be_read() {
        let mut files = Files::default();
        files.read("a", (rule("x", "one") + "---\nkind: [\n").as_bytes());
        assert_eq!(told(&mut files), ["+x one", "!a 1"]);
    }

    #[test]
    fn the_same_object_twice_in_one_file_counts_once() {
        let mut files = Files::default();
        files.read("a", (rule("x", "one") + &rule("x", "two")).as_bytes());
        assert_eq!(told(&mut files), ["+x one", "!a 1"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_keeps_its_objects() {
        let mut files = Files::default();
        files.read("a", rule("x", "one").as_bytes());
        told(&mut files);
        files.refuse("a", "permission denied".into());
        assert_eq!(told(&mut files), ["!a 1"]);
        files.read("a", rule("x", "one").as_bytes());
        assert_eq!(told(&mut files), ["!a 0"]);
    }
}
