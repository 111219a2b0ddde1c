//! The names that an application asks for, and the addresses they stand for (SE33). No socket: `dns_server.rs` has them.
//!
//! In: the control plane's name table, our namespace, the search list of resolv.conf. Out: an answer to a name, or "not
//! one of ours", which is then asked of the resolvers that resolv.conf names.

use std::net::IpAddr;

use config::{NameInfo, NameTable};
use rustc_hash::FxHashMap;

/// Every name that is answered for, ready to be looked up.
#[derive(Debug, Default)]
pub struct Book {
    // Complete, lower case, without a dot at the end. Wildcards as `*.suffix`.
    names: FxHashMap<String, Vec<IpAddr>>,
    // Domains that a resolver library puts behind what was asked for.
    search: Vec<String>,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The name without a search domain, when that is what was found.
    pub alias_of: Option<&'a str>,
    /// Of both families.
    pub addresses: &'a [IpAddr],
}

impl Book {
    /// A book of a table, for applications of `namespace`.
    pub fn new(table: &NameTable, namespace: &str, search: Vec<String>) -> Self {
        let mut names = FxHashMap::default();
        // Complete names first: they beat another service's short one.
        for (name, info) in &table.names {
            names.insert(name.clone(), info.addresses.clone());
        }
        for (name, info) in table.names.iter().filter(|(_, info)| info.kubernetes) {
            for short in shorter(name, info, namespace) {
                names.entry(short).or_insert_with(|| info.addresses.clone());
            }
        }
        Self { names, search }
    }

    /// Looks a name up as it was asked for, then without each search domain. `None`: not one of ours.
    pub fn find<'a>(&'a self, name: &'a str) -> Option<Found<'a>> {
        if let Some(addresses) = self.get(name) {
            return Some(Found { alias_of: None, addresses });
        }
        self.search.iter().find_map(|domain| {
            let shorter = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
            let addresses = self.get(shorter)?;
            Some(Found { alias_of: Some(shorter), addresses })
        })
    }

    // A name, or the longest wildcard that takes it.
    fn get(&self, name: &str) -> Option<&[IpAddr]> {
        if let Some(addresses) = self.names.get(name) {
            return Some(addresses);
        }
        name.match_indices('.').find_map(|(at, _)| self.names.get(&format!("*{}", &name[at..])).map(Vec::as_slice))
    }
}

/// `name` for clients of its namespace, `name.ns` and `name.ns.svc` for everybody. Names before a headless service's
/// (`pod.name.ns…`) are shortened in the same way.
fn shorter(complete: &str, info: &NameInfo, namespace: &str) -> Vec<String> {
    let NameInfo { short_name: name, namespace: own, .. } = info;
    let Some(_domain) = complete.strip_prefix(&format!("{name}.{own}.svc.")) else { return Vec::new() };
    let mut made = vec![format!("{name}.{own}"), format!("{name}.{own}.svc")];
    if own == namespace {
        made.push(name.clone());
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        let info = |ip: &str, short: &str| NameInfo {
            addresses: vec![ip.parse().unwrap()],
            kubernetes: !short.is_empty(),
            short_name: short.into(),
            namespace: if short.is_empty() { String::new() } else { "shop".into() },
        };
        let names = [
            ("cart.shop.svc.cluster.local", info("10.0.0.1", "cart")),
            ("api.example.com", info("240.240.0.1", "")),
            ("*.example.com", info("240.240.0.2", "")),
        ];
        let table = NameTable { names: names.map(|(name, info)| (name.to_owned(), info)).into() };
        Book::new(&table, "shop", vec!["shop.svc.cluster.local".into(), "svc.cluster.local".into()])
    }

    fn address(name: &str) -> Option<String> {
        book().find(name).map(|found| found.addresses[0].to_string())
    }

    #[test]
    fn se33_kubernetes_names_in_every_form() {
        for name in ["cart", "cart.shop", "cart.shop.svc", "cart.shop.svc.cluster.local"] {
            assert_eq!(address(name).as_deref(), Some("10.0.0.1"), "{name}");
        }
        assert_eq!(address("cart.other"), None);
    }

    #[test]
    fn se33_short_names_only_in_their_namespace() {
        let table = NameTable {
            names: [(
                "cart.shop.svc.cluster.local".to_owned(),
                NameInfo {
                    addresses: vec!["10.0.0.1".parse().unwrap()],
                    kubernetes: true,
                    short_name: "cart".into(),
                    namespace: "shop".into(),
                },
            )]
            .into(),
        };
        let elsewhere = Book::new(&table, "other", Vec::new());
        assert_eq!(elsewhere.find("cart"), None);
        assert!(elsewhere.find("cart.shop").is_some());
    }

    #[test]
    fn se33_exact_beats_wildcard_and_search_domains_are_aliases() {
        assert_eq!(address("api.example.com").as_deref(), Some("240.240.0.1"));
        assert_eq!(address("a.b.example.com").as_deref(), Some("240.240.0.2"));
        assert_eq!(address("example.com"), None);
        let book = book();
        let found = book.find("api.example.com.svc.cluster.local").unwrap();
        assert_eq!(found.alias_of, Some("api.example.com"));
        assert_eq!(book.find("unknown.svc.cluster.local"), None);
    }
}
