//! Token buckets: so many per interval, and a burst after a pause. Pure: the time is an argument.
//!
//! A bucket is one number, the moment at which it would be full again (the "virtual scheduling" form of the leaky bucket,
//! ITU-T I.371): taking a token moves it by the time that one token takes to come back. So a bucket that nobody uses needs
//! no timer, and workers share one by a compare-and-swap.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Clients that one limit tells apart; of more, those are forgotten whose buckets are full, and then the one that is
/// fullest.
pub const KEYS_MAX: usize = 10_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time for one token, in nanoseconds; at least 1.
    each: u64,
    /// Tokens in a full bucket.
    burst: u32,
}

/// What a bucket said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// There was a token.
    pub allowed: bool,
    /// Tokens that are left.
    pub remaining: u32,
    /// Until there is a token; zero when there is one now.
    pub wait: Duration,
}

impl Rate {
    /// So many tokens per interval; zeros count as one.
    pub fn new(tokens: u32, interval: Duration, burst: u32) -> Self {
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Self { each: (nanos / u64::from(tokens.max(1))).max(1), burst: burst.max(1) }
    }

    fn span(self) -> u64 {
        self.each.saturating_mul(self.burst.into())
    }

    /// Takes a token at `now` from a bucket that is full at `full_at`; the new moment, when there was one.
    fn take(self, full_at: u64, now: u64) -> (Option<u64>, Taken) {
        let next = full_at.max(now).saturating_add(self.each);
        let owed = next - now;
        if owed > self.span() {
            let wait = Duration::from_nanos(owed - self.span());
            return (None, Taken { allowed: false, remaining: 0, wait });
        }
        let remaining = u32::try_from((self.span() - owed) / self.each).unwrap_or(u32::MAX);
        let wait = if remaining == 0 { Duration::from_nanos(self.each - (self.span() - owed)) } else { Duration::ZERO };
        (Some(next), Taken { allowed: true, remaining, wait })
    }
}

/// The buckets of one limit: the one that all share, and one for each key.
#[derive(Debug, Default)]
pub struct Buckets {
    shared: AtomicU64,
    by_key: Mutex<HashMap<Box<[u8]>, u64>>,
}

impl Buckets {
    /// Takes a token of the bucket that all share. `now` counts nanoseconds from any fixed moment.
    pub fn take(&self, rate: Rate, now: u64) -> Taken {
        let mut full_at = self.shared.load(Ordering::Relaxed);
        loop {
            let (next, taken) = rate.take(full_at, now);
            let Some(next) = next else { return taken };
            match self.shared.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return taken,
                Err(other) => full_at = other,
            }
        }
    }

    /// Takes a token of a key's own bucket.
    pub fn take_for(&self, key: &[u8], rate: Rate, now: u64) -> Taken {
        // Whoever panicked while holding it left whole numbers behind.
        let mut by_key = self.by_key.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let full_at = by_key.get(key).copied().unwrap_or(0);
        let (next, taken) = rate.take(full_at, now);
        if let Some(next) = next {
            match by_key.get_mut(key) {
                Some(known) => *known = next,
                None => {
                    make_room(&mut by_key, now);
                    by_key.insert(key.into(), next);
                }
            }
        }
        taken
    }
}

fn make_room(by_key: &mut HashMap<Box<[u8]>, u64>, now: u64) {
    if by_key.len() < KEYS_MAX {
        return;
    }
    // A full bucket says no more than none.
    by_key.retain(|_, full_at| *full_at > now);
    if by_key.len() >= KEYS_MAX
        && let Some(key) = by_key.iter().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| key.clone())
    {
        by_key.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_and_then_the_rate() {
        let (buckets, rate) = (Buckets::default(), Rate::new(2, Duration::from_secs(1), 3));
        let now = 10 * SECOND;
        let left: Vec<_> = (0..3).map(|_| buckets.take(rate, now)).map(|one| (one.allowed, one.remaining)).collect();
        assert_eq!(left, [(true, 2), (true, 1), (true, 0)]);
        let refused = buckets.take(rate, now);
        assert_eq!(refused, Taken { allowed: false, remaining: 0, wait: Duration::from_millis(500) });
        assert!(buckets.take(rate, now + SECOND / 2).allowed, "half a second brings one");
        assert!(!buckets.take(rate, now + SECOND / 2).allowed);
        assert_eq!(buckets.take(rate, now + 100 * SECOND).remaining, 2, "a pause fills it, and no more than that");
    }

    #[test]
    fn keys_have_buckets_of_their_own_and_are_bounded() {
        let (buckets, rate) = (Buckets::default(), Rate::new(1, Duration::from_secs(1), 1));
        assert!(buckets.take_for(b"a", rate, SECOND).allowed);
        assert!(!buckets.take_for(b"a", rate, SECOND).allowed);
        assert!(buckets.take_for(b"b", rate, SECOND).allowed);
        for number in 0..2 * KEYS_MAX as u64 {
            buckets.take_for(&number.to_be_bytes(), rate, SECOND);
        }
        assert_eq!(buckets.by_key.lock().unwrap().len(), KEYS_MAX);
    }

    #[test]
    fn a_rate_of_nothing_is_one() {
        assert!(Buckets::default().take(Rate::new(0, Duration::ZERO, 0), 5).allowed);
    }
}
