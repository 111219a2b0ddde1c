//! What files a directory holds now.
//!
//! In: the root. Out: the files that count, each with a stamp that differs when its content may. Reads no content and
//! remembers nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most files that are read, by name; the rest is left out with a finding.
pub const FILES_MAX: usize = 10_000;
/// Most directories that are entered.
pub const DIRECTORIES_MAX: usize = 1_000;
/// Deepest nesting of directories, the root being 0.
pub const DEPTH_MAX: usize = 16;

/// Differs when a file's content may differ. The inode is in it for files renamed over, the change time for files
/// whose modification time was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified_ns: i128,
    /// Nanoseconds since 1970.
    pub(crate) changed_ns: i128,
}

/// The files that count, by their name relative to the root.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: BTreeMap<String, Stamp>,
    /// Directories that could not be read, with the reason: nothing is known of the files below.
    pub(crate) closed: Vec<(String, String)>,
    /// What was left out for a bound.
    pub(crate) left_out: Vec<String>,
    entered: BTreeSet<(u64, u64)>,
}

impl Listing {
    /// True when the file may exist although it is not listed.
    pub(crate) fn may_hide(&self, name: &str) -> bool {
        self.closed.iter().any(|(directory, _)| {
            name.strip_prefix(directory.as_str()).is_some_and(|rest| directory.is_empty() || rest.starts_with('/'))
        })
    }
}

/// Lists the tree below `root`. `entering` is called with each directory before it is read, so that a watch added there
/// misses nothing.
pub(crate) fn walk(root: &Path, entering: &mut dyn FnMut(&Path)) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let metadata = std::fs::metadata(root)?;
    if !metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
    }
    listing.entered.insert((metadata.dev(), metadata.ino()));
    entering(root);
    let entries = names(root)?;
    enter(root, "", entries, 0, &mut listing, entering);
    Ok(listing)
}

/// True for a name that can be a configuration file's.
pub(crate) fn counts(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(stem, extension)| (stem.is_empty(), extension));
    matches!(extension, Some((false, "yaml" | "yml" | "json"))) && !name.starts_with('.')
}

// Sorted, so that the bounds cut the same files on every run.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        // A name that is not UTF-8 could not be named in a message.
        if let Ok(name) = entry?.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn enter(
    path: &Path,
    prefix: &str,
    entries: Vec<String>,
    depth: usize,
    listing: &mut Listing,
    entering: &mut dyn FnMut(&Path),
) {
    for entry in entries {
        let (inner, name) = (path.join(&entry), join(prefix, &entry));
        // Follows symbolic links: a mounted ConfigMap is nothing but. One that leads nowhere is no file.
        let Ok(metadata) = std::fs::metadata(&inner) else { continue };
        if metadata.is_dir() {
            below(inner, name, &metadata, depth + 1, listing, entering);
        } else if metadata.is_file() && counts(&entry) {
            if listing.files.len() == FILES_MAX {
                listing.left_out.push(format!("{name} and what follows: more than {FILES_MAX} files"));
                return;
            }
            listing.files.insert(name, stamp(&metadata));
        }
    }
}

fn below(
    path: PathBuf,
    name: String,
    metadata: &std::fs::Metadata,
    depth: usize,
    listing: &mut Listing,
    entering: &mut dyn FnMut(&Path),
) {
    if listing.files.len() == FILES_MAX {
        return;
    }
    if depth > DEPTH_MAX {
        return listing.left_out.push(format!("{name}: deeper than {DEPTH_MAX} directories"));
    }
    if listing.entered.len() == DIRECTORIES_MAX {
        return listing.left_out.push(format!("{name}: more than {DIRECTORIES_MAX} directories"));
    }
    // A directory reached twice, through links, is read once: else a loop of links would not end.
    if !listing.entered.insert((metadata.dev(), metadata.ino())) {
        return;
    }
    entering(&path);
    match names(&path) {
        Ok(entries) => enter(&path, &name, entries, depth, listing, entering),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => listing.closed.push((name, error.to_string())),
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}

fn stamp(metadata: &std::fs::Metadata) -> Stamp {
    let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(root: &Path) -> Vec<String> {
        walk(root, &mut |_| {}).unwrap().files.into_keys().collect()
    }

    #[test]
    fn only_visible_yaml_and_json_count() {
        assert!(counts("a.yaml") && counts("a.b.yml") && counts("a.json"));
        assert!(!counts(".a.yaml") && !counts(".yaml") && !counts("a.yaml~") && !counts("a.txt") && !counts("yaml"));
    }

    #[test]
    fn directories_are_entered_except_hidden_ones_and_loops() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        std::fs::create_dir_all(path.join(".git")).unwrap();
        for name in ["a/b/x.yaml", ".git/x.yaml", "z.yml", "notes.txt"] {
            std::fs::write(path.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(path, path.join("a/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", path.join("dangling.yaml")).unwrap();
        assert_eq!(listed(path), ["a/b/x.yaml", "z.yml"]);
    }

    #[test]
    fn a_file_in_the_place_of_the_root_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("f"), "").unwrap();
        assert_eq!(walk(&root.path().join("f"), &mut |_| {}).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(walk(&root.path().join("g"), &mut |_| {}).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_cannot_be_read_hides_what_is_below() {
        let listing = Listing { closed: vec![("a/b".into(), "denied".into())], ..Listing::default() };
        assert!(listing.may_hide("a/b/x.yaml"));
        assert!(!listing.may_hide("a/bc.yaml"));
    }
}
