//! Gateway servers whose connections are not HTTP: bytes by `tcp` rules, closed TLS by `tls` rules or by the server
//! names of services (GW16, GW17, GW27, GW28).
//!
//! In: a port with its servers. Out: chains; none when no VirtualService speaks about it (GW10).

use config::{ClusterChoice, Filter, FilterChain, RouteSource};
use words::{Diagnostic, host};

use crate::chains::{Chains, Draft};
use crate::destination_rule::Lookup;
use crate::gateway::{self, Port};
use crate::intent::Routing;
use crate::listener::{self, Bounds, Side};
use crate::notes::LISTENER_CONFLICT;
use crate::registry;
use crate::selection;
use crate::server::{Carries, Gateway, Server};
use crate::server_name;
use crate::sidecar_routes::Seen;
use crate::tcp::Proxies;

/// What mesh TLS offers; one of them must be there (GW17).
const MESH_PROTOCOLS: [&str; 5] = ["istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// The chains of a port.
pub(crate) fn chains(port: &Port<'_>, seen: Seen<'_>, found: &mut Vec<Diagnostic>) -> Vec<FilterChain> {
    let mut chains = Chains::default();
    for (gateway, server) in &port.servers {
        let drafts = match server.carries {
            Carries::Http => requests(port, gateway, server, seen).into_iter().collect(),
            Carries::Tcp => opaque(gateway, server, seen).into_iter().collect(),
            Carries::Passthrough => closed(gateway, server, seen),
            Carries::AutoPassthrough => by_service_name(gateway, server, seen),
        };
        for draft in drafts {
            let (owner, names) = (draft.owner.clone(), draft.server_names.join(", "));
            if let Some(holder) = chains.add(draft) {
                let message =
                    format!("server names {names} on port {} of {} are taken by {holder}", server.port, gateway.origin);
                found.push(Diagnostic::warning(LISTENER_CONFLICT, owner, "spec.tls", message));
            }
        }
    }
    chains.into_made()
}

fn proxies<'a>(seen: Seen<'a>) -> Proxies<'a> {
    Proxies {
        visible: &seen.outlook.value.whole,
        rules: &seen.base.rules.value,
        namespace: &seen.class.namespace,
        labels: &seen.class.labels,
        mesh: seen.world.mesh(),
    }
}

/// The VirtualServices that may speak about a server's connections, in order.
fn attached<'a>(gateway: &'a Gateway, server: &'a Server, seen: Seen<'a>) -> impl Iterator<Item = &'a Routing> {
    let all = selection::ordered(&seen.base.connections.value, &gateway.name, &seen.class.namespace);
    all.map(|routing| &**routing).filter(|routing| {
        let pairs = routing.hosts.iter().flat_map(|host| server.hosts.iter().map(move |taken| (host, taken)));
        pairs.into_iter().any(|(host, taken)| taken.attach(&routing.origin.namespace, host).is_some())
    })
}

/// The first rule for the port and this Gateway takes every connection (GW28).
fn opaque(gateway: &Gateway, server: &Server, seen: Seen<'_>) -> Option<Draft> {
    let rules = attached(gateway, server, seen).flat_map(|routing| routing.tcp.iter().map(move |rule| (routing, rule)));
    let holds = |filter: &crate::intent::StaticFilter| filter.holds_at_gateway(server.port, &[&gateway.name]);
    let (routing, rule) = rules.into_iter().find(|(_, rule)| rule.matches.iter().any(|block| holds(&block.filter)))?;
    let made = draft(routing, proxies(seen).of_rule(routing, rule, server.port), server_names(server));
    Some(Draft { tls: server.tls.clone(), ..made })
}

/// The server names of what is opened here; none for a server of every host, and for one without TLS.
fn server_names(server: &Server) -> Vec<String> {
    let names = || server.hosts.iter().map(|taken| taken.host.clone());
    match server.tls.is_none() || names().any(|name| name == "*") {
        true => Vec::new(),
        false => names().collect(),
    }
}

/// TLS is opened and requests are routed by a table of the server's own (GW13, GW27).
fn requests(port: &Port<'_>, gateway: &Gateway, server: &Server, seen: Seen<'_>) -> Option<Draft> {
    let tls = server.tls.clone()?;
    let table = gateway::secured_table(port, gateway, server);
    let prefix = match server.title.as_str() {
        "" => format!("outbound_{}", listener::name(port.address)),
        title => title.to_owned(),
    };
    Some(Draft {
        name: table.clone(),
        ranges: Vec::new(),
        server_names: server_names(server),
        application_protocols: Vec::new(),
        tls: Some(tls),
        filter: listener::http(
            Side::Gateway,
            prefix,
            RouteSource::Rds(table),
            seen.cache().as_ref(),
            seen.world.mesh(),
        ),
        origin: gateway.origin.clone(),
        owner: gateway.origin.clone(),
    })
}

/// A chain per match; the names are those of the match, whatever hosts the server has (GW16).
fn closed(gateway: &Gateway, server: &Server, seen: Seen<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for routing in attached(gateway, server, seen) {
        for rule in &routing.tls {
            let holding =
                rule.matches.iter().filter(|block| block.filter.holds_at_gateway(server.port, &[&gateway.name]));
            for block in holding {
                let proxy = proxies(seen).of_rule(routing, rule, server.port);
                drafts.push(draft(routing, proxy, block.server_names.clone()));
            }
        }
    }
    drafts
}

fn draft(routing: &Routing, proxy: config::TcpProxy, server_names: Vec<String>) -> Draft {
    Draft {
        name: proxy.stat_prefix.as_str().into(),
        ranges: Vec::new(),
        server_names,
        application_protocols: Vec::new(),
        tls: None,
        filter: Filter::Tcp(proxy),
        origin: routing.origin.clone(),
        owner: routing.origin.clone(),
    }
}

/// A chain per port and subset of every service in the mesh that the server's hosts cover (GW17).
fn by_service_name(gateway: &Gateway, server: &Server, seen: Seen<'_>) -> Vec<Draft> {
    let services = seen.outlook.value.whole.services.iter().map(registry::Seen::service);
    let covered = services.filter(|service| server_name::is_reachable(service)).filter(|service| {
        server.hosts.is_empty() || server.hosts.iter().any(|taken| host::is_subset(&service.host, &taken.host))
    });
    let mut drafts = Vec::new();
    for service in covered {
        let rule = seen.base.rules.value.lookup(Lookup {
            client: &seen.class.namespace,
            labels: &seen.class.labels,
            host: &service.host,
            namespace: &service.namespace,
        });
        let subsets = rule.into_iter().flat_map(|rule| &rule.subsets).map(|subset| subset.name.as_str());
        let subsets: Vec<&str> = std::iter::once("").chain(subsets.filter(|name| !name.is_empty())).collect();
        for port in &service.ports {
            for subset in &subsets {
                let name = server_name::of(port.number, subset, &service.host);
                let choice = ClusterChoice::One(name.as_str().into());
                let proxy = listener::tcp_proxy(name.clone(), choice, Bounds::default(), seen.world.mesh());
                drafts.push(Draft {
                    name: name.as_str().into(),
                    ranges: Vec::new(),
                    server_names: vec![name],
                    application_protocols: MESH_PROTOCOLS.map(str::to_owned).to_vec(),
                    tls: None,
                    filter: Filter::Tcp(proxy),
                    origin: gateway.origin.clone(),
                    owner: service.origin.clone(),
                });
            }
        }
    }
    drafts
}
