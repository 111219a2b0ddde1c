//! How long a stream may stay, so that proxies spread over the replicas that there are: those that a new replica shall
//! have leave the old ones bit by bit, and those of a replica that stops do not all knock at the next one at once.
//!
//! In: streams that come and go, the time, shares between 0 and 1. Out: streams that are to end. Pure. A stream that ends
//! costs its proxy nothing: it says to the next replica what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use xds::grpc::StreamId;

/// A replica that stops ends its streams within this time.
pub(crate) const SPREAD: Duration = Duration::from_secs(3);
/// It stops at the latest after this long.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(8);

/// The streams, by their ends.
pub(crate) struct Lifetimes {
    age_max: Option<Duration>,
    ends: BTreeSet<(Instant, StreamId)>,
    of: BTreeMap<StreamId, Instant>,
    stops_at: Option<Instant>,
}

impl Lifetimes {
    /// Streams live about as long as `age_max`, a tenth more or less.
    pub(crate) fn new(age_max: Option<Duration>) -> Self {
        Self { age_max, ends: BTreeSet::new(), of: BTreeMap::new(), stops_at: None }
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
        if self.stops_at.is_none() {
            self.stops_at = Some(now + STOP_MAX);
            all.for_each(|id| self.end_at(id, now + SPREAD.mul_f64(share())));
        }
    }

    /// True when no stream may begin any more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stops_at.is_some()
    }

    /// True when the program may end.
    pub(crate) fn has_stopped(&self, now: Instant) -> bool {
        self.stops_at.is_some_and(|at| self.ends.is_empty() || at <= now)
    }

    /// A stream whose time is up.
    pub(crate) fn take(&mut self, now: Instant) -> Option<StreamId> {
        let (_, id) = self.ends.first().copied().filter(|(end, _)| *end <= now)?;
        self.forget(id);
        Some(id)
    }

    /// When the next one is.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end).into_iter().chain(self.stops_at).min()
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
        assert_eq!(all.deadline(), Some(now + MINUTE * 27));
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
        assert_eq!((all.deadline(), all.take(now + MINUTE * 999)), (None, None));
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
        assert!(all.has_stopped(now + SPREAD));
    }

    #[test]
    fn a_stream_that_does_not_end_does_not_keep_it() {
        let (mut all, now) = (Lifetimes::new(None), Instant::now());
        all.stop(0..1, now, || 1.0);
        assert!(!all.has_stopped(now + SPREAD) && all.has_stopped(now + STOP_MAX));
    }
}
