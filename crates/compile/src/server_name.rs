//! The server names that stand for services: `outbound_.<port>_.<subset>_.<host>` (X50). A sidecar asks for them in mesh
//! TLS, and a gateway with AUTO_PASSTHROUGH sends what asks for one to a cluster of that name (GW17).

use config::{Cluster, Discovery, OWN_CERTIFICATE};

use crate::host_name;
use crate::service::{Port, Service, Source};

/// The name of a service's port and subset.
pub(crate) fn of(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// True for services that gateways pass TLS to by name: those inside the mesh, whose name can be asked for.
pub(crate) fn is_reachable(service: &Service) -> bool {
    !matches!(service.source, Source::ServiceEntry { external: true }) && host_name::is_server_name(&service.host)
}

/// The cluster by server name beside an ordinary one: the same endpoints, and TLS stays as the client made it.
pub(crate) fn twin(cluster: &Cluster, subset: &str, service: &Service, port: &Port) -> Option<Cluster> {
    let name: config::Name = of(port.number, subset, &service.host).into();
    let discovery = match &cluster.discovery {
        Discovery::Eds(_) => Discovery::Eds(name.clone()),
        other => other.clone(),
    };
    let tls = cluster.tls.clone().filter(|tls| tls.certificate.as_deref() != Some(OWN_CERTIFICATE));
    is_reachable(service).then(|| Cluster { name, discovery, tls, ..cluster.clone() })
}
