//! Path normalisation BASE (Istio mesh `pathNormalization`, Envoy `normalize_path`): unreserved characters decoded, `.`
//! and `..` resolved, before anything is matched.

use std::borrow::Cow;

/// The normalised path and query; borrowed when nothing changes, which is nearly always. `None` when the path climbs
/// above its root or is broken, which is answered 400.
pub fn normalize(path: &str) -> Option<Cow<'_, str>> {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (only, rest) = path.split_at(end);
    if !needs_work(only) {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(only)?;
    let mut out = resolve_dots(&decoded.replace('\\', "/"))?;
    out.push_str(rest);
    Some(Cow::Owned(out))
}

fn needs_work(path: &str) -> bool {
    path.contains("/.") || path.bytes().any(|byte| byte == b'%' || byte == b'\\')
}

// `%41` is `A`; what is not unreserved stays encoded, with upper-case digits (RFC 3986, section 6.2.2).
fn decode_unreserved(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index] != b'%' {
            let next = path[index..].find('%').map_or(bytes.len(), |offset| index + offset);
            out.push_str(&path[index..next]);
            index = next;
            continue;
        }
        let digits = path.get(index + 1..index + 3)?;
        // A sign is no digit, though a number may begin with one.
        let code =
            digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())??;
        // Nobody means it, and some take it for the end of the path.
        if code == 0 {
            return None;
        }
        if code.is_ascii_alphanumeric() || b"-._~".contains(&code) {
            out.push(char::from(code));
        } else {
            out.push_str(&format!("%{code:02X}"));
        }
        index += 3;
    }
    Some(out)
}

fn resolve_dots(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.strip_prefix('/')?.split('/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." if is_last => segments.push(""),
            "." => {}
            ".." => {
                segments.pop()?;
                if is_last {
                    segments.push("");
                }
            }
            other => segments.push(other),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_before_matching() {
        for (path, wanted) in [
            ("/a/b", Some("/a/b")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/a/b/..", Some("/a/")),
            ("/%61?x=%61", Some("/a?x=%61")),
            ("/a%2fb", Some("/a%2Fb")),
            ("/a/%2e%2e/b", Some("/b")),
            ("/..", None),
            ("/a/../../b", None),
            ("/%zz", None),
            ("/%+5", None),
            ("/%-5", None),
            ("/a%00", None),
            ("/a\\..\\b", Some("/b")),
            ("/a//b/./c", Some("/a//b/c")),
        ] {
            assert_eq!(normalize(path).as_deref(), wanted, "{path}");
        }
    }
}
