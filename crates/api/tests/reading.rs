//! What `parse_yaml` says about good and bad files: as strict as `kubectl apply`, with field, line and column.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use api::{Kind, Object, ParseError, Parsed, parse_yaml};

fn one(text: &str) -> Result<Parsed, ParseError> {
    let mut documents = parse_yaml(text, "a.yaml");
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0)
}

fn refused(text: &str) -> (u64, u64, String, String) {
    let error = one(text).expect_err("must be refused");
    let place = error.location.clone().unwrap();
    assert_eq!(place.file, "a.yaml");
    (place.line, place.column, error.field, error.message)
}

const RULE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  http:
";

#[test]
fn an_unknown_field_names_path_line_column_and_the_nearest_field() {
    let (line, column, field, message) =
        refused(&format!("{RULE}  - rout:\n    - destination:\n        host: reviews\n"));
    assert_eq!((line, column, field.as_str()), (8, 5, "spec.http[0].rout"));
    assert!(message.contains("unknown field") && message.contains("\"route\""), "{message}");
}

#[test]
fn a_field_of_the_wrong_type_says_what_was_expected() {
    let route = "  - route:\n    - destination:\n        host: reviews\n";
    let (line, _, field, message) = refused(&format!("{RULE}{route}      weight: many\n"));
    assert_eq!((line, field.as_str()), (11, "spec.http[0].route[0].weight"));
    assert!(message.contains("integer") && message.contains("many"), "{message}");

    let (line, _, field, message) = refused(&format!("{RULE}{route}      weight: 12.5\n"));
    assert_eq!((line, field.as_str()), (11, "spec.http[0].route[0].weight"));
    assert!(message.contains("12.5"), "{message}");

    let (_, _, field, message) = refused(&format!("{RULE}  - match: {{uri: x}}\n"));
    assert_eq!(field, "spec.http[0].match");
    assert!(message.contains("list"), "{message}");
}

#[test]
fn a_duration_below_one_millisecond_is_refused() {
    for text in ["0s", "1", "soon", "500us"] {
        let route = format!("{RULE}  - timeout: {text}\n    route:\n    - destination: {{host: reviews}}\n");
        let (line, _, field, message) = refused(&route);
        assert_eq!((line, field.as_str()), (8, "spec.http[0].timeout"), "{text}: {message}");
    }
}

#[test]
fn malformed_yaml_names_line_and_column() {
    let (line, column, _, message) = refused("apiVersion: v1\nkind: [\nmetadata: {}\n");
    assert!((2..=4).contains(&line) && column > 0, "{line}:{column} {message}");
}

#[test]
fn a_bad_document_does_not_hide_its_neighbours() {
    let good = "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a}\n";
    let text = format!("# a comment\n---\n{good}---\nkind: [\n---\n# nothing\n---\n{good}");
    let documents = parse_yaml(&text, "a.yaml");
    let [first, bad, last] = &documents[..] else { panic!("{documents:#?}") };
    assert_eq!(first.as_ref().unwrap().location.line, 3);
    assert!((8..=9).contains(&bad.as_ref().unwrap_err().location.as_ref().unwrap().line), "{bad:?}");
    assert_eq!(last.as_ref().unwrap().location.line, 12);
}

#[test]
fn a_list_is_read_item_by_item() {
    let text = "apiVersion: v1
kind: List
items:
- apiVersion: networking.istio.io/v1alpha3
  kind: DestinationRule
  metadata: {name: a, namespace: x}
  spec: {host: a}
- apiVersion: networking.istio.io/v1
  kind: DestinationRule
  metadata: {name: b}
  spec:
    hostt: b
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: c}
";
    let documents = parse_yaml(text, "a.yaml");
    let object = documents[0].as_ref().unwrap().object.as_ref().unwrap();
    assert_eq!(object.key().to_string(), "DestinationRule x/a");
    let error = documents[1].as_ref().unwrap_err();
    assert_eq!(error.location.as_ref().unwrap().line, 12, "{error}");
    assert_eq!(error.field, "spec.hostt");
    assert!(documents.last().unwrap().as_ref().unwrap().object.is_none());
}

#[test]
fn proto_names_are_read_as_json_names() {
    let text = format!(
        "{RULE}  - match:\n    - source_labels: {{my_app: x}}\n    cors_policy: {{allow_origins: [{{exact: a}}]}}\n    \
         route:\n    - destination: {{host: reviews}}\n"
    );
    let Some(Object::VirtualService(service)) = one(&text).unwrap().object else { panic!("not a VirtualService") };
    let rule = &service.spec.http[0];
    assert_eq!(rule.cors_policy.as_ref().unwrap().allow_origins.len(), 1);
    // A label is a name of the user's, never a field of ours.
    assert_eq!(rule.r#match[0].source_labels.get("my_app").map(String::as_str), Some("x"));
}

#[test]
fn at_most_one_form_of_a_string_match() {
    let text =
        format!("{RULE}  - match: [{{uri: {{exact: /a, prefix: /b}}}}]\n    route: [{{destination: {{host: r}}}}]\n");
    let (_, _, field, message) = refused(&text);
    assert_eq!(field, "spec.http[0].match[0].uri");
    assert!(message.contains("exact") && message.contains("prefix"), "{message}");
    // None of them is presence.
    let text = format!("{RULE}  - match: [{{headers: {{x: {{}}}}}}]\n    route: [{{destination: {{host: r}}}}]\n");
    assert!(one(&text).is_ok());
}

#[test]
fn yaml_1_1_booleans_are_booleans_unless_quoted() {
    let text = |value: &str| {
        format!(
            "{RULE}  - match: [{{headers: {{x: {{exact: {value}}}}}}}]\n    route: [{{destination: {{host: r}}}}]\n"
        )
    };
    for value in ["yes", "On", "true", "12"] {
        let (_, _, field, message) = refused(&text(value));
        assert_eq!(field, "spec.http[0].match[0].headers.x.exact", "{message}");
        assert!(one(&text(&format!("\"{value}\""))).is_ok(), "{value}");
    }
}

#[test]
fn unknown_fields_of_kubernetes_kinds_are_let_through() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, managedFields: []}\nspec:\n  sessionAffinity: None\n  \
                type: ClusterIP\n  ports:\n  - {name: http, port: 80, targetPort: web, nodePort: 30000}\n";
    let parsed = one(text).unwrap();
    let Some(object) = parsed.object else { panic!("a Service is read") };
    assert_eq!((object.kind(), object.metadata().namespace.as_str()), (Kind::Service, "default"));
    assert!(parsed.diagnostics.is_empty());
}

#[test]
fn a_top_level_key_that_is_none_is_refused() {
    let (line, _, field, _) =
        refused("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspecc: {}\n");
    assert_eq!((line, field.as_str()), (4, "specc"));
}

#[test]
fn a_key_twice_is_refused() {
    let (line, ..) = refused(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  host: b\n",
    );
    assert_eq!(line, 6);
}

#[test]
fn nothing_in_a_file_is_no_object_and_no_error() {
    for text in ["", "\n", "# only a comment\n", "---\n---\n", "---\n# x\n...\n"] {
        assert!(parse_yaml(text, "a.yaml").is_empty(), "{text:?}");
    }
}

#[test]
fn a_file_beyond_its_bounds_is_one_error() {
    assert_eq!(parse_yaml(&"#".repeat(api::parse::FILE_BYTES_MAX + 1), "a.yaml").len(), 1);
    let many = "---\na: 1\n".repeat(api::parse::DOCUMENTS_MAX + 1);
    let documents = parse_yaml(&many, "a.yaml");
    assert_eq!(documents.len(), 1);
    assert!(documents[0].as_ref().unwrap_err().message.contains("10000"));
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for depth in 1..12 {
        let aliases = vec![format!("*a{}", depth - 1); 10].join(", ");
        text.push_str(&format!("a{depth}: &a{depth} [{aliases}]\n"));
    }
    assert!(one(&text).is_err());
}

#[test]
fn a_null_item_is_not_an_absent_one() {
    let route = "    route: [{destination: {host: r}}]\n";
    for (text, wanted) in [
        ("  - match: [{headers: {x: null}}]\n", "spec.http[0].match[0].headers.x"),
        ("  - match: [null]\n", "spec.http[0].match[0]"),
    ] {
        let (line, _, field, message) = refused(&format!("{RULE}{text}{route}"));
        assert_eq!((line, field.as_str()), (8, wanted));
        assert!(message.contains("null"), "{message}");
    }
    assert!(one(&format!("{RULE}  - match: null\n    timeout: ~\n{route}")).is_ok());
}

#[test]
fn an_unknown_field_of_metadata_is_refused() {
    let (line, _, field, message) = refused(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: a\n  lables: {}\nspec: {host: a}\n",
    );
    assert_eq!((line, field.as_str()), (5, "metadata.lables"));
    assert!(message.contains("\"labels\""), "{message}");
}

#[test]
fn an_integer_stays_within_its_type() {
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  \
                trafficPolicy: {connectionPool: {tcp: {maxConnections: 3000000000}}}\n";
    let (line, _, field, message) = refused(text);
    assert_eq!((line, field.as_str()), (6, "spec.trafficPolicy.connectionPool.tcp.maxConnections"));
    assert!(message.contains("3000000000"), "{message}");
}

#[test]
fn octal_and_hexadecimal_are_numbers_as_in_kubectl() {
    let text = format!(
        "{RULE}  - match: [{{port: 0120}}, {{port: 0x50}}, {{port: 80.0}}]\n    route: [{{destination: {{host: r}}}}]\n"
    );
    let Some(Object::VirtualService(service)) = one(&text).unwrap().object else { panic!("not a VirtualService") };
    let ports: Vec<_> = service.spec.http[0].r#match.iter().map(|block| block.port).collect();
    assert_eq!(ports, [Some(80); 3]);
}

/// What kube-apiserver answers to the same specs with the rules in `crds/`.
#[test]
fn rules_across_fields_are_those_of_the_schema() {
    for (kind, spec, field) in [
        (
            "Gateway",
            "{servers: [{port: {number: 443, name: h, protocol: HTTPS}, hosts: [a.com], tls: {mode: SIMPLE, \
                     credentialName: a, credentialNames: [b]}}]}",
            "spec.servers[0].tls",
        ),
        ("ServiceEntry", "{hosts: [a.com], resolution: DNS, addresses: [10.0.0.0/8]}", "spec.addresses[0]"),
        ("ServiceEntry", "{hosts: [a.com], endpoints: [{address: 1.1.1.1}]}", "spec.endpoints"),
        (
            "ServiceEntry",
            "{hosts: [a.com], resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: [{address: \
                          1.1.1.1}]}",
            "spec.endpoints",
        ),
        (
            "ServiceEntry",
            "{hosts: [a.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: \
             [{address: 1.1.1.1, ports: {http: 70000}}]}",
            "spec.endpoints[0].ports.http",
        ),
        (
            "ServiceEntry",
            "{hosts: [a.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: \
             [{address: 'unix:///a/'}]}",
            "spec.endpoints[0].address",
        ),
        ("WorkloadEntry", "{labels: {a: b}}", "spec.address"),
        (
            "DestinationRule",
            "{host: a, workloadSelector: {matchLabels: {a: 'x*'}}}",
            "spec.workloadSelector.matchLabels.a",
        ),
        (
            "DestinationRule",
            "{host: a, trafficPolicy: {connectionPool: {tcp: {idleTimeout: soon}}}}",
            "spec.trafficPolicy.connectionPool.tcp.idleTimeout",
        ),
        (
            "VirtualService",
            "{hosts: [a], gateways: ['x/y/z'], http: [{route: [{destination: {host: a}}]}]}",
            "spec.gateways[0]",
        ),
        (
            "VirtualService",
            "{hosts: [a], exportTo: ['*', x], http: [{route: [{destination: {host: a}}]}]}",
            "spec.exportTo[0]",
        ),
        ("VirtualService", "{hosts: [a], tcp: [{match: [{port: 1}]}]}", "spec.tcp[0].route"),
    ] {
        let text = format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n");
        assert_eq!(refused(&text).2, field, "{kind} {spec}");
    }
}

#[test]
fn items_of_a_typed_list_take_its_kind() {
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRuleList\nitems:\n- metadata: {name: a}\n  spec: {host: a}\n";
    assert_eq!(one(text).unwrap().object.unwrap().key().to_string(), "DestinationRule default/a");
    assert!(parse_yaml("apiVersion: v1\nkind: List\nitems: []\n", "a.yaml").is_empty());
}

#[test]
fn a_required_field_is_missed_where_it_should_stand() {
    let (line, _, field, message) = refused(&format!("{RULE}  - route:\n    - weight: 1\n"));
    assert_eq!((line, field.as_str()), (9, "spec.http[0].route[0].destination"));
    assert!(message.contains("required"), "{message}");
}
