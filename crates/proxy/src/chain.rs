//! Which filter chain a connection falls into: the most specific match (Envoy `FilterChainMatch`), in the order of
//! destination port, destination address, server name, transport, application protocol.

use std::net::SocketAddr;

use config::{ChainMatch, TransportMatch};
use transport::sniff::Sniffed;

use crate::plan::{ChainPlan, ListenerPlan};

/// What is known of a connection before its chain is chosen.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The address dialled.
    pub destination: Option<SocketAddr>,
    /// What the first bytes said; [`Sniffed::More`] when they were not looked at, or said nothing.
    pub sniffed: Sniffed,
}

/// The chain of a connection, by its number; `None`: it is closed.
pub fn choose<'a>(listener: &'a ListenerPlan, facts: &Facts) -> Option<&'a ChainPlan> {
    let chains = listener.config.chains.iter().enumerate();
    let best = chains.filter_map(|(index, chain)| Some((specificity(&chain.matches, facts)?, index)));
    // Of equally specific chains the first counts; Envoy refuses such listeners.
    let best = best.max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, index)| index);
    let default = || listener.has_default.then(|| listener.chains.len() - 1);
    best.or_else(default).and_then(|index| listener.chains.get(index))
}

// `None` when the chain does not match; otherwise how specific it is.
fn specificity(matches: &ChainMatch, facts: &Facts) -> Option<(bool, u8, usize, bool, bool)> {
    let ChainMatch { destination_port, destination_ranges, server_names, transport, application_protocols } = matches;
    if let Some(port) = destination_port
        && facts.destination.is_none_or(|destination| destination.port() != *port)
    {
        return None;
    }
    let range = match (destination_ranges.is_empty(), facts.destination) {
        (true, _) => 0,
        (false, None) => return None,
        // A range of length 0 is still more specific than none.
        (false, Some(dialled)) => destination_ranges
            .iter()
            .filter(|range| range.contains(dialled.ip()))
            .map(|range| range.prefix_len + 1)
            .max()?,
    };
    let (is_tls, sni, protocols): (bool, Option<&str>, Vec<&str>) = match &facts.sniffed {
        Sniffed::Tls { sni, alpn } => (true, sni.as_deref(), alpn.iter().map(String::as_str).collect()),
        Sniffed::Http1 => (false, None, vec!["http/1.1", "http/1.0"]),
        Sniffed::Http2 => (false, None, vec!["h2c"]),
        Sniffed::More | Sniffed::Other => (false, None, Vec::new()),
    };
    let name = match server_names.is_empty() {
        true => 0,
        false => server_names.iter().filter_map(|name| name_fits(name, sni?)).max()?,
    };
    let transport_fits = match transport {
        TransportMatch::Any => true,
        TransportMatch::Plaintext => !is_tls,
        TransportMatch::Tls => is_tls,
    };
    let protocol_fits = application_protocols.is_empty()
        || application_protocols.iter().any(|wanted| protocols.contains(&wanted.as_str()));
    (transport_fits && protocol_fits).then_some((
        destination_port.is_some(),
        range,
        name,
        *transport != TransportMatch::Any,
        !application_protocols.is_empty(),
    ))
}

// How specific a server name is that fits: an exact one beats any wildcard, a longer wildcard a shorter one.
fn name_fits(name: &str, sni: &str) -> Option<usize> {
    match name.strip_prefix('*') {
        Some(suffix) => (sni.len() > suffix.len() && sni.ends_with(suffix)).then_some(name.len()),
        None => (name == sni).then_some(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use config::Cidr;

    use super::*;

    fn facts(destination: &str, sniffed: Sniffed) -> Facts {
        Facts { destination: destination.parse().ok(), sniffed }
    }

    #[test]
    fn port_beats_address_beats_the_rest() {
        let any = ChainMatch::default();
        let by_port = ChainMatch { destination_port: Some(80), ..ChainMatch::default() };
        let range =
            |text: &str| ChainMatch { destination_ranges: vec![Cidr::parse(text).unwrap()], ..ChainMatch::default() };
        let plain = ChainMatch { transport: TransportMatch::Plaintext, ..ChainMatch::default() };
        let here = facts("10.0.0.1:80", Sniffed::Http1);
        let of = |matches: &ChainMatch| specificity(matches, &here);
        assert!(of(&by_port) > of(&range("10.0.0.1")));
        assert!(of(&range("10.0.0.1")) > of(&range("10.0.0.0/8")));
        assert!(of(&range("0.0.0.0/0")) > of(&plain));
        assert!(of(&plain) > of(&any));
        assert_eq!(specificity(&by_port, &facts("10.0.0.1:81", Sniffed::Http1)), None);
    }

    #[test]
    fn protocols_and_names_must_fit() {
        let http = ChainMatch { application_protocols: vec!["http/1.1".into(), "h2c".into()], ..ChainMatch::default() };
        assert!(specificity(&http, &facts("1.1.1.1:1", Sniffed::Http2)).is_some());
        assert!(specificity(&http, &facts("1.1.1.1:1", Sniffed::Other)).is_none());
        let named = ChainMatch { server_names: vec!["*.a.com".into()], ..ChainMatch::default() };
        let tls = |sni: &str| Sniffed::Tls { sni: Some(sni.into()), alpn: Vec::new() };
        assert!(specificity(&named, &facts("1.1.1.1:1", tls("x.a.com"))).is_some());
        assert!(specificity(&named, &facts("1.1.1.1:1", tls("a.com"))).is_none());
    }
}
