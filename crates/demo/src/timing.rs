//! The timings that the tutorials explain (TR15): who waits how long for whom, and how often.

use std::time::Duration;

/// productpage waits this long for reviews and for details …
pub const PRODUCTPAGE_WAITS: Duration = Duration::from_secs(3);
/// … and asks reviews this often, so a slow ratings service shows as an error after about 6 s.
pub const PRODUCTPAGE_TRIES: u32 = 2;
/// reviews v2 (black stars) waits this long for ratings.
pub const REVIEWS_V2_WAITS: Duration = Duration::from_secs(10);
/// reviews v3 (red stars) waits this long for ratings.
pub const REVIEWS_V3_WAITS: Duration = Duration::from_millis(2500);
