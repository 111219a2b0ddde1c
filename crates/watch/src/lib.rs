//! Where changes come from: a Kubernetes API server, or a directory of YAML files.
//!
//! In: a [`Source`]. Out: one stream of [`Event`]s, the same from both, read from a bounded channel; dropping the
//! receiver ends every task of the source. A source never sends half a world: [`Event::Synced`] follows the first
//! complete one. It never stops: what is broken is said (diagnostics, source state) and the last good state stays.

pub mod directory;
pub mod event;
pub mod kubernetes;

use std::path::PathBuf;

use tokio::sync::mpsc;

pub use event::{Event, Scope};

/// Events that wait for their reader, at most; a source pauses when there are more.
pub const EVENTS_WAITING_MAX: usize = 256;

/// Where changes come from.
pub enum Source {
    /// A directory of YAML files, read recursively and followed.
    Directory(PathBuf),
    /// A Kubernetes API server.
    Kubernetes(kube::Client, kubernetes::Options),
}

/// Why a source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory is missing, is no directory, or may not be read.
    #[error("configuration directory {}: {reason}", path.display())]
    Directory {
        /// As the user named it.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}

/// Starts a source on the current tokio runtime.
pub fn spawn(source: Source) -> Result<mpsc::Receiver<Event>, SourceError> {
    let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    match source {
        Source::Directory(path) => {
            let directory = directory::Directory::open(path)?;
            tokio::spawn(directory.run(sender));
        }
        Source::Kubernetes(client, options) => {
            tokio::spawn(kubernetes::run(client, options, sender));
        }
    }
    Ok(receiver)
}
