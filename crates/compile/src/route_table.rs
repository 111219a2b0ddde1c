//! Route tables of sidecars: one per HTTP port, one per detected port, one for the explicit proxy (X43, X52, X53, VS71,
//! VS72).
//!
//! A table's frame (which services, under which names) depends on services only and is made once; an edited
//! VirtualService remakes its own virtual hosts and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Action, Name, PASSTHROUGH_CLUSTER, Respond, Route, RouteMatch, VirtualHost};
use words::{Protocol, host};

use crate::class::Class;
use crate::outlook::{Outlook, View};
use crate::passthrough::Unknown;
use crate::registry::{Seen, Visible};
use crate::route;
use crate::service::Port;
use crate::virtual_host::{Frame, domains, with_port};

/// The table of the explicit proxy (X52).
pub(crate) const EXPLICIT: &str = "http_proxy";

/// The table of a Sidecar's forward proxy (SC04), by the place of its listener.
pub(crate) fn forward_proxy(view: usize) -> Name {
    format!("{EXPLICIT}.{view}").into()
}

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
    /// The listener that it is for; `None` for all of them.
    pub(crate) view: Option<usize>,
}

/// The frames of all tables that sidecars of a namespace have.
pub(crate) fn frames(outlook: &Outlook, class: &Class, domain: &str) -> Vec<TableFrame> {
    let mut made = Vec::new();
    let mut every = Vec::new();
    for (index, view) in outlook.views.iter().enumerate() {
        let mut tables = Tables::default();
        if let Some(port) = view.port().filter(|_| view.is_http() && !view.is_forward_proxy()) {
            tables.by_name.entry((false, port.to_string())).or_default().0 = port;
        }
        for seen in &view.visible.services {
            tables.add(view, seen, class, domain);
        }
        let Tables { by_name, all } = tables;
        if view.is_forward_proxy() {
            made.push(table(forward_proxy(index), None, all.clone(), true, Some(index)));
        }
        made.extend(by_name.into_iter().map(|((own, name), (port, hosts))| {
            table(name.into(), Some(port), hosts, !own && port == 80, Some(index))
        }));
        every.extend(all);
    }
    if class.explicit {
        made.push(table(EXPLICIT.into(), None, every, true, None));
    }
    made
}

/// Frames of one listener.
#[derive(Default)]
struct Tables {
    /// By whether a table is of one service alone, and name; with its port.
    by_name: BTreeMap<(bool, String), (u16, Vec<Frame>)>,
    /// Of all ports, for forward proxies.
    all: Vec<Frame>,
}

impl Tables {
    fn add(&mut self, view: &View, seen: &Seen, class: &Class, domain: &str) {
        let service = seen.service();
        let names = domains(seen, &class.namespace, domain, class.dns);
        let speaks = |port: &&Port| port.protocol.is_http() || port.protocol == Protocol::Auto;
        for port in service.ports.iter().filter(speaks) {
            if class.explicit || view.is_forward_proxy() {
                self.all.push(Frame::new(service.host.clone(), port.number, with_port(&names, port.number)));
            }
            let declared = view.protocol(port);
            let carried = view.carries(port.number) && !view.is_forward_proxy();
            if !carried || !(declared.is_http() || declared == Protocol::Auto) {
                continue;
            }
            let table = match view.has_own_table(seen, port, class.dns) {
                true => (true, format!("{}:{}", service.host, port.number)),
                false => (false, port.number.to_string()),
            };
            let frame = Frame::new(service.host.clone(), port.number, names.clone());
            self.by_name.entry(table).or_insert_with(|| (port.number, Vec::new())).1.push(frame);
        }
    }
}

/// Gives every host its domains; a domain stands once. A complete host beats another service's short name.
fn table(name: Name, port: Option<u16>, hosts: Vec<Frame>, open: bool, view: Option<usize>) -> TableFrame {
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
    TableFrame { name, port, hosts: made, taken, open, view }
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
/// Without capture there is no dialled address to let anything through to: it is answered 502 under either policy, unless
/// the Sidecar says who takes the unknown (SC16).
pub(crate) fn unknown(unknown: &Unknown, dialled: bool) -> VirtualHost {
    let (name, action) = match unknown {
        Unknown::To(cluster) => ("allow_any", route::forward_to(cluster.clone(), None)),
        Unknown::Through if dialled => ("allow_any", route::forward_to(PASSTHROUGH_CLUSTER.into(), None)),
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
