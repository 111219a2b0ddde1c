//! The ServiceEntry and WorkloadEntry front end (SE01 to SE18, WE01 to WE06): objects in, services and workloads out.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::service_entry::{Resolution as Written, ServiceLocation};
use api::{Meta, ServiceEntrySpec, WorkloadEntrySpec};
use config::{Cidr, Locality, Workload};
use words::{Diagnostic, Fingerprint, Labels, Origin, Protocol};

use crate::mesh::MeshConfig;
use crate::notes::Notes;
use crate::service::{
    Distribution, InlineAddress, InlineEndpoint, Known, Port, Resolution, Service, Source, Target, age,
};
use crate::visibility::Export;
use crate::{auto_address, host_name, kubernetes};

/// Istio's annotation for connecting to whichever address answers first (SE07).
const CONNECT_STRATEGY: &str = "istio.io/connect-strategy";

/// Largest share of an endpoint: 4096 of them (the CRD's bound) still add up within the 32 bits of a proxy.
const WEIGHT_MAX: u32 = 1 << 19;

/// What a ServiceEntry declares.
#[derive(Debug)]
pub(crate) struct Entry {
    /// One service per host.
    pub(crate) services: Vec<Known>,
    /// Labels of its workloads; `None` when endpoints stand in the object.
    pub(crate) selector: Option<Labels>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// Lowers a ServiceEntry.
pub(crate) fn lower(origin: Origin, meta: &Meta, spec: &ServiceEntrySpec, mesh: &MeshConfig) -> Entry {
    let ServiceEntrySpec {
        hosts,
        addresses,
        ports,
        location,
        resolution,
        endpoints,
        workload_selector,
        export_to,
        subject_alt_names,
    } = spec;
    let mut notes = Notes::about(&origin);
    let resolution = match resolution {
        None | Some(Written::None) => Resolution::OriginalDst,
        Some(Written::Static) => Resolution::Endpoints,
        Some(Written::Dns) => Resolution::Dns,
        Some(Written::DnsRoundRobin) => Resolution::DnsRoundRobin,
        Some(Written::DynamicDns) => Resolution::Dynamic,
    };
    // Happy eyeballs are not spoken here: all addresses of a name are endpoints, as without it.
    notes.not_obeyed(meta.annotations.contains_key(CONNECT_STRATEGY), || {
        format!("metadata.annotations[{CONNECT_STRATEGY}]")
    });
    let ports = lower_ports(ports, resolution, &mut notes);
    let addresses = lower_addresses(addresses, &mut notes);
    let inline = lower_endpoints(endpoints, resolution, &meta.namespace, &mut notes);
    let export = Export::parse(export_to, &mesh.default_service_export_to, &meta.namespace);
    let mut services = Vec::with_capacity(hosts.len());
    for (index, host) in hosts.iter().enumerate() {
        // `*` would take every host of the mesh (SE01).
        if !host_name::is_usable(host) || host == "*" {
            notes.ignored(format!("spec.hosts[{index}]"), format!("{host:?} is not a host"));
            continue;
        }
        if resolution == Resolution::Dynamic && !words::host::is_wildcard(host) {
            let message = format!("{host:?} is no wildcard, which DYNAMIC_DNS is for; it is left out");
            notes.ignored(format!("spec.hosts[{index}]"), message);
            continue;
        }
        let host: Arc<str> = host.to_ascii_lowercase().into();
        let service = Service {
            name: host.to_string(),
            host,
            namespace: origin.namespace.clone(),
            source: Source::ServiceEntry { external: *location != Some(ServiceLocation::MeshInternal) },
            origin: origin.clone(),
            age: age(meta),
            ports: ports.clone(),
            addresses: addresses.clone(),
            resolution,
            export: export.clone(),
            selector: workload_selector.as_ref().map(|selector| selector.labels.clone()).unwrap_or_default(),
            inline: inline.clone(),
            distribution: Distribution::parse(None, &meta.annotations),
            auto_address: meta.labels.get(auto_address::LABEL).is_none_or(|value| value != "false"),
            local_only: false,
            gateway_ports: false,
            tls_names: subject_alt_names.clone(),
        };
        let print = Fingerprint::of(&service);
        services.push(Known { service: Arc::new(service), print, auto: None });
    }
    let selector = workload_selector.as_ref().map(|selector| selector.labels.clone());
    let diagnostics = notes.into_found();
    let prints: Vec<Fingerprint> = services.iter().map(|known| known.print).collect();
    let print = Fingerprint::of(&(prints, &selector, &diagnostics));
    Entry { services, selector, diagnostics, print }
}

fn lower_ports(ports: &[api::ServicePort], resolution: Resolution, notes: &mut Notes) -> Vec<Port> {
    let mut lowered: Vec<Port> = Vec::with_capacity(ports.len());
    for (index, written) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        let moved = written.target_port.is_some_and(|target| target != written.number);
        notes.not_obeyed(resolution == Resolution::Dynamic && moved, || {
            format!("{field}.targetPort (with resolution DYNAMIC_DNS)")
        });
        let read = port(written);
        // Whatever else is carried names no host (SE09).
        let nameless = |port: &&Port| !port.protocol.is_http() && !port.protocol.is_tls();
        if let Some(port) = read.as_ref().filter(nameless).filter(|_| resolution == Resolution::Dynamic) {
            let message =
                format!("port {} speaks neither HTTP nor TLS, so it names no host; it is left out", port.number);
            notes.ignored(format!("{field}.protocol"), message);
            continue;
        }
        match read {
            Some(port) if lowered.iter().all(|known| known.number != port.number) => lowered.push(port),
            Some(port) => notes.ignored(field, format!("port {} stands twice; the first one counts", port.number)),
            None => notes.ignored(field, format!("{} is not a port that is carried", written.number)),
        }
    }
    lowered
}

fn lower_addresses(addresses: &[String], notes: &mut Notes) -> Vec<Cidr> {
    let mut lowered = Vec::with_capacity(addresses.len());
    for (index, written) in addresses.iter().enumerate() {
        match Cidr::parse(written) {
            Some(range) => lowered.push(range),
            None => notes.ignored(
                format!("spec.addresses[{index}]"),
                format!("{written:?} is neither an IP address nor a range"),
            ),
        }
    }
    lowered
}

fn port(port: &api::ServicePort) -> Option<Port> {
    let number = u16::try_from(port.number).ok().filter(|number| *number != 0)?;
    // The name declares nothing here (SE03).
    let protocol = Protocol::of_port(Some(port.protocol.as_deref().unwrap_or_default()), "", number);
    let target = port.target_port.and_then(|target| u16::try_from(target).ok()).filter(|target| *target != 0);
    (protocol != Protocol::Udp).then(|| Port {
        number,
        name: port.name.clone(),
        protocol,
        target: Target::Number(target.unwrap_or(number)),
    })
}

fn lower_endpoints(
    endpoints: &[WorkloadEntrySpec],
    resolution: Resolution,
    namespace: &str,
    notes: &mut Notes,
) -> Vec<InlineEndpoint> {
    let mut lowered = Vec::with_capacity(endpoints.len());
    for (index, endpoint) in endpoints.iter().enumerate() {
        let field = format!("spec.endpoints[{index}].address");
        match inline(endpoint, &endpoint.labels, namespace) {
            // STATIC takes addresses only (V-76); a name here would never be resolved.
            Some(InlineEndpoint { address: InlineAddress::Name(name), .. }) if resolution == Resolution::Endpoints => {
                notes.ignored(field, format!("{name:?} is not an IP address; names need resolution DNS"));
            }
            Some(made) => {
                if endpoint.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
                    notes.ignored(
                        format!("spec.endpoints[{index}].weight"),
                        format!("is above {WEIGHT_MAX}, which counts"),
                    );
                }
                lowered.push(made);
            }
            None => notes.ignored(field, "an address is missing"),
        }
    }
    lowered
}

fn inline(endpoint: &WorkloadEntrySpec, labels: &Labels, namespace: &str) -> Option<InlineEndpoint> {
    let account = endpoint.service_account.as_deref().filter(|account| !account.is_empty());
    let ports = endpoint.ports.iter().filter_map(|(name, port)| Some((name.clone(), u16::try_from(*port).ok()?)));
    Some(InlineEndpoint {
        address: InlineAddress::parse(endpoint.address.as_deref().unwrap_or_default())?,
        ports: ports.filter(|(_, port)| *port != 0).collect::<BTreeMap<_, _>>(),
        labels: labels.clone(),
        weight: endpoint.weight.unwrap_or(1).clamp(1, WEIGHT_MAX),
        locality: locality(endpoint.locality.as_deref(), labels),
        // An identity says that there is a proxy, unless the label says otherwise (WE05).
        mtls: labels.get(kubernetes::TLS_MODE).map_or(account.is_some(), |mode| mode == "istio"),
        account: account.map(|account| kubernetes::account(namespace, account)),
    })
}

/// `region/zone/subzone`, or the label with dots (DR71, WE04).
pub(crate) fn locality(written: Option<&str>, labels: &Labels) -> Locality {
    let label = labels.get("istio-locality").map(|text| text.replace('.', "/"));
    let text = written.filter(|text| !text.is_empty()).map(str::to_owned).or(label).unwrap_or_default();
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), subzone: next() }
}

/// A workload that is not a pod.
#[derive(Debug, Hash)]
pub(crate) struct Workloaded {
    /// Address, ports, labels, weight, place.
    pub(crate) endpoint: InlineEndpoint,
    /// For metrics.
    pub(crate) workload: Workload,
}

/// Lowers a WorkloadEntry; `None` without an address.
pub(crate) fn workload_entry(meta: &Meta, spec: &WorkloadEntrySpec, mesh: &MeshConfig) -> Option<Workloaded> {
    // The object's own labels beat those in its spec (WE03).
    let mut labels = spec.labels.clone();
    labels.extend(meta.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    let endpoint = inline(spec, &labels, &meta.namespace)?;
    let workload = kubernetes::workload(meta.name.clone(), &meta.namespace, &labels, mesh);
    Some(Workloaded { endpoint, workload })
}
