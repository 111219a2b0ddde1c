//! What the loop knows for the status of objects, on every replica; and, on the one that leads, which are to be written.
//!
//! In: objects as the API server has them, findings, publications, answers. Out: [`Draft`]s for the one who writes
//! ([`crate::reporter`]), [`Stand`]s for replicas that ask. No IO.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::watch::kubernetes::{Reference, Seen, Status, api_version};
use api::{Kind, ObjectKey};
use words::{Diagnostic, Origin};

use crate::events::Recorder;
use crate::progress::{Progress, Stand};
use crate::replicas::Peer;
use crate::reports::{Mark, Reports};
use crate::status::{self, Found};

/// Objects looked at for one answer to the writer.
const LOOKED_AT_MAX: usize = 500;
/// An event about a refusal goes to the objects that came with it, if they are so few that it says something.
const BLAMED_MAX: usize = 5;

/// A status that may have to be written.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) key: ObjectKey,
    pub(crate) seen: Seen,
    pub(crate) found: Found,
    /// Of this replica's proxies.
    pub(crate) stand: Stand,
    /// This generation is said to be programmed, and stays so.
    pub(crate) is_latched: bool,
    pub(crate) mark: Mark,
}

/// What the writer is given.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) drafts: Vec<Draft>,
    pub(crate) peers: Vec<Peer>,
}

/// All of it.
pub(crate) struct Reporting {
    pub(crate) progress: Progress,
    pub(crate) recorder: Recorder,
    seen: BTreeMap<ObjectKey, Seen>,
    found: BTreeMap<Origin, Vec<Diagnostic>>,
    reports: Reports,
    leads: bool,
}

impl Reporting {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self {
            progress: Progress::default(),
            recorder,
            seen: BTreeMap::new(),
            found: BTreeMap::new(),
            reports: Reports::default(),
            leads: false,
        }
    }

    /// The API server's word about an object. `is_old`: it is of the first list.
    pub(crate) fn see(&mut self, key: ObjectKey, seen: Option<Seen>, is_old: bool, now: Instant) {
        let Some(seen) = seen else {
            self.seen.remove(&key);
            self.reports.forget(&key);
            return self.progress.forget(&key);
        };
        let before = self.seen.insert(key.clone(), seen.clone());
        // Its status alone is mostly our own doing. Who overwrites it is not fought.
        if before.is_none_or(|before| (before.uid, before.generation) != (seen.uid, seen.generation)) {
            self.mark(key, is_old, now);
        }
    }

    /// Something about an object may be different.
    pub(crate) fn mark(&mut self, key: ObjectKey, is_old: bool, now: Instant) {
        if self.leads && key.kind.is_custom() {
            self.reports.mark(key, is_old, now);
        }
    }

    /// Everything that the compiler finds now.
    pub(crate) fn find<'a>(&mut self, all: impl Iterator<Item = &'a Diagnostic>, now: Instant) {
        let mut found: BTreeMap<Origin, Vec<Diagnostic>> = BTreeMap::new();
        for one in all {
            if let Some(object) = &one.object {
                found.entry(object.clone()).or_default().push(one.clone());
            }
        }
        found.values_mut().for_each(|list| {
            list.sort();
            list.dedup();
        });
        if found == self.found {
            return;
        }
        let before = std::mem::replace(&mut self.found, found);
        let origins = before.keys().chain(self.found.keys());
        let changed = origins.filter(|origin| before.get(origin) != self.found.get(origin));
        let keys: Vec<ObjectKey> = changed.filter_map(key_of).collect();
        keys.into_iter().for_each(|key| self.mark(key, false, now));
    }

    /// Generations that have come further.
    pub(crate) fn follow_progress(&mut self, now: Instant) {
        for key in self.progress.take_changed() {
            self.mark(key, false, now);
        }
    }

    /// This replica writes from now on, or does not.
    pub(crate) fn lead(&mut self, leads: bool, now: Instant) {
        self.leads = leads;
        self.reports.clear();
        let keys: Vec<ObjectKey> = self.seen.keys().cloned().collect();
        keys.into_iter().for_each(|key| self.mark(key, true, now));
    }

    /// A proxy refuses what came with these objects.
    pub(crate) fn blame(&self, objects: &[ObjectKey], proxy: &str, error: &str) {
        if objects.len() > BLAMED_MAX {
            return;
        }
        for key in objects {
            if let Some(seen) = self.seen.get(key) {
                let message = format!("proxy {proxy} refuses it and keeps what it had: {error}");
                self.recorder.warn(&reference(key, seen), "ProxyRejected", message);
            }
        }
    }

    /// A status that waits for something is looked at again.
    pub(crate) fn again(&mut self, key: ObjectKey, mark: Mark, due: Instant) {
        if self.leads && self.seen.contains_key(&key) {
            self.reports.again(key, mark, due);
        }
    }

    /// At most so many statuses that are due and may differ from what is written. `refusals` are what the source found.
    pub(crate) fn drafts(
        &mut self,
        max: usize,
        now: Instant,
        refusals: impl Fn(&ObjectKey) -> Vec<Diagnostic>,
    ) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for _ in 0..LOOKED_AT_MAX {
            if drafts.len() == max {
                break;
            }
            let Some((key, mark)) = self.reports.take(now) else { break };
            let Some(seen) = self.seen.get(&key).cloned() else { continue };
            let found = self.found_of(&key, refusals(&key));
            let stand = self.progress.stand(&key, seen.generation);
            let is_latched = status::is_programmed(&seen.status, seen.generation) && found.refusals.is_empty();
            let draft = Draft { key, seen, found, stand, is_latched, mark };
            if !(is_latched && status::says_the_same(&draft.seen.status, &draft.status())) {
                drafts.push(draft);
            }
        }
        drafts
    }

    fn found_of(&self, key: &ObjectKey, of_source: Vec<Diagnostic>) -> Found {
        let is_refusal = |one: &Diagnostic| one.severity == words::Severity::Error;
        let (refusals, mut findings): (Vec<_>, Vec<_>) = of_source.into_iter().partition(is_refusal);
        findings.extend(self.found.get(&key.origin()).into_iter().flatten().cloned());
        Found { refusals, findings }
    }
}

impl Draft {
    /// The status that it comes to, without the times of its conditions.
    pub(crate) fn status(&self) -> Status {
        let mut wanted = status::of(self.seen.generation, &self.found, &self.stand);
        let is_programmed = |one: &&mut ::watch::kubernetes::Condition| &*one.kind == status::PROGRAMMED;
        if self.is_latched
            && let Some(held) = self.seen.status.condition(status::PROGRAMMED)
            && let Some(programmed) = wanted.conditions.iter_mut().find(is_programmed)
        {
            programmed.clone_from(held);
        }
        wanted
    }

    /// True while proxies are still taking it and nobody needs to be told so yet.
    pub(crate) fn waits(&self, now: Instant, patience: Duration) -> bool {
        let is_open = !self.is_latched && self.found.refusals.is_empty() && !self.stand.is_done;
        is_open && now < self.mark.since + patience
    }
}

/// The object as events name it.
pub(crate) fn reference(key: &ObjectKey, seen: &Seen) -> Reference {
    Reference {
        api_version: api_version(key.kind, seen.version),
        kind: key.kind.name().into(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        uid: seen.uid.to_string(),
    }
}

fn key_of(origin: &Origin) -> Option<ObjectKey> {
    let kind = Kind::ALL.iter().find(|kind| kind.name() == &*origin.kind)?;
    Some(ObjectKey { kind: *kind, namespace: origin.namespace.clone(), name: origin.name.clone() })
}

/// `virtualservices.networking.istio.io/default/reviews@3`, as replicas ask each other.
pub(crate) fn parse_question(text: &str) -> Option<(ObjectKey, i64)> {
    let (object, generation) = text.rsplit_once('@')?;
    let mut parts = object.splitn(3, '/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let (plural, group) = kind.split_once('.')?;
    let kind = Kind::ALL.iter().find(|kind| kind.plural() == plural && kind.group() == group)?;
    Some((ObjectKey::new(*kind, namespace, name), generation.parse().ok()?))
}

/// The same, written.
pub(crate) fn question(key: &ObjectKey, generation: i64) -> String {
    format!("{}.{}/{}/{}@{generation}", key.kind.plural(), key.kind.group(), key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::new(Kind::VirtualService, "default", "reviews")
    }

    fn seen(generation: i64, status: Status) -> Option<Seen> {
        Some(Seen { uid: "u".into(), generation, version: "v1", status: Arc::new(status) })
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn questions_are_read_back() {
        assert_eq!(parse_question(&question(&key(), 3)), Some((key(), 3)));
        for bad in ["", "x", "virtualservices.networking.istio.io/default@3", "a.b/c/d@1", "x/y/z@"] {
            assert_eq!(parse_question(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_write_per_generation_and_none_when_nothing_changed() {
        let (mut all, start) = (Reporting::new(Recorder::silent()), Instant::now());
        all.progress.nothing_to_publish(start);
        let now = start + crate::progress::GRACE;
        all.progress.tick(now);
        all.lead(true, now);
        all.progress.introduce(key(), 1);
        all.see(key(), seen(1, Status::default()), false, now);
        all.progress.nothing_to_publish(now);
        all.follow_progress(now);
        let drafts = all.drafts(10, now + SECOND, |_| Vec::new());
        assert_eq!(drafts.len(), 1);
        let written = drafts[0].status().follow(&Status::default(), "now");
        assert!(status::is_programmed(&written, 1));
        // What was written comes back by the watch; and a new leader reads it.
        all.see(key(), seen(1, written.clone()), false, now + SECOND);
        assert!(all.drafts(10, now + SECOND * 9, |_| Vec::new()).is_empty());
        all.lead(true, now + SECOND * 9);
        assert!(all.drafts(10, now + SECOND * 20, |_| Vec::new()).is_empty(), "all is said");
        // A finding is news.
        let found = Diagnostic::error("IST0101", key().origin(), "spec", "gone");
        all.find([&found].into_iter(), now + SECOND * 20);
        let drafts = all.drafts(10, now + SECOND * 30, |_| Vec::new());
        assert_eq!(drafts.len(), 1);
        assert!(drafts[0].is_latched, "proxies need not be asked again");
        assert_eq!(&*drafts[0].status().condition(status::RESOLVED).unwrap().status, "False");
    }

    #[test]
    fn who_does_not_lead_writes_nothing() {
        let (mut all, now) = (Reporting::new(Recorder::silent()), Instant::now());
        all.see(key(), seen(1, Status::default()), false, now);
        assert!(all.drafts(10, now + SECOND * 9, |_| Vec::new()).is_empty());
        all.lead(true, now);
        assert_eq!(all.drafts(10, now + SECOND * 9, |_| Vec::new()).len(), 1);
        all.lead(true, now);
        all.lead(false, now);
        assert!(all.drafts(10, now + SECOND * 9, |_| Vec::new()).is_empty());
    }
}
