//! How far each generation of an object has come: which connected proxies its publication touched, and who has answered.
//!
//! In: objects as they come, publications, what streams say. Out: a [`Stand`] per object and generation. Pure; the time
//! is an argument.
//!
//! A generation is part of the next publication. That publication touches the proxies whose target it changes. Each has
//! a short queue of targets that it has not answered; when it has answered one, it has answered all before it. When the
//! last has, the generation's outcome is fixed, and stays. A publication that touches nobody is done at once, except
//! within [`GRACE`] of the start: then proxies are on their way back from other replicas, or from our last life, holding
//! what they held, and are waited for.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use api::ObjectKey;
use xds::grpc::StreamId;

/// How long after the start proxies are expected to come back: longer than their longest pause (xds, `BACKOFF_MAX`).
pub(crate) const GRACE: Duration = Duration::from_secs(12);
/// Targets remembered per proxy; beyond it the newest two count as one, and are done when the newest is.
const TARGETS_MAX: usize = 16;
/// Refusals whose words are kept.
const REFUSALS_MAX: usize = 3;
/// Publications under way; of older ones it is never known.
const PUBLICATIONS_MAX: usize = 4096;
/// Names of proxies that are waited for, in a message.
const NAMES_MAX: usize = 3;

/// How far a generation has come, with the proxies of one replica, or of all together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// False: it is not known here yet, or not everybody has answered.
    pub(crate) is_done: bool,
    /// Proxies whose configuration it changed.
    pub(crate) proxies: u32,
    /// Those that have answered.
    pub(crate) answered: u32,
    /// Those that have refused.
    pub(crate) refused: u32,
    /// What some of them said, with their names.
    pub(crate) refusals: Vec<String>,
    /// Some of those that have not answered.
    pub(crate) waiting: Vec<String>,
    /// From the change to the last answer.
    pub(crate) took_ms: u64,
}

impl Stand {
    /// With what another replica says of its proxies.
    pub(crate) fn join(&mut self, other: Self) {
        self.is_done &= other.is_done;
        self.proxies += other.proxies;
        self.answered += other.answered;
        self.refused += other.refused;
        self.refusals.extend(other.refusals);
        self.refusals.truncate(REFUSALS_MAX);
        self.waiting.extend(other.waiting);
        self.waiting.truncate(NAMES_MAX);
        self.took_ms = self.took_ms.max(other.took_ms);
    }
}

/// All of it.
#[derive(Default)]
pub(crate) struct Progress {
    intros: BTreeMap<ObjectKey, Intro>,
    publications: BTreeMap<u64, Publication>,
    ways: BTreeMap<StreamId, Way>,
    last: u64,
    /// Introduced since the last publication.
    fresh: Vec<ObjectKey>,
    /// Publications wait for proxies that come back until then.
    open_until: Option<Instant>,
    changed: Vec<ObjectKey>,
}

struct Intro {
    generation: i64,
    /// The publication that brings it, while it is not over.
    publication: Option<u64>,
    outcome: Option<Stand>,
}

struct Publication {
    at: Instant,
    objects: Vec<ObjectKey>,
    waiting: u32,
    stand: Stand,
    /// Made while proxies were on their way back: how long they took says nothing.
    is_early: bool,
}

struct Way {
    name: String,
    targets: VecDeque<Sent>,
    refusal: Option<String>,
}

struct Sent {
    version: String,
    publications: Vec<u64>,
}

impl Progress {
    /// An object came, or came again.
    pub(crate) fn introduce(&mut self, key: ObjectKey, generation: i64) {
        let before = self.intros.get(&key);
        if before.is_some_and(|before| before.generation == generation) {
            return;
        }
        // What its last generation has not reached, this one has not either.
        let publication = before.filter(|before| before.outcome.is_none()).and_then(|before| before.publication);
        self.intros.insert(key.clone(), Intro { generation, publication, outcome: None });
        self.fresh.push(key);
    }

    /// An object is gone.
    pub(crate) fn forget(&mut self, key: &ObjectKey) {
        self.intros.remove(key);
    }

    /// True when objects came that are in no publication yet.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// What came changes nothing that any proxy could see: there will be no publication for it.
    pub(crate) fn nothing_to_publish(&mut self, now: Instant) {
        if self.last == 0 {
            return self.publish(&[], &[], now, now);
        }
        for key in std::mem::take(&mut self.fresh) {
            let Some(intro) = self.intros.get_mut(&key) else { continue };
            if intro.publication.is_none() {
                intro.outcome = Some(Stand { is_done: true, ..Stand::default() });
            }
            self.changed.push(key);
        }
    }

    /// A publication, of changes that came at `since`. It gave new targets (their versions) to these proxies, and was
    /// held back from those by the check, for a reason.
    pub(crate) fn publish(
        &mut self,
        touched: &[(StreamId, String)],
        held_back: &[(String, String)],
        since: Instant,
        now: Instant,
    ) {
        let objects = std::mem::take(&mut self.fresh);
        if self.last == 0 {
            self.open_until = Some(now + GRACE);
        }
        self.last += 1;
        let number = self.last;
        let is_recorded = !objects.is_empty();
        let mut publication = Publication {
            at: since,
            objects,
            waiting: 0,
            stand: Stand::default(),
            is_early: self.open_until.is_some(),
        };
        for (id, version) in touched {
            let Some(way) = self.ways.get_mut(id) else { continue };
            if is_recorded || !way.targets.is_empty() {
                way.send(version.clone(), is_recorded.then_some(number).into_iter().collect());
            }
            publication.waiting += 1;
            publication.stand.proxies += 1;
        }
        for (name, reason) in held_back {
            publication.stand.proxies += 1;
            publication.stand.refuse(name, reason);
        }
        if !is_recorded {
            return;
        }
        for key in &publication.objects {
            if let Some(intro) = self.intros.get_mut(key) {
                intro.publication = Some(number);
            }
        }
        self.publications.insert(number, publication);
        while self.publications.len() > PUBLICATIONS_MAX {
            self.publications.pop_first();
        }
        self.finish_if_done(number, now);
    }

    /// When [`Progress::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.open_until
    }

    /// The proxies that were to come back have.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.open_until.take_if(|until| *until <= now).is_some() {
            let all: Vec<u64> = self.publications.keys().copied().collect();
            all.into_iter().for_each(|number| self.finish_if_done(number, now));
        }
    }

    /// A proxy connected and was given this target.
    pub(crate) fn connect(&mut self, id: StreamId, name: &str, version: String, now: Instant) {
        self.tick(now);
        let way = self.ways.entry(id).or_insert_with(|| Way {
            name: name.to_owned(),
            targets: VecDeque::new(),
            refusal: None,
        });
        if self.open_until.is_some() {
            for publication in self.publications.values_mut() {
                publication.waiting += 1;
                publication.stand.proxies += 1;
            }
            way.send(version, self.publications.keys().copied().collect());
        }
    }

    /// A proxy is gone; wherever it went, it gets everything there.
    pub(crate) fn disconnect(&mut self, id: StreamId, now: Instant) {
        let Some(way) = self.ways.remove(&id) else { return };
        for number in way.targets.into_iter().flat_map(|sent| sent.publications) {
            if let Some(publication) = self.publications.get_mut(&number) {
                publication.waiting -= 1;
                publication.stand.proxies -= 1;
            }
            self.finish_if_done(number, now);
        }
    }

    /// A proxy refuses something; the objects that came with what it has not answered.
    pub(crate) fn refuse(&mut self, id: StreamId, error: &str) -> Vec<ObjectKey> {
        let Some(way) = self.ways.get_mut(&id) else { return Vec::new() };
        way.refusal.get_or_insert_with(|| error.to_owned());
        let numbers = way.targets.iter().flat_map(|sent| &sent.publications);
        let objects = numbers.filter_map(|number| self.publications.get(number)).flat_map(|one| one.objects.clone());
        objects.collect()
    }

    /// A proxy has answered everything up to the target of this version.
    pub(crate) fn settle(&mut self, id: StreamId, version: &str, now: Instant) {
        let Some(way) = self.ways.get_mut(&id) else { return };
        let Some(index) = way.targets.iter().position(|sent| sent.version == version) else { return };
        let refusal = way.refusal.take();
        let name = way.name.clone();
        let done: Vec<u64> = way.targets.drain(..=index).flat_map(|sent| sent.publications).collect();
        for number in done {
            if let Some(publication) = self.publications.get_mut(&number) {
                publication.waiting -= 1;
                match &refusal {
                    Some(error) => publication.stand.refuse(&name, error),
                    None => publication.stand.answered += 1,
                }
            }
            self.finish_if_done(number, now);
        }
    }

    fn finish_if_done(&mut self, number: u64, now: Instant) {
        let is_open = self.open_until.is_some();
        let is_done = |publication: &Publication| publication.waiting == 0 && !is_open;
        if !self.publications.get(&number).is_some_and(is_done) {
            return;
        }
        let Some(Publication { at, objects, mut stand, is_early, .. }) = self.publications.remove(&number) else {
            return;
        };
        stand.is_done = true;
        if !is_early {
            stand.took_ms = now.saturating_duration_since(at).as_millis() as u64;
        }
        for key in objects {
            let Some(intro) = self.intros.get_mut(&key) else { continue };
            if intro.publication == Some(number) {
                intro.outcome = Some(stand.clone());
                self.changed.push(key);
            }
        }
    }

    /// Objects whose stand is other than before.
    pub(crate) fn take_changed(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.changed)
    }

    /// How far a generation has come.
    pub(crate) fn stand(&self, key: &ObjectKey, generation: i64) -> Stand {
        let Some(intro) = self.intros.get(key).filter(|intro| intro.generation == generation) else {
            return Stand::default();
        };
        if let Some(outcome) = &intro.outcome {
            return outcome.clone();
        }
        let Some((number, publication)) =
            intro.publication.and_then(|number| Some((number, self.publications.get(&number)?)))
        else {
            return Stand::default();
        };
        let waits = |way: &&Way| way.targets.iter().any(|sent| sent.publications.contains(&number));
        let waiting = self.ways.values().filter(waits).take(NAMES_MAX).map(|way| way.name.clone()).collect();
        Stand { waiting, ..publication.stand.clone() }
    }
}

impl Stand {
    fn refuse(&mut self, name: &str, error: &str) {
        self.answered += 1;
        self.refused += 1;
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.push(format!("{name}: {error}"));
        }
    }
}

impl Way {
    fn send(&mut self, version: String, mut publications: Vec<u64>) {
        if self.targets.len() >= TARGETS_MAX
            && let Some(last) = self.targets.pop_back()
        {
            publications.splice(..0, last.publications);
        }
        self.targets.push_back(Sent { version, publications });
    }
}

#[cfg(test)]
mod tests;
