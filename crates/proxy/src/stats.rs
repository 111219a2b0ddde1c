//! Envoy's counters of clusters and hosts, under Envoy's names.

use std::collections::BTreeMap;
use std::fmt::Write;

use balance::outlier::Events;

use crate::cluster::ClusterState;

/// The counters of one cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterStats {
    /// Name to value.
    pub counters: BTreeMap<&'static str, u64>,
    /// By address: name to value.
    pub hosts: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// By address: `healthy` or why not, weight, region, zone, subzone, priority.
    pub about: BTreeMap<String, [String; 6]>,
    /// Bounds: name and value.
    pub limits: BTreeMap<&'static str, u64>,
    /// `outlier_detection.*`: name and value.
    pub outlier: BTreeMap<&'static str, u64>,
}

impl ClusterStats {
    /// Reads one worker's side of a cluster.
    pub fn read(cluster: &ClusterState) -> Self {
        let counts = &cluster.counts;
        let classes =
            ["", "upstream_rq_1xx", "upstream_rq_2xx", "upstream_rq_3xx", "upstream_rq_4xx", "upstream_rq_5xx"];
        let mut counters = BTreeMap::from([
            ("upstream_rq_total", counts.requests.get()),
            ("upstream_rq_active", counts.active.get()),
            ("upstream_rq_retry", counts.retries.get()),
            ("upstream_rq_retry_success", counts.retry_successes.get()),
            ("upstream_rq_retry_limit_exceeded", counts.retries_exhausted.get()),
            ("upstream_rq_retry_overflow", counts.retry_overflows.get()),
            ("upstream_rq_per_try_timeout", counts.try_timeouts.get()),
            ("upstream_rq_timeout", counts.timeouts.get()),
            ("sluice_rq_mirrored", counts.mirrored.get()),
            ("sluice_rq_mirror_failed", counts.mirrors_failed.get()),
            ("sluice_rq_mirror_dropped", counts.mirrors_dropped.get()),
            ("upstream_rq_pending_overflow", counts.overflows.get()),
            ("upstream_rq_pending_total", counts.pending.get()),
            ("upstream_rq_pending_active", counts.pending_active.get()),
            ("upstream_cx_http1_total", counts.http1_connections.get()),
            ("upstream_cx_http2_total", counts.http2_connections.get()),
            ("upstream_cx_active", counts.connections_active.get()),
            ("upstream_cx_overflow", counts.connection_overflows.get()),
            ("upstream_cx_total", counts.connections.get()),
            ("upstream_cx_connect_fail", counts.connect_failures.get()),
            ("upstream_cx_none_healthy", counts.none_healthy.get()),
            ("upstream_cx_idle", cluster.pool.borrow().idle() as u64),
        ]);
        for (name, value) in classes.iter().zip(&counts.classes).skip(1) {
            counters.insert(name, value.get());
        }
        let balancer = cluster.balancer.borrow();
        let mut stats = Self { counters, ..Self::default() };
        for (index, host) in (0..).zip(balancer.hosts()) {
            let counters = balancer.counters(balance::HostId(index));
            let address = host.address.to_string();
            let numbers = BTreeMap::from([
                ("rq_active", u64::from(counters.active.get())),
                ("rq_total", counters.total.get()),
                ("rq_error", counters.errors.get()),
                ("rq_success", counters.total.get().saturating_sub(counters.errors.get())),
                ("cx_active", u64::from(counters.connections.get())),
                ("cx_total", counters.connections_total.get()),
                ("cx_connect_fail", counters.connect_failures.get()),
            ]);
            let is_out = cluster.plan.borrow().outlier.as_ref().is_some_and(|detector| detector.is_out(index));
            let health = match (is_out, host.health) {
                (false, config::Health::Healthy) => "healthy",
                (false, config::Health::Unhealthy) => "/failed_eds_health",
                (false, config::Health::Draining) => "/eds_status_draining",
                (true, config::Health::Healthy) => "/failed_outlier_check",
                (true, config::Health::Unhealthy) => "/failed_outlier_check/failed_eds_health",
                (true, config::Health::Draining) => "/failed_outlier_check/eds_status_draining",
            };
            let config::Locality { region, zone, subzone } = host.locality.clone();
            let about = [health.into(), host.weight.to_string(), region, zone, subzone, host.priority.to_string()];
            stats.hosts.insert(address.clone(), numbers);
            stats.about.insert(address, about);
        }
        let thresholds = cluster.plan.borrow().config.thresholds;
        stats.limits = BTreeMap::from([
            ("max_connections", thresholds.max_connections.into()),
            ("max_pending_requests", thresholds.max_pending_requests.into()),
            ("max_requests", thresholds.max_requests.into()),
            ("max_retries", thresholds.max_retries.into()),
        ]);
        if let Some(detector) = &cluster.plan.borrow().outlier {
            let Events { active, ejected, overflow, errors, gateway, local } = detector.events();
            stats.outlier = BTreeMap::from([
                ("ejections_active", active),
                ("ejections_enforced_total", ejected),
                ("ejections_overflow", overflow),
                ("ejections_detected_consecutive_5xx", errors),
                ("ejections_detected_consecutive_gateway_failure", gateway),
                ("ejections_detected_consecutive_local_origin_failure", local),
            ]);
        }
        stats
    }

    /// Adds another worker's side.
    pub fn add(&mut self, other: Self) {
        for (name, value) in other.counters {
            *self.counters.entry(name).or_default() += value;
        }
        for (address, counters) in other.hosts {
            let mine = self.hosts.entry(address).or_default();
            for (name, value) in counters {
                *mine.entry(name).or_default() += value;
            }
        }
        self.about.extend(other.about);
        // These are the same on every worker.
        self.limits.extend(other.limits);
        self.outlier.extend(other.outlier);
    }
}

/// Envoy's `/clusters` text.
pub fn clusters(all: &BTreeMap<String, ClusterStats>) -> String {
    let mut out = String::new();
    for (name, stats) in all {
        for (limit, value) in &stats.limits {
            let _ = writeln!(out, "{name}::default_priority::{limit}::{value}");
        }
        for (address, counters) in &stats.hosts {
            for (counter, value) in counters {
                let _ = writeln!(out, "{name}::{address}::{counter}::{value}");
            }
            let Some([health, weight, region, zone, subzone, priority]) = stats.about.get(address) else { continue };
            let facts = [
                ("health_flags", health),
                ("weight", weight),
                ("region", region),
                ("zone", zone),
                ("sub_zone", subzone),
                ("priority", priority),
            ];
            for (fact, value) in facts {
                let _ = writeln!(out, "{name}::{address}::{fact}::{value}");
            }
        }
    }
    out
}

/// Envoy's `/clusters?format=json`.
pub fn clusters_json(all: &BTreeMap<String, ClusterStats>) -> serde_json::Value {
    let host = |(address, counters): (&String, &BTreeMap<&'static str, u64>), stats: &ClusterStats| {
        let (ip, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let health = stats.about.get(address).map_or("healthy", |about| about[0].as_str());
        let status = if health == "healthy" { "HEALTHY" } else { "UNHEALTHY" };
        let numbers: Vec<_> = counters
            .iter()
            .map(|(name, value)| serde_json::json!({"name": name, "value": value.to_string()}))
            .collect();
        serde_json::json!({
            "address": {"socket_address": {"address": ip, "port_value": port.parse::<u16>().unwrap_or(0)}},
            "stats": numbers, "health_status": {"eds_health_status": status}
        })
    };
    let each = all.iter().map(|(name, stats)| {
        let hosts: Vec<_> = stats.hosts.iter().map(|one| host(one, stats)).collect();
        serde_json::json!({"name": name, "host_statuses": hosts})
    });
    serde_json::json!({"cluster_statuses": each.collect::<Vec<_>>()})
}

/// Envoy's `/stats` text: a counter a line.
pub fn plain(all: &BTreeMap<String, ClusterStats>) -> String {
    let mut out = String::new();
    for (name, stats) in all {
        for (counter, value) in &stats.counters {
            let _ = writeln!(out, "cluster.{name}.{counter}: {value}");
        }
        for (counter, value) in &stats.outlier {
            let _ = writeln!(out, "cluster.{name}.outlier_detection.{counter}: {value}");
        }
        let _ = writeln!(out, "cluster.{name}.membership_total: {}", stats.hosts.len());
        let healthy = stats.about.values().filter(|about| about[0] == "healthy").count();
        let _ = writeln!(out, "cluster.{name}.membership_healthy: {healthy}");
    }
    out
}

/// Envoy's counters in the Prometheus form.
pub fn prometheus(all: &BTreeMap<String, ClusterStats>, out: &mut String) {
    let names: std::collections::BTreeSet<&str> =
        all.values().flat_map(|stats| stats.counters.keys().copied()).collect();
    for counter in names {
        let kind = if counter.ends_with("active") || counter.ends_with("idle") { "gauge" } else { "counter" };
        let _ = writeln!(out, "# TYPE envoy_cluster_{counter} {kind}");
        for (name, stats) in all {
            if let Some(value) = stats.counters.get(counter) {
                let _ = writeln!(out, "envoy_cluster_{counter}{{cluster_name=\"{name}\"}} {value}");
            }
        }
    }
    let names: std::collections::BTreeSet<&str> =
        all.values().flat_map(|stats| stats.outlier.keys().copied()).collect();
    for counter in names {
        let kind = if counter == "ejections_active" { "gauge" } else { "counter" };
        let _ = writeln!(out, "# TYPE envoy_cluster_outlier_detection_{counter} {kind}");
        for (name, stats) in all {
            if let Some(value) = stats.outlier.get(counter) {
                let _ = writeln!(out, "envoy_cluster_outlier_detection_{counter}{{cluster_name=\"{name}\"}} {value}");
            }
        }
    }
}
