//! Conditions on one string, and the regexes in them.
//!
//! Values are bytes: a header need not be UTF-8. People write RE2 (Istio `StringMatch.regex`, V-07); `regex` speaks
//! nearly the same language, and [`rust_syntax`] closes the gap where the two read one pattern differently.

use config::ValueMatch;
use regex::bytes::{Regex, RegexBuilder};

/// Largest compiled regex, in bytes; what is larger is refused when the table is indexed.
const REGEX_PROGRAM_BYTES_MAX: usize = 2 << 20;

/// A condition on a header's or a query parameter's value.
#[derive(Debug)]
pub(crate) enum Value {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Regex),
}

impl Value {
    pub(crate) fn new(value: &ValueMatch) -> Result<Self, String> {
        let bytes = |text: &String| Box::from(text.as_bytes());
        Ok(match value {
            ValueMatch::Present => Self::Present,
            ValueMatch::Exact(text) => Self::Exact(bytes(text)),
            ValueMatch::Prefix(text) => Self::Prefix(bytes(text)),
            ValueMatch::Suffix(text) => Self::Suffix(bytes(text)),
            ValueMatch::Contains(text) => Self::Contains(bytes(text)),
            ValueMatch::Regex(regex) => Self::Regex(whole(regex)?),
        })
    }

    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => *value == **text,
            Self::Prefix(text) => value.starts_with(text),
            Self::Suffix(text) => value.ends_with(text),
            // `windows` refuses an empty needle, which every value contains.
            Self::Contains(text) => text.is_empty() || value.windows(text.len()).any(|part| *part == **text),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Compiles a regex that has to match the whole value (TR41).
pub(crate) fn whole(pattern: &str) -> Result<Regex, String> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(REGEX_PROGRAM_BYTES_MAX).build();
    let rust = rust_syntax(pattern);
    // `a)|(b` is no regex, but would be one between the brackets that follow.
    let alone = if may_close_early(pattern) { build(&rust).map(drop) } else { Ok(()) };
    alone
        .and_then(|()| build(&format!("^(?:{rust})$")))
        .map_err(|error| format!("the regex {pattern:?} does not compile: {error}"))
}

/// Compiles a regex that is looked for anywhere.
pub(crate) fn anywhere(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(&rust_syntax(pattern)).size_limit(REGEX_PROGRAM_BYTES_MAX).build();
    built.map_err(|error| format!("the regex {pattern:?} does not compile: {error}"))
}

// True unless it is certain that every bracket closes one of the pattern's own.
fn may_close_early(pattern: &str) -> bool {
    let (mut open, mut escaped) = (0_u32, false);
    for byte in pattern.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            // Brackets inside of a class are none; who wants to know compiles.
            b'[' => return pattern.contains(')'),
            b'(' => open += 1,
            b')' if open == 0 => return true,
            b')' => open -= 1,
            _ => {}
        }
    }
    false
}

/// The same pattern as `regex` has to be told it: `\d`, `\w`, `\s` and `\b` are ASCII in RE2 (and small, where Unicode's
/// take 100 kB a pattern), and `[`, `&&` and `~~` inside of a class are ordinary characters.
fn rust_syntax(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let (mut in_class, mut class_start) = (false, false);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let starts = std::mem::take(&mut class_start);
        match c {
            '\\' => escape(chars.next(), in_class, &mut out),
            '[' if !in_class => {
                (in_class, class_start) = (true, true);
                out.push('[');
            }
            '^' if starts && out.ends_with('[') => {
                class_start = true;
                out.push('^');
            }
            // `[]a]` is a class of two in both.
            ']' if in_class && !starts => {
                in_class = false;
                out.push(']');
            }
            '[' if chars.peek() == Some(&':') => copy_named_class(&mut chars, &mut out),
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

// `[:alpha:]`, whose brackets are the class syntax's own.
fn copy_named_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('[');
    for c in chars.by_ref() {
        out.push(c);
        if c == ']' {
            return;
        }
    }
}

fn escape(escaped: Option<char>, in_class: bool, out: &mut String) {
    match escaped {
        Some('d') => out.push_str("[0-9]"),
        Some('D') => out.push_str("[^0-9]"),
        Some('w') => out.push_str("[0-9A-Za-z_]"),
        Some('W') => out.push_str("[^0-9A-Za-z_]"),
        Some('s') => out.push_str(r"[\t\n\x0c\r ]"),
        Some('S') => out.push_str(r"[^\t\n\x0c\r ]"),
        Some('b') if !in_class => out.push_str(r"(?-u:\b)"),
        Some(c) => out.extend(['\\', c]),
        // Ends with a backslash: left as it is, for the compiler to refuse.
        None => out.push('\\'),
    }
}

/// What every string that the regex matches begins with; perhaps nothing. Never too long, perhaps too short.
pub(crate) fn required_prefix(pattern: &str) -> String {
    let mut prefix = String::new();
    // With alternatives nothing is common for certain.
    if pattern.contains('|') {
        return prefix;
    }
    let mut chars = pattern.strip_prefix('^').unwrap_or(pattern).chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c) if c.is_ascii_punctuation() => prefix.push(c),
                _ => break,
            },
            // The character before may be absent.
            '?' | '*' | '{' => {
                prefix.pop();
                break;
            }
            '.' | '[' | '(' | ')' | '+' | '^' | '$' => break,
            c => prefix.push(c),
        }
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &str) -> bool {
        whole(pattern).unwrap().is_match(value.as_bytes())
    }

    #[test]
    fn the_whole_value_has_to_match() {
        assert!(matches("a|ab", "ab") && matches("^/x$", "/x") && !matches("/x", "/xy") && !matches("/x", "\n/x"));
        assert!(!matches("a", "a\n"), "the end is the end, not the last line's");
    }

    #[test]
    fn classes_are_ascii_as_in_re2() {
        assert!(matches(r"\d\w\s", "1a ") && !matches(r"\d", "٣") && !matches(r"\w", "é") && matches(r"\W", "é"));
        assert!(matches(r"[\d-]+", "1-2") && matches(r"[^\d]", "a") && !matches(r"[^\d]", "1"));
        assert!(matches(".", "é"), "a dot is a character, not a byte");
    }

    #[test]
    fn class_members_are_ordinary_characters() {
        assert!(matches("[[]", "[") && matches("[a&&b]+", "a&b") && matches("[]a]+", "]a") && matches("[^]]", "a"));
        assert!(matches("[[:digit:]]+x", "12x") && !matches("[[:digit:]]", ":") && matches(r"[\]\[]+", "[]"));
    }

    #[test]
    fn a_bracket_of_the_pattern_cannot_close_ours() {
        for bad in ["a)|(b", "[(]a)|(b", "(", "[", "\\", "(?=a)"] {
            assert!(whole(bad).is_err(), "{bad}");
        }
        assert!(matches(r"\)|(b)", "b") && matches("[)]", ")"));
    }

    #[test]
    fn a_regex_that_grows_too_large_is_refused() {
        assert!(whole("(?:(?:[a-z]{1000}){1000}){10}").is_err());
    }

    #[test]
    fn the_required_prefix_is_never_too_long() {
        for (pattern, prefix) in [
            ("/api/v1/.*", "/api/v1/"),
            (r"^/a\.b/[0-9]+", "/a.b/"),
            ("/ab*", "/a"),
            ("/ab?c", "/a"),
            ("/ab+", "/ab"),
            ("/ab{0,1}", "/a"),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            (r"/\d", "/"),
            (".*", ""),
        ] {
            assert_eq!(required_prefix(pattern), prefix, "{pattern}");
        }
    }

    #[test]
    fn contains_finds_its_part() {
        let contains = |text: &str, value: &[u8]| Value::new(&ValueMatch::Contains(text.into())).unwrap().holds(value);
        assert!(contains("b", b"abc") && contains("", b"") && !contains("bb", b"abc") && contains("c", b"\xffc"));
    }
}
