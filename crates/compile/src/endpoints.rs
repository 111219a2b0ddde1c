//! Endpoints of a cluster: those of the service, on one port, with a subset's labels, in a fixed order.
//!
//! In: what `world/join.rs` joined, or what stands in a ServiceEntry. Out: [`Endpoints`]. Never looks at routes or
//! rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Endpoint, EndpointAddress, Endpoints, Health, Locality, LocalityEndpoints, Name};
use words::Labels;

use crate::cluster::Wish;
use crate::locality::Place;
use crate::peer_authentication::Policies;
use crate::service::{InlineAddress, InlineEndpoint, Port, Service, Target};
use crate::world::{Joined, JoinedEndpoint};

/// The endpoints that a cluster wants by EDS. `node`: only those there (DR80); `place`: where the client is. `policies`:
/// the client knows mutual TLS, and those who take it are marked (PA04).
pub(crate) fn compute(
    wish: &Wish,
    service: &Service,
    joined: Option<&Joined>,
    (node, place): (Option<&str>, Option<&Place>),
    policies: Option<&Policies>,
) -> Endpoints {
    let inline: Vec<JoinedEndpoint> = service.inline.iter().map(given).collect();
    let all = joined.map(|joined| joined.endpoints.as_slice()).unwrap_or_default().iter().chain(&inline);
    let here = all
        .filter(|endpoint| node.is_none_or(|node| endpoint.node == node))
        .filter(|endpoint| !wish.ready_only || endpoint.health == Health::Healthy);
    let is_address = |address: &EndpointAddress| !matches!(address, EndpointAddress::Dns(..));
    let arranged = wish.spread.as_ref().zip(place);
    let rank = |endpoint: &JoinedEndpoint| arranged.map_or(0, |(spread, place)| spread.rank(&endpoint.labels, place));
    let marks = policies.map(|policies| Marks { policies, namespace: &service.namespace });
    let mut made = gather(here, &wish.port, (&wish.labels, marks), wish.cluster.clone(), is_address, rank);
    if let Some((spread, place)) = arranged {
        spread.arrange(&mut made, place, wish.locality);
    }
    made
}

/// The names that a DNS cluster resolves: those given, those of selected workloads, else the host itself (SE07, SE11).
/// `None`: nothing to resolve (SE18).
pub(crate) fn to_resolve(
    service: &Service,
    selected: Option<&Joined>,
    port: &Port,
    (labels, policies): (&Labels, Option<&Policies>),
    cluster: &Name,
) -> Option<Endpoints> {
    let inline: Vec<JoinedEndpoint> = match service.inline.is_empty() {
        false => service.inline.iter().map(given).collect(),
        true if !service.selector.is_empty() => selected?.endpoints.clone(),
        true if words::host::is_wildcard(&service.host) => return None,
        true => vec![given(&InlineEndpoint {
            address: InlineAddress::parse(&service.host)?,
            ports: BTreeMap::new(),
            labels: Labels::new(),
            weight: 1,
            locality: Locality::default(),
            account: None,
            mtls: false,
        })],
    };
    let marks = policies.map(|policies| Marks { policies, namespace: &service.namespace });
    let made = gather(inline.iter(), port, (labels, marks), cluster.clone(), |_| true, |_| 0);
    (!made.localities.is_empty()).then_some(made)
}

fn given(endpoint: &InlineEndpoint) -> JoinedEndpoint {
    JoinedEndpoint {
        address: endpoint.address.clone(),
        ports: Arc::new(endpoint.ports.clone()),
        ports_complete: false,
        labels: endpoint.labels.clone(),
        health: Health::Healthy,
        weight: endpoint.weight,
        locality: endpoint.locality.clone(),
        node: String::new(),
        hostname: None,
        workload: None,
        account: endpoint.account.clone(),
        mtls: endpoint.mtls,
    }
}

/// Who takes mutual TLS.
#[derive(Clone, Copy)]
struct Marks<'a> {
    policies: &'a Policies,
    /// Of workloads that do not say theirs.
    namespace: &'a str,
}

impl Marks<'_> {
    fn take_mtls(self, endpoint: &JoinedEndpoint, port: u16) -> bool {
        let namespace = endpoint.workload.as_ref().map_or(self.namespace, |workload| &workload.namespace);
        endpoint.mtls && self.policies.take_mtls(namespace, &endpoint.labels, port)
    }
}

fn gather<'a>(
    all: impl Iterator<Item = &'a JoinedEndpoint>,
    port: &Port,
    (labels, marks): (&Labels, Option<Marks<'_>>),
    cluster: Name,
    wanted: impl Fn(&EndpointAddress) -> bool,
    rank: impl Fn(&JoinedEndpoint) -> u32,
) -> Endpoints {
    let mut by_locality: BTreeMap<(u32, &Locality), Vec<Endpoint>> = BTreeMap::new();
    // While a slice is split or moved, an address stands in two of them for a moment.
    let mut seen = BTreeSet::new();
    for endpoint in all.filter(|endpoint| words::labels_select(labels, &endpoint.labels)) {
        let Some(number) = endpoint.port(port) else { continue };
        let address = endpoint.address.at(number);
        if !wanted(&address) || !seen.insert(address.clone()) {
            continue;
        }
        by_locality.entry((rank(endpoint), &endpoint.locality)).or_default().push(Endpoint {
            address,
            weight: endpoint.weight,
            health: endpoint.health,
            workload: endpoint.workload.clone(),
            mtls: marks.is_some_and(|marks| marks.take_mtls(endpoint, number)),
        });
    }
    let localities = by_locality.into_iter().map(|((priority, locality), mut endpoints)| {
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        LocalityEndpoints { locality: locality.clone(), priority, weight: None, endpoints }
    });
    Endpoints { cluster, localities: localities.collect() }
}

/// The addresses of ready endpoints, for listeners of headless services (TR82).
pub(crate) fn ready_addresses(joined: Option<&Joined>) -> BTreeSet<std::net::IpAddr> {
    let all = joined.map(|joined| joined.endpoints.as_slice()).unwrap_or_default();
    let ready = all.iter().filter(|endpoint| endpoint.health == Health::Healthy);
    ready.filter_map(JoinedEndpoint::ip).collect()
}

/// The number behind a port for a workload that has no slice: by the pod's named container ports.
pub(crate) fn target_number(target: &Target, named: &BTreeMap<String, u16>) -> Option<u16> {
    match target {
        Target::Number(number) => Some(*number),
        Target::Name(name) => named.get(name).copied(),
    }
}
