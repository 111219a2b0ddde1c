//! A share of requests, as precise as Istio's percentages are: a step is a ten-thousandth of a percent.

use serde::Serialize;

/// How many of a million requests, 0 to 1,000,000 (Envoy `FractionalPercent` over `MILLION`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Share(u32);

impl Share {
    /// No request.
    pub const NONE: Share = Share(0);
    /// Every request.
    pub const ALL: Share = Share(Self::MILLION);
    const MILLION: u32 = 1_000_000;

    /// `count` of a million; more than a million counts as all.
    pub fn per_million(count: u32) -> Self {
        Self(count.min(Self::MILLION))
    }

    /// A percentage; what is beyond a ten-thousandth is cut off as Istio cuts it. `None` outside of 0 to 100.
    pub fn percent(percent: f64) -> Option<Self> {
        // The product is between 0 and a million, so the conversion is exact but for the fraction.
        (0.0..=100.0).contains(&percent).then_some(Self((percent * 10_000.0) as u32))
    }

    /// How many of a million.
    pub fn count(self) -> u32 {
        self.0
    }

    /// In percent.
    pub fn as_percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// True when a uniform draw falls into the share. Draws are independent: each share asks for its own.
    pub fn takes(self, draw: u32) -> bool {
        (u64::from(draw) * u64::from(Self::MILLION)) >> 32 < u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_none_are_certain() {
        for draw in [0, 1, u32::MAX / 2, u32::MAX] {
            assert!(Share::ALL.takes(draw) && !Share::NONE.takes(draw));
        }
    }

    #[test]
    fn fractions_of_a_percent_count() {
        assert_eq!(Share::percent(0.0001).map(Share::count), Some(1));
        assert_eq!(Share::percent(12.5), Some(Share::per_million(125_000)));
        assert_eq!([-0.1, 100.1, f64::NAN].map(Share::percent), [None; 3]);
    }
}
