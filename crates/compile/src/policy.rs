//! Traffic policy, lowered: what a DestinationRule says about talking to a host, free of how it was written.
//!
//! Holds the inheritance between rule, port and subset (DR07 to DR09, TR25). Makes no clusters; `cluster.rs` does.

use std::collections::BTreeMap;
use std::time::Duration;

use config::{Http2Keepalive, RetryBudget, TcpKeepalive};
use words::Labels;

use crate::client_tls::Tls;
use crate::load_balancer::Balance;
use crate::outlier::Detection;

/// The policy of a rule or a subset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Policy {
    /// For every port.
    pub(crate) blocks: Blocks,
    /// For one service port instead.
    pub(crate) ports: BTreeMap<u16, Blocks>,
}

/// Blocks that are inherited or replaced as wholes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Blocks {
    /// `loadBalancer`.
    pub(crate) balance: Option<Balance>,
    /// `connectionPool`.
    pub(crate) pool: Option<Pool>,
    /// `outlierDetection`.
    pub(crate) outlier: Option<Detection>,
    /// `retryBudget`; no port entry has one, so that an entry drops it (DR08, DR67).
    pub(crate) retry_budget: Option<RetryBudget>,
    /// `tls`.
    pub(crate) tls: Option<Tls>,
}

/// `connectionPool`; `None` is "not said", which a zero is too (TR05).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pool {
    /// tcp.maxConnections.
    pub(crate) max_connections: Option<u32>,
    /// tcp.connectTimeout.
    pub(crate) connect_timeout: Option<Duration>,
    /// tcp.tcpKeepalive.
    pub(crate) tcp_keepalive: Option<TcpKeepalive>,
    /// tcp.idleTimeout.
    pub(crate) tcp_idle_timeout: Option<Duration>,
    /// tcp.maxConnectionDuration.
    pub(crate) max_connection_duration: Option<Duration>,
    /// http.http1MaxPendingRequests.
    pub(crate) max_pending_requests: Option<u32>,
    /// http.http2MaxRequests.
    pub(crate) max_requests: Option<u32>,
    /// http.maxRequestsPerConnection.
    pub(crate) max_requests_per_connection: Option<u32>,
    /// http.maxRetries.
    pub(crate) max_retries: Option<u32>,
    /// http.idleTimeout.
    pub(crate) http_idle_timeout: Option<Duration>,
    /// http.h2UpgradePolicy; `None` for DEFAULT, which is as the mesh says.
    pub(crate) h2_upgrade: Option<bool>,
    /// http.useClientProtocol.
    pub(crate) use_client_protocol: bool,
    /// http.maxConcurrentStreams.
    pub(crate) max_concurrent_streams: Option<u32>,
    /// http.http2KeepAlive.
    pub(crate) http2_keepalive: Option<Http2Keepalive>,
}

impl Policy {
    /// True when a Secret is needed anywhere in it.
    pub(crate) fn uses_secret(&self) -> bool {
        let all = std::iter::once(&self.blocks).chain(self.ports.values());
        all.filter_map(|blocks| blocks.tls.as_ref()).any(Tls::uses_secret)
    }

    /// True when it asks for mutual TLS of the mesh anywhere.
    pub(crate) fn needs_identity(&self) -> bool {
        let mut all = std::iter::once(&self.blocks).chain(self.ports.values());
        all.any(|blocks| matches!(blocks.tls, Some(Tls::Mesh(_))))
    }
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subset {
    /// Its name.
    pub(crate) name: String,
    /// Labels of its endpoints; empty for all of them.
    pub(crate) labels: Labels,
    /// What differs from the rule's policy.
    pub(crate) policy: Option<Policy>,
}

/// What holds for one port of one cluster, after inheritance.
pub(crate) fn effective(rule: Option<&Policy>, subset: Option<&Policy>, port: u16) -> Blocks {
    // A port entry replaces the rule's policy whole: what it leaves out is the default, not the rule's (DR08).
    let inherited = rule.map(|rule| rule.ports.get(&port).unwrap_or(&rule.blocks)).cloned().unwrap_or_default();
    let Some(subset) = subset else { return inherited };
    if let Some(replaced) = subset.ports.get(&port) {
        // What a port entry cannot say stays as it was inherited (DR09).
        let retry_budget = subset.blocks.retry_budget.or(inherited.retry_budget);
        return Blocks { retry_budget, ..replaced.clone() };
    }
    // Block by block, also over the rule's port entry (DR09).
    let Blocks { balance, pool, outlier, retry_budget, tls } = &subset.blocks;
    Blocks {
        balance: balance.clone().or(inherited.balance),
        pool: pool.clone().or(inherited.pool),
        outlier: outlier.clone().or(inherited.outlier),
        retry_budget: retry_budget.or(inherited.retry_budget),
        tls: tls.clone().or(inherited.tls),
    }
}

#[cfg(test)]
mod tests {
    use config::Lb;

    use super::*;

    fn blocks(algorithm: Option<Lb>, connections: Option<u32>) -> Blocks {
        let balance = algorithm.map(|algorithm| Balance { algorithm, hash: None, slow_start: None, locality: None });
        let pool = connections.map(|max| Pool { max_connections: Some(max), ..Pool::default() });
        Blocks { balance, pool, outlier: None, retry_budget: None, tls: None }
    }

    fn policy(base: Blocks, port: Option<Blocks>) -> Policy {
        Policy { blocks: base, ports: port.map(|blocks| (80, blocks)).into_iter().collect() }
    }

    #[test]
    fn dr07_subset_replaces_block_by_block() {
        let rule = policy(blocks(Some(Lb::RoundRobin), Some(5)), None);
        let subset = policy(blocks(Some(Lb::Random), None), None);
        assert_eq!(effective(Some(&rule), Some(&subset), 80), blocks(Some(Lb::Random), Some(5)));
    }

    #[test]
    fn tr25_port_level_settings_replace_the_whole_policy() {
        let rule = policy(blocks(Some(Lb::RoundRobin), Some(5)), Some(blocks(None, Some(7))));
        assert_eq!(effective(Some(&rule), None, 80), blocks(None, Some(7)));
        assert_eq!(effective(Some(&rule), None, 81), blocks(Some(Lb::RoundRobin), Some(5)));
    }

    #[test]
    fn dr09_subset_port_entry_is_wholesale_else_subset_blocks_win() {
        let rule = policy(blocks(Some(Lb::RoundRobin), Some(5)), Some(blocks(None, Some(7))));
        let with_port = policy(blocks(Some(Lb::Random), None), Some(blocks(None, None)));
        assert_eq!(effective(Some(&rule), Some(&with_port), 80), blocks(None, None));
        let without = policy(blocks(Some(Lb::Random), None), None);
        assert_eq!(effective(Some(&rule), Some(&without), 80), blocks(Some(Lb::Random), Some(7)));
    }
}
