//! Header names, values and operations (V-04, V-05, V-06).

use std::collections::BTreeMap;

use super::Findings;
use crate::http_actions::{HeaderOperations, Headers};

/// Headers that hold the authority.
pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// A token of RFC 7230.
pub(super) fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

pub(super) fn check(path: &str, headers: Option<&Headers>, found: &mut Findings) {
    let Some(Headers { request, response }) = headers else { return };
    check_operations(&format!("{path}.request"), request.as_ref(), true, found);
    check_operations(&format!("{path}.response"), response.as_ref(), false, found);
}

// V-05: a request's authority may be set or added, never removed; a response has none.
fn check_operations(path: &str, operations: Option<&HeaderOperations>, is_request: bool, found: &mut Findings) {
    let Some(HeaderOperations { set, add, remove }) = operations else { return };
    for (verb, values) in [("set", set), ("add", add)] {
        for name in values.keys() {
            check_name(&format!("{path}.{verb}.{name}"), name, is_request, found);
        }
        check_values(&format!("{path}.{verb}"), values, found);
    }
    for (index, name) in remove.iter().enumerate() {
        check_name(&format!("{path}.remove[{index}]"), name, false, found);
    }
}

fn check_name(field: &str, name: &str, authority_allowed: bool, found: &mut Findings) {
    if is_authority(name) {
        if !authority_allowed {
            found.error(field, format!("{name:?} may not be changed here; a request's may be set"));
        }
    } else if name.starts_with(':') {
        found.error(field, format!("{name:?}: of the headers that begin with ':' only :authority may be set"));
    } else if !is_token(name) {
        found.error(field, format!("{name:?} is not a header's name"));
    }
}

fn check_values(path: &str, values: &BTreeMap<String, String>, found: &mut Findings) {
    for (name, value) in values {
        if value.chars().any(|letter| letter.is_ascii_control() && letter != '\t') {
            found.error(format!("{path}.{name}"), "a header's value may hold no control characters");
        }
        if let Some(rest) = bad_command(value) {
            let message = format!("{rest:?} is no command such as %REQ(X)%; write %% for a percent sign");
            found.error(format!("{path}.{name}"), message);
        }
    }
}

// V-06: Envoy formats the value: `%%` is a percent sign, `%NAME(arguments):length%` a command. What is left from the
// first sign that is neither.
fn bad_command(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some(start) = rest.find('%') {
        rest = &rest[start..];
        let end = if rest[1..].starts_with('%') { Some(2) } else { command_end(rest) };
        let Some(end) = end else { return Some(rest) };
        rest = &rest[end..];
    }
    None
}

// The length of the command that begins here.
fn command_end(text: &str) -> Option<usize> {
    let name = text[1..].bytes().take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
    let mut end = 1 + name.count();
    if end == 1 {
        return None;
    }
    if text[end..].starts_with('(') {
        end += text[end..].find(')')? + 1;
    }
    if text[end..].starts_with(':') {
        let digits = text[end + 1..].bytes().take_while(u8::is_ascii_digit).count();
        end += if digits == 0 { return None } else { digits + 1 };
    }
    text[end..].starts_with('%').then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::bad_command;

    #[test]
    fn percent_signs_are_doubled_or_commands() {
        for good in ["", "abc", "100%%", "%REQ(X-ID)%", "%REQ(A?B):12%x%%", "%START_TIME(%s)%", "%DURATION%"] {
            assert_eq!(bad_command(good), None, "{good}");
        }
        assert_eq!(bad_command("abc%123"), Some("%123"));
        for bad in ["%", "%req(x)%", "%REQ(X)", "%REQ(X):%", "%%%"] {
            assert!(bad_command(bad).is_some(), "{bad}");
        }
    }
}
