//! How long a stream may stay, so that proxies spread over the replicas that there are: those that a new replica shall
//! have leave the old ones bit by bit, and those of a replica that stops do not all knock at the next one at once.
//!
//! In: streams that come and go, the time, shares between 0 and 1. Out: streams that are to end. Pure. A stream that ends
//! costs its proxy nothing: it says to the next replica what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use xds::grpc::StreamId;

/// A replica that stops ends its streams within this time. It serves everybody else as long: until kube-proxies have heard
/// that it is not ready, Services send it proxies that want certificates and API servers with admission reviews, which fail
/// when nobody is there.
pub(crate) const SPREAD: Duration = Duration::from_secs(3);
/// Then what is under way on other connections has this long.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// It stops at the latest after this long.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(8);

/// How far the end has come. At each step the connections that there are are asked to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has not begun.
    Serves,
    /// Not ready; whoever comes is served.
    Leaves,
    /// Nobody is sent here any more.
    Ends,
}

/// The streams, by their ends.
pub(crate) struct Lifetimes {
    age_max: Option<Duration>,
    ends: BTreeSet<(Instant, StreamId)>,
    of: BTreeMap<StreamId, Instant>,
    stopping_since: Option<Instant>,
}

impl Lifetimes {
    /// Streams live about as long as `age_max`, a tenth more or less.
    pub(crate) fn new(age_max: Option<Duration>) -> Self {
        Self { age_max, ends: BTreeSet::new(), of: BTreeMap::new(), stopping_since: None }
    }

    /// A stream began.
    pub(crate) fn begin(&mut self, id: StreamId, now: Instant, share: f64) {
        if let Some(age) = self.age_max {
            self.end_at(id, now + age.mul_f64(0.9 + share / 5.0));
        }
    }

    fn end_at(&mut self, id: StreamId, end: Instant) {
        self.forget(id);
        self.ends.insert((end, id));
        self.of.insert(id, end);
    }

    /// A stream is over.
    pub(crate) fn forget(&mut self, id: StreamId) {
        if let Some(end) = self.of.remove(&id) {
            self.ends.remove(&(end, id));
        }
    }

    /// The program is to stop: these streams are all there are.
    pub(crate) fn stop(&mut self, all: impl Iterator<Item = StreamId>, now: Instant, mut share: impl FnMut() -> f64) {
        if self.stopping_since.is_none() {
            self.stopping_since = Some(now);
            all.for_each(|id| self.end_at(id, now + SPREAD.mul_f64(share())));
        }
    }

    /// True when no stream may begin any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping_since.is_some()
    }

    /// How far the end has come.
    pub(crate) fn stage(&self, now: Instant) -> Stage {
        match self.stopping_since {
            None => Stage::Serves,
            Some(since) if now < since + SPREAD => Stage::Leaves,
            Some(_) => Stage::Ends,
        }
    }

    /// True when the program may end.
    pub(crate) fn has_stopped(&self, now: Instant) -> bool {
        let over = |since| now >= since + SPREAD + LAST_ANSWERS && (self.ends.is_empty() || now >= since + STOP_MAX);
        self.stopping_since.is_some_and(over)
    }

    /// A stream whose time is up.
    pub(crate) fn take(&mut self, now: Instant) -> Option<StreamId> {
        let (_, id) = self.ends.first().copied().filter(|(end, _)| *end <= now)?;
        self.forget(id);
        Some(id)
    }

    /// When there is something to do or to say.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let steps = [SPREAD, SPREAD + LAST_ANSWERS, STOP_MAX];
        let steps = self.stopping_since.into_iter().flat_map(|since| steps.map(|step| since + step));
        self.ends.first().map(|(end, _)| *end).into_iter().chain(steps.filter(|step| *step > now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn streams_end_around_their_age_and_not_together() {
        let (mut all, now) = (Lifetimes::new(Some(MINUTE * 30)), Instant::now());
        for id in 0..=10 {
            all.begin(id, now, id as f64 / 10.0);
        }
        all.forget(1);
        assert_eq!(all.deadline(now), Some(now + MINUTE * 27));
        assert_eq!(all.take(now + MINUTE * 27 - Duration::from_secs(1)), None);
        let mut ends = |at| std::iter::from_fn(|| all.take(at)).collect::<Vec<_>>();
        assert_eq!(ends(now + MINUTE * 27), [0]);
        assert_eq!(ends(now + MINUTE * 30 + Duration::from_secs(1)), [2, 3, 4, 5]);
        assert_eq!(ends(now + MINUTE * 33), [6, 7, 8, 9, 10]);
    }

    #[test]
    fn without_an_age_streams_stay() {
        let (mut all, now) = (Lifetimes::new(None), Instant::now());
        all.begin(1, now, 0.5);
        assert_eq!((all.deadline(now), all.take(now + MINUTE * 999)), (None, None));
    }

    #[test]
    fn a_replica_that_stops_lets_its_streams_go_within_seconds() {
        let (mut all, now) = (Lifetimes::new(Some(MINUTE)), Instant::now());
        let mut share = 0.0;
        all.stop(0..4, now, || {
            share += 0.25;
            share
        });
        assert!(all.is_stopping() && !all.has_stopped(now));
        assert_eq!(all.take(now + SPREAD / 4), Some(0));
        while all.take(now + SPREAD).is_some() {}
        assert!(!all.has_stopped(now + SPREAD) && all.has_stopped(now + SPREAD + LAST_ANSWERS));
    }

    #[test]
    fn a_replica_without_streams_serves_others_until_nobody_is_sent_to_it() {
        let (mut all, now) = (Lifetimes::new(None), Instant::now());
        assert_eq!((all.stage(now), all.deadline(now)), (Stage::Serves, None));
        all.stop(std::iter::empty(), now, || 1.0);
        assert_eq!((all.stage(now), all.deadline(now)), (Stage::Leaves, Some(now + SPREAD)));
        assert!(!all.has_stopped(now) && !all.has_stopped(now + SPREAD));
        let end = now + SPREAD + LAST_ANSWERS;
        assert_eq!((all.stage(now + SPREAD), all.deadline(now + SPREAD)), (Stage::Ends, Some(end)));
        assert!(all.has_stopped(end));
    }

    #[test]
    fn a_stream_that_does_not_end_does_not_keep_it() {
        let (mut all, now) = (Lifetimes::new(None), Instant::now());
        all.stop(0..1, now, || 1.0);
        assert!(!all.has_stopped(now + SPREAD) && all.has_stopped(now + STOP_MAX));
    }
}
