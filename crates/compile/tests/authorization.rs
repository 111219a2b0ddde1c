//! What is compiled of AuthorizationPolicies and held against requests by `policy` is what a plain reading of the objects
//! says: a second evaluator, written from Istio's words without looking at the first, over random policies and requests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::IpAddr;

use compile::{Compiler, Scope};
use config::{Authorization, Filter};
use http::{HeaderMap, HeaderName, HeaderValue};
use policy::{Facts, Request, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use support::{apply_stored, world};
use words::SpiffeId;

/// A request, or a connection when it is not `http`.
#[derive(Clone, Debug)]
struct Asked {
    http: bool,
    method: &'static str,
    host: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    account: Option<(&'static str, &'static str)>,
    peer: &'static str,
    remote: &'static str,
    port: u16,
    claims: Option<Value>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let host = select(vec!["a.example", "A.example", "a.example:80", "b.example"]);
    let path = select(vec!["/", "/a", "/ab", "/a/b", "/a/b/c", "/b", "/a?x=/b"]);
    let header = (select(vec!["x-a", "x-b"]), select(vec!["1", "12", "2"]));
    let account = proptest::option::of((select(vec!["default", "ops", "opsy"]), select(vec!["a.b", "axb", "c"])));
    let ip = || select(vec!["10.0.0.1", "10.1.0.1", "192.168.0.1"]);
    let claims = proptest::option::of(select(vec![
        json!({"iss": "i", "sub": "s", "aud": "x"}),
        json!({"iss": "i", "sub": "t", "aud": ["x", "y"], "g": ["1", "2"]}),
        json!({"iss": "j", "g": {"h": "1"}}),
    ]));
    let of_request = (select(vec!["GET", "POST"]), host, path, vec(header, 0..3));
    (any::<bool>(), of_request, account, ip(), ip(), select(vec![80_u16, 81]), claims).prop_map(
        |(http, (method, host, path, headers), account, peer, remote, port, claims)| Asked {
            http,
            method,
            host,
            path,
            headers,
            account,
            peer,
            remote,
            port,
            claims,
        },
    )
}

/// Fields with their lists of values; each may be there, plain or `not`.
fn fields(known: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Value> {
    let one = select(known).prop_flat_map(|(name, values)| {
        (any::<bool>(), vec(select(values), 1..3)).prop_map(move |(not, values)| {
            let (first, rest) = name.split_at(1);
            let name = if not { format!("not{}{rest}", first.to_uppercase()) } else { name.to_owned() };
            (name, json!(values))
        })
    });
    vec(one, 1..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
}

const SOURCES: &[(&str, &[&str])] = &[
    ("principals", &["*", "cluster.local/ns/default/sa/a.b", "cluster.local/ns/ops/*", "*/sa/c"]),
    ("namespaces", &["ops", "op*", "*t", "*"]),
    ("requestPrincipals", &["*", "i/s", "i/*", "*/t"]),
    ("ipBlocks", &["10.0.0.0/16", "192.168.0.1"]),
    ("remoteIpBlocks", &["10.0.0.0/8", "192.168.0.1"]),
];
const OPERATIONS: &[(&str, &[&str])] = &[
    ("hosts", &["a.example", "*.example", "a.*", "*"]),
    ("methods", &["GET", "P*", "*"]),
    ("paths", &["/a", "/a*", "*b", "/a/{*}", "/{**}/c", "*"]),
    ("ports", &["80", "81"]),
];
const CONDITIONS: &[(&str, &[&str])] = &[
    ("request.headers[x-a]", &["1", "1*", "*", "*2"]),
    ("request.auth.claims[g]", &["1"]),
    ("request.auth.claims[g][h]", &["1", "*"]),
    ("request.auth.audiences", &["x", "y"]),
    ("source.serviceAccount", &["a.b", "ops/c"]),
    ("destination.port", &["80"]),
    ("request.colour", &["red"]),
];

fn rule() -> impl Strategy<Value = Value> {
    let from = vec(fields(SOURCES).prop_map(|source| json!({"source": source})), 0..3);
    let to = vec(fields(OPERATIONS).prop_map(|operation| json!({"operation": operation})), 0..3);
    let condition = select(CONDITIONS).prop_flat_map(|(key, values)| {
        let lists = (vec(select(values), 0..2), vec(select(values), 0..2));
        lists.prop_map(move |(values, not)| json!({"key": key, "values": values, "notValues": not}))
    });
    let useful = |one: &Value| one["values"] != json!([]) || one["notValues"] != json!([]);
    let when = vec(condition.prop_filter("says something", useful), 0..2);
    (from, to, when).prop_map(|(from, to, when)| json!({"from": from, "to": to, "when": when}))
}

fn policies() -> impl Strategy<Value = Vec<Value>> {
    let one = (select(vec!["ALLOW", "DENY", "AUDIT", "CUSTOM"]), vec(rule(), 0..3))
        .prop_map(|(action, rules)| json!({"action": action, "rules": rules}));
    vec(one, 0..4)
}

// ---- The plain reading.

fn open(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => !text.is_empty(),
        (Some(end), _) => text.ends_with(end),
        (None, Some(begin)) => text.starts_with(begin),
        (None, None) => text == pattern,
    }
}

fn within(range: &str, ip: &str) -> bool {
    config::Cidr::parse(range).unwrap().contains(ip.parse().unwrap())
}

fn path_fits(pattern: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap();
    match pattern {
        "/a/{*}" => path.strip_prefix("/a/").is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        "/{**}/c" => path.strip_prefix('/').is_some_and(|rest| rest.ends_with("/c")),
        pattern => open(pattern, path),
    }
}

/// A value of a field, against what is asked. `None`: connections have nothing of the kind, or nobody knows the field.
fn value_fits(field: &str, value: &str, asked: &Asked) -> Option<bool> {
    let http = asked.http;
    let claim = |path: &[&str]| path.iter().try_fold(asked.claims.clone()?, |claim, name| claim.get(*name).cloned());
    let claim_fits = |path: &[&str], pattern: &str| match claim(path) {
        Some(Value::String(text)) => open(pattern, &text),
        Some(Value::Array(many)) => many.iter().any(|one| open(pattern, one.as_str().unwrap())),
        _ => false,
    };
    let only_http = |fits: bool| http.then_some(fits);
    match field {
        "principals" => Some(asked.account.is_some_and(|(ns, name)| {
            let id = format!("cluster.local/ns/{ns}/sa/{name}");
            open(value, &id)
        })),
        "namespaces" => Some(asked.account.is_some_and(|(ns, _)| open(value, ns))),
        "source.serviceAccount" => Some(asked.account.is_some_and(|(ns, name)| match value.split_once('/') {
            Some(wanted) => wanted == (ns, name),
            None => ns == "default" && value == name,
        })),
        "requestPrincipals" => only_http(match value {
            "*" => claim_fits(&["iss"], "*") && claim_fits(&["sub"], "*"),
            value => {
                let (issuer, subject) = value.rsplit_once('/').unwrap();
                claim_fits(&["iss"], issuer) && claim_fits(&["sub"], subject)
            }
        }),
        "ipBlocks" => Some(within(value, asked.peer)),
        "remoteIpBlocks" => Some(within(value, asked.remote)),
        "hosts" => only_http(open(&value.to_lowercase(), &asked.host.to_lowercase())),
        "methods" => only_http(open(value, asked.method)),
        "paths" => only_http(path_fits(value, asked.path)),
        "ports" | "destination.port" => Some(value == asked.port.to_string()),
        "request.headers[x-a]" => {
            only_http(asked.headers.iter().any(|(name, text)| *name == "x-a" && open(value, text)))
        }
        "request.auth.claims[g]" => only_http(claim_fits(&["g"], value)),
        "request.auth.claims[g][h]" => only_http(claim_fits(&["g", "h"], value)),
        "request.auth.audiences" => only_http(claim_fits(&["aud"], value)),
        _ => None,
    }
}

/// A list of a field. What cannot be told is left out, which `allow` may not do.
fn list_fits(field: &str, values: &Value, not: bool, allow: bool, asked: &Asked) -> Option<bool> {
    let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
    let told: Vec<Option<bool>> =
        values.iter().map(|value| value_fits(field, value.as_str().unwrap(), asked)).collect();
    if allow && told.iter().any(Option::is_none) {
        return None;
    }
    let told: Vec<bool> = told.into_iter().flatten().collect();
    Some(told.is_empty() || told.iter().any(|fits| *fits) != not)
}

fn all_fit(fields: &Value, allow: bool, asked: &Asked) -> Option<bool> {
    let mut all = true;
    for (name, values) in fields.as_object().unwrap() {
        let plain = name.strip_prefix("not").map(|rest| {
            let (first, rest) = rest.split_at(1);
            format!("{}{rest}", first.to_lowercase())
        });
        let not = plain.is_some();
        all &= list_fits(&plain.unwrap_or_else(|| name.clone()), values, not, allow, asked)?;
    }
    Some(all)
}

fn rule_fits(rule: &Value, allow: bool, asked: &Asked) -> bool {
    let fits = || -> Option<bool> {
        let one_of = |list: &str, inner: &str| -> Option<bool> {
            let entries = rule[list].as_array().unwrap();
            let told: Option<Vec<bool>> = entries.iter().map(|one| all_fit(&one[inner], allow, asked)).collect();
            let told = told?;
            Some(told.is_empty() || told.contains(&true))
        };
        let mut all = one_of("from", "source")? & one_of("to", "operation")?;
        for when in rule["when"].as_array().unwrap() {
            let key = when["key"].as_str().unwrap();
            all &= list_fits(key, &when["values"], false, allow, asked)?;
            all &= list_fits(key, &when["notValues"], true, allow, asked)?;
        }
        Some(all)
    };
    fits().unwrap_or(false)
}

fn is_let_through(policies: &[Value], asked: &Asked) -> bool {
    let of = |action: &'static str| policies.iter().filter(move |one| one["action"] == action);
    let matches = |policy: &Value, allow: bool| {
        policy["rules"].as_array().unwrap().iter().any(|rule| rule_fits(rule, allow, asked))
    };
    let denied = of("CUSTOM").chain(of("DENY")).any(|policy| matches(policy, false));
    let allowed = of("ALLOW").next().is_none() || of("ALLOW").any(|policy| matches(policy, true));
    !denied && allowed
}

// ---- What is compiled.

fn compiled(policies: &[Value]) -> (Vec<Authorization>, Vec<Authorization>) {
    let mut world = world("");
    for (index, spec) in policies.iter().enumerate() {
        let metadata = json!({"name": format!("p{index}"), "namespace": "default"});
        apply_stored(
            &mut world,
            json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}),
        );
    }
    let scope = Scope::parse("sidecar~10.9.9.9~web-1.default~default.svc.cluster.local", &json!({})).unwrap();
    let snapshot = Compiler::default().compile(&world, &scope).snapshot();
    assert_eq!(config::check(&snapshot), []);
    let inbound = &snapshot.listeners["virtualInbound"];
    let mut found = (Vec::new(), Vec::new());
    for chain in inbound.all_chains() {
        match &chain.filter {
            Filter::Http(http) => found.0 = http.authorization.clone(),
            Filter::Tcp(tcp) => found.1 = tcp.authorization.clone(),
        }
    }
    found
}

fn decided(stages: &[Authorization], asked: &Asked) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in &asked.headers {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let id = asked.account.map(|(namespace, name)| SpiffeId {
        trust_domain: "cluster.local".into(),
        namespace: namespace.into(),
        service_account: name.into(),
    });
    let text = id.as_ref().map(ToString::to_string);
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let request = Request {
        method: asked.method,
        scheme: "http",
        authority: asked.host,
        path: asked.path,
        headers: &headers,
        claims: asked.claims.as_ref(),
    };
    let facts = Facts {
        principal: id.as_ref(),
        principal_text: text.as_deref(),
        peer: ip(asked.peer),
        remote: ip(asked.remote),
        destination: Some((ip("10.9.9.9").unwrap(), asked.port).into()),
        server_name: None,
        request: asked.http.then_some(request),
    };
    policy::decide(stages, &facts) == Verdict::Allowed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ap02_policies_mean_what_a_plain_reading_says(policies in policies(), asked in vec(asked(), 1..8)) {
        let (requests, connections) = compiled(&policies);
        for asked in &asked {
            let stages = if asked.http { &requests } else { &connections };
            prop_assert_eq!(decided(stages, asked), is_let_through(&policies, asked), "{:?}\n{:#?}", asked, policies);
        }
    }
}
