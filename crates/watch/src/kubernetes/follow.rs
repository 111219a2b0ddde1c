//! Follows the objects of one kind, everywhere or in one namespace: list, watch, and what to do when either fails.
//!
//! In: the API server's answers. Out: batches and findings, sent on; the kind's health to the one who counts kinds.
//! The state that the replica holds is only ever replaced by a complete newer one.

use std::sync::Arc;
use std::time::Duration;

use futures::AsyncBufRead;
use kube::Client;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use words::Diagnostic;

use super::Part;
use super::backoff::{self, Backoff};
use super::failure::{self, Failure};
use super::health::Health;
use super::replica::{Difference, Replica};
use super::request::{Lines, Place, Start};
use super::wire::{self, Line};
use crate::event::{Event, Scope};

/// How long a watch lasts, at least; up to a fifth more, so that they do not all end together.
const LASTING: Duration = Duration::from_secs(300);
/// Bookmarks come every minute: a watch that says nothing for longer than this is dead.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// The same within a list.
const LIST_SILENCE_MAX: Duration = Duration::from_secs(30);
/// A watch that ended sooner than this counts as failed.
const SHORT: Duration = Duration::from_secs(1);
/// How often a kind that is missing or forbidden is asked for again.
pub const RETRY: Duration = Duration::from_secs(5);

/// The receiver is gone.
pub(crate) struct Closed;

/// One kind.
pub(crate) struct Follower {
    client: Client,
    part: Part,
    /// Which of the kind's versions is asked for.
    version: usize,
    replica: Replica,
    /// The newest resource version known; empty when none is.
    newest: String,
    is_listed: bool,
    streams_lists: bool,
    /// Pages ran out of date while being read: ask for everything at once.
    lists_whole: bool,
    said_of_kind: Option<Diagnostic>,
    is_down: bool,
    outlets: Outlets,
    tells_status: bool,
}

/// Where a follower speaks to.
pub(crate) struct Outlets {
    /// The reader of the source.
    pub(crate) events: mpsc::Sender<Event>,
    /// The one who counts kinds.
    pub(crate) health: mpsc::Sender<(Part, Health)>,
    /// All kinds: the server is back, nobody needs to wait any longer.
    pub(crate) is_back: Arc<Notify>,
}

/// Why an attempt ended, other than as watches do.
enum End {
    Failed(Failure),
    Closed,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        End::Failed(failure)
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        End::Closed
    }
}

impl Follower {
    pub(crate) fn new(client: Client, part: Part, outlets: Outlets, tells_status: bool) -> Self {
        Self {
            client,
            version: 0,
            replica: Replica::new(part.kind),
            tells_status: tells_status && part.kind.is_custom(),
            part,
            newest: String::new(),
            is_listed: false,
            streams_lists: true,
            lists_whole: false,
            said_of_kind: None,
            is_down: false,
            outlets,
        }
    }

    /// Follows until the receiver is gone.
    pub(crate) async fn run(mut self) {
        let events = self.outlets.events.clone();
        tokio::select! {
            () = events.closed() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let pause = match self.attempt().await {
                Err(End::Closed) => return,
                Ok(lived) if lived >= SHORT => {
                    backoff.reset();
                    Duration::ZERO
                }
                Ok(_) => backoff.next(),
                Err(End::Failed(failure)) => match self.recover(failure, &mut backoff).await {
                    Ok(pause) => pause,
                    Err(Closed) => return,
                },
            };
            let is_back = self.outlets.is_back.clone();
            tokio::select! {
                () = sleep(pause) => {}
                () = is_back.notified(), if self.is_down => backoff.reset(),
            }
        }
    }

    // One connection: a list if one is due, then a watch until it ends.
    async fn attempt(&mut self) -> Result<Duration, End> {
        let Part { kind, namespace } = self.part.clone();
        let place = Place { kind, version: kind.versions()[self.version], namespace };
        if self.tells_status {
            self.replica.tell_status(place.version);
        }
        let lasting = LASTING + backoff::jittered(LASTING / 5);
        let (start, is_streamed) = match self.is_listed {
            true => (Start::After(&self.newest), false),
            false if self.streams_lists => (Start::List(&self.newest), true),
            false => {
                self.list_pages(&place).await?;
                (Start::After(&self.newest), false)
            }
        };
        let lines = place.watch(&self.client, start, lasting).await?;
        if is_streamed {
            self.replica.begin_list();
        } else {
            self.tell(Health::Live).await?;
        }
        let begun = Instant::now();
        self.read(lines).await?;
        if self.replica.is_listing() {
            return Err(Failure::Down("the API server ended a list before it was complete".into()).into());
        }
        Ok(begun.elapsed())
    }

    async fn list_pages(&mut self, place: &Place) -> Result<(), End> {
        self.replica.begin_list();
        let mut next = String::new();
        loop {
            let text = place.page(&self.client, &next, self.lists_whole).await;
            // The list's version was compacted between two pages; the next try must not depend on being fast enough.
            self.lists_whole |= text == Err(Failure::Gone);
            let text = text?;
            let page: wire::Page<'_> = serde_json::from_slice(&text)
                .map_err(|error| Failure::Down(format!("a list of {} cannot be read: {error}", self.part.kind)))?;
            for item in page.items(self.part.kind) {
                self.replica.upsert(item);
            }
            next = page.metadata.next;
            if next.is_empty() {
                self.newest = page.metadata.resource_version;
                break;
            }
        }
        self.listed().await
    }

    async fn listed(&mut self) -> Result<(), End> {
        let difference = self.replica.end_list();
        (self.is_listed, self.lists_whole) = (true, false);
        self.send(difference).await?;
        Ok(self.tell(Health::Live).await?)
    }

    async fn read<B: AsyncBufRead + Unpin>(&mut self, mut lines: Lines<B>) -> Result<(), End> {
        loop {
            let patience = if self.replica.is_listing() { LIST_SILENCE_MAX } else { SILENCE_MAX };
            let text = match timeout(patience, lines.next()).await {
                Ok(text) => text?,
                // A server that does not know the parameter would wait for changes without ever listing.
                Err(_) if self.replica.is_listing() => return Err(Failure::NoStreaming.into()),
                Err(_) => None,
            };
            let Some(text) = text else { return Ok(()) };
            match wire::line(self.part.kind, text) {
                Ok(line) => self.obey(line).await?,
                // We no longer know what we know.
                Err(error) => {
                    self.is_listed = false;
                    let text = format!("a line of the watch of {} cannot be read: {error}", self.part.kind);
                    return Err(Failure::Down(text).into());
                }
            }
        }
    }

    async fn obey(&mut self, line: Line) -> Result<(), End> {
        let (version, difference) = match line {
            Line::Upsert(item) => (item.resource_version.clone(), self.replica.upsert(item)),
            Line::Delete(item) => (item.resource_version.clone(), self.replica.delete(&item)),
            Line::Bookmark { resource_version, is_end_of_list } => {
                if is_end_of_list && self.replica.is_listing() {
                    self.newest = resource_version;
                    return self.listed().await;
                }
                (resource_version, Difference::default())
            }
            Line::Error { code, reason, message } => return Err(failure::of_status(code, &reason, &message).into()),
        };
        // Within a list objects come in any order: none of their versions is one to go on from.
        if !version.is_empty() && !self.replica.is_listing() {
            self.newest = version;
        }
        Ok(self.send(difference).await?)
    }

    // What to do after a failure, and how long to wait first.
    async fn recover(&mut self, failure: Failure, backoff: &mut Backoff) -> Result<Duration, Closed> {
        let listing = !self.is_listed;
        match failure {
            Failure::Gone => {
                self.is_listed = false;
                if listing {
                    self.newest.clear();
                }
                Ok(if listing { backoff.next() } else { Duration::ZERO })
            }
            Failure::NoStreaming if self.streams_lists => {
                self.streams_lists = false;
                Ok(Duration::ZERO)
            }
            Failure::NoStreaming => Ok(backoff.next()),
            Failure::Missing => {
                self.version = (self.version + 1) % self.part.kind.versions().len();
                self.is_listed = false;
                if self.version != 0 {
                    return Ok(Duration::ZERO);
                }
                self.newest.clear();
                self.replica.begin_list();
                let difference = self.replica.end_list();
                self.send(difference).await?;
                self.tell(Health::Missing).await?;
                Ok(backoff::jittered(RETRY))
            }
            Failure::Forbidden(message) => {
                self.tell(Health::Forbidden(message)).await?;
                Ok(backoff::jittered(RETRY))
            }
            Failure::Down(message) => {
                self.tell(Health::Down(message)).await?;
                Ok(backoff.next())
            }
        }
    }

    async fn tell(&mut self, health: Health) -> Result<(), Closed> {
        // Being unreachable is about the server, not about the kind: what was said of the kind stays.
        if !matches!(health, Health::Down(_)) {
            let finding = health.finding(&self.part);
            if finding != self.said_of_kind {
                self.said_of_kind.clone_from(&finding);
                let (scope, list) = (Scope::Kind(self.part.kind), finding.into_iter().collect());
                self.outlets.events.send(Event::Diagnostics { scope, list }).await.map_err(|_| Closed)?;
            }
        }
        let was_down = std::mem::replace(&mut self.is_down, matches!(health, Health::Down(_)));
        if was_down && health == Health::Live {
            self.outlets.is_back.notify_waiters();
        }
        self.outlets.health.send((self.part.clone(), health)).await.map_err(|_| Closed)
    }

    async fn send(&self, difference: Difference) -> Result<(), Closed> {
        let Difference { changes, findings, seen } = difference;
        if !changes.is_empty() {
            self.outlets.events.send(Event::Batch(changes)).await.map_err(|_| Closed)?;
        }
        for (scope, list) in findings {
            self.outlets.events.send(Event::Diagnostics { scope, list }).await.map_err(|_| Closed)?;
        }
        for (key, seen) in seen {
            self.outlets.events.send(Event::Seen(key, seen)).await.map_err(|_| Closed)?;
        }
        Ok(())
    }
}
