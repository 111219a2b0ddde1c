//! What names look like: hosts, labels, addresses (V-02, V-03, V-09). Pure questions, answered with the reason.

use words::host;

/// Why a name is no host, wildcard or address; `None` when it is one (V-03).
pub(crate) fn bad_host(name: &str) -> Option<&'static str> {
    if host::ip(name).is_some() || name == "*" {
        return None;
    }
    let labels = name.strip_suffix('.').unwrap_or(name);
    if labels.is_empty() || name.len() > 255 {
        return Some("it must have 1 to 255 characters");
    }
    let (first, rest) = labels.split_once('.').unwrap_or((labels, ""));
    let first = match first.strip_prefix('*') {
        Some("") => None,
        Some(partial) => Some(partial.strip_prefix('-').unwrap_or(partial)),
        None => Some(first),
    };
    let rest = rest.split('.').filter(|_| labels.contains('.'));
    first.into_iter().chain(rest).find_map(bad_label).or_else(|| numeric_end(labels))
}

/// Why a name is no host without wildcard; `None` when it is one (V-03).
pub(crate) fn bad_fqdn(name: &str) -> Option<&'static str> {
    let labels = name.strip_suffix('.').unwrap_or(name);
    if labels.is_empty() || name.len() > 255 {
        return Some("it must have 1 to 255 characters");
    }
    labels.split('.').find_map(bad_label).or_else(|| numeric_end(labels))
}

// A name that ends in a number is a mistyped address.
fn numeric_end(name: &str) -> Option<&'static str> {
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some("its last label is a number")
}

/// Why a name is no DNS label (RFC 1123, upper case allowed: V-02); `None` when it is one.
pub(crate) fn bad_label(label: &str) -> Option<&'static str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric();
    let (Some(first), Some(last)) = (label.bytes().next(), label.bytes().last()) else {
        return Some("a label is empty");
    };
    if label.len() > 63 {
        return Some("a label is longer than 63 characters");
    }
    if !is_word(first) || !is_word(last) {
        return Some("a label must begin and end with a letter or digit");
    }
    let bad = label.bytes().any(|byte| !is_word(byte) && byte != b'-');
    bad.then_some("a label may hold only letters, digits and '-'")
}

/// Why a text is no key of a label, `prefix/name` or `name` (V-09).
pub(crate) fn bad_label_key(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.is_empty() {
        return Some("it is empty");
    }
    prefix.and_then(bad_fqdn).or_else(|| bad_label_value(name))
}

/// Why a text is no value of a label (V-09).
pub(crate) fn bad_label_value(value: &str) -> Option<&'static str> {
    if value.len() > 63 {
        return Some("it is longer than 63 characters");
    }
    let ends = [value.bytes().next(), value.bytes().last()];
    if ends.into_iter().flatten().any(|byte| !byte.is_ascii_alphanumeric()) {
        return Some("it must begin and end with a letter or digit");
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!value.bytes().all(fits)).then_some("it may hold only letters, digits, '-', '_' and '.'")
}

/// True for an address, or a range `10.0.0.0/8`.
pub(crate) fn is_subnet(text: &str) -> bool {
    let (ip, length) = text.split_once('/').map_or((text, None), |(ip, length)| (ip, Some(length)));
    let bits = host::ip(ip).map(|ip| if ip.is_ipv4() { 32 } else { 128 });
    bits.is_some_and(|bits| length.is_none_or(|text| text.parse().is_ok_and(|length: u32| length <= bits)))
}

/// The path of a unix socket; `None` for another address.
pub(crate) fn unix_path(address: &str) -> Option<&str> {
    address.strip_prefix("unix://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_wildcards_or_addresses() {
        for good in ["a", "a.b", "A.b.", "*", "*.b", "*-x.b", "*x.b", "10.0.0.1", "::1", "1a.2b"] {
            assert_eq!(bad_host(good), None, "{good}");
        }
        for bad in ["", ".", "a..b", "-a.b", "a_b.c", "a.*.b", "*.*.b", "**.b", "10.0.0.256", "a.b-"] {
            assert!(bad_host(bad).is_some(), "{bad}");
        }
        assert!(bad_fqdn("*.b").is_some());
        assert!(bad_fqdn("a.1").is_some());
    }

    #[test]
    fn labels_are_as_kubernetes_has_them() {
        for good in ["app", "app.kubernetes.io/name", "a_b", "A"] {
            assert_eq!(bad_label_key(good), None, "{good}");
        }
        for bad in ["", "/", "a/", "a b", "-a", "a/b/c"] {
            assert!(bad_label_key(bad).is_some(), "{bad}");
        }
        assert_eq!(bad_label_value(""), None);
        assert!(bad_label_value("v1!").is_some());
    }

    #[test]
    fn ranges_have_a_length_that_fits() {
        assert!(is_subnet("10.0.0.0/8") && is_subnet("::/128") && is_subnet("10.0.0.1"));
        assert!(!is_subnet("10.0.0.0/33") && !is_subnet("10.0.0/8") && !is_subnet("a"));
    }
}
