//! `sluicectl`: what is running where. istioctl's spelling and columns, over plain HTTP.
//!
//! In: a control plane's or a proxy's address, or a saved dump. Out: tables as istioctl prints them, or JSON and YAML.
//! Of what runs it knows Envoy's `config_dump` form and the control plane's `/debug/syncz`, and no other part of this
//! workspace; `analyze` reads what people write and `check` what is
//! installed; they know those crates.

pub mod analyze;
pub mod args;
pub mod check;
pub mod cluster;
pub mod dump;
pub mod endpoint;
pub mod fetch;
pub mod forward;
pub mod inject;
pub mod listener;
pub mod output;
pub mod reach;
pub mod route;
pub mod run;
pub mod status;
pub mod table;
