//! The control plane: one loop over events; compile, check, encode, publish.
fn main() {}
