//! Host names: short names, wildcards, overlap and specificity (Istio features X10, X12, X13).
//!
//! A wildcard is a leading `*`: `*.foo.com` matches `a.foo.com` and `a.b.foo.com`, not `foo.com`; `*` matches all.
//! Callers lower-case hosts before they compare them (X14).

use std::cmp::Ordering;
use std::net::IpAddr;

/// Completes a short name with the namespace of the object that wrote it and the mesh's domain (X10).
///
/// Only a name without any dot is short: `reviews.prod` stays as written. `*` and addresses stay too.
pub fn resolve_short(host: &str, namespace: &str, domain: &str) -> String {
    let lower = host.to_ascii_lowercase();
    if lower.contains('.') || lower.contains(':') || lower.starts_with('*') || lower.is_empty() {
        return lower;
    }
    format!("{lower}.{namespace}.svc.{domain}")
}

/// True for a host with a leading `*`.
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// True when the two hosts have a name in common; symmetric.
pub fn overlaps(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        (Some(suffix), None) => covers_suffix(suffix, b),
        (None, Some(suffix)) => covers_suffix(suffix, a),
        (None, None) => a == b,
    }
}

/// True when every name that `inner` stands for is one that `outer` stands for.
pub fn is_subset(inner: &str, outer: &str) -> bool {
    match (inner.strip_prefix('*'), outer.strip_prefix('*')) {
        (Some(inner), Some(outer)) => inner.ends_with(outer),
        (Some(_), None) => false,
        (None, Some(suffix)) => covers_suffix(suffix, inner),
        (None, None) => inner == outer,
    }
}

// The `*` stands for at least one character: `*.foo.com` does not cover `.foo.com` or `foo.com`.
fn covers_suffix(suffix: &str, host: &str) -> bool {
    suffix.is_empty() || (host.len() > suffix.len() && host.ends_with(suffix))
}

/// Most specific first: exact before wildcard, then longer before shorter, then by letters (X13).
pub fn by_specificity(a: &str, b: &str) -> Ordering {
    is_wildcard(a).cmp(&is_wildcard(b)).then_with(|| b.len().cmp(&a.len())).then_with(|| a.cmp(b))
}

/// The host without a `:port` suffix. `[::1]:80` gives `[::1]`; a bare IPv6 address stays whole.
pub fn without_port(authority: &str) -> &str {
    split_port(authority).0
}

/// Host and port of an authority; the port is `None` when absent or not a number up to 65535.
pub fn split_port(authority: &str) -> (&str, Option<u16>) {
    let Some(colon) = authority.rfind(':') else { return (authority, None) };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    // `::1` has more than one colon and no bracket: it is an address, not host and port.
    if host.contains(':') && !host.ends_with(']') {
        return (authority, None);
    }
    match port.parse() {
        Ok(port) => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The address in a host, with or without brackets.
pub fn ip(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// True for an address of this machine, or of the link that it is on: of nobody else (loopback, link-local with clouds'
/// metadata, unspecified).
pub fn is_of_the_machine(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dotless_names_are_short() {
        assert_eq!(resolve_short("reviews", "prod", "cluster.local"), "reviews.prod.svc.cluster.local");
        assert_eq!(resolve_short("Reviews", "prod", "cluster.local"), "reviews.prod.svc.cluster.local");
        assert_eq!(resolve_short("reviews.prod", "x", "cluster.local"), "reviews.prod");
        assert_eq!(resolve_short("*", "x", "cluster.local"), "*");
        assert_eq!(resolve_short("::1", "x", "cluster.local"), "::1");
    }

    #[test]
    fn wildcard_needs_a_label() {
        assert!(overlaps("*.foo.com", "a.foo.com"));
        assert!(overlaps("*.foo.com", "a.b.foo.com"));
        assert!(!overlaps("*.foo.com", "foo.com"));
        assert!(overlaps("*.foo.com", "*.com"));
        assert!(overlaps("*", "anything"));
        assert!(!overlaps("*.foo.com", "*.bar.com"));
    }

    #[test]
    fn subset_goes_one_way() {
        assert!(is_subset("a.foo.com", "*.foo.com"));
        assert!(is_subset("*.b.foo.com", "*.foo.com"));
        assert!(!is_subset("*.foo.com", "a.foo.com"));
        assert!(!is_subset("*.com", "*.foo.com"));
        assert!(is_subset("*", "*"));
    }

    #[test]
    fn most_specific_first() {
        let mut hosts = vec!["*", "*.com", "b.com", "a.com", "*.foo.com", "long.a.com"];
        hosts.sort_by(|a, b| by_specificity(a, b));
        assert_eq!(hosts, ["long.a.com", "a.com", "b.com", "*.foo.com", "*.com", "*"]);
    }

    #[test]
    fn ports_come_off() {
        assert_eq!(split_port("reviews:9080"), ("reviews", Some(9080)));
        assert_eq!(split_port("reviews"), ("reviews", None));
        assert_eq!(split_port("[::1]:80"), ("[::1]", Some(80)));
        assert_eq!(split_port("::1"), ("::1", None));
        assert_eq!(split_port("reviews:99999"), ("reviews:99999", None));
    }
    #[test]
    fn this_machine_and_its_link_are_not_asked() {
        for ip in ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0"] {
            assert!(is_of_the_machine(ip.parse().expect("an address")), "{ip}");
        }
        for ip in ["10.0.0.1", "1.1.1.1", "fd00::1"] {
            assert!(!is_of_the_machine(ip.parse().expect("an address")), "{ip}");
        }
    }
}
