//! `loadBalancer`, lowered (DR20 to DR26): an algorithm, what keeps a request at an endpoint, how new endpoints start, and
//! what is said about localities.
//!
//! In: the block as it was written. Out: a [`Balance`]. Makes no clusters; what localities come to for one client,
//! `locality.rs` decides.

use api::load_balancer::{ConsistentHash, HttpCookie, SimpleLb, Warmup};
use api::{Duration, LoadBalancer};
use config::balancing::{MAGLEV_SIZE_DEFAULT, MAGLEV_SIZE_MAX, MILLION, RING_SIZE_DEFAULT, RING_SIZE_MAX};
use config::{HashCookie, HashKey, Lb, SlowStart};

use crate::locality::{self, Settings};
use crate::matches::is_header_name;
use crate::notes::Notes;
use crate::timeout;

/// Share of a new endpoint when `minimumPercent` is not said, in percent (DR25).
const WARMUP_MINIMUM_PERCENT: f64 = 10.0;

/// `loadBalancer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Balance {
    /// The algorithm; [`Lb::ClusterProvided`] for PASSTHROUGH.
    pub(crate) algorithm: Lb,
    /// What of a request is hashed.
    pub(crate) hash: Option<HashKey>,
    /// How new endpoints start.
    pub(crate) slow_start: Option<SlowStart>,
    /// `localityLbSetting` or `zoneAwareLbSetting`.
    pub(crate) locality: Option<Settings>,
}

impl Balance {
    /// The dialled address (DR20).
    pub(crate) fn is_passthrough(&self) -> bool {
        self.algorithm == Lb::ClusterProvided
    }
}

/// Lowers the block. It replaces an inherited one whole, even when it only sets localities.
pub(crate) fn lower(written: &LoadBalancer, field: &str, notes: &mut Notes) -> Balance {
    let LoadBalancer {
        simple,
        consistent_hash,
        locality_lb_setting,
        zone_aware_lb_setting,
        warmup_duration_secs,
        warmup,
    } = written;
    let mut algorithm = match simple {
        None | Some(SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest) => Lb::LeastRequest,
        Some(SimpleLb::Random) => Lb::Random,
        Some(SimpleLb::RoundRobin) => Lb::RoundRobin,
        Some(SimpleLb::Passthrough) => Lb::ClusterProvided,
    };
    let mut hash = None;
    if let Some(written) = consistent_hash {
        let field = format!("{field}.consistentHash");
        algorithm = lower_table(written, &field, notes);
        hash = lower_key(written, &field, notes);
    }
    Balance {
        algorithm,
        hash,
        slow_start: lower_warmup(warmup.as_ref(), warmup_duration_secs.as_ref(), field, notes)
            .filter(|_| matches!(algorithm, Lb::LeastRequest | Lb::RoundRobin)),
        // Validation refuses both; the more specific one counts (DR70).
        locality: match (zone_aware_lb_setting, locality_lb_setting) {
            (Some(zone), _) => Some(locality::lower_zone_aware(zone, &format!("{field}.zoneAwareLbSetting"), notes)),
            (None, Some(written)) => Some(locality::lower(written, &format!("{field}.localityLbSetting"), notes)),
            (None, None) => None,
        },
    }
}

fn lower_table(written: &ConsistentHash, field: &str, notes: &mut Notes) -> Lb {
    let ConsistentHash { ring_hash, maglev, minimum_ring_size, .. } = written;
    if let Some(maglev) = maglev {
        let size = maglev.table_size.and_then(|size| u32::try_from(size).ok());
        let usable = size.filter(|size| *size < MAGLEV_SIZE_MAX && is_prime(*size));
        if usable.is_none() && maglev.table_size.is_some() {
            let message = format!("is not a prime number below {MAGLEV_SIZE_MAX}; {MAGLEV_SIZE_DEFAULT} is used");
            notes.ignored(format!("{field}.maglev.tableSize"), message);
        }
        return Lb::Maglev { table_size: usable.unwrap_or(MAGLEV_SIZE_DEFAULT) };
    }
    let (said, leaf) = match ring_hash {
        Some(ring) => (ring.minimum_ring_size, "ringHash.minimumRingSize"),
        None => (*minimum_ring_size, "minimumRingSize"),
    };
    // 0 is "not said" (DR22).
    let said = said.filter(|size| *size > 0);
    let usable = said.and_then(|size| u32::try_from(size).ok()).filter(|size| *size <= RING_SIZE_MAX);
    if usable.is_none() && said.is_some() {
        notes.ignored(format!("{field}.{leaf}"), format!("is above {RING_SIZE_MAX}; {RING_SIZE_DEFAULT} is used"));
    }
    Lb::RingHash { minimum_size: usable.unwrap_or(RING_SIZE_DEFAULT) }
}

fn is_prime(number: u32) -> bool {
    let divisors = (2..).take_while(|divisor: &u32| u64::from(*divisor).pow(2) <= u64::from(number));
    number > 1 && divisors.into_iter().all(|divisor| !number.is_multiple_of(divisor))
}

fn lower_key(written: &ConsistentHash, field: &str, notes: &mut Notes) -> Option<HashKey> {
    let ConsistentHash { http_header_name, http_cookie, use_source_ip, http_query_parameter_name, .. } = written;
    if let Some(name) = http_header_name.as_deref().filter(|name| !name.is_empty()) {
        if is_header_name(name) {
            return Some(HashKey::Header(name.to_ascii_lowercase()));
        }
        notes.ignored(format!("{field}.httpHeaderName"), format!("{name:?} is not the name of a header"));
        return None;
    }
    if let Some(cookie) = http_cookie {
        return lower_cookie(cookie, &format!("{field}.httpCookie"), notes);
    }
    if let Some(name) = http_query_parameter_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(HashKey::Query(name.to_owned()));
    }
    use_source_ip.unwrap_or(false).then_some(HashKey::SourceIp)
}

fn lower_cookie(cookie: &HttpCookie, field: &str, notes: &mut Notes) -> Option<HashKey> {
    let HttpCookie { name, path, ttl, attributes } = cookie;
    if name.is_empty() || !is_safe(name) || name.contains(['=', ' ', ',']) {
        notes.ignored(format!("{field}.name"), format!("{name:?} is not the name of a cookie"));
        return None;
    }
    let path = path.clone().unwrap_or_default();
    if !is_safe(&path) {
        notes.ignored(format!("{field}.path"), format!("{path:?} cannot stand in a cookie"));
        return None;
    }
    let ttl = ttl.as_ref().and_then(|written| {
        let read = written.get();
        if read.is_none() {
            notes.ignored(format!("{field}.ttl"), format!("{:?} is not a duration such as 0s or 30m", written.0));
        }
        read
    });
    let mut taken = Vec::with_capacity(attributes.len());
    for (index, attribute) in attributes.iter().enumerate() {
        let value = attribute.value.clone().unwrap_or_default();
        match !attribute.name.is_empty() && is_safe(&attribute.name) && is_safe(&value) {
            true => taken.push((attribute.name.clone(), value)),
            false => notes.ignored(format!("{field}.attributes[{index}]"), "cannot stand in a cookie"),
        }
    }
    Some(HashKey::Cookie(HashCookie { name: name.clone(), path, ttl, attributes: taken }))
}

// What cannot end the attribute, the cookie or the header that it stands in.
fn is_safe(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b';')
}

/// `warmup`, or its older spelling (DR25).
fn lower_warmup(
    warmup: Option<&Warmup>,
    older: Option<&Duration>,
    field: &str,
    notes: &mut Notes,
) -> Option<SlowStart> {
    let Some(Warmup { duration, minimum_percent, aggression }) = warmup else {
        let window = timeout::lower(older, || format!("{field}.warmupDurationSecs"), notes)?;
        return Some(SlowStart {
            window,
            aggression_millionths: MILLION,
            minimum_millionths: millionths(WARMUP_MINIMUM_PERCENT / 100.0),
        });
    };
    let window = timeout::lower(duration.as_ref(), || format!("{field}.warmup.duration"), notes)?;
    let mut usable = |value: &Option<f64>, leaf: &str, is_good: fn(f64) -> bool, wanted: &str| {
        let value = (*value)?;
        if !is_good(value) {
            notes.ignored(format!("{field}.warmup.{leaf}"), format!("{value} is not {wanted}"));
        }
        Some(value).filter(|value| is_good(*value))
    };
    let percent = usable(minimum_percent, "minimumPercent", |value| (0.0..=100.0).contains(&value), "within 0 to 100");
    let aggression = usable(aggression, "aggression", |value| (1e-6..=1000.0).contains(&value), "above 0");
    Some(SlowStart {
        window,
        aggression_millionths: aggression.map_or(MILLION, millionths),
        minimum_millionths: millionths(percent.unwrap_or(WARMUP_MINIMUM_PERCENT) / 100.0),
    })
}

fn millionths(value: f64) -> u32 {
    (value * f64::from(MILLION)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_other_numbers() {
        let primes: Vec<u32> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && !is_prime(65_535) && is_prime(5_000_011));
    }
}
