//! How a cluster's endpoints are chosen: the algorithm with its settings, slow start, localities
//! (Envoy `Cluster.lb_policy`, `lb_config`, `common_lb_config`).

use config::balancing::{MAGLEV_SIZE_DEFAULT, MAGLEV_SIZE_MAX, MILLION, RING_SIZE_DEFAULT, RING_SIZE_MAX};
use config::{Balancing, Lb, LocalityMode, SlowStart};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::ring_hash_lb_config::HashFunction;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig,
    SlowStartConfig,
};
use envoy_types::pb::envoy::config::core::v3::RuntimeDouble;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::UInt64Value;

use crate::common::{At, Reason, duration, read_duration};

/// Envoy's `min_cluster_size` where zone-aware balancing says nothing.
const ENVOY_MIN_CLUSTER_SIZE: u32 = 6;
/// Envoy's `min_weight_percent` where slow start says nothing, in millionths.
const ENVOY_MINIMUM: u32 = MILLION / 10;

/// Writes the algorithm and its settings into a cluster.
pub(crate) fn encode(lb: Lb, balancing: &Balancing, out: &mut pb::Cluster) {
    let slow_start_config = balancing.slow_start.as_ref().map(encode_slow_start);
    let (policy, config) = match lb {
        Lb::LeastRequest => {
            let config = |slow_start_config| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow_start_config),
                    ..Default::default()
                })
            };
            (LbPolicy::LeastRequest, slow_start_config.map(config))
        }
        Lb::RoundRobin => {
            let config = |slow_start_config| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow_start_config) })
            };
            (LbPolicy::RoundRobin, slow_start_config.map(config))
        }
        Lb::Random => (LbPolicy::Random, None),
        Lb::ClusterProvided => (LbPolicy::ClusterProvided, None),
        Lb::RingHash { minimum_size } => {
            let ring = RingHashLbConfig { minimum_ring_size: uint64(minimum_size), ..Default::default() };
            (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring)))
        }
        Lb::Maglev { table_size } => {
            let table = MaglevLbConfig { table_size: uint64(table_size) };
            (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(table)))
        }
    };
    out.lb_policy = policy as i32;
    out.lb_config = config.or(out.lb_config.take());
}

fn encode_slow_start(slow_start: &SlowStart) -> SlowStartConfig {
    let SlowStart { window, aggression_millionths, minimum_millionths } = slow_start;
    SlowStartConfig {
        slow_start_window: Some(duration(*window)),
        aggression: Some(RuntimeDouble {
            default_value: f64::from(*aggression_millionths) / f64::from(MILLION),
            // Envoy wants a name even where nobody sets it.
            runtime_key: "slow_start.aggression".into(),
        }),
        min_weight_percent: Some(Percent { value: f64::from(*minimum_millionths) / f64::from(MILLION / 100) }),
    }
}

/// What localities mean, for a cluster's `common_lb_config`.
pub(crate) fn encode_locality(locality: LocalityMode) -> Option<LocalityConfigSpecifier> {
    match locality {
        LocalityMode::Flat => None,
        LocalityMode::Weighted => Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {})),
        LocalityMode::ZoneAware { routing_percent, min_cluster_size } => {
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(ZoneAwareLbConfig {
                routing_enabled: Some(Percent { value: routing_percent.into() }),
                min_cluster_size: uint64(min_cluster_size),
                ..Default::default()
            }))
        }
    }
}

fn uint64(value: u32) -> Option<UInt64Value> {
    Some(UInt64Value { value: value.into() })
}

/// The algorithm of a cluster.
pub(crate) fn decode_lb(cluster: &pb::Cluster) -> Result<Lb, Reason> {
    match LbPolicy::try_from(cluster.lb_policy) {
        Ok(LbPolicy::RoundRobin) => Ok(Lb::RoundRobin),
        Ok(LbPolicy::LeastRequest) => Ok(Lb::LeastRequest),
        Ok(LbPolicy::Random) => Ok(Lb::Random),
        Ok(LbPolicy::ClusterProvided) => Ok(Lb::ClusterProvided),
        Ok(LbPolicy::RingHash) => decode_ring(cluster).at("ring_hash_lb_config"),
        Ok(LbPolicy::Maglev) => decode_maglev(cluster).at("maglev_lb_config"),
        Ok(other) => Err(format!("lb_policy: {} is not obeyed here yet", other.as_str_name())),
        Err(_) => Err(format!("lb_policy: {} is not known", cluster.lb_policy)),
    }
}

fn decode_ring(cluster: &pb::Cluster) -> Result<Lb, Reason> {
    let Some(LbConfig::RingHashLbConfig(ring)) = &cluster.lb_config else {
        return Ok(Lb::RingHash { minimum_size: RING_SIZE_DEFAULT });
    };
    if ring.hash_function != HashFunction::XxHash as i32 {
        return Err("hash_function: only XX_HASH is obeyed here".into());
    }
    let minimum_size = bounded(ring.minimum_ring_size.as_ref(), RING_SIZE_DEFAULT, RING_SIZE_MAX)?;
    let maximum = bounded(ring.maximum_ring_size.as_ref(), RING_SIZE_MAX, RING_SIZE_MAX)?;
    if maximum != RING_SIZE_MAX {
        return Err("maximum_ring_size: not obeyed here".into());
    }
    Ok(Lb::RingHash { minimum_size })
}

fn decode_maglev(cluster: &pb::Cluster) -> Result<Lb, Reason> {
    let size = match &cluster.lb_config {
        Some(LbConfig::MaglevLbConfig(table)) => table.table_size.as_ref(),
        _ => None,
    };
    let table_size = bounded(size, MAGLEV_SIZE_DEFAULT, MAGLEV_SIZE_MAX)?;
    Ok(Lb::Maglev { table_size })
}

fn bounded(value: Option<&UInt64Value>, default: u32, most: u32) -> Result<u32, Reason> {
    let Some(value) = value else { return Ok(default) };
    u32::try_from(value.value)
        .ok()
        .filter(|size| *size <= most)
        .ok_or_else(|| format!("{} is above {most}", value.value))
}

/// What shapes the choice besides the algorithm.
pub(crate) fn decode(cluster: &pb::Cluster, notes: &mut Vec<String>) -> Result<Balancing, Reason> {
    let common = cluster.common_lb_config.as_ref();
    let hashing = common.and_then(|common| common.consistent_hashing_lb_config.as_ref());
    if hashing.is_some_and(|hashing| hashing.use_hostname_for_hashing || hashing.hash_balance_factor.is_some()) {
        notes.push(format!("cluster {:?}: consistent_hashing_lb_config is not obeyed", cluster.name));
    }
    let slow_start = match &cluster.lb_config {
        Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config.as_ref(),
        Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.as_ref(),
        _ => None,
    };
    Ok(Balancing {
        slow_start: slow_start.map(decode_slow_start).transpose().at("slow_start_config")?.flatten(),
        locality: decode_locality(common),
    })
}

// A percentage as a whole number, as Envoy rounds it.
fn whole(percent: f64) -> u8 {
    percent.clamp(0.0, 100.0).round() as u8
}

fn decode_slow_start(config: &SlowStartConfig) -> Result<Option<SlowStart>, Reason> {
    let Some(window) = config.slow_start_window.as_ref().map(read_duration).transpose().at("slow_start_window")? else {
        return Ok(None);
    };
    let minimum = config.min_weight_percent.as_ref();
    let aggression = config.aggression.as_ref().map_or(MILLION, |one| millionths(one.default_value));
    if aggression == 0 {
        return Err("aggression: must be above 0".into());
    }
    Ok((!window.is_zero()).then_some(SlowStart {
        window,
        aggression_millionths: aggression,
        minimum_millionths: minimum.map_or(ENVOY_MINIMUM, |percent| millionths(percent.value / 100.0).min(MILLION)),
    }))
}

fn millionths(value: f64) -> u32 {
    // A cast saturates, and NaN is 0.
    (value * f64::from(MILLION)).round() as u32
}

fn decode_locality(common: Option<&CommonLbConfig>) -> LocalityMode {
    match common.and_then(|common| common.locality_config_specifier.as_ref()) {
        // Envoy's default is zone-aware, which without a cluster of its own peers is nothing.
        None => LocalityMode::Flat,
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => LocalityMode::Weighted,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone)) => LocalityMode::ZoneAware {
            routing_percent: zone.routing_enabled.as_ref().map_or(100, |percent| whole(percent.value)),
            min_cluster_size: zone
                .min_cluster_size
                .as_ref()
                .map_or(ENVOY_MIN_CLUSTER_SIZE, |size| u32::try_from(size.value).unwrap_or(u32::MAX)),
        },
    }
}
