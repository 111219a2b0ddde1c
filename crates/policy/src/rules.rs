//! Rules, held against a request or a connection.

use std::net::{IpAddr, SocketAddr};

use config::{Authorization, AuthorizationAction, AuthorizationRule, Caller, Condition, Operation, TextMatch};
use http::HeaderMap;
use serde_json::Value;
use words::SpiffeId;

use crate::template;

/// Deepest list of claims that is looked into.
const CLAIM_DEPTH_MAX: usize = 16;

/// What is known of who asks and what for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The workload that has proved to be the peer.
    pub principal: Option<&'a SpiffeId>,
    /// The same as a text, `spiffe://cluster.local/ns/default/sa/reviews`.
    pub principal_text: Option<&'a str>,
    /// Whose connection it is.
    pub peer: Option<IpAddr>,
    /// Who is behind it, as those in front say.
    pub remote: Option<IpAddr>,
    /// What was dialled.
    pub destination: Option<SocketAddr>,
    /// The name that a TLS hello asked for.
    pub server_name: Option<&'a str>,
    /// `None` for a connection.
    pub request: Option<Request<'a>>,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`.
    pub method: &'a str,
    /// `https`.
    pub scheme: &'a str,
    /// Host and port as the client wrote them.
    pub authority: &'a str,
    /// Normalised, with the query.
    pub path: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// What a valid token says.
    pub claims: Option<&'a Value>,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It may go on.
    Allowed,
    /// It may not: a rule said so, or none allowed it.
    Denied {
        /// The rule's name.
        by: Option<&'a str>,
    },
}

impl Request<'_> {
    /// The path without its query.
    pub fn path_only(&self) -> &str {
        self.path.split(['?', '#']).next().unwrap_or_default()
    }
}

/// Holds stages one after the other against the facts; the first that refuses decides.
pub fn decide<'a>(stages: &'a [Authorization], facts: &Facts<'_>) -> Verdict<'a> {
    for stage in stages {
        let Some(rules) = &stage.rules else { continue };
        if let denied @ Verdict::Denied { .. } = judge(stage.action, rules, facts) {
            return denied;
        }
    }
    Verdict::Allowed
}

/// What a stage's rules would say that are only tried; `None` when there are none.
pub fn tried<'a>(stage: &'a Authorization, facts: &Facts<'_>) -> Option<Verdict<'a>> {
    stage.shadow.as_ref().map(|rules| judge(stage.action, rules, facts))
}

fn judge<'a>(action: AuthorizationAction, rules: &'a [AuthorizationRule], facts: &Facts<'_>) -> Verdict<'a> {
    let matched = || rules.iter().find(|rule| fits(rule, facts)).map(|rule| rule.name.as_str());
    match action {
        AuthorizationAction::Log => Verdict::Allowed,
        AuthorizationAction::Allow => match matched() {
            Some(_) => Verdict::Allowed,
            None => Verdict::Denied { by: None },
        },
        AuthorizationAction::Deny => match matched() {
            Some(name) => Verdict::Denied { by: Some(name) },
            None => Verdict::Allowed,
        },
    }
}

fn fits(rule: &AuthorizationRule, facts: &Facts<'_>) -> bool {
    let any = |condition: &Condition<Operation>| condition.holds(&mut |leaf| is_asked(leaf, facts));
    let by = |condition: &Condition<Caller>| condition.holds(&mut |leaf| is_asker(leaf, facts));
    rule.operations.iter().any(any) && rule.callers.iter().any(by)
}

fn is_asked(operation: &Operation, facts: &Facts<'_>) -> bool {
    let request = facts.request.as_ref();
    match operation {
        Operation::Host(text) => request.is_some_and(|request| text.fits_any_case(request.authority)),
        Operation::Method(text) => request.is_some_and(|request| text.fits(request.method)),
        Operation::Path(text) => request.is_some_and(|request| text.fits(request.path_only())),
        Operation::PathTemplate(template) => {
            request.is_some_and(|request| template::fits(template, request.path_only()))
        }
        Operation::Port(port) => facts.destination.is_some_and(|dialled| dialled.port() == *port),
        Operation::Address(range) => facts.destination.is_some_and(|dialled| range.contains(plain(dialled.ip()))),
        Operation::ServerName(text) => said(text, facts.server_name.unwrap_or_default()),
    }
}

fn is_asker(caller: &Caller, facts: &Facts<'_>) -> bool {
    match caller {
        Caller::Principal(text) => facts.principal_text.is_some_and(|name| said(text, name)),
        Caller::Namespace(text) => facts.principal.is_some_and(|id| text.fits(&id.namespace)),
        Caller::TrustDomain(text) => facts.principal.is_some_and(|id| text.fits(&id.trust_domain)),
        Caller::ServiceAccount { namespace, name } => {
            facts.principal.is_some_and(|id| id.namespace == *namespace && id.service_account == *name)
        }
        Caller::Address(range) => facts.peer.is_some_and(|ip| range.contains(plain(ip))),
        Caller::RemoteAddress(range) => facts.remote.is_some_and(|ip| range.contains(plain(ip))),
        Caller::Header { name, value } => {
            facts.request.as_ref().is_some_and(|request| has_header(request, name, value))
        }
        Caller::Claim { path, value } => {
            let claims = facts.request.as_ref().and_then(|request| request.claims);
            claims.and_then(|claims| at(claims, path)).is_some_and(|claim| claim_fits(claim, value))
        }
    }
}

// An address of IPv4 in the form of IPv6 is the same address.
fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

// Presence is that of some text.
fn said(matcher: &TextMatch, text: &str) -> bool {
    !text.is_empty() && matcher.fits(text)
}

// Each value of a repeated header counts by itself (CVE-2026-26308).
fn has_header(request: &Request<'_>, name: &str, value: &TextMatch) -> bool {
    match name {
        ":authority" | "host" => value.fits(request.authority),
        ":method" => value.fits(request.method),
        ":path" => value.fits(request.path),
        ":scheme" => value.fits(request.scheme),
        name => request.headers.get_all(name).iter().any(|one| value.fits_bytes(one.as_bytes())),
    }
}

fn at<'a>(claims: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().take(CLAIM_DEPTH_MAX).try_fold(claims, |claim, name| claim.get(name))
}

fn claim_fits(claim: &Value, value: &TextMatch) -> bool {
    match claim {
        Value::String(text) => said(value, text),
        Value::Array(many) => many.iter().filter_map(Value::as_str).any(|text| said(value, text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(request: Option<Request<'a>>, id: Option<(&'a SpiffeId, &'a str)>) -> Facts<'a> {
        Facts {
            principal: id.map(|(id, _)| id),
            principal_text: id.map(|(_, text)| text),
            peer: Some("::ffff:10.0.0.1".parse().expect("an address")),
            request,
            ..Facts::default()
        }
    }

    #[test]
    fn row_42_a_dot_in_a_name_is_a_dot() {
        let text = "spiffe://cluster.local/ns/default/sa/axb";
        let id = SpiffeId::parse(text).expect("an id");
        let known = facts(None, Some((&id, text)));
        let account = |name: &str| Caller::ServiceAccount { namespace: "default".into(), name: name.into() };
        assert!(is_asker(&account("axb"), &known) && !is_asker(&account("a.b"), &known));
        let principal = |text: &str| Caller::Principal(TextMatch::Exact(text.into()));
        assert!(!is_asker(&principal("spiffe://cluster.local/ns/default/sa/a.b"), &known));
        assert!(is_asker(&principal(text), &known));
        assert!(!is_asker(&Caller::Namespace(TextMatch::Exact("defaul".into())), &known));
        assert!(!is_asker(&account("axb"), &facts(None, None)), "nobody is nobody");
    }

    #[test]
    fn row_37_each_value_of_a_header_is_looked_at() {
        let mut headers = HeaderMap::new();
        for value in ["good", "bad"] {
            headers.append("x-role", value.parse().expect("a value"));
        }
        let request =
            Request { method: "GET", scheme: "http", authority: "a", path: "/", headers: &headers, claims: None };
        for (value, wanted) in [("good", true), ("bad", true), ("good,bad", false), ("good, bad", false), ("*", true)] {
            let role = Caller::Header { name: "x-role".into(), value: TextMatch::parse(value) };
            assert_eq!(is_asker(&role, &facts(Some(request), None)), wanted, "{value}");
        }
    }

    #[test]
    fn bytes_that_are_no_ascii_are_compared_too() {
        let mut headers = HeaderMap::new();
        headers.append("x-role", http::HeaderValue::from_bytes(b"adm\xffin").expect("a value"));
        headers.append("x-name", http::HeaderValue::from_bytes("Jürgen".as_bytes()).expect("a value"));
        let request =
            Request { method: "GET", scheme: "http", authority: "a", path: "/", headers: &headers, claims: None };
        for (name, value) in [("x-role", "adm*"), ("x-role", "*in"), ("x-role", "*"), ("x-name", "Jürgen")] {
            let role = Caller::Header { name: name.into(), value: TextMatch::parse(value) };
            assert!(is_asker(&role, &facts(Some(request), None)), "{name}: {value}");
        }
    }

    #[test]
    fn addresses_of_both_forms_are_the_same() {
        let range = config::Cidr::parse("10.0.0.0/8").expect("a range");
        assert!(is_asker(&Caller::Address(range), &facts(None, None)));
    }
}
