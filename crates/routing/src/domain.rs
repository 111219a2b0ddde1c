//! Which virtual host: exact domain, then the longest `*suffix`, then the longest `prefix*`, then `*` (Envoy
//! `route.v3.VirtualHost.domains`).
//!
//! Compared without case, and without the port that the client sent (Envoy `ignore_port_in_host_matching`, X14); only a
//! domain that has a port itself is compared with the port, first. Envoy would never match such a domain; ours differs
//! on purpose, because a person who writes a port means it. `a.com.` is not `a.com`, as in Envoy.

use std::borrow::Cow;
use std::collections::BTreeMap;

use config::RouteTable;
use rustc_hash::FxHashMap;

type Numbers = FxHashMap<Box<[u8]>, u32>;

/// Virtual host numbers by domain.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    exact: Numbers,
    ignore_port: bool,
    // Domains with a port, apart, so that most tables are asked once.
    with_port: Numbers,
    // By length, longest first.
    suffixes: Vec<(usize, Numbers)>,
    prefixes: Vec<(usize, Numbers)>,
    any: Option<u32>,
}

impl Domains {
    pub(crate) fn new(table: &RouteTable) -> Self {
        let mut domains = Self { ignore_port: table.ignore_port, ..Self::default() };
        let (mut suffixes, mut prefixes) = (BTreeMap::<_, Numbers>::new(), BTreeMap::<_, Numbers>::new());
        for (number, host) in (0..).zip(&table.virtual_hosts) {
            for domain in &host.domains {
                let domain = domain.to_ascii_lowercase();
                let (numbers, text) = if domain == "*" {
                    domains.any.get_or_insert(number);
                    continue;
                } else if let Some(suffix) = domain.strip_prefix('*') {
                    (suffixes.entry(suffix.len()).or_default(), suffix)
                } else if let Some(prefix) = domain.strip_suffix('*') {
                    (prefixes.entry(prefix.len()).or_default(), prefix)
                } else if bare(&domain).len() < domain.len() {
                    (&mut domains.with_port, domain.as_str())
                } else {
                    (&mut domains.exact, domain.as_str())
                };
                // A domain that stands twice belongs to the first; `config::check` refuses such tables.
                numbers.entry(text.as_bytes().into()).or_insert(number);
            }
        }
        domains.suffixes = suffixes.into_iter().rev().collect();
        domains.prefixes = prefixes.into_iter().rev().collect();
        domains
    }

    /// The virtual host of an authority. Copies the authority only when it has an upper-case letter.
    pub(crate) fn find(&self, authority: &str) -> Option<u32> {
        let authority = match authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(authority.to_ascii_lowercase()),
            false => Cow::Borrowed(authority),
        };
        if !self.ignore_port {
            let as_sent = self.with_port.get(authority.as_bytes()).copied();
            return as_sent.or_else(|| self.named(authority.as_bytes())).or(self.any);
        }
        let bare = bare(&authority);
        let as_sent = (bare.len() < authority.len() && !self.with_port.is_empty())
            .then(|| self.with_port.get(authority.as_bytes()))
            .flatten();
        as_sent.copied().or_else(|| self.named(bare.as_bytes())).or(self.any)
    }

    fn named(&self, host: &[u8]) -> Option<u32> {
        // The `*` stands for at least one character: `.foo.com` is not of `*.foo.com`.
        let longest = |tables: &[(usize, Numbers)], part: fn(&[u8], usize) -> &[u8]| {
            let mut fitting = tables.iter().filter(|(length, _)| *length < host.len());
            fitting.find_map(|(length, numbers)| numbers.get(part(host, *length)).copied())
        };
        self.exact
            .get(host)
            .copied()
            .or_else(|| longest(&self.suffixes, |host, length| &host[host.len() - length..]))
            .or_else(|| longest(&self.prefixes, |host, length| &host[..length]))
    }
}

// Without the port. As Envoy, whatever follows the colon; but a bare IPv6 address stays whole.
fn bare(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, after)) if !after.ends_with(']') && (!host.contains(':') || host.ends_with(']')) => host,
        _ => authority,
    }
}
