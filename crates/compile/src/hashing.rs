//! Which key keeps requests at an endpoint (DR21, DR24): the route carries it, the DestinationRule says it.
//!
//! In: the rule that a client obeys for a service. Out: a key per destination. Knows no routes.

use std::collections::BTreeMap;

use config::HashKey;

use crate::destination_rule::Merged;
use crate::policy::{Blocks, Policy};

/// The keys of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hashing {
    rule: OfPolicy,
    subsets: BTreeMap<String, OfPolicy>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct OfPolicy {
    base: Option<HashKey>,
    /// By port; also ports whose own settings have no key.
    ports: BTreeMap<u16, Option<HashKey>>,
}

impl OfPolicy {
    fn of(policy: &Policy) -> Self {
        let key = |blocks: &Blocks| blocks.balance.as_ref().and_then(|balance| balance.hash.clone());
        Self {
            base: key(&policy.blocks),
            ports: policy.ports.iter().map(|(port, blocks)| (*port, key(blocks))).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.base.is_none() && self.ports.values().all(Option::is_none)
    }

    fn of_port(&self, port: Option<u16>) -> Option<&HashKey> {
        port.and_then(|port| self.ports.get(&port)?.as_ref())
    }
}

/// True when a policy has a key anywhere.
pub(crate) fn has_key(policy: &Policy) -> bool {
    !OfPolicy::of(policy).is_empty()
}

impl Hashing {
    /// The keys of a rule; `None` when it has none.
    pub(crate) fn of(rule: &Merged) -> Option<Self> {
        let policy = |policy: &Option<Policy>| policy.as_ref().map(OfPolicy::of).unwrap_or_default();
        let made = Self {
            rule: policy(&rule.policy),
            subsets: rule.subsets.iter().map(|subset| (subset.name.clone(), policy(&subset.policy))).collect(),
        };
        (!made.rule.is_empty() || made.subsets.values().any(|subset| !subset.is_empty())).then_some(made)
    }

    /// The key of a VirtualService's destination: ports count only where the destination names one (DR24).
    pub(crate) fn of_destination(&self, subset: &str, port: Option<u16>) -> Option<&HashKey> {
        let of_subset = self.subsets.get(subset).filter(|_| !subset.is_empty());
        of_subset
            .and_then(|subset| subset.of_port(port).or(subset.base.as_ref()))
            .or_else(|| self.rule.of_port(port))
            .or(self.rule.base.as_ref())
    }

    /// The key of a service's own route; a port's settings replace the rule's whole.
    pub(crate) fn of_service(&self, port: u16) -> Option<&HashKey> {
        match self.rule.ports.get(&port) {
            Some(own) => own.as_ref(),
            None => self.rule.base.as_ref(),
        }
    }

    /// True when connections are kept by the client's address; ports do not count here.
    pub(crate) fn keeps_connections(rule: &Merged, subset: &str) -> bool {
        let balance = |policy: Option<&Policy>| policy.and_then(|policy| policy.blocks.balance.clone());
        let of_subset = rule.subsets.iter().find(|one| one.name == subset && !subset.is_empty());
        let found = balance(of_subset.and_then(|subset| subset.policy.as_ref())).or(balance(rule.policy.as_ref()));
        found.is_some_and(|balance| balance.hash == Some(HashKey::SourceIp))
    }
}
