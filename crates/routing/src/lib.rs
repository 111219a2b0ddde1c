//! Which route: a snapshot and a request head in, a decision out. Pure.
