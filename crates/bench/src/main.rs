//! Benchmarks: the data plane against its peers, the control plane against its targets.
fn main() {}
