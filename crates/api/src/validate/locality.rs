//! Locality weights and failover (V-56).

use super::Findings;
use crate::load_balancer::{Distribute, Failover, LoadBalancer};

/// Labels of a locality; failover by them and failover by region would contradict each other.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

pub(super) fn check(path: &str, balancer: &LoadBalancer, is_watched: bool, found: &mut Findings) {
    if let Some(setting) = &balancer.locality_lb_setting {
        let path = format!("{path}.localityLbSetting");
        if !setting.distribute.is_empty() && !setting.failover.is_empty() {
            found.error(&path, "only one of distribute, failover may be set");
        }
        check_distribute(&format!("{path}.distribute"), &setting.distribute, found);
        check_failover(&path, &setting.failover, &setting.failover_priority, is_watched, found);
    }
    if let Some(setting) = &balancer.zone_aware_lb_setting {
        let path = format!("{path}.zoneAwareLbSetting");
        check_failover(&path, &setting.failover, &setting.failover_priority, is_watched, found);
    }
}

fn check_distribute(path: &str, shares: &[Distribute], found: &mut Findings) {
    let mut before: Vec<&str> = Vec::new();
    for (index, Distribute { from, to }) in shares.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let from = from.as_deref().unwrap_or_default();
        check_place(&format!("{path}.from"), from, &before, found);
        before.push(from);
        let mut sum = 0_u64;
        let mut others: Vec<&str> = Vec::new();
        for (place, weight) in to {
            let field = format!("{path}.to.{place}");
            check_place(&field, place, &others, found);
            others.push(place);
            if !(1..=100).contains(weight) {
                found.error(field, format!("{weight} is not within 1 to 100"));
            }
            sum += u64::from(*weight);
        }
        if sum != 100 {
            found.error(format!("{path}.to"), format!("the weights add up to {sum}, not to 100"));
        }
    }
}

// `region/zone/subzone`, where a `*` ends it; none of the places before may share a place with it.
fn check_place(field: &str, place: &str, before: &[&str], found: &mut Findings) {
    let parts: Vec<&str> = place.split('/').collect();
    let star = parts.iter().position(|part| part.contains('*'));
    let ends_with_star = star.is_none_or(|at| at + 1 == parts.len() && parts[at] == "*");
    if parts.len() > 3 || parts.iter().any(|part| part.is_empty()) || !ends_with_star {
        return found.error(field, format!("{place:?} is no locality, such as region/zone/subzone, region/* or *"));
    }
    if let Some(other) = before.iter().find(|other| overlap(other, place)) {
        found.error(field, format!("{place:?} overlaps {other:?}"));
    }
}

// A shorter locality stands for all in it.
fn overlap(a: &str, b: &str) -> bool {
    a.split('/').zip(b.split('/')).take_while(|(a, b)| *a != "*" && *b != "*").all(|(a, b)| a == b)
}

fn check_failover(path: &str, failover: &[Failover], priority: &[String], is_watched: bool, found: &mut Findings) {
    let by_region = priority.iter().any(|label| TOPOLOGY.contains(&label.split('=').next().unwrap_or_default()));
    if !failover.is_empty() && by_region {
        found.error(format!("{path}.failoverPriority"), "failover is set too; regions are ordered by one of them");
    }
    for (index, Failover { from, to }) in failover.iter().enumerate() {
        let path = format!("{path}.failover[{index}]");
        let (from, to) = (from.as_deref().unwrap_or_default(), to.as_deref().unwrap_or_default());
        if from == to {
            found.error(&path, format!("from and to are both {from:?}"));
        }
        for (name, region) in [("from", from), ("to", to)] {
            if region.contains(['/', '*']) {
                found.error(
                    format!("{path}.{name}"),
                    format!("{region:?} is not a region: neither '/' nor '*' may be in it"),
                );
            }
        }
    }
    let is_set = !failover.is_empty() || !priority.is_empty();
    if is_set && !is_watched {
        found.deprecated(path, "nothing fails over while failures are not noticed", "add outlierDetection beside it");
    }
}
