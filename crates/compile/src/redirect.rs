//! Redirects (VS40 to VS42, TR47).
//!
//! In: `redirect` as written. Out: a [`RedirectRule`], or why the rule cannot be served; with a port, a [`Redirect`].

use api::http_actions::{DerivePort, HttpRedirect};
use config::{REDIRECT_CODES, Redirect, RedirectPath};

use crate::notes::LeftOut;
use crate::text;

/// A redirect before the port of its listener is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RedirectRule {
    redirect: Redirect,
    /// The port is that which the request came in on (VS42).
    port_of_request: bool,
}

/// Lowers `redirect`; `field` is the rule's path.
pub(crate) fn lower(written: &HttpRedirect, field: &str) -> Result<RedirectRule, LeftOut> {
    let HttpRedirect { uri, prefix_rewrite, authority, port, derive_port, scheme, redirect_code } = written;
    let field = format!("{field}.redirect");
    let filled = |text: &Option<String>, leaf: &str| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) if text::is_line(text) => Ok(Some(text.to_owned())),
        Some(text) => Err(LeftOut::because(format!("{field}.{leaf}"), format!("{text:?} has control characters"))),
    };
    let code = redirect_code.filter(|code| *code != 0).unwrap_or(301);
    let status = u16::try_from(code).ok().filter(|code| REDIRECT_CODES.contains(code)).ok_or_else(|| {
        // Istio accepts other 3xx, and makes a table of it that Envoy refuses whole (TR47).
        let message = format!("{code} is not one of 301, 302, 303, 307 and 308");
        LeftOut::because(format!("{field}.redirectCode"), message)
    })?;
    let port = match port.filter(|port| *port != 0) {
        None => None,
        Some(port) => Some(
            u16::try_from(port)
                .map_err(|_| LeftOut::because(format!("{field}.port"), format!("{port} is not a port")))?,
        ),
    };
    let path = match filled(uri, "uri")? {
        Some(uri) => Some(RedirectPath::Whole(uri)),
        None => filled(prefix_rewrite, "prefixRewrite")?.map(RedirectPath::Matched),
    };
    let redirect =
        Redirect { scheme: filled(scheme, "scheme")?, host: filled(authority, "authority")?, port, path, status };
    let port_of_request = redirect.port.is_none() && *derive_port == Some(DerivePort::FromRequestPort);
    Ok(RedirectRule { redirect, port_of_request })
}

impl RedirectRule {
    /// The redirect for requests that come in on a port. The default port of the scheme is not written (VS42).
    pub(crate) fn on(&self, port: u16, is_tls: bool) -> Redirect {
        let mut redirect = self.redirect.clone();
        if self.port_of_request {
            redirect.port = Some(port);
        }
        let scheme = redirect.scheme.as_deref().unwrap_or(if is_tls { "https" } else { "http" });
        if matches!((scheme, redirect.port), ("http", Some(80)) | ("https", Some(443))) {
            redirect.port = None;
        }
        redirect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(written: HttpRedirect, listener: u16, is_tls: bool) -> Option<u16> {
        lower(&written, "spec.http[0]").expect("a redirect").on(listener, is_tls).port
    }

    #[test]
    fn vs42_the_default_port_of_the_scheme_is_not_written() {
        let of = |port, scheme: Option<&str>| HttpRedirect {
            port: Some(port),
            scheme: scheme.map(str::to_owned),
            ..HttpRedirect::default()
        };
        assert_eq!(port(of(80, None), 8080, false), None);
        assert_eq!(port(of(80, None), 8443, true), Some(80));
        assert_eq!(port(of(443, Some("https")), 8080, false), None);
        assert_eq!(port(of(443, None), 8443, true), None);
        assert_eq!(port(of(8443, Some("https")), 8080, false), Some(8443));
    }

    #[test]
    fn vs42_the_port_of_the_request_is_that_of_the_listener() {
        let derived = |derive| HttpRedirect { derive_port: Some(derive), ..HttpRedirect::default() };
        assert_eq!(port(derived(DerivePort::FromRequestPort), 9080, false), Some(9080));
        assert_eq!(port(derived(DerivePort::FromRequestPort), 80, false), None);
        assert_eq!(port(derived(DerivePort::FromProtocolDefault), 9080, false), None);
    }

    #[test]
    fn tr47_codes_that_envoy_does_not_know_are_refused() {
        for code in [300, 304, 306, 309, 399, 200] {
            let written = HttpRedirect { redirect_code: Some(code), ..HttpRedirect::default() };
            assert_eq!(lower(&written, "spec.http[0]").unwrap_err().field, "spec.http[0].redirect.redirectCode");
        }
    }
}
