//! A table of objects by namespace and name, with a fingerprint of its whole content kept up to date.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use words::Fingerprint;

/// Namespace and name.
pub(crate) type Key = (Arc<str>, Arc<str>);

/// Values by namespace and name.
#[derive(Debug)]
pub(crate) struct Table<T> {
    rows: BTreeMap<Key, (Fingerprint, Arc<T>)>,
    /// Sum of the rows' fingerprints: the same for the same rows, whatever the order in which they came.
    sum: u128,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), sum: 0 }
    }
}

impl<T> Table<T> {
    /// Sets a row; true when its content is new.
    pub(crate) fn set(&mut self, namespace: &Arc<str>, name: &Arc<str>, print: Fingerprint, value: T) -> bool {
        let key = (namespace.clone(), name.clone());
        let known = self.rows.get(&key).map(|(known, _)| *known);
        if known == Some(print) {
            return false;
        }
        if let Some(known) = known {
            self.sum = self.sum.wrapping_sub(row_print(&key, known));
        }
        self.sum = self.sum.wrapping_add(row_print(&key, print));
        self.rows.insert(key, (print, Arc::new(value)));
        true
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, namespace: &Arc<str>, name: &Arc<str>) -> Option<Arc<T>> {
        let key = (namespace.clone(), name.clone());
        let (print, value) = self.rows.remove(&key)?;
        self.sum = self.sum.wrapping_sub(row_print(&key, print));
        Some(value)
    }

    /// The content of all rows.
    pub(crate) fn print(&self) -> Fingerprint {
        Fingerprint(self.sum)
    }

    /// All values, by namespace and name.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.rows.values().map(|(_, value)| value)
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.rows.keys()
    }

    /// A value.
    pub(crate) fn value(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.find(namespace, name).map(|(value, _)| value)
    }

    /// A value and its content.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<(&Arc<T>, Fingerprint)> {
        self.rows.get(&(namespace.into(), name.into())).map(|(print, value)| (value, *print))
    }

    /// The rows of one namespace, by name.
    pub(crate) fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<T>)> {
        let first: Key = (namespace.into(), "".into());
        let rows = self.rows.range((Bound::Included(first), Bound::Unbounded));
        rows.take_while(move |((other, _), _)| &**other == namespace).map(|(key, (_, value))| (key, value))
    }
}

fn row_print(key: &Key, print: Fingerprint) -> u128 {
    Fingerprint::of(&(key, print)).0
}
