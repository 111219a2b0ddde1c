//! Configuration that several tests have proxies obey.

use std::net::SocketAddr;
use std::time::Duration;

use config::{
    Balancing, Cluster, Discovery, Endpoint, EndpointAddress, Endpoints, Health, Http2Bounds, Lb, Locality,
    LocalityEndpoints, Thresholds, UpstreamProtocol,
};

/// The cluster `c`, of one host.
pub(crate) fn cluster(at: SocketAddr) -> Cluster {
    let endpoint = Endpoint {
        address: EndpointAddress::Socket(at),
        weight: 1,
        health: Health::Healthy,
        workload: None,
        mtls: false,
    };
    let locality =
        LocalityEndpoints { locality: Locality::default(), priority: 0, weight: None, endpoints: vec![endpoint] };
    Cluster {
        name: "c".into(),
        discovery: Discovery::Static(Endpoints { cluster: "c".into(), localities: vec![locality] }),
        lb: Lb::RoundRobin,
        balancing: Balancing::default(),
        connect_timeout: Duration::from_secs(1),
        protocol: UpstreamProtocol::Http1,
        idle_timeout: None,
        max_connection_duration: None,
        http2: Http2Bounds::default(),
        max_requests_per_connection: None,
        tcp_keepalive: None,
        thresholds: Thresholds::default(),
        outlier: None,
        panic_percent: 0,
        source_address: None,
        source_address_v6: None,
        original_port: None,
        tls: None,
        service: None,
        origin: None,
    }
}
