//! Services, by themselves and where several share a workload (IST0116, IST0118, IST0137, IST0150).

use std::collections::{BTreeMap, BTreeSet};

use words::Protocol;

use crate::found::Found;
use crate::world::{Port, Service, Workload, World};

/// Namespaces of the cluster's own parts, whose ports nobody routes.
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Ports that do not declare their protocol (IST0118), and those of ExternalName services (IST0150).
pub(crate) fn names(world: &World<'_>, found: &mut Found) {
    let routed = |service: &&Service| {
        let namespace = &*service.origin.namespace;
        service.is_kubernetes && !SYSTEM.contains(&namespace) && namespace != world.options.root_namespace
    };
    for service in world.services.iter().filter(routed) {
        for (index, port) in service.ports.iter().enumerate().filter(|(_, port)| port.is_tcp) {
            let field = format!("spec.ports[{index}]");
            match service.is_external_name {
                true => check_external(service, port, &field, found),
                false if port.protocol.is_none() => {
                    let message = format!(
                        "port {} ({:?}) does not declare its protocol; it is found out connection by connection",
                        port.number, port.name
                    );
                    let fix = "name it protocol-suffix, such as http-web, or set appProtocol";
                    found.add("IST0118", &service.origin, field, message, fix);
                }
                false => {}
            }
        }
    }
}

// Such a service has no address: a TCP listener for it would take the port of every address.
fn check_external(service: &Service, port: &Port, field: &str, found: &mut Found) {
    if port.protocol.is_none_or(|protocol| protocol == Protocol::Tcp) {
        let message = format!(
            "port {} ({:?}) of an ExternalName service is served as TCP, and takes that port of every address",
            port.number, port.name
        );
        found.add("IST0150", &service.origin, field, message, "name it by its protocol: http, https, tls, grpc …");
    }
}

/// Services that share a workload and contradict each other there (IST0116, IST0137).
pub(crate) fn shared(world: &World<'_>, found: &mut Found) {
    let mut done: BTreeSet<&words::Origin> = BTreeSet::new();
    for workload in &world.workloads {
        if !done.insert(&workload.origin) {
            continue;
        }
        let services = world.services_on(workload);
        if services.len() < 2 {
            continue;
        }
        protocols(workload, &services, found);
        targets(workload, &services, found);
    }
}

fn names_of(services: &BTreeSet<&str>) -> String {
    services.iter().copied().collect::<Vec<_>>().join(", ")
}

fn protocols(workload: &Workload, services: &[&Service], found: &mut Found) {
    let mut by_port: BTreeMap<u32, (BTreeSet<Option<Protocol>>, BTreeSet<&str>)> = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            let (protocols, names) = by_port.entry(port.number).or_default();
            // UDP is no rival of TCP's.
            if port.is_tcp {
                protocols.insert(port.protocol);
                names.insert(&service.origin.name);
            }
        }
    }
    for (number, (_, names)) in by_port.iter().filter(|(_, (protocols, _))| protocols.len() > 1) {
        let message = format!("services {} give port {number} of these pods different protocols", names_of(names));
        found.add("IST0116", &workload.origin, "", message, "declare one protocol, or use another port");
    }
}

fn targets(workload: &Workload, services: &[&Service], found: &mut Found) {
    let mut by_target: BTreeMap<String, (BTreeSet<u32>, BTreeSet<&str>)> = BTreeMap::new();
    for service in services {
        for port in service.ports.iter().filter(|port| port.is_tcp) {
            let target = workload.ports.get(&port.target).map_or(port.target.clone(), u32::to_string);
            let (numbers, names) = by_target.entry(target).or_default();
            numbers.insert(port.number);
            names.insert(&service.origin.name);
        }
    }
    for (target, (numbers, names)) in
        by_target.iter().filter(|(_, (numbers, names))| numbers.len() > 1 && names.len() > 1)
    {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        let message = format!(
            "services {} lead to port {target} of these pods from ports {}; a proxy there knows only one of them",
            names_of(names),
            numbers.join(", ")
        );
        found.add("IST0137", &workload.origin, "", message, "use one service port for it");
    }
}
