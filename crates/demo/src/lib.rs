//! Bookinfo as small servers, and the demo that runs them with a sidecar each.
//!
//! The servers keep the timings that the Istio tutorials depend on (see [`timing`]); they know no mesh: each sends
//! its requests to the other's name, or, where there are no names, to one address, its sidecar, with the name in the
//! Host header.

pub mod client;
pub mod details;
pub mod echo;
pub mod load;
pub mod page;
pub mod productpage;
pub mod ratings;
pub mod reviews;
pub mod serve;
pub mod timing;
pub mod up;
