//! The key that keeps a request at one endpoint (DR21): hashes of parts of the request, mixed as Envoy mixes them, so
//! that both proxies send a key to the same endpoint.

use std::net::{IpAddr, SocketAddr};

use config::{HashCookie, HashKey};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, request::Parts};
use xxhash_rust::xxh64::xxh64;

use crate::connection::Client;
use crate::headers::FORWARDED_FOR;
use crate::plan::HttpPlan;

/// A key, and the cookies that were made for it.
#[derive(Debug, Default)]
pub struct Hashed {
    /// `None`: the request has none of the parts, and any endpoint is as good.
    pub key: Option<u64>,
    cookies: Vec<HeaderValue>,
}

/// What of a request keys are made of.
pub struct Source<'a> {
    /// Its head.
    pub parts: &'a Parts,
    /// Its authority.
    pub authority: &'a str,
    /// The client's connection.
    pub client: &'a Client,
    /// The chain that it came by: whom to believe about the client's address.
    pub plan: &'a HttpPlan,
}

/// The key of a request.
pub fn request(keys: &[HashKey], source: &Source<'_>) -> Hashed {
    let mut hashed = Hashed::default();
    for key in keys {
        let part = match key {
            HashKey::Header(name) => of_header(name, source),
            HashKey::Query(name) => query(source.parts.uri.query().unwrap_or_default(), name).map(of),
            HashKey::SourceIp => client_ip(source).map(of_ip),
            HashKey::Cookie(cookie) => of_cookie(cookie, source, &mut hashed.cookies),
        };
        if let Some(part) = part {
            // Turned, so that two equal parts do not cancel each other out.
            hashed.key = Some(hashed.key.map_or(0, |key| key.rotate_left(1)) ^ part);
        }
    }
    hashed
}

/// The key of a connection.
pub fn of_ip(ip: IpAddr) -> u64 {
    of(ip.to_string().as_bytes())
}

impl Hashed {
    /// Gives the client the cookies that were made.
    pub fn tell(self, headers: &mut HeaderMap) {
        for cookie in self.cookies {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

fn of(bytes: impl AsRef<[u8]>) -> u64 {
    xxh64(bytes.as_ref(), 0)
}

fn of_header(name: &str, source: &Source<'_>) -> Option<u64> {
    let Source { parts, authority, .. } = source;
    match name {
        ":authority" | "host" => return Some(of(authority)),
        ":method" => return Some(of(parts.method.as_str())),
        ":path" => return Some(of(parts.uri.path_and_query().map_or("/", |path| path.as_str()))),
        _ => {}
    }
    let mut values: Vec<&[u8]> = parts.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    // Whatever order they came in.
    values.sort_unstable();
    (!values.is_empty()).then(|| values.iter().fold(0, |seed, value| xxh64(value, seed)))
}

// The first value of a parameter, as it was sent: `%` escapes are not read (measured with Envoy 1.40).
fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let parameters = query.split('&').filter(|one| !one.is_empty());
    let mut pairs = parameters.map(|one| one.split_once('=').unwrap_or((one, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

// Who the client is: at the edge its connection says so, or a trusted proxy in front; inside the mesh the last address
// that somebody appended (Envoy, `use_remote_address`).
fn client_ip(source: &Source<'_>) -> Option<IpAddr> {
    let Source { parts, client, plan, .. } = source;
    let manager = &plan.manager;
    let peer = client.peer.map(|peer| peer.ip());
    // Our own entry was appended already.
    let hops = match (manager.use_remote_address, manager.xff_trusted_hops) {
        (true, 0) => return peer,
        (_, hops) => hops as usize,
    };
    let texts = parts.headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let addresses: Vec<&str> = texts.flat_map(|text| text.split(',')).map(str::trim).collect();
    let named = addresses.iter().rev().nth(hops).and_then(|text| text.parse().ok());
    named.or(peer)
}

fn of_cookie(cookie: &HashCookie, source: &Source<'_>, made: &mut Vec<HeaderValue>) -> Option<u64> {
    let sent = read_cookie(&source.parts.headers, &cookie.name);
    if !sent.is_empty() {
        return Some(of(sent));
    }
    let ttl = cookie.ttl?;
    let value = format!("{:016x}", of(ends(source.client.peer) + &ends(source.client.local)));
    made.extend(HeaderValue::from_str(&set_cookie(cookie, &value, ttl.as_secs())));
    Some(of(value))
}

fn ends(address: Option<SocketAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}

// The first cookie of a name, without quotes; empty when there is none.
fn read_cookie<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim_start_matches(' ').split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value);
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

fn set_cookie(cookie: &HashCookie, value: &str, seconds: u64) -> String {
    let mut text = format!("{}=\"{value}\"", cookie.name);
    let mut add = |part: &str, value: &str| {
        text.push_str("; ");
        text.push_str(part);
        if !value.is_empty() {
            text.push('=');
            text.push_str(value);
        }
    };
    if seconds > 0 {
        add("Max-Age", &seconds.to_string());
    }
    if !cookie.path.is_empty() {
        add("Path", &cookie.path);
    }
    for (name, value) in &cookie.attributes {
        add(name, value);
    }
    add("HttpOnly", "");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_query_value_counts_as_it_was_sent() {
        let value = |text: &'static str| query(text, "user");
        assert_eq!(value("x=1&user=a%20b&user=c"), Some("a%20b"));
        assert_eq!(value("user"), Some(""));
        assert_eq!(value("users=1"), None);
    }

    #[test]
    fn a_cookie_is_found_whatever_stands_around_it() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; user=\"jason\";b=2"));
        headers.append(COOKIE, HeaderValue::from_static("c=x=y"));
        assert_eq!(["user", "b", "c", "d"].map(|name| read_cookie(&headers, name)), ["jason", "2", "x=y", ""]);
    }

    #[test]
    fn dr21_a_made_cookie_says_what_the_rule_says() {
        let cookie = HashCookie {
            name: "user".into(),
            path: "/".into(),
            ttl: None,
            attributes: vec![("SameSite".into(), "Lax".into()), ("Secure".into(), String::new())],
        };
        assert_eq!(set_cookie(&cookie, "v", 1800), "user=\"v\"; Max-Age=1800; Path=/; SameSite=Lax; Secure; HttpOnly");
        let session = HashCookie { path: String::new(), attributes: Vec::new(), ..cookie };
        assert_eq!(set_cookie(&session, "v", 0), "user=\"v\"; HttpOnly");
    }
}
