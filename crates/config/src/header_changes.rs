//! Changes of headers on the way up and back (Istio VS54, Envoy `HeaderValueOption`).
//!
//! Envoy's order, which Istio's fields are lowered to: removals first, then every value is made from the headers as they
//! then are, then overwriting ones are written, then appending ones are added.

use serde::Serialize;

/// What becomes of the headers of a request and of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderChanges {
    /// On the way up.
    pub request: HeaderEdits,
    /// On the way back.
    pub response: HeaderEdits,
}

/// Changes of one head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderEdits {
    /// Names in lower case; all values of them go.
    pub remove: Vec<String>,
    /// In order.
    pub put: Vec<HeaderPut>,
}

/// A header to write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderPut {
    /// Lower case; never a pseudo header, never `host`.
    pub name: String,
    /// Text with Envoy's command operators, `%REQ(x)%`; see [`crate::template`]. Where it comes out empty nothing is
    /// written.
    pub value: String,
    /// What happens to values that are there.
    pub how: PutHow,
}

/// What happens to values that are there (Envoy `HeaderAppendAction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PutHow {
    /// They stay, one more is added.
    Append,
    /// They stay, nothing is added.
    IfAbsent,
    /// They go.
    Overwrite,
    /// They go; where there is none nothing is written.
    IfPresent,
}

impl HeaderChanges {
    /// True when nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }

    /// Both ways, for check and compile.
    pub fn edits(&self) -> [&HeaderEdits; 2] {
        [&self.request, &self.response]
    }

    /// Boxed, or nothing where nothing is changed: routes without changes stay small.
    pub fn into_option(self) -> Option<Box<Self>> {
        (!self.is_empty()).then(|| Box::new(self))
    }
}

impl HeaderEdits {
    /// True when nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.put.is_empty()
    }
}
