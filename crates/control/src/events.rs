//! Events on objects: a word to their owners, where `kubectl describe` shows it.
//!
//! In: [`Recorder::warn`] from anywhere, never waiting. Out: Events, aggregated: the same again raises a count, at most
//! once in [`COUNTED_EVERY`]; many different words about one object become one Event. Everything is bounded, and what is
//! too much is dropped: events are a courtesy, logs and conditions are complete.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ::watch::kubernetes::{ObjectEvent as Event, Reference, WriteError, record};
use tokio::sync::mpsc;

use crate::leader::wall;

/// Notes that wait; more are dropped.
const WAITING_MAX: usize = 256;
/// Different events remembered; the oldest is forgotten, and would be a new one.
const KNOWN_MAX: usize = 1024;
/// A count is written at most so often.
const COUNTED_EVERY: Duration = Duration::from_secs(30);
/// So many different messages of one reason about one object; more become one Event (as client-go's aggregator).
const DIFFERENT_MAX: usize = 10;
/// Bytes of a message, Kubernetes' bound.
const MESSAGE_MAX: usize = 1024;
/// Between two writes, so that a bad hour of ours is not one of the API server's.
const PAUSE: Duration = Duration::from_millis(50);

/// Says things about objects. Cheap to clone; without an API server it is silent.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Option<mpsc::Sender<Note>>);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    about: Reference,
    severity: &'static str,
    reason: &'static str,
    message: String,
}

impl Recorder {
    /// One that records nothing.
    pub fn silent() -> Self {
        Self(None)
    }

    /// One that writes to an API server, on the current runtime; `instance` is this replica's name.
    pub fn new(client: kube::Client, instance: String) -> Self {
        let (sender, notes) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(client, Aggregator::new(instance), notes));
        Self(Some(sender))
    }

    /// A Warning. `reason` is a word in CamelCase; `message` a sentence.
    pub fn warn(&self, about: &Reference, reason: &'static str, message: impl Into<String>) {
        self.note(about, "Warning", reason, message.into());
    }

    /// Something good.
    pub fn normal(&self, about: &Reference, reason: &'static str, message: impl Into<String>) {
        self.note(about, "Normal", reason, message.into());
    }

    fn note(&self, about: &Reference, severity: &'static str, reason: &'static str, mut message: String) {
        let Some(sender) = &self.0 else { return };
        cut(&mut message, MESSAGE_MAX - COMBINED.len());
        if sender.try_send(Note { about: about.clone(), severity, reason, message }).is_err() {
            tracing::debug!("too many events, one is dropped");
        }
    }
}

async fn write(client: kube::Client, mut aggregator: Aggregator, mut notes: mpsc::Receiver<Note>) {
    let mut refused = false;
    loop {
        let due = aggregator.due_at();
        let event = tokio::select! {
            note = notes.recv() => match note {
                Some(note) => aggregator.take(note, Instant::now(), &wall()),
                None => return,
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                aggregator.flush(Instant::now())
            }
        };
        let Some(event) = event else { continue };
        match record(&client, &event).await {
            Ok(()) => refused = false,
            // A namespace that is being deleted takes no events.
            Err(WriteError::Forbidden(message)) if message.contains("being terminated") => {}
            Err(error) if !std::mem::replace(&mut refused, true) => tracing::warn!("events cannot be written: {error}"),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

const COMBINED: &str = "(combined from similar events): ";

/// What was said, so that the same again counts. Pure.
struct Aggregator {
    instance: String,
    serial: u64,
    known: BTreeMap<Note, Known>,
    /// In the order of their first time.
    order: VecDeque<Note>,
}

struct Known {
    event: Event,
    written: Instant,
    /// Counted since it was written.
    is_stale: bool,
}

impl Aggregator {
    fn new(instance: String) -> Self {
        Self { instance, serial: 0, known: BTreeMap::new(), order: VecDeque::new() }
    }

    /// The event to write now, if any.
    fn take(&mut self, note: Note, now: Instant, wall: &str) -> Option<Event> {
        let (note, message) = self.combined(note);
        if let Some(known) = self.known.get_mut(&note) {
            known.event.count = known.event.count.saturating_add(1);
            (known.event.last, known.event.message) = (seconds(wall), message);
            known.is_stale = true;
            return self.flush(now);
        }
        if self.known.len() >= KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.serial += 1;
        let event = Event {
            // As client-go names them: the object's name and something unique.
            name: format!(
                "{}.{:x}{:04x}",
                note.about.name,
                jiff::Timestamp::now().as_nanosecond(),
                self.serial & 0xffff
            ),
            about: note.about.clone(),
            severity: note.severity,
            reason: note.reason.to_owned(),
            message,
            count: 1,
            first: seconds(wall),
            last: seconds(wall),
            instance: self.instance.clone(),
        };
        self.order.push_back(note.clone());
        self.known.insert(note, Known { event: event.clone(), written: now, is_stale: false });
        Some(event)
    }

    // One that stands for many has no message of its own.
    fn combined(&self, note: Note) -> (Note, String) {
        let message = note.message.clone();
        if self.known.contains_key(&note) {
            return (note, message);
        }
        let first = Note { message: String::new(), ..note.clone() };
        let same = |known: &&Note| known.about == note.about && known.reason == note.reason;
        let of_kind = self.known.range(first.clone()..).map(|(known, _)| known).take_while(same).count();
        if of_kind < DIFFERENT_MAX {
            return (note, message);
        }
        (first, format!("{COMBINED}{message}"))
    }

    fn due_at(&self) -> Option<Instant> {
        self.known.values().filter(|known| known.is_stale).map(|known| known.written + COUNTED_EVERY).min()
    }

    /// A count that is due.
    fn flush(&mut self, now: Instant) -> Option<Event> {
        let is_due = |known: &&mut Known| known.is_stale && now >= known.written + COUNTED_EVERY;
        let known = self.known.values_mut().find(is_due)?;
        (known.is_stale, known.written) = (false, now);
        Some(known.event.clone())
    }
}

/// Shortens a text to at most so many bytes, at a character.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
    }
}

// metav1.Time has no fractions.
fn seconds(wall: &str) -> String {
    wall.split_once('.').map_or_else(|| wall.to_owned(), |(whole, _)| format!("{whole}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: &str = "2026-11-21T13:00:00.123456Z";

    fn note(name: &str, message: &str) -> Note {
        let about = Reference { kind: "VirtualService".into(), name: name.into(), ..Reference::default() };
        Note { about, severity: "Warning", reason: "Rejected", message: message.into() }
    }

    #[test]
    fn the_same_again_is_counted_and_written_now_and_then() {
        let mut all = Aggregator::new("a".into());
        let now = Instant::now();
        let first = all.take(note("x", "bad"), now, WALL).unwrap();
        assert_eq!((first.count, first.first.as_str()), (1, "2026-11-21T13:00:00Z"));
        for _ in 0..100 {
            assert_eq!(all.take(note("x", "bad"), now + Duration::from_secs(1), WALL), None);
        }
        assert_eq!(all.due_at(), Some(now + COUNTED_EVERY));
        let later = all.flush(now + COUNTED_EVERY).unwrap();
        assert_eq!((later.count, later.name == first.name), (101, true));
        assert_eq!(all.flush(now + COUNTED_EVERY * 2), None, "nothing new");
    }

    #[test]
    fn many_words_about_one_object_become_one_event() {
        let mut all = Aggregator::new("a".into());
        let now = Instant::now();
        let take = |all: &mut Aggregator, number: u32| all.take(note("x", &format!("bad {number}")), now, WALL);
        let written: Vec<Event> = (0..200).filter_map(|number| take(&mut all, number)).collect();
        assert_eq!(written.len(), DIFFERENT_MAX + 1);
        let last = written.last().unwrap();
        assert!(last.message.starts_with(COMBINED), "{}", last.message);
        assert!(all.take(note("y", "bad"), now, WALL).is_some(), "another object has its own");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut all = Aggregator::new("a".into());
        for number in 0..3 * KNOWN_MAX {
            all.take(note(&format!("x{number}"), "bad"), Instant::now(), WALL);
        }
        assert_eq!((all.known.len(), all.order.len()), (KNOWN_MAX, KNOWN_MAX));
    }
}
