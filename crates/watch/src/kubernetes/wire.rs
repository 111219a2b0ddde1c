//! The API server's texts: pages of a list, lines of a watch, and the objects in them.
//!
//! In: bytes. Out: one [`Item`] per object, good or not, so that an object that cannot be read never hides another.
//! `managedFields` (often half of an object) are skipped while reading; the status of our kinds is taken out.

use std::fmt;
use std::panic::AssertUnwindSafe;

use api::{Acting, Kind, Object, ParseError};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use words::{Diagnostic, Severity};

use super::status::Status;

/// One object as the API server has it.
pub(crate) struct Item {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Empty when the server sent none.
    pub(crate) resource_version: String,
    /// Empty when the server sent none.
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// Of our kinds.
    pub(crate) status: Status,
    pub(crate) object: Result<Object, ParseError>,
    /// Findings that do not refuse it.
    pub(crate) notes: Vec<Diagnostic>,
}

/// One page of a list.
#[derive(Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    pub(crate) metadata: PageMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PageMeta {
    pub(crate) resource_version: String,
    /// Names the next page; empty on the last.
    #[serde(rename = "continue")]
    pub(crate) next: String,
}

impl Page<'_> {
    /// Its objects.
    pub(crate) fn items(&self, kind: Kind) -> impl Iterator<Item = Item> {
        self.items.iter().flatten().map(move |raw| item(kind, raw.get()))
    }
}

/// One line of a watch.
pub(crate) enum Line {
    /// New or changed.
    Upsert(Item),
    /// Gone.
    Delete(Item),
    /// Nothing changed up to this version.
    Bookmark {
        resource_version: String,
        /// Everything that existed when a streaming list began has been sent.
        is_end_of_list: bool,
    },
    /// The server ends the watch.
    Error { code: u16, reason: String, message: String },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    event: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BookmarkMeta {
    resource_version: String,
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    code: u16,
    reason: String,
    message: String,
}

/// Reads a line of a watch.
pub(crate) fn line(kind: Kind, text: &[u8]) -> Result<Line, serde_json::Error> {
    let Envelope { event, object } = serde_json::from_slice(text)?;
    Ok(match event.as_str() {
        "ADDED" | "MODIFIED" => Line::Upsert(item(kind, object.get())),
        "DELETED" => Line::Delete(item(kind, object.get())),
        "BOOKMARK" => {
            let Bookmark { metadata } = serde_json::from_str(object.get())?;
            // Kubernetes, "Streaming lists": the bookmark with this annotation ends the list.
            let is_end_of_list = metadata.annotations.get("k8s.io/initial-events-end").is_some_and(|end| end == "true");
            Line::Bookmark { resource_version: metadata.resource_version, is_end_of_list }
        }
        _ => {
            let Refusal { code, reason, message } = serde_json::from_str(object.get())?;
            Line::Error { code, reason, message }
        }
    })
}

/// Reads an object.
pub(crate) fn item(kind: Kind, text: &str) -> Item {
    let refused = |message: String| ParseError { location: None, object: None, field: String::new(), message };
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut value = match Trimmed.deserialize(&mut reader) {
        Ok(value) => value,
        Err(error) => {
            let object = Err(refused(error.to_string()));
            return Item {
                namespace: "".into(),
                name: "".into(),
                resource_version: "".into(),
                uid: "".into(),
                generation: 0,
                status: Status::default(),
                object,
                notes: vec![],
            };
        }
    };
    let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default().to_owned();
    let (namespace, name, resource_version) = (text("namespace"), text("name"), text("resourceVersion"));
    let (uid, generation) = (text("uid"), value["metadata"]["generation"].as_i64().unwrap_or_default());
    // What objects are is their spec; what is said about them goes another way.
    let status = match kind.is_custom() {
        true => value.as_object_mut().and_then(|fields| fields.remove("status")),
        false => None,
    };
    let status = status.map_or_else(Status::default, |status| Status::parse(&status));
    // A fault of ours in reading one object costs that object, not the source.
    let object = std::panic::catch_unwind(AssertUnwindSafe(|| judge(kind, value)))
        .unwrap_or_else(|_| Err(refused("reading it failed; this is a fault of the reader".into())));
    let (object, notes) = match object {
        Ok((object, notes)) => (Ok(object), notes),
        Err(error) => (Err(error), Vec::new()),
    };
    Item { namespace, name, resource_version, uid, generation, status, object, notes }
}

// The same verdict as for a file: an error refuses the object, unless it restricts; the rest goes with it.
fn judge(kind: Kind, value: Value) -> Result<(Object, Vec<Diagnostic>), ParseError> {
    let written = kind.restricts().then(|| value.clone());
    let object = match Object::from_parts(kind, value) {
        Ok(object) => object,
        Err(error) => {
            let acting = written.and_then(|written| Acting::instead_of(kind, &written));
            let Some(acting) = acting else { return Err(error) };
            let found = acting.explain(vec![error.diagnostic()]);
            return Ok((acting.object, found));
        }
    };
    let found = api::validate::object(&object);
    let (mut errors, notes): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.severity == Severity::Error);
    if errors.is_empty() {
        return Ok((object, notes));
    }
    match Acting::read(&object) {
        Some(acting) => {
            errors = acting.explain(errors);
            errors.extend(notes);
            Ok((object, errors))
        }
        None => Err(errors.swap_remove(0).into()),
    }
}

/// Reads an object without the parts that nothing here looks at.
struct Trimmed;

impl<'de> DeserializeSeed<'de> for Trimmed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(Fields { skipped: "", inner: Some("metadata") })
    }
}

struct Fields {
    skipped: &'static str,
    inner: Option<&'static str>,
}

impl<'de> Visitor<'de> for Fields {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == self.skipped {
                entries.next_value::<IgnoredAny>()?;
            } else if Some(key.as_str()) == self.inner {
                let value = entries.next_value_seed(Metadata)?;
                fields.insert(key, value);
            } else {
                let value = entries.next_value()?;
                fields.insert(key, value);
            }
        }
        Ok(Value::Object(fields))
    }
}

struct Metadata;

impl<'de> DeserializeSeed<'de> for Metadata {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(Fields { skipped: "managedFields", inner: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_fields_are_skipped_and_the_status_of_our_kinds_is_apart() {
        let text =
            r#"{"metadata": {"name": "a", "managedFields": [1]}, "spec": {}, "status": {"observedGeneration": 1}}"#;
        let read = Trimmed.deserialize(&mut serde_json::Deserializer::from_str(text)).unwrap();
        assert_eq!(read["metadata"].to_string(), r#"{"name":"a"}"#);
        assert_eq!(item(Kind::Gateway, text).status.observed_generation, 1);
        assert_eq!(item(Kind::Pod, text).status, Status::default());
    }

    #[test]
    fn what_is_no_object_is_an_item_with_an_error() {
        for text in ["5", r#"{"metadata": 5}"#, "{}", "[1]"] {
            assert!(item(Kind::Gateway, text).object.is_err(), "{text}");
        }
    }

    #[test]
    fn the_bookmark_that_ends_a_list_is_told_from_others() {
        let end = br#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        let other = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"8"}}}"#;
        let read = |text| match line(Kind::Pod, text).unwrap() {
            Line::Bookmark { resource_version, is_end_of_list } => (resource_version, is_end_of_list),
            _ => unreachable!("a bookmark"),
        };
        assert_eq!(read(end), ("7".into(), true));
        assert_eq!(read(other), ("8".into(), false));
    }
}
