//! For tests: the case corpus, its backends, processes on loopback, conditions with a deadline.
//!
//! A case (`tests/cases/<feature>/<rule>.yaml`) is read at four altitudes by the suites in `tests/`; this crate holds
//! what they share. It decides nothing about routing: it only knows what was asked and what came back.

pub mod backend;
pub mod bytes;
pub mod call;
pub mod case;
pub mod dns;
pub mod expect;
pub mod hello;
pub mod jwt;
pub mod netns;
pub mod pki;
pub mod placement;
pub mod process;
pub mod secured;
pub mod serve;
pub mod stream;
pub mod wait;
pub mod wire;
pub mod world;

pub use case::{Call, Case, Client, Expect};
pub use expect::Outcome;
