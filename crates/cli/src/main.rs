//! sluicectl: what is running where, and why.
fn main() {}
