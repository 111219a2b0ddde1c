//! Load balancing (V-55).

use super::{Findings, locality};
use crate::load_balancer::{ConsistentHash, HttpCookie, LoadBalancer, SimpleLb, Warmup};

/// Maglev tables are smaller; the largest prime below.
const TABLE_SIZE_END: u64 = 5_000_011;

/// `is_watched`: endpoints that fail are found out, which failover needs (V-56).
pub(super) fn check(path: &str, balancer: Option<&LoadBalancer>, is_watched: bool, found: &mut Findings) {
    let Some(balancer) = balancer else { return };
    if balancer.simple == Some(SimpleLb::LeastConn) {
        found.deprecated(
            format!("{path}.simple"),
            "LEAST_CONN is deprecated",
            "write LEAST_REQUEST, which is the same",
        );
    }
    if let Some(hash) = &balancer.consistent_hash {
        check_hash(&format!("{path}.consistentHash"), hash, found);
    }
    let sets = [
        ("localityLbSetting", balancer.locality_lb_setting.is_some()),
        ("zoneAwareLbSetting", balancer.zone_aware_lb_setting.is_some()),
    ];
    found.at_most_one(path, &sets);
    locality::check(path, balancer, is_watched, found);
    found.duration(&format!("{path}.warmupDurationSecs"), balancer.warmup_duration_secs.as_ref());
    if let Some(warmup) = &balancer.warmup {
        check_warmup(&format!("{path}.warmup"), warmup, found);
    }
}

fn check_hash(path: &str, hash: &ConsistentHash, found: &mut Findings) {
    if let Some(cookie) = &hash.http_cookie {
        check_cookie(&format!("{path}.httpCookie"), cookie, found);
    }
    if hash.minimum_ring_size.is_some() {
        let field = format!("{path}.minimumRingSize");
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            found.error(&field, "only one of minimumRingSize, ringHash, maglev may be set");
        }
        found.deprecated(field, "minimumRingSize is deprecated", "write ringHash: {minimumRingSize: …}");
    }
    let Some(maglev) = &hash.maglev else { return };
    match maglev.table_size.unwrap_or(0) {
        size if size < TABLE_SIZE_END && is_prime(size) => {}
        size => found.error(
            format!("{path}.maglev.tableSize"),
            format!("{size} is not a prime below {TABLE_SIZE_END}, such as 65537"),
        ),
    }
}

fn check_cookie(path: &str, cookie: &HttpCookie, found: &mut Findings) {
    if cookie.name.is_empty() {
        found.error(format!("{path}.name"), "a cookie without name");
    }
    found.loose_duration(&format!("{path}.ttl"), cookie.ttl.as_ref());
    for (index, attribute) in cookie.attributes.iter().enumerate() {
        let field = format!("{path}.attributes[{index}].name");
        if attribute.name.is_empty() {
            found.error(&field, "an attribute without name");
        }
        if cookie.attributes[..index].iter().any(|other| other.name == attribute.name) {
            found.error(field, format!("attribute {:?} is there twice", attribute.name));
        }
    }
}

fn check_warmup(path: &str, warmup: &Warmup, found: &mut Findings) {
    if warmup.duration.is_none() {
        found.error(format!("{path}.duration"), "required, but absent");
    }
    found.duration(&format!("{path}.duration"), warmup.duration.as_ref());
    if let Some(percent) = warmup.minimum_percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
        found.error(format!("{path}.minimumPercent"), format!("{percent} is not within 0 to 100"));
    }
    if let Some(aggression) = warmup.aggression.filter(|aggression| *aggression <= 0.0) {
        found.error(format!("{path}.aggression"), format!("{aggression} is not more than 0"));
    }
}

fn is_prime(number: u64) -> bool {
    let roots = (2..).take_while(|root| root * root <= number);
    number >= 2 && roots.into_iter().all(|root| !number.is_multiple_of(root))
}
