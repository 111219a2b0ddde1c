//! What is chosen, rule by rule, and that the index never differs from the walk.

use std::sync::Arc;

use config::{
    Action, ClusterChoice, Forward, HeaderMatch, PathMatch, QueryMatch, Route, RouteMatch, RouteTable, ValueMatch,
    VirtualHost, Weighted,
};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use routing::{Decision, Head, Router, explain};

fn forward(name: &str) -> Action {
    Action::Forward(Forward::to(ClusterChoice::One(name.into())))
}

fn route(name: &str, matches: RouteMatch) -> Route {
    Route::new(name, matches, forward(name))
}

fn on_path(path: PathMatch) -> RouteMatch {
    RouteMatch { path, ..RouteMatch::any() }
}

fn host(name: &str, domains: &[&str], routes: Vec<Route>) -> Arc<VirtualHost> {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    Arc::new(VirtualHost {
        name: name.into(),
        domains,
        routes,
        include_attempt_count: false,
        require_tls: false,
        limits: Vec::new(),
    })
}

fn router(hosts: Vec<Arc<VirtualHost>>) -> Router {
    Router::new(Arc::new(RouteTable { name: "t".into(), ignore_port: true, virtual_hosts: hosts }), &mut |_| 7)
        .expect("the table is good")
}

fn head<'a>(authority: &'a str, path: &'a str, headers: &'a HeaderMap) -> Head<'a> {
    Head { method: "GET", scheme: "http", authority, path, headers, claims: None }
}

fn chosen(router: &Router, authority: &str, path: &str, headers: &HeaderMap) -> String {
    match router.decide(&head(authority, path, headers), || 0) {
        Decision::Forward { route, .. } => route.name.clone(),
        Decision::Respond { .. } => "respond".into(),
        Decision::Redirect { .. } => "redirect".into(),
        Decision::RequireTls { .. } => "tls".into(),
        Decision::NoHost => "no host".into(),
        Decision::NoRoute { .. } => "no route".into(),
    }
}

#[test]
fn the_most_specific_domain_wins() {
    let one = |name: &str, domain: &str| host(name, &[domain], vec![route(name, RouteMatch::any())]);
    let router = router(vec![
        one("any", "*"),
        one("suffix", "*.foo.com"),
        one("longer", "*.bar.foo.com"),
        one("exact", "a.foo.com"),
        one("with-port", "a.foo.com:81"),
        one("prefix", "www.*"),
        one("pre", "pre.*"),
        one("pre-exact", "pre.foo"),
        one("ipv6", "[::1]"),
    ]);
    let none = HeaderMap::new();
    for (authority, wanted) in [
        ("a.foo.com", "exact"),
        ("A.FOO.com", "exact"),
        ("a.foo.com:80", "exact"),
        ("a.foo.com:81", "with-port"),
        ("b.foo.com", "suffix"),
        ("b.foo.com:8080", "suffix"),
        ("x.bar.foo.com", "longer"),
        ("foo.com", "any"),
        (".foo.com", "any"),
        ("www.else.org", "prefix"),
        ("[::1]:80", "ipv6"),
        ("[::1]", "ipv6"),
        ("pre.foo:80", "pre-exact"),
        ("pre.:80", "any"),
        ("pre.x:80", "pre"),
        ("a.foo.com.", "any"),
        ("a.foo.com:", "exact"),
        ("a.foo.com:x", "exact"),
        ("", "any"),
    ] {
        assert_eq!(chosen(&router, authority, "/", &none), wanted, "{authority}");
    }
}

#[test]
fn no_domain_and_no_rule_differ() {
    let only = route("only", on_path(PathMatch::Exact("/x".into())));
    let router = router(vec![host("h", &["h"], vec![only])]);
    let none = HeaderMap::new();
    assert_eq!(chosen(&router, "other", "/x", &none), "no host");
    assert_eq!(chosen(&router, "h", "/y", &none), "no route");
}

fn on_header(name: &str, value: ValueMatch, invert: bool, missing_is_empty: bool) -> RouteMatch {
    RouteMatch {
        headers: vec![HeaderMatch { name: name.into(), value, invert, missing_is_empty }],
        ..RouteMatch::any()
    }
}

// Whether the condition holds for a request with these values of the header `x`.
fn holds(matches: &RouteMatch, values: &[&'static str]) -> bool {
    let mut all = HeaderMap::new();
    for value in values {
        all.append("x", HeaderValue::from_static(value));
    }
    chosen(&router(vec![host("h", &["*"], vec![route("yes", matches.clone())])]), "h", "/", &all) == "yes"
}

// Every row was measured with Envoy 1.40.
#[test]
fn each_value_of_a_header_is_looked_at_on_its_own() {
    let exact = |text: &str, invert| on_header("x", ValueMatch::Exact(text.into()), invert, false);
    assert!(holds(&exact("a", false), &["a", "b"]) && holds(&exact("b", false), &["a", "b"]));
    assert!(!holds(&exact("a,b", false), &["a", "b"]) && holds(&exact("a,b", false), &["a,b"]));
    assert!(!holds(&exact("a", true), &["a", "b"]) && holds(&exact("a", true), &["c", "d"]));
    let regex = on_header("x", ValueMatch::Regex("a,.*".into()), false, false);
    assert!(!holds(&regex, &["a", "b"]) && holds(&regex, &["a,b"]));
    let suffix = on_header("x", ValueMatch::Suffix("a".into()), false, false);
    assert!(holds(&suffix, &["a", "b"]) && !holds(&suffix, &["a,b"]));
}

// Every row was measured with Envoy 1.40.
#[test]
fn an_absent_header_fails_its_condition_even_inverted() {
    let exact = |text: &str, invert, missing| on_header("x", ValueMatch::Exact(text.into()), invert, missing);
    let present = |invert, missing| on_header("x", ValueMatch::Present, invert, missing);
    let absent: &[&'static str] = &[];
    for (matches, wanted) in [
        (exact("a", false, false), false),
        (exact("a", true, false), false),
        (exact("a", true, true), true),
        (exact("", false, true), true),
        (present(false, false), false),
        (present(true, false), true),
        (present(false, true), true),
        (present(true, true), false),
    ] {
        assert_eq!(holds(&matches, absent), wanted, "{matches:?}");
    }
}

#[test]
fn pseudo_headers_are_as_sent() {
    let none = HeaderMap::new();
    for (name, value) in
        [(":method", "GET"), (":scheme", "http"), (":authority", "h:81"), ("host", "h:81"), (":path", "/a?b=1")]
    {
        let matches = on_header(name, ValueMatch::Exact(value.into()), false, false);
        let router = router(vec![host("h", &["*"], vec![route("yes", matches)])]);
        assert_eq!(chosen(&router, "h:81", "/a?b=1", &none), "yes", "{name}");
        assert_eq!(chosen(&router, "H:81", "/a?b=1", &none) == "yes", value != "h:81", "{name} is compared with case");
    }
}

// Every row was measured with Envoy 1.40.
#[test]
fn the_first_query_parameter_counts_as_sent() {
    let by = |name: &str, value: ValueMatch| {
        let query = vec![QueryMatch { name: name.into(), value }];
        route(name, RouteMatch { query, ..RouteMatch::any() })
    };
    let exact = |text: &str| by("k", ValueMatch::Exact(text.into()));
    let none = HeaderMap::new();
    for (rule, query, wanted) in [
        (exact("1"), "k=1&k=2", true),
        (exact("1"), "k=2&k=1", false),
        (exact("a b"), "k=a%20b", false),
        (exact("a%20b"), "k=a%20b", true),
        (exact("a+b"), "k=a+b", true),
        (exact(""), "k", true),
        (exact(""), "k=", true),
        (exact("1"), "a?k=1", false),
        (exact("1"), "?k=1", false),
        (exact("1"), "k=1;p=2", false),
        (exact("1"), "k=1#frag", true),
        (by("k 2", ValueMatch::Present), "k%202=1", false),
        (by("p", ValueMatch::Present), "p", true),
        (by("p", ValueMatch::Present), "x&p=", true),
        (by("p", ValueMatch::Present), "x", false),
    ] {
        let router = router(vec![host("h", &["*"], vec![rule])]);
        let path = format!("/?{query}");
        assert_eq!(chosen(&router, "h", &path, &none) != "no route", wanted, "{query}");
    }
}

#[test]
fn a_query_in_the_fragment_is_none() {
    let none = HeaderMap::new();
    assert_eq!(head("h", "/a#b?c=d", &none).query(), "");
    assert_eq!((head("h", "/a?b#c", &none).query(), head("h", "/a?b#c", &none).path_only()), ("b", "/a"));
}

#[test]
fn a_router_is_shared_between_workers() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&router(vec![]));
}

#[test]
fn weights_are_shares() {
    let weighted = |cluster: &str, weight| Weighted::new(cluster.into(), weight);
    let choice = ClusterChoice::Weighted(vec![weighted("a", 1), weighted("b", 3)]);
    let action = Action::Forward(Forward::to(choice));
    let mut rule = route("split", RouteMatch::any());
    rule.action = action;
    let router = router(vec![host("h", &["*"], vec![rule])]);
    let none = HeaderMap::new();
    let picks = |draw: u32| match router.decide(&head("h", "/", &none), || draw) {
        Decision::Forward { cluster, .. } => cluster.name.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!([picks(0), picks((1 << 30) - 1), picks(1 << 30), picks(u32::MAX)], ["a", "a", "b", "b"]);
}

#[test]
fn weights_may_be_as_large_as_they_are() {
    let weighted = |cluster: &str, weight| Weighted::new(cluster.into(), weight);
    let split = |many| {
        let mut rule = route("split", RouteMatch::any());
        let cluster = ClusterChoice::Weighted(many);
        rule.action = Action::Forward(Forward::to(cluster));
        Arc::new(RouteTable { name: "t".into(), ignore_port: true, virtual_hosts: vec![host("h", &["*"], vec![rule])] })
    };
    let none = HeaderMap::new();
    let huge = split(vec![weighted("none", 0), weighted("a", u32::MAX), weighted("b", u32::MAX)]);
    let router = Router::new(huge, &mut |name| u32::from(&**name == "b")).unwrap();
    for (draw, wanted) in [(0, ("a", 0)), ((1 << 31) - 1, ("a", 0)), (1 << 31, ("b", 1)), (u32::MAX, ("b", 1))] {
        let Decision::Forward { cluster, .. } = router.decide(&head("h", "/", &none), || draw) else { panic!() };
        assert_eq!((&**cluster.name, cluster.slot), wanted, "{draw}");
    }
    for bad in [vec![], vec![weighted("a", 0)]] {
        assert!(Router::new(split(bad), &mut |_| 0).is_err());
    }
}

#[test]
fn a_regex_that_does_not_compile_names_its_rule() {
    let bad = route("bad", on_path(PathMatch::Regex("(".into())));
    let table = RouteTable { name: "t".into(), ignore_port: true, virtual_hosts: vec![host("h", &["*"], vec![bad])] };
    let error = Router::new(Arc::new(table), &mut |_| 0).unwrap_err().to_string();
    assert!(error.starts_with("virtual host \"h\" route 0: the regex \"(\" does not compile"), "{error}");
}

#[test]
fn explain_says_what_was_missing() {
    let by_header = RouteMatch {
        headers: vec![HeaderMatch {
            name: "end-user".into(),
            value: ValueMatch::Exact("jason".into()),
            invert: false,
            missing_is_empty: false,
        }],
        ..RouteMatch::any()
    };
    let router = router(vec![host("h", &["*"], vec![route("jason", by_header), route("rest", RouteMatch::any())])]);
    let none = HeaderMap::new();
    let steps = explain(&router, &head("h", "/", &none));
    assert_eq!(steps.len(), 2);
    assert_eq!(steps[0].miss, Some(routing::Miss::Header("end-user".into())));
    assert_eq!((steps[1].route.name.as_str(), &steps[1].miss), ("rest", &None));
}

fn any_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "A", "é", "/", "x/"], 0..5)
        .prop_map(|parts| format!("/{}", parts.concat()))
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        any_path().prop_map(PathMatch::Exact),
        any_path().prop_map(PathMatch::Prefix),
        Just(PathMatch::Prefix(String::new())),
        (
            any_path(),
            prop_oneof![Just(".*"), Just("*"), Just("?.*"), Just("+"), Just("|/a"), Just("[a-b/]+"), Just("")]
        )
            .prop_map(|(path, tail)| PathMatch::Regex(format!("{path}{tail}"))),
    ];
    let header = prop_oneof![Just(None), any::<(bool, bool)>().prop_map(Some)];
    let query = proptest::option::weighted(0.2, "[ab]");
    (path, any::<bool>(), header, query).prop_map(|(path, ignore_case, header, query)| RouteMatch {
        path,
        ignore_case,
        headers: header
            .map(|(invert, missing_is_empty)| HeaderMatch {
                name: "x".into(),
                value: ValueMatch::Prefix("y".into()),
                invert,
                missing_is_empty,
            })
            .into_iter()
            .collect(),
        query: query.map(|name| QueryMatch { name, value: ValueMatch::Present }).into_iter().collect(),
        claims: Vec::new(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_the_walk(
        matches in proptest::collection::vec(any_match(), 1..60),
        path in any_path(),
        values in proptest::collection::vec(prop_oneof![Just("y"), Just("z")], 0..3),
        query in proptest::option::of("[abc]"),
    ) {
        let routes = matches.into_iter().enumerate().map(|(i, matches)| route(&i.to_string(), matches)).collect();
        let router = router(vec![host("h", &["*"], routes)]);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x", HeaderValue::from_static(value));
        }
        let path = query.map_or(path.clone(), |query| format!("{path}?{query}=1"));
        let walked = explain(&router, &head("h", &path, &headers));
        let walked = walked.last().filter(|step| step.miss.is_none()).map(|step| step.route.name.clone());
        let decided = chosen(&router, "h", &path, &headers);
        prop_assert_eq!(walked.unwrap_or("no route".into()), decided);
    }

    #[test]
    fn the_domain_index_is_the_rule(
        domains in proptest::collection::btree_set("(\\*|a|b|\\*\\.|a\\.)?[ab]{1,2}(\\.[ab]|:1|\\.\\*)?|\\*", 1..12),
        authority in "[abAB]{1,2}(\\.[abA]{1,2}){0,2}(:[12])?",
    ) {
        let rules = || vec![route("r", RouteMatch::any())];
        let hosts = domains.iter().map(|domain| host(domain, &[domain], rules())).collect();
        let lower = authority.to_ascii_lowercase();
        let bare = lower.split(':').next().unwrap_or_default();
        // What a domain is worth for this authority; `None`: it is not of it.
        let worth = |domain: &str| {
            let (bytes, longer) = (domain.len(), bare.len() >= domain.len());
            match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
                (Some(""), _) => Some((0, 0)),
                (Some(suffix), _) => (longer && bare.ends_with(suffix)).then_some((2, bytes)),
                (_, Some(prefix)) => (longer && bare.starts_with(prefix)).then_some((1, bytes)),
                _ => (domain == bare || domain == lower).then_some((3, bytes)),
            }
        };
        let wanted = domains.iter().filter(|domain| worth(domain).is_some()).max_by_key(|domain| worth(domain));
        let decided = match router(hosts).decide(&head(&authority, "/", &HeaderMap::new()), || 0) {
            Decision::Forward { host, .. } => Some(host.name.to_string()),
            _ => None,
        };
        prop_assert_eq!(wanted, decided.as_ref());
    }
}
