//! What the Makefile calls: generate, check.
fn main() {}
