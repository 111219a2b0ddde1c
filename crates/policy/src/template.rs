//! Path templates: `*` is one segment that is not empty, `**` any text, with whatever stands behind it at the end (Envoy's
//! URI templates, as far as policies use them).

/// True when a path, without its query, has the form of the template.
pub fn fits(template: &str, path: &str) -> bool {
    let (head, tail) = match template.split_once("**") {
        None => return head_fits(template, path) == Some(""),
        Some((head, tail)) => (head, tail),
    };
    head_fits(head, path).is_some_and(|rest| rest.ends_with(tail))
}

// What of the path is left behind this part of the template.
fn head_fits<'a>(head: &str, path: &'a str) -> Option<&'a str> {
    let mut rest = path;
    let mut parts = head.split('*');
    rest = rest.strip_prefix(parts.next()?)?;
    for part in parts {
        let end = rest.find('/').unwrap_or(rest.len());
        if end == 0 {
            return None;
        }
        rest = rest[end..].strip_prefix(part)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn ap02_segments_and_the_rest() {
        for (template, path, wanted) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a", false),
            ("/*/b", "/a/b", true),
            ("/*/b", "//b", false),
            ("/*/b/*", "/a/b/c", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/**/c", "/a/b/c", true),
            ("/**/c", "/c", false),
            ("/**/c", "//c", true),
            ("/**.html", "/a/b.html", true),
            ("/*/**", "/a/b/c", true),
            ("/*/**", "/a", false),
            ("/a", "/a", true),
            ("/a", "/a/", false),
        ] {
            assert_eq!(fits(template, path), wanted, "{template} {path}");
        }
    }
}
