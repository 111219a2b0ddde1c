//! Chains of one listener that are told apart by the address that was dialled and by the server name.
//!
//! A proxy refuses a listener in which two chains match the same connection, and with it every later edit. So what an
//! earlier chain has taken is left out of later ones, name by name and range by range (VS120: the first wins).

use std::collections::BTreeMap;

use config::{ChainMatch, Cidr, Filter, FilterChain, Name, ServerTls};
use words::Origin;

/// A chain that is wished for.
pub(crate) struct Draft {
    /// For people: what serves its connections.
    pub(crate) name: Name,
    /// Ranges of the address dialled; empty for any.
    pub(crate) ranges: Vec<Cidr>,
    /// Server names; empty for any, and for none.
    pub(crate) server_names: Vec<String>,
    /// ALPN, one of which must be offered; empty for any.
    pub(crate) application_protocols: Vec<String>,
    /// TLS is opened first.
    pub(crate) tls: Option<ServerTls>,
    /// What is done.
    pub(crate) filter: Filter,
    /// The object that asks for it.
    pub(crate) origin: Origin,
    /// The object whose port it is for; rivals of one owner are no conflict.
    pub(crate) owner: Origin,
}

/// Chains without overlap.
#[derive(Default)]
pub(crate) struct Chains {
    /// The owner of each range and name.
    taken: BTreeMap<(Option<Cidr>, String), Origin>,
    made: Vec<FilterChain>,
}

impl Chains {
    /// Adds what is still free of a chain. The owner of what was taken, when nothing is left and it is another one.
    pub(crate) fn add(&mut self, draft: Draft) -> Option<Origin> {
        let Draft { name, ranges, server_names, application_protocols, tls, filter, origin, owner } = draft;
        let ranges: Vec<Option<Cidr>> = match ranges.is_empty() {
            true => vec![None],
            false => ranges.into_iter().map(|range| Some(range.masked())).collect(),
        };
        let names = if server_names.is_empty() { vec![String::new()] } else { server_names };
        // Ranges that have the same names left share a chain.
        let mut free: BTreeMap<Vec<String>, Vec<Cidr>> = BTreeMap::new();
        let mut holder = None;
        for range in ranges {
            let mut left = Vec::with_capacity(names.len());
            for name in &names {
                let key = (range, name.clone());
                match self.taken.get(&key) {
                    Some(other) => holder = Some(other.clone()),
                    None => {
                        self.taken.insert(key, owner.clone());
                        left.push(name.clone());
                    }
                }
            }
            if !left.is_empty() {
                left.retain(|name| !name.is_empty());
                free.entry(left).or_default().extend(range);
            }
        }
        let is_left = !free.is_empty();
        self.made.extend(free.into_iter().map(|(server_names, destination_ranges)| FilterChain {
            name: name.clone(),
            matches: ChainMatch {
                destination_ranges,
                server_names,
                application_protocols: application_protocols.clone(),
                ..ChainMatch::default()
            },
            tls: tls.clone(),
            filter: filter.clone(),
            origin: Some(origin.clone()),
        }));
        holder.filter(|holder| !is_left && *holder != owner)
    }

    /// The chains in the order added.
    pub(crate) fn into_made(self) -> Vec<FilterChain> {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use config::{ClusterChoice, TcpProxy};

    use super::*;

    fn draft(ranges: &[&str], names: &[&str], owner: &str) -> Draft {
        Draft {
            name: owner.into(),
            ranges: ranges.iter().map(|text| Cidr::parse(text).unwrap()).collect(),
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            application_protocols: Vec::new(),
            tls: None,
            filter: Filter::Tcp(TcpProxy {
                stat_prefix: owner.into(),
                cluster: ClusterChoice::One(owner.into()),
                idle_timeout: None,
                max_connection_duration: None,
                hash_source_ip: false,
                dynamic_host: None,
                access_log: Vec::new(),
                authorization: Vec::new(),
            }),
            origin: Origin::new("VirtualService", "n", owner),
            owner: Origin::new("Service", "n", owner),
        }
    }

    fn made(drafts: Vec<Draft>) -> (Vec<String>, Vec<String>) {
        let mut chains = Chains::default();
        let rivals =
            drafts.into_iter().filter_map(|draft| chains.add(draft)).map(|origin| origin.name.to_string()).collect();
        let text = |chain: FilterChain| {
            let ranges: Vec<String> = chain
                .matches
                .destination_ranges
                .iter()
                .map(|one| format!("{}/{}", one.address, one.prefix_len))
                .collect();
            format!("{} [{}] [{}]", chain.name, ranges.join(" "), chain.matches.server_names.join(" "))
        };
        (chains.into_made().into_iter().map(text).collect(), rivals)
    }

    #[test]
    fn vs120_the_first_chain_of_a_name_wins() {
        let all = vec![draft(&[], &["a", "b"], "x"), draft(&[], &["b", "c"], "x"), draft(&[], &["a"], "y")];
        assert_eq!(made(all), (vec!["x [] [a b]".into(), "x [] [c]".into()], vec!["x".into()]));
    }

    #[test]
    fn vs120_ranges_and_names_are_taken_together() {
        let all = vec![draft(&["10.1.2.3/16"], &["a"], "x"), draft(&["10.1.0.0/16", "10.2.0.0/16"], &["a"], "y")];
        assert_eq!(made(all).0, ["x [10.1.0.0/16] [a]", "y [10.2.0.0/16] [a]"]);
        let whole = vec![draft(&[], &[], "x"), draft(&[], &["a"], "y"), draft(&[], &[], "z")];
        assert_eq!(made(whole), (vec!["x [] []".into(), "y [] [a]".into()], vec!["x".into()]));
    }
}
