//! The front end of TLS and TCP rules (VS05, VS06, VS60 to VS64): one object's lists in, rules about connections out.
//! Sees no service and no proxy.

use api::HttpRouteDestination;
use api::virtual_service::{RouteDestination, TcpRoute, TlsRoute};
use config::Cidr;
use words::Labels;

use crate::gateway_name;
use crate::host_name;
use crate::intent::{ConnectionMatch, ConnectionRule, StaticFilter};
use crate::notes::{LeftOut, Notes};
use crate::weight;

/// Lowers `spec.tls`. `place` is the object's namespace and the mesh's domain.
pub(crate) fn tls(rules: &[TlsRoute], place: (&str, &str), notes: &mut Notes) -> Vec<ConnectionRule> {
    let mut lowered = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        let TlsRoute { r#match, route } = rule;
        let made = destinations(route, &field, place, notes).and_then(|destinations| {
            let mut matches = Vec::with_capacity(r#match.len());
            for (at, block) in r#match.iter().enumerate() {
                matches.push(tls_match(block, &format!("{field}.match[{at}]"), place.0)?);
            }
            // Without a condition on the name there is nothing to choose by (V-39).
            match matches.is_empty() {
                true => Err(LeftOut::because(format!("{field}.match"), "there is no match")),
                false => Ok(ConnectionRule { index, matches, destinations }),
            }
        });
        match made {
            Ok(rule) => lowered.push(rule),
            Err(reason) => notes.left_out(reason),
        }
    }
    lowered
}

/// Lowers `spec.tcp`.
pub(crate) fn tcp(rules: &[TcpRoute], place: (&str, &str), notes: &mut Notes) -> Vec<ConnectionRule> {
    let mut lowered = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        let field = format!("spec.tcp[{index}]");
        let TcpRoute { r#match, route } = rule;
        let made = destinations(route, &field, place, notes).and_then(|destinations| {
            let mut matches = Vec::with_capacity(r#match.len().max(1));
            for (at, block) in r#match.iter().enumerate() {
                matches.push(tcp_match(block, &format!("{field}.match[{at}]"), place.0, notes)?);
            }
            if matches.is_empty() {
                matches.push(ConnectionMatch::default());
            }
            Ok(ConnectionRule { index, matches, destinations })
        });
        match made {
            Ok(rule) => lowered.push(rule),
            Err(reason) => notes.left_out(reason),
        }
    }
    lowered
}

fn destinations(
    route: &[RouteDestination],
    field: &str,
    place: (&str, &str),
    notes: &mut Notes,
) -> Result<Vec<crate::intent::Destination>, LeftOut> {
    if route.is_empty() {
        return Err(LeftOut::because(format!("{field}.route"), "there is no route"));
    }
    let plain = |RouteDestination { destination, weight }: &RouteDestination| HttpRouteDestination {
        destination: destination.clone(),
        weight: *weight,
        headers: None,
    };
    weight::lower(&route.iter().map(plain).collect::<Vec<_>>(), field, place, notes)
}

fn tls_match(block: &api::virtual_service::TlsMatch, field: &str, own: &str) -> Result<ConnectionMatch, LeftOut> {
    let api::virtual_service::TlsMatch {
        sni_hosts,
        destination_subnets,
        port,
        source_labels,
        gateways,
        source_namespace,
    } = block;
    if sni_hosts.is_empty() {
        return Err(LeftOut::because(format!("{field}.sniHosts"), "a server name is missing"));
    }
    let mut server_names = Vec::with_capacity(sni_hosts.len());
    for (at, written) in sni_hosts.iter().enumerate() {
        server_names.push(server_name(written, || format!("{field}.sniHosts[{at}]"))?);
    }
    // `*` beside others takes everything.
    if server_names.iter().any(|name| name == "*") {
        server_names.clear();
    }
    Ok(ConnectionMatch {
        server_names,
        subnets: subnets(destination_subnets, field)?,
        filter: filter((port, source_labels, source_namespace), gateways, own),
    })
}

fn tcp_match(
    block: &api::virtual_service::TcpMatch,
    field: &str,
    own: &str,
    notes: &mut Notes,
) -> Result<ConnectionMatch, LeftOut> {
    let api::virtual_service::TcpMatch {
        destination_subnets,
        port,
        source_subnet,
        source_labels,
        gateways,
        source_namespace,
    } = block;
    // Istio reads it and never looks at it (VS63).
    notes.not_obeyed(source_subnet.is_some(), || format!("{field}.sourceSubnet"));
    Ok(ConnectionMatch {
        server_names: Vec::new(),
        subnets: subnets(destination_subnets, field)?,
        filter: filter((port, source_labels, source_namespace), gateways, own),
    })
}

fn server_name(written: &str, field: impl FnOnce() -> String) -> Result<String, LeftOut> {
    let name = written.to_ascii_lowercase();
    match name == "*" || host_name::is_server_name(&name) {
        true => Ok(name),
        false => Err(LeftOut::because(field(), format!("{written:?} is not a server name"))),
    }
}

fn subnets(written: &[String], field: &str) -> Result<Vec<Cidr>, LeftOut> {
    let read = |(at, text): (usize, &String)| {
        Cidr::parse(text).map(|cidr| cidr.masked()).ok_or_else(|| {
            LeftOut::because(format!("{field}.destinationSubnets[{at}]"), format!("{text:?} is not an address range"))
        })
    };
    written.iter().enumerate().map(read).collect()
}

fn filter(
    (port, source_labels, source_namespace): (&Option<u32>, &Labels, &Option<String>),
    gateways: &[String],
    own: &str,
) -> StaticFilter {
    StaticFilter {
        port: port.filter(|port| *port != 0),
        source_labels: source_labels.clone(),
        source_namespace: source_namespace.clone().filter(|namespace| !namespace.is_empty()),
        gateways: gateways.iter().map(|name| gateway_name::resolve(name, own)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vs61_ranges_are_masked() {
        let read = subnets(&["10.1.2.3/16".into(), "10.0.0.1".into()], "f").unwrap();
        assert_eq!(read, [Cidr::parse("10.1.0.0/16").unwrap(), Cidr::parse("10.0.0.1/32").unwrap()]);
        assert!(subnets(&["nowhere".into()], "f").is_err());
    }
}
