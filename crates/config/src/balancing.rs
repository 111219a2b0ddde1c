//! What shapes the choice among a cluster's endpoints besides the algorithm: age and place
//! (Envoy `Cluster.common_lb_config`, `SlowStartConfig`).

use std::time::Duration;

use serde::Serialize;

/// Points on a ring when nothing is said (Envoy `RingHashLbConfig.minimum_ring_size`, DR22).
pub const RING_SIZE_DEFAULT: u32 = 1024;
/// Most points on a ring that Envoy accepts, and its default for `maximum_ring_size`.
pub const RING_SIZE_MAX: u32 = 8 << 20;
/// Entries of a Maglev table when nothing is said (Envoy `MaglevLbConfig.table_size`, DR23).
pub const MAGLEV_SIZE_DEFAULT: u32 = 65_537;
/// Largest Maglev table that Envoy accepts.
pub const MAGLEV_SIZE_MAX: u32 = 5_000_011;
/// One, in millionths.
pub const MILLION: u32 = 1_000_000;

/// Shape of the choice among endpoints; the default is Istio's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Balancing {
    /// New endpoints get their share little by little; only with LEAST_REQUEST and ROUND_ROBIN (DR25).
    pub slow_start: Option<SlowStart>,
    /// What localities of one priority mean.
    pub locality: LocalityMode,
}

/// How an endpoint's share grows after it came (Envoy `SlowStartConfig`): its weight is multiplied by
/// `max(minimum, (age / window) ^ (1 / aggression))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SlowStart {
    /// How long it takes.
    pub window: Duration,
    /// In millionths, above 0; 1 000 000 is linear.
    pub aggression_millionths: u32,
    /// The share at the start, in millionths of one.
    pub minimum_millionths: u32,
}

/// What localities of one priority mean for the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum LocalityMode {
    /// Nothing: endpoints count, wherever they are.
    #[default]
    Flat,
    /// A locality is drawn by its weight, then an endpoint in it (DR77).
    Weighted,
    /// The proxy prefers its own zone as far as its peers leave room there (DR79).
    ZoneAware {
        /// Percent of requests to which this applies.
        routing_percent: u8,
        /// Clusters with fewer endpoints are not looked at.
        min_cluster_size: u32,
    },
}
