//! Endpoints by locality (Envoy `endpoint.v3.ClusterLoadAssignment`).

use config::{Endpoint, EndpointAddress, Endpoints, Health, Locality, LocalityEndpoints};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as pb;

use crate::common::{At, Reason, address, read_host_port, uint32};
use crate::metadata;

pub(crate) fn encode(endpoints: &Endpoints) -> pb::ClusterLoadAssignment {
    pb::ClusterLoadAssignment {
        cluster_name: endpoints.cluster.to_string(),
        endpoints: endpoints.localities.iter().map(encode_group).collect(),
        ..Default::default()
    }
}

fn encode_group(group: &LocalityEndpoints) -> pb::LocalityLbEndpoints {
    let LocalityEndpoints { locality, priority, weight, endpoints } = group;
    let Locality { region, zone, subzone } = locality.clone();
    pb::LocalityLbEndpoints {
        locality: Some(core::Locality { region, zone, sub_zone: subzone }),
        lb_endpoints: endpoints.iter().map(encode_endpoint).collect(),
        load_balancing_weight: weight.and_then(uint32),
        priority: *priority,
        ..Default::default()
    }
}

fn encode_endpoint(endpoint: &Endpoint) -> pb::LbEndpoint {
    let Endpoint { address: place, weight, health, workload, mtls } = endpoint;
    let health = match health {
        Health::Healthy => core::HealthStatus::Healthy,
        Health::Unhealthy => core::HealthStatus::Unhealthy,
        Health::Draining => core::HealthStatus::Draining,
    };
    let inner = pb::Endpoint { address: Some(encode_address(place)), ..Default::default() };
    pb::LbEndpoint {
        health_status: health as i32,
        metadata: metadata::endpoint(workload, *mtls),
        load_balancing_weight: uint32(*weight),
        host_identifier: Some(pb::lb_endpoint::HostIdentifier::Endpoint(inner)),
    }
}

fn encode_address(place: &EndpointAddress) -> core::Address {
    match place {
        EndpointAddress::Socket(socket) => address(*socket),
        EndpointAddress::Dns(name, port) => {
            let socket = core::SocketAddress {
                address: name.clone(),
                port_specifier: Some(core::socket_address::PortSpecifier::PortValue((*port).into())),
                ..Default::default()
            };
            core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
        }
        EndpointAddress::Pipe(path) => {
            let pipe = core::Pipe { path: path.clone(), mode: 0 };
            core::Address { address: Some(core::address::Address::Pipe(pipe)) }
        }
    }
}

pub(crate) fn decode(endpoints: &pb::ClusterLoadAssignment) -> Result<Endpoints, Reason> {
    let groups = endpoints.endpoints.iter().enumerate();
    let localities = groups.map(|(index, group)| decode_group(group).at(format!("endpoints[{index}]")));
    Ok(Endpoints { cluster: endpoints.cluster_name.as_str().into(), localities: localities.collect::<Result<_, _>>()? })
}

fn decode_group(group: &pb::LocalityLbEndpoints) -> Result<LocalityEndpoints, Reason> {
    let core::Locality { region, zone, sub_zone } = group.locality.clone().unwrap_or_default();
    let endpoints = group.lb_endpoints.iter().enumerate();
    let endpoints = endpoints.map(|(index, endpoint)| decode_endpoint(endpoint).at(format!("lb_endpoints[{index}]")));
    Ok(LocalityEndpoints {
        locality: Locality { region, zone, subzone: sub_zone },
        priority: group.priority,
        weight: group.load_balancing_weight.as_ref().map(|weight| weight.value),
        endpoints: endpoints.collect::<Result<_, _>>()?,
    })
}

fn decode_endpoint(endpoint: &pb::LbEndpoint) -> Result<Endpoint, Reason> {
    let Some(pb::lb_endpoint::HostIdentifier::Endpoint(inner)) = &endpoint.host_identifier else {
        return Err("only endpoints with an address are read".into());
    };
    let health = match core::HealthStatus::try_from(endpoint.health_status) {
        Ok(core::HealthStatus::Unknown | core::HealthStatus::Healthy | core::HealthStatus::Degraded) => Health::Healthy,
        Ok(core::HealthStatus::Draining) => Health::Draining,
        _ => Health::Unhealthy,
    };
    Ok(Endpoint {
        address: decode_address(inner.address.as_ref()).at("endpoint.address")?,
        weight: endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value.max(1)),
        health,
        workload: metadata::read_workload(&endpoint.metadata),
        mtls: metadata::read_mtls(&endpoint.metadata),
    })
}

fn decode_address(place: Option<&core::Address>) -> Result<EndpointAddress, Reason> {
    match place.and_then(|place| place.address.as_ref()) {
        Some(core::address::Address::SocketAddress(socket)) => {
            let (host, port) = read_host_port(socket)?;
            Ok(match host.parse() {
                Ok(ip) => EndpointAddress::Socket(std::net::SocketAddr::new(ip, port)),
                Err(_) => EndpointAddress::Dns(host.to_owned(), port),
            })
        }
        Some(core::address::Address::Pipe(pipe)) => Ok(EndpointAddress::Pipe(pipe.path.clone())),
        _ => Err("an address of a kind that is not read".into()),
    }
}
