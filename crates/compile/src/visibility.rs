//! Who sees an object: `exportTo` (X20 to X23).
//!
//! In: the list as written, the mesh default, the object's namespace. Out: a set that answers "visible from there?".

use std::collections::BTreeSet;
use std::sync::Arc;

/// The namespaces that see an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Export {
    /// All of them.
    Public,
    /// These; empty for none (`~`).
    To(BTreeSet<Arc<str>>),
}

impl Export {
    /// Reads a list: `*` beats `~` beats names; `.` is the own namespace; an empty list is the mesh default (X22).
    pub(crate) fn parse<S: AsRef<str>>(list: &[S], default: &[String], own: &str) -> Self {
        if !list.is_empty() {
            return Self::read(list.iter().map(AsRef::as_ref), own);
        }
        Self::read(default.iter().map(String::as_str), own)
    }

    fn read<'a>(list: impl Iterator<Item = &'a str>, own: &str) -> Self {
        let mut to = BTreeSet::new();
        let mut none = false;
        for entry in list.map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry {
                "*" => return Self::Public,
                "~" => none = true,
                "." => _ = to.insert(Arc::from(own)),
                name => _ = to.insert(Arc::from(name)),
            }
        }
        if none {
            to.clear();
        }
        Self::To(to)
    }

    /// True when objects and proxies of `namespace` see it.
    pub(crate) fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Public => true,
            Self::To(names) => names.contains(namespace),
        }
    }

    /// True when nobody but the own namespace sees it.
    pub(crate) fn is_private(&self, own: &str) -> bool {
        match self {
            Self::Public => false,
            Self::To(names) => names.iter().all(|name| &**name == own),
        }
    }

    /// True when everybody who sees `other` sees this.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Public, _) => true,
            (Self::To(_), Self::Public) => false,
            (Self::To(ours), Self::To(theirs)) => theirs.is_subset(ours),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(list: &[&str]) -> Export {
        Export::parse(list, &["*".to_owned()], "own")
    }

    #[test]
    fn star_beats_tilde_beats_names() {
        assert_eq!(export(&["a", "*", "~"]), Export::Public);
        assert!(!export(&["a", "~"]).includes("a"));
        assert!(export(&["a", "."]).includes("own"));
        assert!(!export(&["a"]).includes("own"));
    }

    #[test]
    fn empty_list_is_the_mesh_default() {
        assert_eq!(export(&[]), Export::Public);
        assert!(Export::parse::<&str>(&[], &[".".to_owned()], "own").is_private("own"));
    }

    #[test]
    fn own_namespace_by_name_is_private() {
        assert!(export(&["own"]).is_private("own"));
        assert!(export(&["."]).is_private("own"));
        assert!(!export(&[".", "b"]).is_private("own"));
    }
}
