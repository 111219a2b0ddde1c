//! One replica writes for the mesh: the holder of a Lease. The rules are client-go's leaderelection, so that skewed
//! clocks do no harm: nobody compares another's clock with its own, only whether the Lease has changed since it looked.
//!
//! [`Election`] is the rule, pure, with the time as an argument. [`Election::next`] says what to ask the API server.
//! [`spawn`] asks it. A holder stops leading [`RENEW_WITHIN`] after it *began* its last good write; the others wait
//! [`LEASE_LASTS`] after they *saw* it, which is later: there are never two.

use std::time::{Duration, Instant};

use ::watch::kubernetes::{Lease, LeaseStore, WriteError};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// The Lease's name, in the root namespace.
pub const LEASE: &str = "sluice-leader";
/// A Lease that does not change for so long is free.
pub const LEASE_LASTS: Duration = Duration::from_secs(15);
/// A leader that cannot renew for so long leads no longer.
pub const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Between two attempts.
pub const RETRY: Duration = Duration::from_secs(2);
/// One request may take this long.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Whether this replica leads. Cheap to clone; ask [`Leadership::leads`] before each write, or follow
/// [`Leadership::changes`].
#[derive(Clone, Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
}

impl Leadership {
    /// Nobody leads: there is no API server, or nothing is to be written.
    pub fn never() -> Self {
        Self::fixed(false)
    }

    /// Always the same, for tests and for who has no rival.
    pub fn fixed(leads: bool) -> Self {
        Self { leads: watch::channel(leads).1 }
    }

    /// True while this replica may write for the mesh.
    pub fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// The changes. When the sender is gone the last value stays.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }
}

/// Gives the Lease back.
#[derive(Debug)]
pub struct Candidacy {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Candidacy {
    /// Stops leading, then writes that the Lease is free, so that another replica leads at once. Bounded in time.
    pub async fn release(self) {
        let _ = self.stop.send(());
        // A fault of the task is no reason not to stop.
        let _ = tokio::time::timeout(ANSWER_MAX, self.task).await;
    }
}

/// What to ask the API server next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Read the Lease.
    Read,
    /// Write this.
    Write(Lease),
    /// Nothing; again after [`RETRY`].
    Rest,
}

/// The rule.
pub(crate) struct Election {
    me: String,
    /// What the Lease said, and since when we know.
    seen: Option<(Lease, Instant)>,
    /// It was read, and is not there.
    is_absent: bool,
    /// When the last write that made or kept us the holder was begun.
    renewed: Option<Instant>,
}

impl Election {
    pub(crate) fn new(me: String) -> Self {
        Self { me, seen: None, is_absent: false, renewed: None }
    }

    /// True while we may write for the mesh.
    pub(crate) fn leads(&self, now: Instant) -> bool {
        self.leads_until(now).is_some()
    }

    /// When we stop to lead unless a write goes well before; `None` when we do not lead, or not any more.
    pub(crate) fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + RENEW_WITHIN).filter(|until| now < *until)
    }

    /// What to ask; `has_read` if the Lease was read in this round. `wall` is the time to write down.
    pub(crate) fn next(&self, has_read: bool, now: Instant, wall: &str) -> Move {
        match &self.seen {
            // A leader that is sure renews without looking; if it was wrong the version says so.
            Some((lease, _)) if lease.holder == self.me && (has_read || self.leads(now)) => {
                let acquired = if lease.acquired.is_empty() { wall.into() } else { lease.acquired.clone() };
                Move::Write(Lease { acquired, ..self.taken(lease, wall) })
            }
            _ if !has_read => Move::Read,
            Some((lease, since)) if lease.holder.is_empty() || now >= *since + lasts(lease) => {
                Move::Write(Lease { transitions: lease.transitions + 1, ..self.taken(lease, wall) })
            }
            Some(_) => Move::Rest,
            None if self.is_absent => Move::Write(self.taken(&Lease::default(), wall)),
            None => Move::Rest,
        }
    }

    fn taken(&self, lease: &Lease, wall: &str) -> Lease {
        Lease {
            holder: self.me.clone(),
            seconds: LEASE_LASTS.as_secs(),
            acquired: wall.into(),
            renewed: wall.into(),
            ..lease.clone()
        }
    }

    /// The Lease was read.
    pub(crate) fn saw(&mut self, lease: Option<Lease>, now: Instant) {
        self.is_absent = lease.is_none();
        if lease.as_ref().is_none_or(|lease| lease.holder != self.me) {
            self.renewed = None;
        }
        // Only a change proves that its holder is alive.
        match (lease, &self.seen) {
            (Some(lease), Some((seen, _))) if *seen == lease => {}
            (lease, _) => self.seen = lease.map(|lease| (lease, now)),
        }
    }

    /// Our write, begun at `begun`, is what the Lease says now.
    pub(crate) fn wrote(&mut self, lease: Lease, begun: Instant) {
        self.is_absent = false;
        self.renewed = Some(begun);
        self.seen = Some((lease, begun));
    }

    /// The Lease is another version than the one we knew.
    pub(crate) fn was_refused(&mut self) {
        self.renewed = None;
    }

    /// What to write so that another may lead at once; `None` if it is not ours. We lead no longer.
    pub(crate) fn release(&mut self, now: Instant, wall: &str) -> Option<Lease> {
        let leads = self.leads(now);
        self.renewed = None;
        let (lease, _) = self.seen.as_ref().filter(|_| leads)?;
        // As client-go: a second, since the field must be above zero.
        Some(Lease { holder: String::new(), seconds: 1, renewed: wall.into(), ..lease.clone() })
    }
}

// The holder's own word counts, within reason.
fn lasts(lease: &Lease) -> Duration {
    Duration::from_secs(lease.seconds.clamp(1, 3600))
}

/// Stands for election from now on, on the current runtime.
pub fn spawn(store: LeaseStore, me: String) -> (Leadership, Candidacy) {
    let (leads, receiver) = watch::channel(false);
    let (stop, stopped) = oneshot::channel();
    let candidate = Candidate { election: Election::new(me), store, leads, said: None };
    let task = tokio::spawn(candidate.run(stopped));
    (Leadership { leads: receiver }, Candidacy { stop, task })
}

struct Candidate {
    election: Election,
    store: LeaseStore,
    leads: watch::Sender<bool>,
    /// The last complaint, so that it is made once.
    said: Option<WriteError>,
}

impl Candidate {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                // The program ends without a word, or says so.
                _ = &mut stopped => break,
                () = self.round() => {}
            }
            let rested = now() + RETRY.mul_f64(1.0 + share() * 0.2);
            // Whoever follows is told at once when the time is up.
            let again = self.election.leads_until(now()).map_or(rested, |until| rested.min(until));
            tokio::select! {
                _ = &mut stopped => break,
                () = tokio::time::sleep_until(again.into()) => self.publish(),
            }
        }
        let lease = self.election.release(now(), &wall());
        self.publish();
        if let Some(lease) = lease
            && let Err(error) = self.store.write(&lease).await
        {
            tracing::warn!("the Lease {} was not given back, it runs out by itself: {error}", self.store.place());
        }
    }

    // At most a read and a write.
    async fn round(&mut self) {
        let mut has_read = false;
        loop {
            let begun = now();
            let until = self.election.leads_until(begun).unwrap_or(begun + ANSWER_MAX).min(begun + ANSWER_MAX);
            let outcome = match self.election.next(has_read, begun, &wall()) {
                Move::Rest => break,
                Move::Read if has_read => break,
                Move::Read => {
                    has_read = true;
                    within(until, self.store.read()).await.map(|lease| self.election.saw(lease, now()))
                }
                Move::Write(lease) => {
                    let outcome = within(until, self.store.write(&lease)).await;
                    let done = outcome.map(|lease| self.election.wrote(lease, begun));
                    self.note(done);
                    break;
                }
            };
            let failed = outcome.is_err();
            self.note(outcome);
            if failed {
                break;
            }
        }
        self.publish();
    }

    fn note(&mut self, outcome: Result<(), WriteError>) {
        match outcome {
            Ok(()) => self.said = None,
            // Another was faster; the next round sees who.
            Err(WriteError::Conflict(_)) => self.election.was_refused(),
            Err(error) => {
                if self.said.as_ref().is_none_or(|said| std::mem::discriminant(said) != std::mem::discriminant(&error))
                {
                    tracing::warn!("no word of the Lease {}: {error}", self.store.place());
                }
                self.said = Some(error);
            }
        }
    }

    fn publish(&self) {
        let leads = self.election.leads(now());
        if self.leads.send_if_modified(|value| std::mem::replace(value, leads) != leads) {
            match leads {
                true => tracing::info!(lease = self.store.place(), me = self.election.me, "this replica leads"),
                false => tracing::info!(lease = self.store.place(), "this replica does not lead any more"),
            }
        }
    }
}

async fn within<T>(until: Instant, asked: impl Future<Output = Result<T, WriteError>>) -> Result<T, WriteError> {
    let silent = || WriteError::Later { message: "the API server does not answer".into(), after: None };
    tokio::time::timeout_at(until.into(), asked).await.unwrap_or_else(|_| Err(silent()))
}

// The runtime's clock, which tests may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock as Leases have it, `2026-11-21T13:00:00.000000Z`.
pub(crate) fn wall() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

// Between 0 and 1, so that candidates do not knock in step.
pub(crate) fn share() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) >> 32) as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
