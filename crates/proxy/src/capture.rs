//! `sluice-proxy iptables`: the rules that capture a pod's traffic, as Istio's istio-iptables makes them.
//!
//! In: its flags. Out: rules, given to the kernel by iptables-restore and ip6tables-restore, or by nft. What the rules are
//! is pure ([`rules`]); the same rules are written in both languages ([`iptables`], [`nft`]). A second run changes
//! nothing: our chains are emptied and filled in one transaction, and the jump to them is replaced by itself.

pub mod apply;
pub mod args;
pub mod iptables;
pub mod nft;
pub mod rules;

#[cfg(test)]
mod tests;

pub use args::Args;
pub use rules::{Family, Plan};
