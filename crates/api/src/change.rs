//! A change of the world: what both sources, Kubernetes and a directory, yield.

use std::sync::Arc;

use crate::{Object, ObjectKey};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object is new, or is now this.
    Upsert(Arc<Object>),
    /// The object is gone.
    Delete(ObjectKey),
}

impl Change {
    /// Which object changed.
    pub fn key(&self) -> ObjectKey {
        match self {
            Change::Upsert(object) => object.key(),
            Change::Delete(key) => key.clone(),
        }
    }
}
