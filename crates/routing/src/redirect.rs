//! Where a redirect sends a client (Istio VS40 to VS42, GW19; Envoy `RedirectAction`, `VirtualHost.require_tls`).
//!
//! In: the redirect, the condition that its route matched by, the request's head. Out: the `location`.

use config::{Redirect, RedirectPath, RouteMatch};

use crate::Head;
use crate::rewrite::matched_bytes;

const HTTP_PORT: &str = ":80";
const HTTPS_PORT: &str = ":443";

/// The new address, complete.
pub fn location(redirect: &Redirect, matches: &RouteMatch, head: &Head<'_>) -> String {
    let Redirect { scheme, host, port, path, status: _ } = redirect;
    let scheme = scheme.as_deref().unwrap_or(head.scheme);
    let host = match host {
        Some(host) => host,
        None => host_of(head, scheme, port.is_some()),
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = match path {
        None => head.path.to_owned(),
        // A path with a query of its own takes the place of the client's.
        Some(RedirectPath::Whole(path)) if path.contains('?') => path.clone(),
        Some(RedirectPath::Whole(path)) => format!("{path}{}", &head.path[head.path_only().len()..]),
        Some(RedirectPath::Matched(prefix)) => {
            format!("{prefix}{}", &head.path[matched_bytes(&matches.path, head.path)..])
        }
    };
    format!("{scheme}://{host}{port}{path}")
}

/// The same address over TLS; the port, if the client named one, stays (measured with Envoy 1.40).
pub fn to_https(head: &Head<'_>) -> String {
    format!("https://{}{}", head.authority, head.path)
}

// The client's host. Its port goes when the redirect has one, and when it is the default of a scheme that changes.
fn host_of<'a>(head: &Head<'a>, scheme: &str, has_port: bool) -> &'a str {
    let authority = head.authority;
    let Some((host, port)) = split_port(authority) else { return authority };
    let is_default = match head.scheme {
        "http" => port == HTTP_PORT,
        "https" => port == HTTPS_PORT,
        _ => false,
    };
    match has_port || (scheme != head.scheme && is_default) {
        true => host,
        false => authority,
    }
}

// `[::1]:80` and `a:80`; the port keeps its colon.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    let colon = authority.rfind(':')?;
    let inside = authority.starts_with('[') && !authority[..colon].ends_with(']');
    (!inside).then(|| authority.split_at(colon))
}

#[cfg(test)]
mod tests {
    use config::PathMatch;
    use http::HeaderMap;

    use super::*;

    fn plain() -> Redirect {
        Redirect { scheme: None, host: None, port: None, path: None, status: 301 }
    }

    fn sent(redirect: &Redirect, matched: &str, authority: &str, path: &str) -> String {
        let headers = HeaderMap::new();
        let matches = RouteMatch { path: PathMatch::Prefix(matched.into()), ..RouteMatch::any() };
        location(
            redirect,
            &matches,
            &Head { method: "GET", scheme: "http", authority, path, headers: &headers, claims: None },
        )
    }

    #[test]
    fn vs40_what_is_not_named_stays() {
        assert_eq!(sent(&plain(), "/", "a:81", "/x?q=1"), "http://a:81/x?q=1");
        let host = Redirect { host: Some("b".into()), ..plain() };
        assert_eq!(sent(&host, "/", "a:81", "/x?q=1"), "http://b/x?q=1");
    }

    #[test]
    fn vs40_a_whole_path_keeps_the_query_unless_it_has_one() {
        let to = |path: &str| Redirect { path: Some(RedirectPath::Whole(path.into())), ..plain() };
        assert_eq!(sent(&to("/new"), "/", "a", "/x?q=1"), "http://a/new?q=1");
        assert_eq!(sent(&to("/new?p=2"), "/", "a", "/x?q=1"), "http://a/new?p=2");
    }

    #[test]
    fn vs41_a_prefix_is_replaced() {
        let to = Redirect { path: Some(RedirectPath::Matched("/new".into())), ..plain() };
        assert_eq!(sent(&to, "/old", "a", "/old/x?q=1"), "http://a/new/x?q=1");
    }

    #[test]
    fn vs42_ports_of_the_client_go_when_they_would_be_wrong() {
        let https = Redirect { scheme: Some("https".into()), ..plain() };
        assert_eq!(sent(&https, "/", "a:80", "/"), "https://a/");
        assert_eq!(sent(&https, "/", "a:8080", "/"), "https://a:8080/");
        let port = Redirect { port: Some(9), ..plain() };
        assert_eq!(sent(&port, "/", "a:8080", "/"), "http://a:9/");
        assert_eq!(sent(&port, "/", "[::1]:8080", "/"), "http://[::1]:9/");
        assert_eq!(sent(&port, "/", "[::1]", "/"), "http://[::1]:9/");
    }
}
