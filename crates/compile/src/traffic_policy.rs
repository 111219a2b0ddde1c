//! The DestinationRule front end: one object in, a [`Rule`] out. Sees no service and no other object.
//!
//! `trafficPolicy` is lowered block by block; what a later version will obey is reported (DR20 to DR67).

use std::sync::Arc;
use std::time::Duration;

use api::traffic_policy::{ClientTls, H2UpgradePolicy, Http2KeepAlive, HttpPool, PortTrafficPolicy, TcpPool};
use api::{ConnectionPool, DestinationRuleSpec, LoadBalancer, OutlierDetection, TrafficPolicy};
use config::{Http2Keepalive, TcpKeepalive};
use words::{Fingerprint, Origin, host};

use crate::client_tls;
use crate::destination_rule::Rule;
use crate::load_balancer;
use crate::mesh::MeshConfig;
use crate::notes::Notes;
use crate::outlier;
use crate::policy::{Blocks, Policy, Pool, Subset};
use crate::service::Age;
use crate::visibility::Export;
use crate::{budget, timeout};

/// How long the answer to an HTTP/2 ping may take when nothing is said.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Lowers a DestinationRule.
pub(crate) fn lower(origin: Origin, age: Age, spec: &DestinationRuleSpec, mesh: &MeshConfig) -> Rule {
    let DestinationRuleSpec { host, traffic_policy, subsets, export_to, workload_selector } = spec;
    let mut notes = Notes::about(&origin);
    let namespace = origin.namespace.clone();
    let host: Arc<str> = host::resolve_short(host, &namespace, &mesh.domain).into();
    let selector = workload_selector.as_ref().map(|selector| selector.match_labels.clone());
    // A rule with a selector is private, whatever it says (X24).
    let export = match selector.is_some() {
        true => Export::parse(&["."], &[], &namespace),
        false => Export::parse(export_to, &mesh.default_destination_rule_export_to, &namespace),
    };
    let policy = traffic_policy.as_ref().map(|policy| lower_policy(policy, "spec.trafficPolicy", &mut notes));
    let mut lowered: Vec<Subset> = Vec::with_capacity(subsets.len());
    for (index, subset) in subsets.iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        if lowered.iter().any(|known| known.name == subset.name) {
            notes.ignored(
                format!("{field}.name"),
                format!("subset {:?} is defined twice; the first one counts", subset.name),
            );
            continue;
        }
        let at = format!("{field}.trafficPolicy");
        lowered.push(Subset {
            name: subset.name.clone(),
            labels: subset.labels.clone(),
            policy: subset.traffic_policy.as_ref().map(|policy| lower_policy(policy, &at, &mut notes)),
        });
    }
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, &host, &export, &selector, &policy, &lowered, &diagnostics));
    Rule { origin, age, host, export, selector, policy, subsets: lowered, diagnostics, print }
}

fn lower_policy(policy: &TrafficPolicy, field: &str, notes: &mut Notes) -> Policy {
    let TrafficPolicy {
        load_balancer,
        connection_pool,
        outlier_detection,
        circuit_breaker,
        tls,
        port_level_settings,
        tunnel,
        proxy_protocol,
        retry_budget,
    } = policy;
    notes.not_obeyed(tunnel.is_some(), || format!("{field}.tunnel"));
    notes.not_obeyed(proxy_protocol.is_some(), || format!("{field}.proxyProtocol"));
    let all = Written { load_balancer, connection_pool, outlier_detection, circuit_breaker, tls };
    let mut lowered = Policy { blocks: lower_blocks(all, field, notes), ..Policy::default() };
    let budget =
        |budget: &api::traffic_policy::RetryBudget| budget::lower(budget, &format!("{field}.retryBudget"), notes);
    lowered.blocks.retry_budget = retry_budget.as_ref().map(budget);
    for (index, entry) in port_level_settings.iter().enumerate() {
        let at = format!("{field}.portLevelSettings[{index}]");
        let PortTrafficPolicy { port, load_balancer, connection_pool, outlier_detection, circuit_breaker, tls } = entry;
        let one = Written { load_balancer, connection_pool, outlier_detection, circuit_breaker, tls };
        let blocks = lower_blocks(one, &at, notes);
        let number = port.as_ref().and_then(|port| port.number).and_then(|number| u16::try_from(number).ok());
        match number.filter(|number| *number != 0) {
            Some(number) => _ = lowered.ports.entry(number).or_insert(blocks),
            None => notes.ignored(format!("{at}.port.number"), "a port between 1 and 65535 is missing"),
        }
    }
    lowered
}

/// The blocks that a policy and a port entry have in common.
struct Written<'a> {
    load_balancer: &'a Option<LoadBalancer>,
    connection_pool: &'a Option<ConnectionPool>,
    outlier_detection: &'a Option<OutlierDetection>,
    circuit_breaker: &'a Option<OutlierDetection>,
    tls: &'a Option<ClientTls>,
}

fn lower_blocks(written: Written<'_>, field: &str, notes: &mut Notes) -> Blocks {
    let Written { load_balancer, connection_pool, outlier_detection, circuit_breaker, tls } = written;
    Blocks {
        balance: load_balancer.as_ref().map(|lb| load_balancer::lower(lb, &format!("{field}.loadBalancer"), notes)),
        pool: connection_pool.as_ref().map(|pool| lower_pool(pool, &format!("{field}.connectionPool"), notes)),
        outlier: match (outlier_detection, circuit_breaker) {
            (Some(outlier), _) => Some(outlier::lower(outlier, &format!("{field}.outlierDetection"), notes)),
            (None, Some(alias)) => Some(outlier::lower(alias, &format!("{field}.circuitBreaker"), notes)),
            (None, None) => None,
        },
        retry_budget: None,
        tls: tls.as_ref().map(|tls| client_tls::lower(tls, &format!("{field}.tls"), notes)),
    }
}

/// Also of a Sidecar's `inboundConnectionPool`.
pub(crate) fn lower_pool(pool: &ConnectionPool, field: &str, notes: &mut Notes) -> Pool {
    let ConnectionPool { tcp, http } = pool;
    let mut lowered = Pool::default();
    if let Some(tcp) = tcp {
        lower_tcp(tcp, &format!("{field}.tcp"), &mut lowered, notes);
    }
    if let Some(http) = http {
        lower_http(http, &format!("{field}.http"), &mut lowered, notes);
    }
    lowered
}

fn lower_tcp(tcp: &TcpPool, field: &str, pool: &mut Pool, notes: &mut Notes) {
    let TcpPool { max_connections, connect_timeout, tcp_keepalive, max_connection_duration, idle_timeout } = tcp;
    pool.max_connection_duration =
        timeout::lower(max_connection_duration.as_ref(), || format!("{field}.maxConnectionDuration"), notes);
    pool.max_connections = bound(*max_connections);
    pool.connect_timeout = timeout::lower(connect_timeout.as_ref(), || format!("{field}.connectTimeout"), notes);
    pool.tcp_keepalive = tcp_keepalive.as_ref().map(|keepalive| {
        let mut seconds = |written: Option<&api::Duration>, leaf: &str| {
            let duration = timeout::lower(written, || format!("{field}.tcpKeepalive.{leaf}"), notes)?;
            u32::try_from(duration.as_secs()).ok()
        };
        TcpKeepalive {
            probes: keepalive.probes,
            time_seconds: seconds(keepalive.time.as_ref(), "time"),
            interval_seconds: seconds(keepalive.interval.as_ref(), "interval"),
        }
    });
    // `0s` means never here (DR34); it is kept as a zero.
    pool.tcp_idle_timeout = idle_timeout.as_ref().and_then(|written| {
        let read = written.get();
        if read.is_none() {
            notes.ignored(
                format!("{field}.idleTimeout"),
                format!("{:?} is not a duration such as 1s or 100ms", written.0),
            );
        }
        read
    });
}

fn lower_http(http: &HttpPool, field: &str, pool: &mut Pool, notes: &mut Notes) {
    let HttpPool {
        http1_max_pending_requests,
        http2_max_requests,
        max_requests_per_connection,
        max_retries,
        idle_timeout,
        h2_upgrade_policy,
        use_client_protocol,
        max_concurrent_streams,
        http2_keep_alive,
    } = http;
    pool.max_concurrent_streams = bound(*max_concurrent_streams);
    pool.http2_keepalive = http2_keep_alive.as_ref().and_then(|pings| lower_pings(pings, field, notes));
    pool.max_pending_requests = bound(*http1_max_pending_requests);
    pool.max_requests = bound(*http2_max_requests);
    pool.max_requests_per_connection = bound(*max_requests_per_connection);
    pool.max_retries = bound(*max_retries);
    pool.http_idle_timeout = timeout::lower(idle_timeout.as_ref(), || format!("{field}.idleTimeout"), notes);
    pool.h2_upgrade = match h2_upgrade_policy {
        None | Some(H2UpgradePolicy::Default) => None,
        Some(H2UpgradePolicy::DoNotUpgrade) => Some(false),
        Some(H2UpgradePolicy::Upgrade) => Some(true),
    };
    pool.use_client_protocol = use_client_protocol.unwrap_or(false);
}

/// Without an interval nothing is sent; Istio has no default for the answer's bound, Envoy refuses a missing one.
fn lower_pings(pings: &Http2KeepAlive, field: &str, notes: &mut Notes) -> Option<Http2Keepalive> {
    let Http2KeepAlive { interval, timeout } = pings;
    let mut read = |written: Option<&api::Duration>, leaf| {
        timeout::lower(written, || format!("{field}.http2KeepAlive.{leaf}"), notes)
    };
    let (interval, timeout) = (read(interval.as_ref(), "interval"), read(timeout.as_ref(), "timeout"));
    Some(Http2Keepalive { interval: interval?, timeout: timeout.unwrap_or(PING_TIMEOUT) })
}

/// Zero and negative numbers are "not said" (TR05).
fn bound(written: Option<i32>) -> Option<u32> {
    written.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0)
}
