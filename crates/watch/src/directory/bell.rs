//! The bell that rings when something in the tree may have changed, and what it knows of files still being written.
//!
//! In: inotify events. Out: a ring, and the paths that a writer has open. Reads no file. An event is a hint, never the
//! truth: what changed is found by looking.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::scan;

/// Files known to be open for writing, at most; beyond, a file counts as closed.
const OPEN_MAX: usize = scan::FILES_MAX;
/// A writer that has not closed its file but is silent for so long has probably done.
const SILENT: Duration = Duration::from_secs(1);
/// The same for an empty file: `slow-command > file` leaves it empty until the command's first byte.
const SILENT_EMPTY: Duration = Duration::from_secs(10);

/// Watches of one tree.
pub(crate) struct Bell {
    inotify: AsyncFd<Inotify>,
    /// By descriptor, which stays a directory's own when it is renamed.
    paths: HashMap<WatchDescriptor, PathBuf>,
    descriptors: HashMap<PathBuf, WatchDescriptor>,
    /// Files that a writer has open, since when it has been silent.
    open: HashMap<(WatchDescriptor, String), Instant>,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        // Its successor is an unsafe function that asks for what holds here: this descriptor stays the same until it is
        // dropped.
        #[expect(deprecated)]
        let inotify = AsyncFd::with_interest(Inotify::init()?, Interest::READABLE)?;
        Ok(Self { inotify, paths: HashMap::new(), descriptors: HashMap::new(), open: HashMap::new() })
    }

    /// Watches a directory; does nothing for one that is watched.
    pub(crate) fn watch(&mut self, path: &Path) -> io::Result<()> {
        let mask = WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ATTRIB
            | WatchMask::ONLYDIR;
        let descriptor = self.inotify.get_ref().watches().add(path, mask)?;
        if self.descriptors.insert(path.to_owned(), descriptor.clone()).as_ref() != Some(&descriptor) {
            self.forget_path(&descriptor);
            self.paths.insert(descriptor, path.to_owned());
        }
        Ok(())
    }

    // The directory had another path until now, or has none any more.
    fn forget_path(&mut self, descriptor: &WatchDescriptor) {
        if let Some(path) = self.paths.remove(descriptor)
            && self.descriptors.get(&path) == Some(descriptor)
        {
            self.descriptors.remove(&path);
        }
    }

    /// Waits for events and reads them; true when they call for a look.
    pub(crate) async fn rung(&mut self) -> io::Result<bool> {
        self.inotify.readable_mut().await?.clear_ready();
        Ok(self.drain())
    }

    /// Reads the events that are there; true when they call for a look. What a writer did before this call is known
    /// after it: the kernel queues events before the writer goes on.
    pub(crate) fn drain(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        let mut rung = false;
        loop {
            let Ok(events) = self.inotify.get_mut().read_events(&mut buffer) else { return rung };
            let events: Vec<_> = events.map(|event| event.to_owned()).collect();
            if events.is_empty() {
                return rung;
            }
            for event in events {
                rung |= self.note(event.wd, event.mask, event.name.as_deref().and_then(|name| name.to_str()));
            }
        }
    }

    fn note(&mut self, descriptor: WatchDescriptor, mask: EventMask, name: Option<&str>) -> bool {
        if mask.contains(EventMask::IGNORED) {
            self.forget_path(&descriptor);
            return true;
        }
        let (Some(name), Some(directory)) = (name, self.paths.get(&descriptor)) else { return true };
        if mask.contains(EventMask::ISDIR) || !scan::counts(name) {
            // `..data` is how a mounted ConfigMap flips. Other hidden names and `name~` are an editor's own; the name
            // of a link to a directory may be any.
            return name.starts_with("..") || !(name.starts_with('.') || name.ends_with('~'));
        }
        let is_new_file = mask.contains(EventMask::CREATE) && !directory.join(name).is_symlink();
        let file = (descriptor, name.to_owned());
        if mask.contains(EventMask::MODIFY) || is_new_file {
            if self.open.len() < OPEN_MAX {
                self.open.insert(file, Instant::now());
            }
            return false;
        }
        if mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO | EventMask::MOVED_FROM | EventMask::DELETE) {
            self.open.remove(&file);
        }
        true
    }

    /// True while a writer has the file open and is not silent. Of a file it has truncated, nothing is known yet.
    pub(crate) fn is_open(&mut self, path: &Path, size: u64) -> bool {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return false;
        };
        let Some(descriptor) = self.descriptors.get(directory) else { return false };
        let file = (descriptor.clone(), name.to_owned());
        let Some(since) = self.open.get(&file) else { return false };
        let silent = if size == 0 { SILENT_EMPTY } else { SILENT };
        if since.elapsed() < silent {
            return true;
        }
        self.open.remove(&file);
        false
    }

    /// True when a file waits for its writer.
    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Forgets writers that have been silent for longest; their files are gone or were never of interest.
    pub(crate) fn forget_silent(&mut self) {
        self.open.retain(|_, since| since.elapsed() < SILENT_EMPTY);
    }
}
