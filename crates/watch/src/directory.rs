//! A directory of YAML files as a source, followed while people edit it.
//!
//! In: a path. Out: [`Event`]s. It never writes there.
//!
//! Events of the file system only say when to look; what changed is found by looking, and a slow look without any
//! event catches what they miss (network file systems, overflows). How fast a change counts follows from what it could
//! be instead:
//! - a file closed by its writer, or renamed into place, counts at once (after [`QUIET`], so that a checkout is one batch);
//! - a file that a writer still has open is half written: it waits until it is closed, or its writer falls silent;
//! - a file that is gone or empty may be an editor between two steps of saving: it waits for [`GRACE`].

mod bell;
mod files;
mod scan;
mod tree;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use api::Change;
use tokio::sync::mpsc;
use tokio::time::Instant;
use words::Diagnostic;

use self::bell::Bell;
use self::tree::{Look, Tree};
use crate::SourceError;
use crate::event::{Event, Scope};

pub use self::files::{DUPLICATE_OBJECT, UNREADABLE_FILE};
pub use self::scan::{DEPTH_MAX, DIRECTORIES_MAX, FILES_MAX};

/// Changes that follow each other within this time are looked at together.
pub const QUIET: Duration = Duration::from_millis(2);
/// Unless they go on for longer than this.
const BUSY_MAX: Duration = Duration::from_millis(20);
/// How long a file must be gone, or empty, before its objects are deleted.
pub const GRACE: Duration = Duration::from_millis(100);
/// How often a file that waits for its writer is looked at.
const WAITING: Duration = Duration::from_millis(100);
/// How often the tree is looked at without any event.
const RESCAN: Duration = Duration::from_secs(2);
/// The longest pause between two such looks, however long a look takes.
const RESCAN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked at where the file system gives no events.
const POLL: Duration = Duration::from_millis(500);

/// Something in the tree is not read or not followed.
pub const INCOMPLETE_DIRECTORY: &str = "SLU0012";

/// A directory that can be read, and will be followed.
pub struct Directory {
    tree: Tree,
}

impl Directory {
    /// Fails when `path` is not a directory that can be read.
    pub fn open(path: PathBuf) -> Result<Self, SourceError> {
        let refused = |reason: String| SourceError::Directory { path: path.clone(), reason };
        match std::fs::metadata(&path) {
            Err(error) => return Err(refused(plain(&error))),
            Ok(metadata) if !metadata.is_dir() => return Err(refused("not a directory".into())),
            Ok(_) => {}
        }
        std::fs::read_dir(&path).map_err(|error| refused(plain(&error)))?;
        Ok(Self { tree: Tree::new(path) })
    }

    /// Reads and follows until the receiver is dropped.
    pub async fn run(self, events: mpsc::Sender<Event>) {
        // Without events the tree is still followed, by looking often; `Tree` says so.
        let (mut tree, mut bell) = (self.tree, Bell::new().ok());
        let mut voice = Voice { events, connected: None, is_synced: false };
        loop {
            // Reading files blocks; the runtime's other tasks go on meanwhile.
            let looked = tokio::task::spawn_blocking(move || {
                let look = tree.look(bell.as_mut());
                (tree, bell, look)
            });
            let Ok((same_tree, same_bell, look)) = looked.await else { return };
            (tree, bell) = (same_tree, same_bell);
            let pause = look.pause;
            if voice.say(look).await.is_err() || voice.silence(&mut bell, pause).await.is_err() {
                return;
            }
        }
    }
}

/// What files of these names and texts say, read once: the objects, and what there is to say about the files.
pub fn read(files: &[(&str, &str)]) -> (Vec<Change>, Vec<Diagnostic>) {
    let mut all = files::Files::default();
    files.iter().for_each(|(name, text)| all.read(name, text.as_bytes()));
    let files::Difference { changes, findings } = all.settle();
    (changes, findings.into_iter().flat_map(|(_, list)| list).collect())
}

/// The receiver is gone.
struct Closed;

struct Voice {
    events: mpsc::Sender<Event>,
    connected: Option<(bool, String)>,
    is_synced: bool,
}

impl Voice {
    async fn say(&mut self, look: Look) -> Result<(), Closed> {
        let state = match look.unreadable {
            None => (true, String::new()),
            Some(reason) => (false, reason),
        };
        if self.connected.as_ref() != Some(&state) {
            self.connected = Some(state.clone());
            self.send(Event::SourceState { connected: state.0, message: state.1.clone() }).await?;
        }
        if !look.changes.is_empty() {
            self.send(Event::Batch(look.changes)).await?;
        }
        for (scope, list) in look.findings {
            self.send(Event::Diagnostics { scope, list }).await?;
        }
        if !self.is_synced && state.0 {
            self.is_synced = true;
            self.send(Event::Synced).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }

    // Waits until it is time to look again.
    async fn silence(&self, bell: &mut Option<Bell>, pause: Duration) -> Result<(), Closed> {
        let deadline = Instant::now() + pause;
        loop {
            tokio::select! {
                () = self.events.closed() => return Err(Closed),
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                rung = rung(bell) => match rung {
                    Ok(true) => break,
                    // A file is being written: its end rings, and if not, the writer's silence is looked for.
                    Ok(false) if pause > WAITING => return Box::pin(self.silence(bell, WAITING)).await,
                    Ok(false) => {}
                    Err(_) => *bell = None,
                },
            }
        }
        let latest = Instant::now() + BUSY_MAX;
        while Instant::now() < latest && tokio::time::timeout(QUIET, rung(bell)).await.is_ok() {}
        Ok(())
    }
}

async fn rung(bell: &mut Option<Bell>) -> std::io::Result<bool> {
    match bell {
        Some(bell) => bell.rung().await,
        None => std::future::pending().await,
    }
}

fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such directory".into(),
        _ => error.to_string(),
    }
}

fn source_finding(message: String) -> words::Diagnostic {
    words::Diagnostic {
        code: INCOMPLETE_DIRECTORY.into(),
        severity: words::Severity::Error,
        object: None,
        field: String::new(),
        message,
        fix: None,
        location: None,
    }
}

fn file_scope(name: String) -> Scope {
    Scope::File(name)
}
