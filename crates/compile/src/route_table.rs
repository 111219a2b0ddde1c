//! Route tables of sidecars: one per HTTP port, one per detected port, one for the explicit proxy (X43, X52, X53, VS71,
//! VS72).
//!
//! A table's frame (which services, under which names) depends on services only and is made once; an edited
//! VirtualService remakes its own virtual hosts and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Action, Name, PASSTHROUGH_CLUSTER, Respond, Route, RouteMatch, VirtualHost};
use words::{Protocol, host};

use crate::mesh::OutboundTrafficPolicy;
use crate::registry::Visible;
use crate::route;
use crate::service::Resolution;
use crate::virtual_host::{Frame, domains, with_port};

/// The table of the explicit proxy (X52).
pub(crate) const EXPLICIT: &str = "http_proxy";

/// A table without its routes.
#[derive(Debug)]
pub(crate) struct TableFrame {
    /// The RDS name.
    pub(crate) name: Name,
    /// The port that every request comes in on; `None` in the explicit proxy's table, which has all of them.
    pub(crate) port: Option<u16>,
    /// Virtual hosts of services, by name.
    pub(crate) hosts: Vec<Frame>,
    /// Every domain that is taken.
    taken: BTreeSet<String>,
    /// Hosts of no service may be added to it (VS71).
    pub(crate) open: bool,
}

/// The frames of all tables that sidecars of a namespace have.
pub(crate) fn frames(visible: &Visible, namespace: &str, domain: &str, explicit: bool) -> Vec<TableFrame> {
    let mut by_table: BTreeMap<(bool, String), Vec<Frame>> = BTreeMap::new();
    let mut every = Vec::new();
    for seen in &visible.services {
        let service = seen.service();
        let names = domains(seen, namespace, domain);
        for port in &service.ports {
            let own = port.protocol == Protocol::Auto;
            if !(port.protocol.is_http() || own) {
                continue;
            }
            if explicit {
                let ported = with_port(&names, port.number);
                every.push(Frame::new(service.host.clone(), port.number, ported));
            }
            // A detected port has a table of its own, unless it shares the listener of all addresses.
            let table = match own && (!service.addresses.is_empty() || service.resolution == Resolution::Headless) {
                true => (true, format!("{}:{}", service.host, port.number)),
                false => (false, port.number.to_string()),
            };
            let frame = Frame::new(service.host.clone(), port.number, names.clone());
            by_table.entry(table).or_default().push(frame);
        }
    }
    let mut made: Vec<TableFrame> = by_table
        .into_iter()
        .map(|((own, name), hosts)| {
            let port = hosts.first().map(|frame| frame.port);
            table(name.into(), port, hosts, !own && port == Some(80))
        })
        .collect();
    if explicit {
        made.push(table(EXPLICIT.into(), None, every, true));
    }
    made
}

/// Gives every host its domains; a domain stands once. A complete host beats another service's short name.
fn table(name: Name, port: Option<u16>, hosts: Vec<Frame>, open: bool) -> TableFrame {
    let main: BTreeMap<String, usize> = hosts
        .iter()
        .enumerate()
        .flat_map(|(index, frame)| {
            [frame.host.to_string(), format!("{}:{}", frame.host, frame.port)].map(|domain| (domain, index))
        })
        .collect();
    let mut taken = BTreeSet::new();
    let mut made = Vec::with_capacity(hosts.len());
    for (index, frame) in hosts.into_iter().enumerate() {
        let Frame { host, port, mut domains, .. } = frame;
        domains.retain(|domain| main.get(domain).is_none_or(|owner| *owner == index) && taken.insert(domain.clone()));
        if !domains.is_empty() {
            made.push(Frame::new(host, port, domains));
        }
    }
    made.sort_by(|a, b| a.name.cmp(&b.name));
    TableFrame { name, port, hosts: made, taken, open }
}

impl TableFrame {
    /// Frames for hosts of VirtualServices that are no services on this port (VS71, VS72), first come first served; in
    /// an open table only.
    pub(crate) fn foreign(
        &self,
        hosts: impl Iterator<Item = (usize, Arc<str>)>,
        visible: &Visible,
    ) -> Vec<(usize, Frame)> {
        const PORT: u16 = 80;
        let mut taken = BTreeSet::new();
        let mut made = Vec::new();
        for (index, name) in hosts {
            let of_service = match host::is_wildcard(&name) {
                true => self.hosts.iter().any(|frame| frame.port == PORT && host::is_subset(&frame.host, &name)),
                false => visible.find(&name).is_some_and(|seen| match self.port {
                    Some(port) => seen.service().port(port).is_some(),
                    None => true,
                }),
            };
            if of_service {
                continue;
            }
            let domains: Vec<String> = match self.port {
                Some(_) => vec![name.to_string()],
                None => with_port(&[name.to_string()], PORT),
            };
            let free = |domain: &String| !self.taken.contains(domain) && !taken.contains(domain);
            let domains: Vec<String> = domains.into_iter().filter(free).collect();
            if domains.is_empty() {
                continue;
            }
            taken.extend(domains.iter().cloned());
            made.push((index, Frame::new(name, PORT, domains)));
        }
        made
    }
}

/// What becomes of requests for unknown hosts (VS75, TR27).
///
/// The explicit proxy never sees a dialled address, so it can let nothing through: it answers 502 under either policy.
pub(crate) fn unknown(policy: OutboundTrafficPolicy, explicit: bool) -> VirtualHost {
    let (name, action) = match policy {
        OutboundTrafficPolicy::AllowAny if !explicit => {
            ("allow_any", route::forward_to(PASSTHROUGH_CLUSTER.into(), None))
        }
        _ => ("block_all", Action::Respond(Respond { status: 502, body: Default::default() })),
    };
    let matches = RouteMatch::any();
    VirtualHost {
        name: name.into(),
        domains: vec!["*".into()],
        routes: vec![Route::new(name, matches, action)],
        include_attempt_count: true,
        require_tls: false,
        limits: Vec::new(),
    }
}
