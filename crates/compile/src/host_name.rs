//! Which hosts may stand in a table: what a proxy would refuse must be left out alone, or it takes its whole table along.

/// Longest host accepted, in bytes (V-03).
pub(crate) const HOST_BYTES_MAX: usize = 255;

/// Visible ASCII without what ends an authority, and a `*` at the beginning only (X12).
pub(crate) fn is_usable(host: &str) -> bool {
    let rest = host.strip_prefix('*').unwrap_or(host);
    !host.is_empty()
        && host.len() <= HOST_BYTES_MAX
        && rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'/' | b'?' | b'#' | b'@' | b'|'))
}

/// What a chain can ask for in a TLS hello: an exact name or `*.suffix`. Anything else, `*` too, would have the whole
/// listener refused.
pub(crate) fn is_server_name(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    is_usable(name) && !rest.is_empty() && !rest.contains('*') && !rest.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::{is_server_name, is_usable};

    #[test]
    fn vs60_server_names_are_exact_or_a_suffix() {
        for good in ["a.com", "*.a.com", "a"] {
            assert!(is_server_name(good), "{good}");
        }
        for bad in ["", "*", "*a.com", "a.*.com", "*.", "**", ".a.com", "*.*.com"] {
            assert!(!is_server_name(bad), "{bad}");
        }
    }

    #[test]
    fn hosts_that_a_proxy_would_refuse() {
        for good in ["a", "*", "*.a.com", "a_b.example.com", "::1", "10.0.0.1"] {
            assert!(is_usable(good), "{good}");
        }
        for bad in ["", "a b", "a\nb", "\u{0}", "a*b", "**", "a/b", "\u{e9}.com"] {
            assert!(!is_usable(bad), "{bad:?}");
        }
        assert!(!is_usable(&"a".repeat(256)));
    }
}
