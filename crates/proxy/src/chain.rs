//! Which filter chain a connection falls into: the most specific match (Envoy `FilterChainMatch`), in the order of
//! destination port, destination address, server name, transport, application protocol.

use std::net::SocketAddr;

use config::{ChainMatch, FilterChain, TransportMatch};
use transport::sniff::Sniffed;

use crate::connection::Client;
use crate::plan::{ChainPlan, ListenerPlan, Plan};

/// What is known of a connection before its chain is chosen.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The address dialled.
    pub destination: Option<SocketAddr>,
    /// What the first bytes said; [`Sniffed::More`] when they were not looked at, or said nothing.
    pub sniffed: Sniffed,
}

/// The chain of a connection; `None`: it is closed. Every condition narrows the choice to its most specific value before
/// the next one is looked at, and there is no way back: a chain for the address dialled hides one for any address, even
/// if its server name does not fit (Envoy's `FilterChainManager`).
pub fn choose<'a>(listener: &'a ListenerPlan, facts: &Facts) -> Option<&'a ChainPlan> {
    let found = most_specific(&listener.config.chains, facts);
    let default = || listener.has_default.then(|| listener.chains.len() - 1);
    found.or_else(default).and_then(|index| listener.chains.get(index))
}

/// The chain that an open connection would fall into now; `None`: none takes it as it is. One in plaintext does not come
/// into a chain that begins with TLS.
pub fn still<'a>(plan: &'a Plan, client: &Client) -> Option<&'a ChainPlan> {
    let listener = plan.listeners.get(client.listener)?.as_ref()?;
    choose(listener, &client.facts).filter(|chain| chain.tls().is_none() || client.tls.is_some())
}

// How specific a match is, by one condition; `None` when it does not hold.
type Condition<'a> = dyn Fn(&ChainMatch) -> Option<usize> + 'a;

fn most_specific(chains: &[FilterChain], facts: &Facts) -> Option<usize> {
    let (is_tls, sni, protocols): (bool, Option<&str>, Protocols<'_>) = match &facts.sniffed {
        Sniffed::Tls { sni, alpn } => (true, sni.as_deref(), Protocols::Offered(alpn)),
        Sniffed::Http1 => (false, None, Protocols::Found(&["http/1.1", "http/1.0"])),
        Sniffed::Http2 => (false, None, Protocols::Found(&["h2c"])),
        Sniffed::More | Sniffed::Other => (false, None, Protocols::Found(&[])),
    };
    let port = |matches: &ChainMatch| match matches.destination_port {
        None => Some(0),
        Some(port) => facts.destination.is_some_and(|dialled| dialled.port() == port).then_some(1),
    };
    let range = |matches: &ChainMatch| match (matches.destination_ranges.as_slice(), facts.destination) {
        ([], _) => Some(0),
        (_, None) => None,
        // No range is the same as one of length 0.
        (ranges, Some(dialled)) => {
            let fitting = ranges.iter().filter(|range| range.contains(dialled.ip()));
            fitting.map(|range| usize::from(range.prefix_len)).max()
        }
    };
    let name = |matches: &ChainMatch| match matches.server_names.as_slice() {
        [] => Some(0),
        names => names.iter().filter_map(|name| name_fits(name, sni?)).max(),
    };
    let transport = |matches: &ChainMatch| match matches.transport {
        TransportMatch::Any => Some(0),
        TransportMatch::Plaintext => (!is_tls).then_some(1),
        TransportMatch::Tls => is_tls.then_some(1),
    };
    let protocol = |matches: &ChainMatch| match matches.application_protocols.as_slice() {
        [] => Some(0),
        wanted => wanted.iter().any(|wanted| protocols.contain(wanted)).then_some(1),
    };
    let conditions: [&Condition<'_>; 5] = [&port, &range, &name, &transport, &protocol];
    // Indexes of the chains that are left, in their order.
    let mut left: Vec<usize> = (0..chains.len()).collect();
    for condition in conditions {
        let best = left.iter().filter_map(|index| condition(&chains[*index].matches)).max()?;
        left.retain(|index| condition(&chains[*index].matches) == Some(best));
    }
    left.first().copied()
}

// What a connection speaks: as its TLS hello offers, or as its first bytes show.
enum Protocols<'a> {
    Offered(&'a [String]),
    Found(&'static [&'static str]),
}

impl Protocols<'_> {
    fn contain(&self, wanted: &str) -> bool {
        match self {
            Self::Offered(names) => names.iter().any(|name| name == wanted),
            Self::Found(names) => names.contains(&wanted),
        }
    }
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

    fn chain(name: &str, matches: ChainMatch) -> FilterChain {
        let proxy = config::TcpProxy {
            stat_prefix: name.into(),
            cluster: config::ClusterChoice::One(name.into()),
            idle_timeout: None,
            max_connection_duration: None,
            hash_source_ip: false,
            dynamic_host: None,
            access_log: Vec::new(),
            authorization: Vec::new(),
        };
        FilterChain { name: name.into(), matches, tls: None, filter: config::Filter::Tcp(proxy), origin: None }
    }

    fn range(text: &str) -> ChainMatch {
        ChainMatch { destination_ranges: vec![Cidr::parse(text).unwrap()], ..ChainMatch::default() }
    }

    fn chosen(chains: &[(&str, ChainMatch)], facts: &Facts) -> String {
        let chains: Vec<FilterChain> = chains.iter().map(|(name, matches)| chain(name, matches.clone())).collect();
        most_specific(&chains, facts).map_or("-".into(), |index| chains[index].name.to_string())
    }

    fn tls(sni: &str) -> Sniffed {
        Sniffed::Tls { sni: Some(sni.into()), alpn: Vec::new() }
    }

    #[test]
    fn port_beats_address_beats_the_rest() {
        let by_port = ChainMatch { destination_port: Some(80), ..ChainMatch::default() };
        let plain = ChainMatch { transport: TransportMatch::Plaintext, ..ChainMatch::default() };
        let all = [("any", ChainMatch::default()), ("plain", plain), ("wide", range("10.0.0.0/8"))];
        let all = [&all[..], &[("host", range("10.0.0.1")), ("port", by_port)]].concat();
        let here = |count: usize, to: &str| chosen(&all[..count], &facts(to, Sniffed::Http1));
        let found: Vec<String> = (1..=5).map(|count| here(count, "10.0.0.1:80")).collect();
        assert_eq!(found, ["any", "plain", "wide", "host", "port"]);
        assert_eq!(here(5, "10.0.0.1:81"), "host");
        assert_eq!(here(5, "11.0.0.1:81"), "plain");
    }

    #[test]
    fn a_more_specific_address_hides_names_for_any_address() {
        let named = ChainMatch { server_names: vec!["b.com".into()], ..ChainMatch::default() };
        let both = ChainMatch { server_names: vec!["a.com".into()], ..range("10.1.0.0/16") };
        let all = [("named", named), ("both", both)];
        assert_eq!(chosen(&all, &facts("10.1.0.1:443", tls("a.com"))), "both");
        assert_eq!(chosen(&all, &facts("10.1.0.1:443", tls("b.com"))), "-");
        assert_eq!(chosen(&all, &facts("10.2.0.1:443", tls("b.com"))), "named");
    }

    #[test]
    fn vs60_exact_names_beat_longer_and_shorter_wildcards() {
        let named = |name: &str| ChainMatch { server_names: vec![name.into()], ..ChainMatch::default() };
        let all = [("short", named("*.com")), ("long", named("*.a.com")), ("exact", named("x.a.com"))];
        let to = |sni: &str| chosen(&all, &facts("1.1.1.1:1", tls(sni)));
        assert_eq!((to("x.a.com").as_str(), to("y.a.com").as_str(), to("y.com").as_str()), ("exact", "long", "short"));
        assert_eq!(to("a.com"), "short");
        assert_eq!(to("com"), "-");
    }

    #[test]
    fn protocols_must_fit() {
        let http = ChainMatch { application_protocols: vec!["http/1.1".into(), "h2c".into()], ..ChainMatch::default() };
        let all = [("http", http), ("any", ChainMatch::default())];
        assert_eq!(chosen(&all, &facts("1.1.1.1:1", Sniffed::Http2)), "http");
        assert_eq!(chosen(&all, &facts("1.1.1.1:1", Sniffed::Other)), "any");
        let offered = Sniffed::Tls { sni: None, alpn: vec!["x".into(), "h2c".into()] };
        assert_eq!(chosen(&all, &facts("1.1.1.1:1", offered)), "http");
    }
}
