//! Dynamic forward proxies (Envoy `clusters.dynamic_forward_proxy.v3`, the HTTP filter of that name, and
//! `sni_dynamic_forward_proxy.v3`): a cluster whose hosts are named by requests, and the filters that read the names.

use std::time::Duration;

use config::{DnsCache, DynamicHost};
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::DnsLookupFamily;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3 as upstream;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as http;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3 as sni;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::filter_config::PortSpecifier;
use envoy_types::pb::google::protobuf::Any;

use crate::common::{Reason, any, duration, read_any, uint32};

pub(crate) const CLUSTER: &str = "envoy.clusters.dynamic_forward_proxy";
pub(crate) const HTTP: &str = "envoy.filters.http.dynamic_forward_proxy";
pub(crate) const SNI: &str = "envoy.filters.network.sni_dynamic_forward_proxy";
/// Envoy's bound on names where a cache says nothing.
const ENVOY_HOSTS_MAX: u32 = 1024;
/// How often a name is asked for again when its record does not say, as for Istio's DNS clusters (SE07).
pub(crate) const REFRESH: Duration = Duration::from_secs(60);

fn encode_cache(cache: &DnsCache) -> DnsCacheConfig {
    let DnsCache { name, hosts_max } = cache;
    DnsCacheConfig {
        name: name.clone(),
        dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
        dns_refresh_rate: Some(duration(REFRESH)),
        max_hosts: uint32(*hosts_max),
        ..Default::default()
    }
}

fn decode_cache(cache: &Option<DnsCacheConfig>) -> Result<DnsCache, Reason> {
    let cache = cache.as_ref().ok_or("dns_cache_config: a cache of its own is expected")?;
    let hosts_max = cache.max_hosts.as_ref().map_or(ENVOY_HOSTS_MAX, |max| max.value);
    Ok(DnsCache { name: cache.name.clone(), hosts_max })
}

pub(crate) fn encode_cluster(cache: &DnsCache) -> cluster::cluster::CustomClusterType {
    let config = upstream::ClusterConfig {
        // Whether names of certificates are compared is said by the TLS settings, not demanded here.
        allow_insecure_cluster_options: true,
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(encode_cache(cache))),
        ..Default::default()
    };
    cluster::cluster::CustomClusterType { name: CLUSTER.into(), typed_config: Some(any(&config)) }
}

pub(crate) fn decode_cluster(custom: &cluster::cluster::CustomClusterType) -> Result<DnsCache, Reason> {
    let config = custom.typed_config.as_ref().and_then(read_any::<upstream::ClusterConfig>);
    let Some(config) = config else { return Err(format!("cluster type {:?} is not known", custom.name)) };
    match config?.cluster_implementation_specifier {
        Some(ClusterImplementationSpecifier::DnsCacheConfig(cache)) => decode_cache(&Some(cache)),
        _ => Err("sub clusters are not obeyed here".into()),
    }
}

pub(crate) fn encode_http(cache: &DnsCache) -> Any {
    any(&http::FilterConfig {
        implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(encode_cache(cache))),
        ..Default::default()
    })
}

pub(crate) fn decode_http(config: &Any) -> Option<Result<DnsCache, Reason>> {
    let config = read_any::<http::FilterConfig>(config)?;
    Some(config.and_then(|config| match config.implementation_specifier {
        Some(ImplementationSpecifier::DnsCacheConfig(cache)) => decode_cache(&Some(cache)),
        _ => Err("sub clusters are not obeyed here".into()),
    }))
}

pub(crate) fn encode_sni(host: &DynamicHost) -> Any {
    let DynamicHost { cache, port } = host;
    any(&sni::FilterConfig {
        dns_cache_config: Some(encode_cache(cache)),
        port_specifier: Some(PortSpecifier::PortValue((*port).into())),
        ..Default::default()
    })
}

pub(crate) fn decode_sni(config: &Any) -> Option<Result<DynamicHost, Reason>> {
    let config = read_any::<sni::FilterConfig>(config)?;
    Some(config.and_then(|config| {
        let port = match config.port_specifier {
            Some(PortSpecifier::PortValue(port)) => u16::try_from(port).map_err(|_| "port_value is above 65535")?,
            // Envoy's default.
            None => 443,
        };
        Ok(DynamicHost { cache: decode_cache(&config.dns_cache_config)?, port })
    }))
}
