//! Benchmarks: the data plane against its peers in one run, the control plane against its targets.
//!
//! Nothing here asserts a time. Numbers are medians of interleaved rounds, and ratios of the same round.

pub mod control;
pub mod cpu;
pub mod data;
pub mod features;
pub mod fleet;
pub mod load;
pub mod peers;
pub mod table;
pub mod world;
