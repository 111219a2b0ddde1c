//! Outlier detection: when a host that answers badly is left alone for a while (Envoy `cluster.v3.OutlierDetection`,
//! Istio DR50 to DR56).

use std::time::Duration;

use serde::Serialize;

/// When a host is ejected, and for how long. A count of 0 is "never for this reason".
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Outlier {
    /// Errors in a row: answers 5xx (or [`Self::error_codes`]), and local failures unless they are counted apart.
    pub consecutive_5xx: u32,
    /// Answers 502, 503, 504 in a row, and local failures unless they are counted apart.
    pub consecutive_gateway: u32,
    /// Local failures in a row, counted apart (Istio `splitExternalLocalOriginErrors`); `None`: they are not, and a
    /// connection that cannot be made counts as a 503, a timeout as a 504.
    pub consecutive_local: Option<u32>,
    /// Status codes that are errors instead of 5xx, in order; empty for 5xx (DR56).
    pub error_codes: Vec<u16>,
    /// Time between sweeps, which bring hosts back; at least 1 ms.
    pub interval: Duration,
    /// A host is out this long, times the number of its recent ejections.
    pub base_ejection_time: Duration,
    /// Share of the hosts that may be out at a time.
    pub max_ejection_percent: u32,
}

impl Default for Outlier {
    /// Envoy's and Istio's defaults of a block that says nothing (TR04).
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local: None,
            error_codes: Vec::new(),
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
        }
    }
}
