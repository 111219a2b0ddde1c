//! The tree as it was seen last, and what a new look at it gives.
//!
//! In: the file system, and what the bell knows of writers. Out: a [`Look`]. Blocks while it reads; sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::Change;
use api::parse::FILE_BYTES_MAX;
use words::Diagnostic;

use super::bell::Bell;
use super::files::Files;
use super::scan::{self, Listing, Stamp};
use super::{GRACE, POLL, RESCAN, RESCAN_MAX, WAITING, file_scope, plain, source_finding};
use crate::event::Scope;

/// Time stamps of files are as coarse as a clock tick, and coarser on some file systems: within this time of a change
/// another one may leave the same stamp.
const RACY_NS: i128 = 1_000_000_000;

/// What a look at the tree gives.
pub(crate) struct Look {
    pub(crate) changes: Vec<Change>,
    pub(crate) findings: Vec<(Scope, Vec<Diagnostic>)>,
    /// Why nothing could be read at all.
    pub(crate) unreadable: Option<String>,
    /// When to look again, if no bell rings.
    pub(crate) pause: Duration,
}

/// The tree as it was seen last.
pub(crate) struct Tree {
    root: PathBuf,
    files: Files,
    seen: BTreeMap<String, Seen>,
    /// Files that are gone or empty, since when.
    vacant: BTreeMap<String, Instant>,
    /// Where no bell rings: a changed file's stamp at the last look. Twice the same, and its writer has done.
    glimpsed: BTreeMap<String, Stamp>,
    said_of_source: Vec<Diagnostic>,
    is_first: bool,
}

struct Seen {
    stamp: Stamp,
    /// The stamp is old enough to differ after any later change.
    is_final: bool,
}

/// A file whose content is to be taken.
struct Fresh {
    name: String,
    stamp: Stamp,
    content: Result<Vec<u8>, String>,
}

impl Tree {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            files: Files::default(),
            seen: BTreeMap::new(),
            vacant: BTreeMap::new(),
            glimpsed: BTreeMap::new(),
            said_of_source: Vec::new(),
            is_first: true,
        }
    }

    /// Looks at the tree.
    pub(crate) fn look(&mut self, mut bell: Option<&mut Bell>) -> Look {
        let begun = Instant::now();
        let mut deaf = bell.is_none().then(|| "the system gives no file events".to_owned());
        let mut entering = |path: &std::path::Path| {
            if let Some(Err(error)) = bell.as_mut().map(|bell| bell.watch(path)) {
                deaf = Some(format!("{}: {error}", path.display()));
            }
        };
        let listing = match scan::walk(&self.root, &mut entering) {
            Ok(listing) => listing,
            Err(error) => return self.blind(&error),
        };
        let mut is_waiting = false;
        let mut fresh = self.fresh(&listing, bell.as_deref_mut(), deaf.is_some(), &mut is_waiting);
        if let Some(bell) = &mut bell {
            // Who opened a file for writing before it was read here has been noted by now: its content may be torn.
            bell.drain();
            fresh.retain(|file| !bell.is_open(&self.root.join(&file.name), file.stamp.size) || self.is_first);
            bell.forget_silent();
            is_waiting |= bell.has_open();
        }
        self.take(fresh);
        is_waiting |= self.bury(&listing);
        let difference = self.files.settle();
        let mut findings: Vec<_> =
            difference.findings.into_iter().map(|(name, list)| (file_scope(name), list)).collect();
        findings.extend(self.say_of_source(&listing, deaf.as_deref()));
        self.is_first = false;
        let pause = match deaf {
            _ if is_waiting => WAITING,
            Some(_) => POLL,
            // A large tree is looked at less often: idle, it costs a hundredth of a core at most.
            None => RESCAN.max(begun.elapsed() * 100).min(RESCAN_MAX),
        };
        Look { changes: difference.changes, findings, unreadable: None, pause }
    }

    // The root cannot be read: what was read from it stays.
    fn blind(&mut self, error: &std::io::Error) -> Look {
        let reason = format!("configuration directory {}: {}; the last state stays", self.root.display(), plain(error));
        Look { changes: Vec::new(), findings: Vec::new(), unreadable: Some(reason), pause: WAITING }
    }

    // Reads the files that may have changed and are not being written.
    fn fresh(
        &mut self,
        listing: &Listing,
        mut bell: Option<&mut Bell>,
        is_deaf: bool,
        is_waiting: &mut bool,
    ) -> Vec<Fresh> {
        let mut fresh = Vec::new();
        for (name, stamp) in &listing.files {
            let (name, stamp) = (name.clone(), *stamp);
            if self.seen.get(&name).is_some_and(|seen| seen.is_final && seen.stamp == stamp) {
                self.revive(&name);
                continue;
            }
            let is_open = bell.as_mut().is_some_and(|bell| bell.is_open(&self.root.join(&name), stamp.size));
            if is_open && !self.is_first {
                self.revive(&name);
                continue;
            }
            let is_changed = self.seen.get(&name).is_none_or(|seen| seen.stamp != stamp);
            if is_deaf && is_changed && !self.is_first && self.glimpsed.insert(name.clone(), stamp) != Some(stamp) {
                continue;
            }
            self.glimpsed.remove(&name);
            if stamp.size == 0 && self.files.has_objects(&self.shown(&name)) && !self.is_vacant(&name) {
                *is_waiting = true;
                continue;
            }
            self.vacant.remove(&name);
            let content = read(&self.root.join(&name), stamp.size);
            fresh.push(Fresh { name, stamp, content });
        }
        fresh
    }

    fn take(&mut self, fresh: Vec<Fresh>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i128);
        for Fresh { name, stamp, content } in fresh {
            let shown = self.shown(&name);
            match content {
                Ok(bytes) => self.files.read(&shown, &bytes),
                Err(reason) => self.files.refuse(&shown, reason),
            }
            let is_final = stamp.changed_ns + RACY_NS < now;
            self.seen.insert(name, Seen { stamp, is_final });
        }
    }

    // Deletes what has been gone for long enough; true when something waits for that.
    fn bury(&mut self, listing: &Listing) -> bool {
        let gone = |name: &&String| !listing.files.contains_key(*name) && !listing.may_hide(name);
        let gone: Vec<String> = self.seen.keys().filter(gone).cloned().collect();
        self.vacant.retain(|name, _| self.seen.contains_key(name));
        self.glimpsed.retain(|name, _| listing.files.contains_key(name));
        let mut is_waiting = false;
        for name in gone {
            let shown = self.shown(&name);
            if self.is_vacant(&name) {
                self.files.remove(&shown);
                self.seen.remove(&name);
                self.vacant.remove(&name);
            } else {
                self.files.leave(&shown);
                is_waiting = true;
            }
        }
        is_waiting
    }

    fn is_vacant(&mut self, name: &str) -> bool {
        self.vacant.entry(name.to_owned()).or_insert_with(Instant::now).elapsed() >= GRACE
    }

    fn revive(&mut self, name: &str) {
        if self.vacant.remove(name).is_some() {
            let shown = self.shown(name);
            self.files.stay(&shown);
        }
    }

    fn say_of_source(&mut self, listing: &Listing, deaf: Option<&str>) -> Option<(Scope, Vec<Diagnostic>)> {
        let closed = listing.closed.iter().map(|(name, reason)| format!("{}: {reason}", self.shown(name)));
        let left_out = listing.left_out.iter().map(|message| format!("not read: {message}"));
        let deaf = deaf.map(|reason| format!("changes are found by looking every {} ms: {reason}", POLL.as_millis()));
        let messages: BTreeSet<String> = closed.chain(left_out).chain(deaf).collect();
        let list: Vec<_> = messages.into_iter().map(source_finding).collect();
        if list == self.said_of_source {
            return None;
        }
        self.said_of_source.clone_from(&list);
        Some((Scope::Source, list))
    }

    // As the user would name it.
    fn shown(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }
}

fn read(path: &std::path::Path, size: u64) -> Result<Vec<u8>, String> {
    let too_large = || format!("more than {FILE_BYTES_MAX} bytes");
    if size > FILE_BYTES_MAX as u64 {
        return Err(too_large());
    }
    use std::io::Read;
    let mut bytes = Vec::with_capacity(size as usize + 1);
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > FILE_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}
