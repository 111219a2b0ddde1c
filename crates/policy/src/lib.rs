//! Who may: rules about requests and connections (Envoy RBAC), and whose tokens are believed (Envoy `jwt_authn`).
//!
//! In: what `config` says and what is known of a request or connection, and the time. Out: a verdict with its reason. Knows
//! no socket and no clock; keys that must be fetched are fetched by the caller.

pub mod keys;
pub mod rules;
pub mod template;
pub mod token;
pub mod verify;

pub use keys::Keys;
pub use rules::{Facts, Request, Verdict, decide, tried};
pub use token::Token;
pub use verify::{Refused, Verified, verify};
