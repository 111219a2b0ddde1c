//! Which route: a route table and a request head in, a decision out.
//!
//! Pure and without allocation on the way: no clock, no IO, no randomness of its own (a draw is an argument). A
//! [`Router`] is the index of one table, made once at install time; it answers exactly what a walk over the table in
//! order would (`explain` is that walk, and a property test holds them together).

pub mod actions;
pub mod cors;
mod domain;
mod explain;
mod head;
pub mod header_changes;
mod matcher;
mod paths;
mod prefix_tree;
pub mod redirect;
pub mod rewrite;
mod router;
mod value;

pub use actions::{Actions, ClusterActions};
pub use explain::{Step, explain};
pub use head::Head;
pub use matcher::{HeaderCondition, Miss};
pub use router::{BuildError, Decision, Router, Target};
