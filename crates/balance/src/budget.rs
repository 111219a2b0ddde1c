//! Retry budgets: how many retries may be under way, in proportion to requests (DR67, Envoy `RetryBudget`).
//!
//! In: the requests that are under way, and when each began. Out: a bound for this moment. Shared by the workers.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use config::RetryBudget;

/// The interval is counted in so many parts; a request is forgotten at most one part too late.
const PARTS: u32 = 16;

/// A budget, and the requests of its last interval.
#[derive(Debug)]
pub(crate) struct Budget {
    config: RetryBudget,
    recent: Mutex<Recent>,
}

/// Requests by the part of time that they began in.
#[derive(Debug, Default)]
struct Recent {
    parts: VecDeque<(u64, u64)>,
    total: u64,
}

impl Budget {
    /// A budget that has seen no request.
    pub(crate) fn new(config: RetryBudget) -> Self {
        Self { config, recent: Mutex::default() }
    }

    /// A request begins. `now` is the time since some moment that stays the same.
    pub(crate) fn begin(&self, now: Duration) {
        if self.config.interval.is_zero() {
            return;
        }
        let part = self.part(now);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.forget(part);
        recent.total += 1;
        match recent.parts.back_mut() {
            Some((last, count)) if *last == part => *count += 1,
            _ => recent.parts.push_back((part, 1)),
        }
    }

    /// How many retries may be under way now, with so many requests under way or waiting.
    pub(crate) fn most(&self, under_way: u64, now: Duration) -> u64 {
        let counted = match self.config.interval.is_zero() {
            true => under_way,
            false => {
                let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
                recent.forget(self.part(now));
                under_way.max(recent.total)
            }
        };
        let share = counted.saturating_mul(self.config.share.count().into()) / 1_000_000;
        share.max(self.config.min_concurrency.into())
    }

    fn part(&self, now: Duration) -> u64 {
        let length = (self.config.interval / PARTS).max(Duration::from_millis(1));
        (now.as_micros() / length.as_micros()) as u64
    }
}

impl Recent {
    // What began more than an interval before `part`.
    fn forget(&mut self, part: u64) {
        while let Some((first, count)) = self.parts.front().copied()
            && first + u64::from(PARTS) < part
        {
            self.total -= count;
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use config::Share;

    use super::*;

    fn budget(percent: f64, min_concurrency: u32, interval_ms: u64) -> Budget {
        let share = Share::percent(percent).unwrap();
        Budget::new(RetryBudget { share, min_concurrency, interval: Duration::from_millis(interval_ms) })
    }

    #[test]
    fn dr67_a_share_of_the_requests_but_always_a_few() {
        let budget = budget(20.0, 3, 0);
        let most = |under_way| budget.most(under_way, Duration::ZERO);
        assert_eq!([most(0), most(15), most(20), most(100)], [3, 3, 4, 20]);
    }

    #[test]
    fn dr67_with_an_interval_requests_count_after_their_end() {
        let budget = budget(50.0, 0, 160);
        let at = Duration::from_millis;
        (0..10).for_each(|_| budget.begin(at(1000)));
        assert_eq!(budget.most(0, at(1000)), 5);
        assert_eq!(budget.most(0, at(1150)), 5);
        assert_eq!(budget.most(0, at(1200)), 0);
        assert_eq!(budget.most(4, at(1200)), 2, "what is under way counts in any case");
    }
}
