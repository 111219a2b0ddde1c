//! Which endpoint: a cluster's hosts, what each is doing, and a draw in; a host out.
//!
//! Pure: no clock, no IO, no randomness of its own. A [`Balancer`] belongs to one worker and is not shared; a
//! [`HostSet`] is immutable and shared by all.

mod algorithm;
pub mod backoff;
mod balancer;
mod budget;
mod elsewhere;
mod hosts;
pub mod limits;
mod locality;
mod maglev;
pub mod outlier;
pub mod retry;
mod ring;
mod slow_start;
pub mod token_bucket;
mod turns;
mod view;

pub use balancer::{Active, Ask, Balancer, Counters, HostId};
pub use hosts::{Host, HostSet, Shape};
pub use limits::Limits;
pub use outlier::{Detector, Report};
