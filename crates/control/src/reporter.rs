//! Writes the statuses of objects while this replica leads.
//!
//! In: drafts, asked for as fast as they may be written and no faster. Out: server-side applies to the API server,
//! events when something turned bad, questions to the other replicas about their proxies. It decides nothing but the
//! pace: at most [`AT_ONCE`] writes each [`EVERY`]; after a refusal for load, a pause that doubles.

use std::time::{Duration, Instant};

use ::watch::kubernetes::{Status, WriteError, apply};
use api::ObjectKey;
use tokio::sync::{mpsc, oneshot};

use crate::event::Event;
use crate::events::Recorder;
use crate::leader::{Leadership, share, wall};
use crate::peers;
use crate::reporting::{Draft, Work, reference};
use crate::reports::{AGAIN, Mark, PATIENCE};
use crate::status;

/// How often drafts are asked for.
const EVERY: Duration = Duration::from_millis(250);
/// Statuses written per turn: about 40 in a second.
pub(crate) const AT_ONCE: usize = 10;
/// A status that says "pending" is looked at again so often.
const PENDING: Duration = Duration::from_secs(2);
/// After permission was refused.
const FORBIDDEN: Duration = Duration::from_secs(60);
/// The longest pause after refusals for load.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What it works with.
pub(crate) struct Reporter {
    pub(crate) client: kube::Client,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) leadership: Leadership,
    pub(crate) recorder: Recorder,
}

/// What came of a draft.
enum Outcome {
    /// Nothing more to do.
    Done,
    /// To be looked at again after a pause.
    Again(Duration),
    /// The server wants to be left alone for a while.
    Slow(Option<Duration>),
}

impl Reporter {
    /// Runs until the program ends.
    pub(crate) async fn run(self) {
        let mut changes = self.leadership.changes();
        loop {
            if changes.wait_for(|leads| *leads).await.is_err() || self.events.send(Event::Leads(true)).await.is_err() {
                return;
            }
            tokio::select! {
                changed = changes.wait_for(|leads| !*leads) => if changed.is_err() { return },
                () = self.lead() => return,
            }
            if self.events.send(Event::Leads(false)).await.is_err() {
                return;
            }
        }
    }

    async fn lead(&self) {
        let mut slow = Duration::ZERO;
        let mut said = false;
        loop {
            tokio::time::sleep(EVERY + slow.mul_f64(0.5 + share() / 2.0)).await;
            let (answer, work) = oneshot::channel();
            if self.events.send(Event::Drafts(answer)).await.is_err() {
                return;
            }
            let Ok(mut work) = work.await else { return };
            self.ask_peers(&mut work).await;
            let mut again: Vec<(ObjectKey, Mark, Instant)> = Vec::new();
            let mut was_slow = false;
            for draft in work.drafts {
                let outcome = match was_slow {
                    true => Outcome::Again(PENDING),
                    false => self.write(&draft, &mut said).await,
                };
                let pause = match outcome {
                    Outcome::Done => continue,
                    Outcome::Again(pause) => pause,
                    Outcome::Slow(wish) => {
                        was_slow = true;
                        slow = (slow * 2).clamp(Duration::from_secs(1), PAUSE_MAX).max(wish.unwrap_or_default());
                        PENDING
                    }
                };
                again.push((draft.key, draft.mark, Instant::now() + pause));
            }
            if !was_slow {
                slow = Duration::ZERO;
            }
            if !again.is_empty() && self.events.send(Event::ReportAgain(again)).await.is_err() {
                return;
            }
        }
    }

    // Each replica knows its own proxies only.
    async fn ask_peers(&self, work: &mut Work) {
        let open = |draft: &&mut Draft| !draft.is_latched && draft.found.refusals.is_empty();
        let mut open: Vec<&mut Draft> = work.drafts.iter_mut().filter(open).collect();
        if open.is_empty() {
            return;
        }
        for peer in &work.peers {
            let questions: Vec<_> = open.iter().map(|draft| (&draft.key, draft.seen.generation)).collect();
            match peers::ask(peer, &questions).await {
                Ok(stands) => open.iter_mut().zip(stands).for_each(|(draft, stand)| draft.stand.join(stand)),
                Err(error) => {
                    // It is ready, as far as we know: what its proxies hold is open until it says so, or is not ready.
                    tracing::debug!(peer = peer.name, "cannot be asked for its proxies: {error:#}");
                    for draft in &mut open {
                        draft.stand.is_done = false;
                        draft.stand.waiting.push(format!("the proxies of replica {}", peer.name));
                    }
                }
            }
        }
    }

    async fn write(&self, draft: &Draft, said: &mut bool) -> Outcome {
        if draft.waits(Instant::now(), PATIENCE) {
            return Outcome::Again(AGAIN);
        }
        let wanted = draft.status();
        let held = &draft.seen.status;
        let is_open = !draft.is_latched && draft.found.refusals.is_empty() && !draft.stand.is_done;
        let after = if is_open { Outcome::Again(PENDING) } else { Outcome::Done };
        if status::says_the_same(held, &wanted) {
            return after;
        }
        let now = format!("{}Z", wall().split('.').next().unwrap_or_default());
        let wanted = wanted.follow(held, &now);
        match apply(&self.client, &draft.key, &draft.seen, &wanted).await {
            Ok(()) => {
                *said = false;
                self.tell(draft, &wanted);
                after
            }
            // Gone, or another of its name: that one has its own turn.
            Err(WriteError::Missing(_) | WriteError::Conflict(_)) => Outcome::Done,
            Err(WriteError::Later { message, after }) => {
                warn_once(said, &format!("statuses are written later: {message}"));
                Outcome::Slow(after)
            }
            Err(WriteError::Forbidden(message)) => {
                warn_once(said, &format!("statuses may not be written: {message}"));
                Outcome::Again(FORBIDDEN)
            }
            Err(WriteError::Invalid(message)) => {
                tracing::warn!("the status of {} is refused: {message}", draft.key);
                Outcome::Done
            }
        }
    }

    // A word where a condition has turned, not where it stayed.
    fn tell(&self, draft: &Draft, written: &Status) {
        let about = reference(&draft.key, &draft.seen);
        let held = &draft.seen.status;
        for (kind, bad, reason) in [
            (status::ACCEPTED, "False", "ConfigRejected"),
            (status::RESOLVED, "False", "RefsNotResolved"),
            (status::CONFLICTED, "True", "ConfigConflict"),
        ] {
            let is_bad = |status: &Status| status.condition(kind).filter(|one| &*one.status == bad).cloned();
            let Some(now) = is_bad(written) else { continue };
            if is_bad(held).is_none_or(|before| before.message != now.message) {
                self.recorder.warn(&about, reason, &*now.message);
            }
        }
        if let Some(now) = written.condition(status::PROGRAMMED)
            && status::is_programmed(written, draft.seen.generation)
            && !status::is_programmed(held, draft.seen.generation)
        {
            self.recorder.normal(
                &about,
                "Programmed",
                format!("generation {}: {}", draft.seen.generation, now.message),
            );
        }
    }
}

fn warn_once(said: &mut bool, message: &str) {
    if !std::mem::replace(said, true) {
        tracing::warn!("{message}");
    }
}
