//! Who sees an object: `exportTo` (X20 to X22).

use std::collections::BTreeSet;

/// The namespaces that see an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Export {
    All,
    To(BTreeSet<String>),
}

impl Export {
    /// Reads a list: `*` beats `~` beats names; `.` is the own namespace; an empty list is everybody.
    pub(crate) fn of<'a>(list: impl IntoIterator<Item = &'a str>, own: &str) -> Self {
        let list: Vec<&str> = list.into_iter().map(str::trim).filter(|entry| !entry.is_empty()).collect();
        if list.is_empty() || list.contains(&"*") {
            return Self::All;
        }
        if list.contains(&"~") {
            return Self::To(BTreeSet::new());
        }
        Self::To(list.into_iter().map(|entry| if entry == "." { own } else { entry }.to_owned()).collect())
    }

    pub(crate) fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::To(names) => names.contains(namespace),
        }
    }

    /// True when some namespace sees both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::All, Self::To(names)) | (Self::To(names), Self::All) => !names.is_empty(),
            (Self::To(a), Self::To(b)) => !a.is_disjoint(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Export;

    #[test]
    fn star_beats_tilde_beats_names() {
        assert_eq!(Export::of(["a", "*"], "own"), Export::All);
        assert!(!Export::of(["a", "~"], "own").includes("a"));
        assert!(Export::of(["."], "own").includes("own"));
        assert!(Export::of([], "own").meets(&Export::of(["."], "own")));
        assert!(!Export::of(["a"], "own").meets(&Export::of(["."], "own")));
    }
}
