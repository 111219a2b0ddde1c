//! `sluiced`, the control plane: one loop over one closed enum of events. World in, a target per proxy out.
//!
//! In: changes from a source, what happens on xDS streams, questions over HTTP. Out: targets for streams, answers. The
//! loop owns all state; nothing else writes it, and nothing calls back into it.

pub mod args;
mod ask;
mod authenticate;
mod authorise;
mod ca;
mod certificates;
mod control;
mod debug;
mod event;
pub mod events;
mod http;
mod layers;
pub mod leader;
mod lifetime;
mod metrics;
mod peers;
mod ports;
mod progress;
mod proxies;
mod replicas;
mod reporter;
mod reporting;
mod reports;
mod rights;
mod roots;
pub mod run;
pub mod secure;
mod status;
mod webhook;

pub use run::run;
