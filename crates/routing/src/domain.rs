//! Which virtual host: exact domain, then the longest `*suffix`, then the longest `prefix*`, then `*` (Envoy
//! `route.v3.VirtualHost.domains`), compared without case, first with the port as sent, then without.

use std::borrow::Cow;

use config::RouteTable;
use rustc_hash::FxHashMap;

/// Virtual host numbers by domain.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    exact: FxHashMap<Box<str>, u32>,
    suffixes: Vec<(usize, FxHashMap<Box<str>, u32>)>,
    prefixes: Vec<(usize, FxHashMap<Box<str>, u32>)>,
    any: Option<u32>,
}

type ByLength = std::collections::BTreeMap<usize, FxHashMap<Box<str>, u32>>;

fn longest_first(by_length: ByLength) -> Vec<(usize, FxHashMap<Box<str>, u32>)> {
    by_length.into_iter().rev().collect()
}

impl Domains {
    pub(crate) fn new(table: &RouteTable) -> Self {
        let (mut suffixes, mut prefixes) = (ByLength::new(), ByLength::new());
        let mut domains = Self::default();
        for (number, host) in (0..).zip(&table.virtual_hosts) {
            for domain in &host.domains {
                let domain = domain.to_ascii_lowercase();
                if domain == "*" {
                    domains.any.get_or_insert(number);
                } else if let Some(suffix) = domain.strip_prefix('*') {
                    suffixes.entry(suffix.len()).or_default().entry(suffix.into()).or_insert(number);
                } else if let Some(prefix) = domain.strip_suffix('*') {
                    prefixes.entry(prefix.len()).or_default().entry(prefix.into()).or_insert(number);
                } else {
                    domains.exact.entry(domain.into()).or_insert(number);
                }
            }
        }
        (domains.suffixes, domains.prefixes) = (longest_first(suffixes), longest_first(prefixes));
        domains
    }

    /// The virtual host of an authority.
    pub(crate) fn find(&self, authority: &str) -> Option<u32> {
        let authority = match authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(authority.to_ascii_lowercase()),
            false => Cow::Borrowed(authority),
        };
        let bare = words::host::without_port(&authority);
        self.named(&authority)
            .or_else(|| (bare.len() < authority.len()).then(|| self.named(bare)).flatten())
            .or(self.any)
    }

    fn named(&self, host: &str) -> Option<u32> {
        if let Some(number) = self.exact.get(host) {
            return Some(*number);
        }
        let bytes = host.len();
        let suffix = self.suffixes.iter().find_map(|(length, table)| {
            // The `*` stands for at least one character.
            (*length < bytes).then(|| host.get(bytes - length..)).flatten().and_then(|end| table.get(end))
        });
        let prefix = || {
            self.prefixes.iter().find_map(|(length, table)| {
                (*length < bytes).then(|| host.get(..*length)).flatten().and_then(|start| table.get(start))
            })
        };
        suffix.or_else(prefix).copied()
    }
}
