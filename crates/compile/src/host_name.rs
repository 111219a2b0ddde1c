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

#[cfg(test)]
mod tests {
    use super::is_usable;

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
