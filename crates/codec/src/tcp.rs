//! The TCP proxy filter (Envoy `tcp_proxy.v3`).

use config::{ClusterChoice, TcpProxy, Weighted};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{self, ClusterSpecifier};

use crate::common::{At, Reason, duration, read_positive};
use crate::{access_log, hash};

pub(crate) fn encode(tcp: &TcpProxy) -> pb::TcpProxy {
    // `listener.rs` writes `dynamic_host` and `authorization` as filters of their own.
    let TcpProxy {
        stat_prefix,
        cluster,
        hash_source_ip,
        idle_timeout,
        max_connection_duration,
        dynamic_host: _,
        access_log,
        authorization: _,
    } = tcp;
    let cluster = match cluster {
        ClusterChoice::One(name) => ClusterSpecifier::Cluster(name.to_string()),
        ClusterChoice::Weighted(many) => {
            let weight = |one: &Weighted| tcp_proxy::weighted_cluster::ClusterWeight {
                name: one.cluster.to_string(),
                weight: one.weight,
                ..Default::default()
            };
            ClusterSpecifier::WeightedClusters(tcp_proxy::WeightedCluster {
                clusters: many.iter().map(weight).collect(),
            })
        }
    };
    pb::TcpProxy {
        stat_prefix: stat_prefix.clone(),
        cluster_specifier: Some(cluster),
        hash_policy: hash_source_ip.then(hash::by_source_ip).into_iter().collect(),
        idle_timeout: idle_timeout.map(duration),
        max_downstream_connection_duration: max_connection_duration.map(duration),
        access_log: access_log::encode(access_log),
        ..Default::default()
    }
}

pub(crate) fn decode(tcp: &pb::TcpProxy, notes: &mut Vec<String>) -> Result<TcpProxy, Reason> {
    let cluster = match &tcp.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => ClusterChoice::One(name.as_str().into()),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let taken = weighted.clusters.iter().filter(|one| one.weight > 0);
            ClusterChoice::Weighted(taken.map(|one| Weighted::new(one.name.as_str().into(), one.weight)).collect())
        }
        _ => return Err("no cluster".into()),
    };
    if tcp.tunneling_config.is_some() {
        return Err("tunneling_config: not obeyed here".into());
    }
    Ok(TcpProxy {
        stat_prefix: tcp.stat_prefix.clone(),
        cluster,
        hash_source_ip: hash::has_source_ip(&tcp.hash_policy, notes),
        idle_timeout: read_positive(&tcp.idle_timeout).at("idle_timeout")?,
        dynamic_host: None,
        max_connection_duration: read_positive(&tcp.max_downstream_connection_duration)
            .at("max_downstream_connection_duration")?,
        access_log: access_log::decode(&tcp.access_log, notes)?,
        authorization: Vec::new(),
    })
}
