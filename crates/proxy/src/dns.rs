//! Hosts of DNS clusters: names resolved, again when their records expire, and handed over when the answer changes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use balance::{Host, HostSet, Shape};
use config::{Cluster, Discovery, EndpointAddress, Endpoints, Name};
use tokio::sync::mpsc;

use crate::resolvers::Resolver;

/// Shortest and longest time between two questions for one name; a failed one is repeated after the shortest.
const REFRESH_MIN: Duration = Duration::from_secs(5);
const REFRESH_MAX: Duration = Duration::from_secs(300);

/// What a resolver found.
pub type Found = (Name, Arc<HostSet>);

/// The endpoints of a DNS cluster; `None` for other clusters.
pub fn endpoints(cluster: &Cluster) -> Option<(&Endpoints, bool)> {
    match &cluster.discovery {
        Discovery::StrictDns(endpoints) => Some((endpoints, true)),
        Discovery::LogicalDns(endpoints) => Some((endpoints, false)),
        Discovery::Eds(_) | Discovery::Static(_) | Discovery::OriginalDst | Discovery::Dynamic(_) => None,
    }
}

/// Follows the names of a cluster until it is aborted.
pub async fn follow(cluster: Arc<Cluster>, resolver: Option<Arc<Resolver>>, found: mpsc::Sender<Found>) {
    let Some((endpoints, takes_all)) = endpoints(&cluster) else { return };
    let mut last: Option<Vec<Arc<Host>>> = None;
    loop {
        let (hosts, refresh) = resolve(endpoints, takes_all, resolver.as_deref(), &cluster.name).await;
        // A name that does not resolve now keeps the hosts that it had.
        if let Some(hosts) = hosts.filter(|hosts| last.as_ref() != Some(hosts)) {
            last = Some(hosts.clone());
            if found.send((cluster.name.clone(), Arc::new(HostSet::of(hosts, Shape::of(&cluster))))).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(refresh).await;
    }
}

async fn resolve(
    endpoints: &Endpoints,
    takes_all: bool,
    resolver: Option<&Resolver>,
    cluster: &str,
) -> (Option<Vec<Arc<Host>>>, Duration) {
    let (mut hosts, mut refresh) = (Vec::new(), REFRESH_MAX);
    for group in &endpoints.localities {
        for endpoint in &group.endpoints {
            let addresses = match &endpoint.address {
                EndpointAddress::Socket(address) => vec![*address],
                EndpointAddress::Pipe(_) => Vec::new(),
                EndpointAddress::Dns(name, port) => match lookup(resolver, name).await {
                    Ok((ips, ttl)) => {
                        refresh = refresh.min(ttl.max(REFRESH_MIN));
                        let wanted = if takes_all { ips.len() } else { 1 };
                        ips.into_iter().take(wanted).map(|ip| SocketAddr::new(ip, *port)).collect()
                    }
                    Err(error) => {
                        tracing::warn!(cluster, name, "does not resolve: {error}");
                        return (None, REFRESH_MIN);
                    }
                },
            };
            hosts.extend(addresses.into_iter().map(|address| {
                Arc::new(Host {
                    address: EndpointAddress::Socket(address),
                    weight: endpoint.weight,
                    health: endpoint.health,
                    priority: group.priority,
                    locality: group.locality.clone(),
                    locality_weight: group.weight.unwrap_or(0),
                    workload: endpoint.workload.clone(),
                    mtls: endpoint.mtls,
                })
            }));
        }
    }
    (Some(hosts), refresh)
}

async fn lookup(resolver: Option<&Resolver>, name: &str) -> Result<(BTreeSet<IpAddr>, Duration), String> {
    let resolver = resolver.ok_or("the system's resolver settings cannot be read")?;
    let (addresses, ttl) = resolver.lookup(name).await?;
    // Sorted: the same answer in another order is the same answer.
    Ok((addresses.into_iter().collect(), ttl))
}
