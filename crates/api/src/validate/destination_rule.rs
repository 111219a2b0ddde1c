//! DestinationRule by itself (V-50 to V-59).

use super::{Findings, balancer, client_tls, names, outlier, pool, selector};
use crate::traffic_policy::Tunnel;
use crate::{
    ConnectionPool, DestinationRuleSpec, LoadBalancer, OutlierDetection, Subset, TrafficPolicy, traffic_policy,
};

pub(super) fn check(spec: &DestinationRuleSpec, found: &mut Findings) {
    let DestinationRuleSpec { host, traffic_policy, subsets, export_to, workload_selector } = spec;
    found.host("spec.host", host);
    check_export(export_to, workload_selector.is_some(), found);
    let labels = workload_selector.as_ref().map(|selector| &selector.match_labels);
    selector::check("spec.workloadSelector.matchLabels", labels, "the whole namespace", found);
    if let Some(policy) = traffic_policy {
        check_policy("spec.trafficPolicy", policy, found);
    }
    for (index, subset) in subsets.iter().enumerate() {
        check_subset(&format!("spec.subsets[{index}]"), subset, &subsets[..index], found);
    }
}

// V-59.
fn check_export(export_to: &[String], is_selective: bool, found: &mut Findings) {
    found.export_to(export_to, false);
    let own = found.namespace().to_owned();
    let elsewhere = |namespace: &&String| *namespace != "." && **namespace != own;
    if is_selective && export_to.iter().any(|namespace| elsewhere(&namespace)) {
        found.error("spec.exportTo", "a rule with a workloadSelector acts in its own namespace only; write [\".\"]");
    }
}

// V-51.
fn check_subset(path: &str, subset: &Subset, before: &[Subset], found: &mut Findings) {
    if let Some(reason) = super::bad_label(&subset.name) {
        found.error(format!("{path}.name"), format!("{:?} is not a subset name: {reason}", subset.name));
    }
    if before.iter().any(|other| other.name == subset.name) {
        found.error(format!("{path}.name"), format!("subset {:?} is there twice", subset.name));
    }
    found.labels(&format!("{path}.labels"), &subset.labels);
    if let Some(policy) = &subset.traffic_policy {
        check_policy(&format!("{path}.trafficPolicy"), policy, found);
    }
}

// V-52.
fn check_policy(path: &str, policy: &TrafficPolicy, found: &mut Findings) {
    if *policy == TrafficPolicy::default() {
        found.error(path, "a policy without any field");
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        found.error(path, "only one of tunnel, proxyProtocol may be set");
    }
    Blocks::of(policy).check(path, found);
    // V-58.
    if let Some(tunnel) = &policy.tunnel {
        check_tunnel(&format!("{path}.tunnel"), tunnel, found);
    }
    let interval = policy.retry_budget.as_ref().and_then(|budget| budget.budget_interval.as_ref());
    found.loose_duration(&format!("{path}.retryBudget.budgetInterval"), interval);
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{index}]");
        match port.port.as_ref().and_then(|port| port.number) {
            Some(number) => found.port(&format!("{path}.port.number"), number),
            None => found.error(format!("{path}.port"), "a port-level policy without port"),
        }
        let blocks = Blocks::of_port(port);
        if blocks.is_empty() {
            found.error(&path, "one of loadBalancer, connectionPool, outlierDetection or tls is required");
        }
        blocks.check(&path, found);
    }
}

/// What a policy has at every level.
struct Blocks<'a> {
    balancer: Option<&'a LoadBalancer>,
    pool: Option<&'a ConnectionPool>,
    outlier: Option<&'a OutlierDetection>,
    alias: Option<&'a OutlierDetection>,
    tls: Option<&'a traffic_policy::ClientTls>,
}

impl<'a> Blocks<'a> {
    fn of(policy: &'a TrafficPolicy) -> Self {
        Self {
            balancer: policy.load_balancer.as_ref(),
            pool: policy.connection_pool.as_ref(),
            outlier: policy.outlier_detection.as_ref(),
            alias: policy.circuit_breaker.as_ref(),
            tls: policy.tls.as_ref(),
        }
    }

    fn of_port(policy: &'a traffic_policy::PortTrafficPolicy) -> Self {
        Self {
            balancer: policy.load_balancer.as_ref(),
            pool: policy.connection_pool.as_ref(),
            outlier: policy.outlier_detection.as_ref(),
            alias: policy.circuit_breaker.as_ref(),
            tls: policy.tls.as_ref(),
        }
    }

    fn is_empty(&self) -> bool {
        let Self { balancer, pool, outlier, alias, tls } = self;
        balancer.is_none() && pool.is_none() && outlier.is_none() && alias.is_none() && tls.is_none()
    }

    fn check(&self, path: &str, found: &mut Findings) {
        let Self { balancer, pool, outlier, alias, tls } = *self;
        let is_watched = outlier.or(alias).is_some();
        outlier::check(path, outlier, alias, found);
        balancer::check(&format!("{path}.loadBalancer"), balancer, is_watched, found);
        pool::check(&format!("{path}.connectionPool"), pool, found);
        client_tls::check(&format!("{path}.tls"), tls, found);
    }
}

// V-58.
fn check_tunnel(path: &str, tunnel: &Tunnel, found: &mut Findings) {
    if let Some(protocol) = tunnel.protocol.as_deref().filter(|name| !["", "CONNECT", "POST"].contains(name)) {
        found.error(format!("{path}.protocol"), format!("{protocol:?} is neither CONNECT nor POST"));
    }
    let host = &tunnel.target_host;
    if words::host::ip(host).is_none()
        && let Some(reason) = names::bad_fqdn(host)
    {
        found.error(
            format!("{path}.targetHost"),
            format!("{host:?} is neither a host's full name nor an address: {reason}"),
        );
    }
    found.port(&format!("{path}.targetPort"), tunnel.target_port);
}
