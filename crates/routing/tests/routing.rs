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
    Action::Forward(Forward { cluster: ClusterChoice::One(name.into()), timeout: None, retry: None })
}

fn route(name: &str, matches: RouteMatch) -> Route {
    Route { name: name.into(), matches, action: forward(name), origin: None, operation: String::new() }
}

fn on_path(path: PathMatch) -> RouteMatch {
    RouteMatch { path, ..RouteMatch::any() }
}

fn host(name: &str, domains: &[&str], routes: Vec<Route>) -> Arc<VirtualHost> {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    Arc::new(VirtualHost { name: name.into(), domains, routes, include_attempt_count: false })
}

fn router(hosts: Vec<Arc<VirtualHost>>) -> Router {
    Router::new(Arc::new(RouteTable { name: "t".into(), virtual_hosts: hosts }), &mut |_| 7).unwrap()
}

fn head<'a>(authority: &'a str, path: &'a str, headers: &'a HeaderMap) -> Head<'a> {
    Head { method: "GET", scheme: "http", authority, path, headers }
}

fn chosen(router: &Router, authority: &str, path: &str, headers: &HeaderMap) -> String {
    match router.decide(&head(authority, path, headers), || 0) {
        Decision::Forward { route, .. } => route.name.clone(),
        Decision::Respond { .. } => "respond".into(),
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
        ("[::1]:80", "any"),
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

#[test]
fn several_values_of_a_header_are_one() {
    let matches = RouteMatch {
        headers: vec![HeaderMatch {
            name: "x".into(),
            value: ValueMatch::Exact("a,b".into()),
            invert: false,
            missing_is_empty: false,
        }],
        ..RouteMatch::any()
    };
    let router = router(vec![host("h", &["*"], vec![route("both", matches)])]);
    let mut headers = HeaderMap::new();
    headers.append("x", HeaderValue::from_static("a"));
    assert_eq!(chosen(&router, "h", "/", &headers), "no route");
    headers.append("x", HeaderValue::from_static("b"));
    assert_eq!(chosen(&router, "h", "/", &headers), "both");
}

#[test]
fn weights_are_shares() {
    let weighted = |cluster: &str, weight| Weighted { cluster: cluster.into(), weight };
    let choice = ClusterChoice::Weighted(vec![weighted("a", 1), weighted("b", 3)]);
    let action = Action::Forward(Forward { cluster: choice, timeout: None, retry: None });
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
fn a_regex_that_does_not_compile_names_its_rule() {
    let bad = route("bad", on_path(PathMatch::Regex("(".into())));
    let table = RouteTable { name: "t".into(), virtual_hosts: vec![host("h", &["*"], vec![bad])] };
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
        any_path().prop_map(|path| PathMatch::Regex(format!("{path}.*"))),
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
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_the_walk(
        matches in proptest::collection::vec(any_match(), 1..40),
        path in any_path(),
        header in proptest::option::of("[yz]"),
        query in proptest::option::of("[abc]"),
    ) {
        let routes = matches.into_iter().enumerate().map(|(i, matches)| route(&i.to_string(), matches)).collect();
        let router = router(vec![host("h", &["*"], routes)]);
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("x", HeaderValue::from_str(&value).unwrap());
        }
        let path = query.map_or(path.clone(), |query| format!("{path}?{query}=1"));
        let walked = explain(&router, &head("h", &path, &headers));
        let walked = walked.last().filter(|step| step.miss.is_none()).map(|step| step.route.name.clone());
        let decided = chosen(&router, "h", &path, &headers);
        prop_assert_eq!(walked.unwrap_or("no route".into()), decided);
    }
}
