//! DestinationRule by itself (V-50 to V-55, as far as routing needs them now).

use super::Findings;
use crate::load_balancer::{LoadBalancer, SimpleLb};
use crate::{ConnectionPool, DestinationRuleSpec, OutlierDetection, TrafficPolicy};

pub(super) fn check(spec: &DestinationRuleSpec, found: &mut Findings) {
    let DestinationRuleSpec { host, traffic_policy, subsets, export_to, workload_selector } = spec;
    found.host("spec.host", host);
    found.export_to(export_to, false);
    for (key, value) in workload_selector.iter().flat_map(|selector| &selector.match_labels) {
        if key.is_empty() || key.contains('*') || value.contains('*') {
            let field = format!("spec.workloadSelector.matchLabels.{key}");
            found.error(field, format!("{key:?}: {value:?} is empty or has a wildcard; labels must be whole"));
        }
    }
    if let Some(policy) = traffic_policy {
        check_policy("spec.trafficPolicy", policy, found);
    }
    for (index, subset) in subsets.iter().enumerate() {
        let path = format!("spec.subsets[{index}]");
        if let Some(reason) = super::bad_label(&subset.name) {
            found.error(format!("{path}.name"), format!("{:?} is not a subset name: {reason}", subset.name));
        }
        if subsets[..index].iter().any(|other| other.name == subset.name) {
            found.error(format!("{path}.name"), format!("subset {:?} is there twice", subset.name));
        }
        if let Some(policy) = &subset.traffic_policy {
            check_policy(&format!("{path}.trafficPolicy"), policy, found);
        }
    }
}

fn check_policy(path: &str, policy: &TrafficPolicy, found: &mut Findings) {
    check_alias(path, policy.circuit_breaker.is_some(), policy.outlier_detection.is_some(), found);
    check_outlier(path, policy.outlier(), found);
    check_balancer(path, policy.load_balancer.as_ref(), found);
    check_pool(path, policy.connection_pool.as_ref(), found);
    let interval = policy.retry_budget.as_ref().and_then(|budget| budget.budget_interval.as_ref());
    found.loose_duration(&format!("{path}.retryBudget.budgetInterval"), interval);
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{index}]");
        match port.port.as_ref().and_then(|port| port.number) {
            Some(number) => found.port(&format!("{path}.port.number"), number),
            None => found.error(format!("{path}.port"), "a port-level policy without port"),
        }
        check_alias(&path, port.circuit_breaker.is_some(), port.outlier_detection.is_some(), found);
        check_outlier(&path, port.outlier(), found);
        check_balancer(&path, port.load_balancer.as_ref(), found);
        check_pool(&path, port.connection_pool.as_ref(), found);
    }
}

fn check_alias(path: &str, alias: bool, proper: bool, found: &mut Findings) {
    let field = format!("{path}.circuitBreaker");
    match (alias, proper) {
        (true, true) => found.error(field, "outlierDetection is set too; circuitBreaker is only its alias"),
        (true, false) => found.deprecated(
            field,
            "circuitBreaker is no field of Istio's; it acts as outlierDetection here",
            "write outlierDetection",
        ),
        _ => {}
    }
}

fn check_outlier(path: &str, outlier: Option<&OutlierDetection>, found: &mut Findings) {
    let Some(outlier) = outlier else { return };
    if outlier.consecutive_errors.is_some() {
        let field = format!("{path}.outlierDetection.consecutiveErrors");
        found.deprecated(
            field,
            "consecutiveErrors is deprecated; it acts as consecutive5xxErrors here",
            "write consecutive5xxErrors",
        );
    }
    let percents =
        [("maxEjectionPercent", outlier.max_ejection_percent), ("minHealthPercent", outlier.min_health_percent)];
    for (name, value) in percents.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        if !(0..=100).contains(&value) {
            found.error(format!("{path}.outlierDetection.{name}"), format!("{value} is not within 0 to 100"));
        }
    }
}

fn check_pool(path: &str, pool: Option<&ConnectionPool>, found: &mut Findings) {
    let idle = pool.and_then(|pool| pool.tcp.as_ref()).and_then(|tcp| tcp.idle_timeout.as_ref());
    found.loose_duration(&format!("{path}.connectionPool.tcp.idleTimeout"), idle);
}

fn check_balancer(path: &str, balancer: Option<&LoadBalancer>, found: &mut Findings) {
    let cookie =
        balancer.and_then(|balancer| balancer.consistent_hash.as_ref()).and_then(|hash| hash.http_cookie.as_ref());
    let ttl = cookie.and_then(|cookie| cookie.ttl.as_ref());
    found.loose_duration(&format!("{path}.loadBalancer.consistentHash.httpCookie.ttl"), ttl);
    if balancer.and_then(|balancer| balancer.simple) == Some(SimpleLb::LeastConn) {
        found.deprecated(
            format!("{path}.loadBalancer.simple"),
            "LEAST_CONN is deprecated",
            "write LEAST_REQUEST, which is the same",
        );
    }
}
