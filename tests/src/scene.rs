//! What a case is at every altitude: its world, the caller's proxy, where calls go, what the client keeps.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use testkit::backend::Backend;
use testkit::call::Way;
use testkit::case::{Call, Case, Client};
use testkit::dns::Names;
use testkit::stream::{Dial, Stream};
use testkit::world::{Pod, World};

use crate::mesh::{Proxied, Shown};

/// What the calls of a case are made in.
pub struct Scene {
    /// Addresses and objects.
    pub world: World,
    /// Pods that answer.
    pub backends: Vec<Arc<Backend>>,
    /// The caller's proxy.
    pub who: Proxied,
    /// Where calls go.
    pub target: SocketAddr,
    /// Who connects; the system when absent.
    pub by: Option<Arc<dyn Dial>>,
    /// What the client was given to keep.
    pub jar: Jar,
    /// Connections that calls hold until the case is over.
    pub held: RefCell<Vec<Arc<Stream>>>,
    /// Who calls.
    client: Client,
}

/// What a client was given to keep, over the calls of a case.
pub type Jar = RefCell<std::collections::BTreeMap<String, String>>;

impl Scene {
    /// A scene before its first call; `caller` is the caller's proxy and where calls go.
    pub fn new(case: &Case, world: World, backends: Vec<Arc<Backend>>, caller: (Proxied, SocketAddr)) -> Self {
        let (who, target) = caller;
        let client = case.client.clone();
        Self { world, backends, who, target, by: None, jar: Jar::default(), held: RefCell::default(), client }
    }
}

impl Scene {
    /// Where a call goes: to what a captured client dials, to the port of a gateway for bytes, else to the proxy.
    pub fn way(&self, call: &Call) -> Result<Way> {
        // A port of the proxy's own.
        if let Some(port) = call.port {
            return Ok(self.to(SocketAddr::new(self.world.client_ip, port)));
        }
        let authority = testkit::call::authority(call)?;
        let is_http = !["TCP ", "TLS "].iter().any(|kind| call.request.starts_with(kind));
        let port = authority.port_u16().unwrap_or(80);
        if self.client.captured {
            let dialled = self.world.dial(authority.host(), &self.client.namespace);
            let ip = dialled.with_context(|| format!("{authority} is no Service of the case"))?;
            return Ok(Way { captured: true, ..self.to(SocketAddr::new(ip, port)) });
        }
        let target = match is_http {
            true if testkit::call::is_https(call) => {
                SocketAddr::new(self.target.ip(), authority.port_u16().unwrap_or(GATEWAY_TLS_PORT))
            }
            true => self.target,
            false => SocketAddr::new(self.target.ip(), port),
        };
        Ok(self.to(target))
    }

    fn to(&self, target: SocketAddr) -> Way {
        Way { target, captured: false, by: self.by.clone() }
    }
}

/// The settings of a case as arguments of `sluiced`.
pub fn mesh_arguments(case: &Case) -> Vec<String> {
    let mut arguments = vec!["--serve-secrets".to_owned()];
    if let Some(policy) = &case.mesh.outbound_traffic_policy {
        arguments.extend(["--outbound-traffic-policy".to_owned(), policy.clone()]);
    }
    if case.mesh.locality_lb == Some(false) {
        arguments.extend(["--locality-lb".to_owned(), "false".to_owned()]);
    }
    arguments.extend(case.mesh.arguments.iter().cloned());
    arguments
}

/// What names resolve to.
pub fn names(case: &Case, world: &World) -> Result<Names> {
    let read = |(name, list): (&String, &Vec<String>)| {
        let addresses: Result<Vec<IpAddr>, _> = list.iter().map(|text| fill_in(text, world).parse()).collect();
        Ok((name.clone(), addresses.with_context(|| format!("addresses of {name}"))?))
    };
    case.names.iter().map(read).collect()
}

/// Manifests with the addresses of this run: `POD_IP_<n>` is the first pod of the n-th service, `POD_IP_<n>_<m>` its m-th;
/// `POD_SOCKET_<n>` a Unix socket that leads to the first one; `PROXY_IP` is the calling proxy's own address.
pub fn fill_in(manifests: &str, world: &World) -> String {
    let IpAddr::V4(base) = world.client_ip else { return manifests.to_owned() };
    let block = base.octets()[1];
    let each = (1..=9).flat_map(|n| (1..=9).map(move |m| (n, m)));
    let filled = each.fold(manifests.to_owned(), |text, (n, m)| {
        text.replace(&format!("POD_IP_{n}_{m}"), &format!("127.{block}.{n}.{m}"))
    });
    let filled = (1..=9).fold(filled, |text, n| text.replace(&format!("POD_IP_{n}"), &format!("127.{block}.{n}.1")));
    let filled = (1..=9).fold(filled, |text, n| text.replace(&format!("POD_SOCKET_{n}"), &socket_path(world, n)));
    filled.replace("CLIENT_IP", "127.0.0.1").replace("PROXY_IP", &world.client_ip.to_string())
}

/// The Unix socket of the n-th service.
pub fn socket_path(world: &World, n: usize) -> String {
    let name = format!("sluice-{}-{}-{n}.sock", std::process::id(), world.client_ip);
    std::env::temp_dir().join(name).to_string_lossy().into_owned()
}

/// The Unix sockets that a case's manifests name, and the pod and port that each leads to.
pub fn sockets<'a>(case: &'a Case, world: &'a World) -> impl Iterator<Item = (String, &'a Pod, u16)> {
    (1..).zip(&case.services).filter_map(|(n, service)| {
        let pod = world.pods.iter().find(|pod| pod.name.starts_with(&format!("{}-", service.name)));
        let pod = pod.filter(|_| case.manifests.contains(&format!("POD_SOCKET_{n}")))?;
        Some((socket_path(world, n), pod, pod.ports.first().map_or(0, |(port, _)| *port)))
    })
}

/// The port that gateway cases use.
pub const GATEWAY_PORT: u16 = 8080;
/// The port of `https` calls that name none.
pub const GATEWAY_TLS_PORT: u16 = 8443;

/// The caller's proxy, and where calls go. `free` gives addresses that nobody else has.
pub fn caller(case: &Case, world: &World, free: &dyn Fn() -> Result<SocketAddr>) -> Result<(Proxied, SocketAddr)> {
    let ip = world.client_ip;
    let labels = case.client.labels.clone().into_iter().collect();
    let namespace = case.client.namespace.clone();
    let identity = case.client.identity.as_deref().map(Shown::of).transpose()?.map(Arc::new);
    if case.client.gateway {
        let who = Proxied {
            role: "router",
            pod: "client".into(),
            namespace,
            ip,
            labels,
            outbound: None,
            bind_ip: Some(ip),
            app_ip: None,
            captured: false,
            resolver: None,
            dns: None,
            identity: identity.clone(),
        };
        return Ok((who, SocketAddr::new(ip, GATEWAY_PORT)));
    }
    if case.client.captured {
        // Nothing is dialled but what the calls name.
        let who = Proxied {
            role: "sidecar",
            pod: "client".into(),
            namespace,
            ip,
            labels,
            outbound: None,
            bind_ip: None,
            app_ip: None,
            resolver: None,
            dns: None,
            identity: identity.clone(),
            captured: true,
        };
        return Ok((who, SocketAddr::new(ip, 0)));
    }
    let outbound = free()?;
    let named = |name: &String| {
        let pod = world.pods.iter().find(|pod| pod.name == *name);
        pod.with_context(|| format!("the client's application {name} is no pod"))
    };
    let app = case.client.app.as_ref().map(named).transpose()?;
    let who = Proxied {
        role: "sidecar",
        pod: "client".into(),
        namespace,
        ip,
        labels,
        outbound: Some(outbound),
        bind_ip: None,
        app_ip: app.map(|pod| pod.ip),
        resolver: None,
        dns: (!case.lookups.is_empty()).then(free).transpose()?,
        captured: false,
        identity,
    };
    Ok((who, outbound))
}
