//! What a source says: changes of objects, findings about what it could not read, and how it is.

use std::fmt;

use api::{Change, Kind, ObjectKey};
use words::Diagnostic;

use crate::kubernetes::Seen;

/// One thing that a source says.
#[derive(Clone, Debug)]
pub enum Event {
    /// Objects changed; to be applied as one. Never empty, and never a change that changes nothing.
    Batch(Vec<Change>),
    /// Everything there is to say about `scope` now; replaces what was said of it before. Empty: all is well again.
    Diagnostics {
        /// About what.
        scope: Scope,
        /// The findings.
        list: Vec<Diagnostic>,
    },
    /// What an object of ours has beside its spec: identity, generation, status; `None`: it is gone. Only when asked for.
    Seen(ObjectKey, Option<Seen>),
    /// The batches so far hold a complete world. Said once.
    Synced,
    /// The source is reachable, or not; said when it changes. While it is not, the last state stays valid.
    SourceState {
        /// Changes arrive.
        connected: bool,
        /// Why they do not; empty when they do.
        message: String,
    },
}

/// What a list of findings is about, so that a later list can replace it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The source as a whole.
    Source,
    /// One file, as the user would name it.
    File(String),
    /// Every object of a kind.
    Kind(Kind),
    /// One object.
    Object(ObjectKey),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("the source"),
            Self::File(name) => f.write_str(name),
            Self::Kind(kind) => write!(f, "the kind {kind}"),
            Self::Object(key) => key.fmt(f),
        }
    }
}
