//! Shapes of short texts that go into a proxy's configuration: what is not of the shape a proxy would refuse together
//! with everything around it.

/// An RFC 9110 token: a header's name, a method.
pub(crate) fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

/// No control characters: a header's value, an authority, a path.
pub(crate) fn is_line(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}
