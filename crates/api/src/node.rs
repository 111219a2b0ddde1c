//! A YAML document as a tree that still knows where its parts stand.
//!
//! In: one document's text. Out: the tree, its value as JSON, and the place of any field by its path. Plain scalars
//! mean what they mean to `kubectl`: `yes` and `on` are booleans, `012` is ten, unless quoted.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Spanned, UserMessageFormatter};

use crate::schema;

/// Most nodes (keys, values, lists, mappings) of one document: more than a file of the largest size can hold.
pub const NODES_MAX: usize = 8 << 20;
/// Most nodes that aliases (`*name`) may stand for in one document; a bomb of aliases ends here.
pub const ALIASED_NODES_MAX: usize = 100_000;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 64;

/// Line and column from 1, within the document.
pub(crate) type Place = (u64, u64);

/// A node and where it stands.
#[derive(Debug)]
pub(crate) struct Document(Spanned<Node>);

#[derive(Debug)]
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Document {
    /// Reads one document; the error is a sentence and its place.
    pub(crate) fn read(text: &str) -> Result<Self, (String, Option<Place>)> {
        let options = serde_saphyr::options! {
            legacy_octal_numbers: true,
            with_snippet: false,
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIASED_NODES_MAX },
            budget: serde_saphyr::budget! {
                max_nodes: NODES_MAX,
                max_events: NODES_MAX,
                max_depth: DEPTH_MAX,
            },
        };
        serde_saphyr::from_str_with_options(text, options).map(Self).map_err(|error| {
            let place = error.location().map(|place| (place.line(), place.column()));
            let sentence = error.render_with_formatter(&UserMessageFormatter);
            (sentence.lines().next().unwrap_or_default().trim().to_owned(), place)
        })
    }

    /// Where the document begins.
    pub(crate) fn start(&self) -> Place {
        (self.0.referenced.line(), self.0.referenced.column())
    }

    /// Its value, without places.
    pub(crate) fn value(&self) -> Value {
        self.0.value.value()
    }

    /// The place of a field such as `spec.http[0].route`, or of the nearest one above it that is there.
    ///
    /// Keys may hold dots (`app.kubernetes.io/name`) and may be written as proto names: the longest key that fits wins.
    pub(crate) fn place(&self, path: &str) -> Place {
        let (mut node, mut rest, mut place) = (&self.0.value, path, self.start());
        loop {
            rest = rest.trim_start_matches('.');
            let step = match node {
                Node::Mapping(entries) => {
                    let fits = |(key, value)| Some((key, value, after_key(rest, key)?));
                    let found = entries.iter().map(|(key, value)| (key, value)).filter_map(fits);
                    found.min_by_key(|(.., tail)| tail.len()).map(|(key, value, tail)| (key.referenced, value, tail))
                }
                Node::List(items) => after_index(rest)
                    .and_then(|(index, tail)| items.get(index).map(|item| (item.referenced, item, tail))),
                Node::Scalar(_) => None,
            };
            let Some((at, inner, tail)) = step else { return place };
            (node, rest, place) = (&inner.value, tail, (at.line(), at.column()));
        }
    }
}

// What follows the key in the path; `None` when the path does not begin with it.
fn after_key<'a>(path: &'a str, key: &Spanned<String>) -> Option<&'a str> {
    let whole = |name: &str| {
        let tail = path.strip_prefix(name)?;
        (tail.is_empty() || tail.starts_with(['.', '['])).then_some(tail)
    };
    whole(&key.value).or_else(|| whole(&schema::camel(&key.value)))
}

fn after_index(path: &str) -> Option<(usize, &str)> {
    let (index, tail) = path.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, tail))
}

impl Node {
    fn value(&self) -> Value {
        match self {
            Node::Scalar(value) => value.clone(),
            Node::List(items) => Value::Array(items.iter().map(|item| item.value.value()).collect()),
            Node::Mapping(entries) => {
                let fields = entries.iter().map(|(key, value)| (key.value.clone(), value.value.value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        // JSON has no such number, so neither has a Kubernetes object.
        let number = Number::from_f64(value).ok_or_else(|| E::custom(format!("{value} is not a finite number")))?;
        Ok(Node::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Node::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_path() {
        let text = "metadata:\n  labels:\n    app.kubernetes.io/name: x\n    app: y\nspec:\n  http:\n  - route: []\n    \
                    mirror_percent: 1\n";
        let document = Document::read(text).unwrap();
        assert_eq!(document.place("metadata.labels.app.kubernetes.io/name"), (3, 5));
        assert_eq!(document.place("metadata.labels.app"), (4, 5));
        assert_eq!(document.place("spec.http[0].route"), (7, 5));
        assert_eq!(document.place("spec.http[0].mirrorPercent"), (8, 5), "by its proto name");
        assert_eq!(document.place("spec.http[0].route[3].weight"), (7, 5), "the nearest one above");
        assert_eq!(document.place("nothing"), (1, 1));
    }

    #[test]
    fn scalars_mean_what_they_mean_to_kubectl() {
        let value = |text: &str| Document::read(text).map(|document| document.value());
        assert_eq!(
            value("[yes, On, 'yes', ~, 012, 0x10, 1.0, 1.2.3, 2001-01-01]").unwrap(),
            serde_json::json!([true, true, "yes", null, 10, 16, 1.0, "1.2.3", "2001-01-01"])
        );
        assert!(value(".nan").is_err());
    }
}
