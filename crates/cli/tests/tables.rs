//! The tables, from a dump in Envoy's form.

use cli::dump::Dump;
use cli::{cluster, endpoint, listener, route, status};
use serde_json::json;

fn dump() -> Dump {
    let text = json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [
            {"cluster": {"name": "outbound|9080|v1|reviews.default.svc.cluster.local", "type": "EDS", "metadata": {
                "filter_metadata": {"istio": {"config":
                    "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews"}}}}},
            {"cluster": {"name": "PassthroughCluster", "type": "ORIGINAL_DST"}}
        ]},
        {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
            {"name": "0.0.0.0_9080", "active_state": {"listener": {
                "address": {"socket_address": {"address": "0.0.0.0", "port_value": 9080}},
                "filter_chains": [{"filter_chain_match": {"application_protocols": ["http/1.1", "h2c"]}, "filters": [
                    {"typed_config": {"@type": "x/envoy.HttpConnectionManager", "rds": {"route_config_name": "9080"}}}]}],
                "default_filter_chain": {"filters": [
                    {"typed_config": {"@type": "x/envoy.TcpProxy", "cluster": "PassthroughCluster"}}]}
            }}}
        ]},
        {"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [
            {"route_config": {"name": "9080", "virtual_hosts": [
                {"name": "reviews:9080", "domains": ["reviews.default.svc.cluster.local", "reviews", "10.0.0.1"], "routes": [
                    {"match": {"prefix": "/", "headers": [{"name": "end-user"}]}, "metadata": {"filter_metadata": {"istio":
                        {"config": "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews"}}}}]},
                {"name": "blackhole:80", "domains": ["*"]}
            ]}}
        ]},
        {"@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": [
            {"endpoint_config": {"cluster_name": "outbound|9080|v1|reviews.default.svc.cluster.local", "endpoints": [
                {"locality": {"region": "r", "zone": "z"}, "lb_endpoints": [
                    {"endpoint": {"address": {"socket_address": {"address": "10.0.0.7", "port_value": 9080}}}},
                    {"endpoint": {"address": {"socket_address": {"address": "10.0.0.8", "port_value": 9080}}},
                     "health_status": "UNHEALTHY"}]}]}}
        ]}
    ]});
    Dump::read(text.to_string().as_bytes()).expect("a dump")
}

fn squeezed(table: &str) -> Vec<String> {
    table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" | "))
        .collect()
}

#[test]
fn clusters_have_istioctls_columns() {
    assert_eq!(
        squeezed(&cluster::table(&dump().clusters())),
        [
            "SERVICE FQDN | PORT | SUBSET | DIRECTION | TYPE | DESTINATION RULE",
            "PassthroughCluster | - | - | - | ORIGINAL_DST",
            "reviews.default.svc.cluster.local | 9080 | v1 | outbound | EDS | reviews.default",
        ]
    );
}

#[test]
fn listeners_say_match_and_destination() {
    assert_eq!(
        squeezed(&listener::table(&dump().listeners())),
        [
            "ADDRESSES | PORT | MATCH | DESTINATION",
            "0.0.0.0 | 9080 | App: http/1.1,h2c | Route: 9080",
            "0.0.0.0 | 9080 | ALL | Cluster: PassthroughCluster",
        ]
    );
}

#[test]
fn routes_name_their_virtual_service() {
    assert_eq!(
        squeezed(&route::table(&dump().routes())),
        [
            "NAME | VHOST NAME | DOMAINS | MATCH | VIRTUAL SERVICE",
            "9080 | reviews:9080 | reviews.default.svc.cluster.local, reviews + 1 more... | /* header end-user | reviews.default",
            "9080 | blackhole:80 | * | /* | 404",
        ]
    );
    assert_eq!(squeezed(&route::summary(&dump().routes())), ["NAME | VIRTUAL HOSTS", "9080 | 2"]);
}

#[test]
fn endpoints_can_be_filtered() {
    let only = endpoint::Filter { status: Some("unhealthy"), ..Default::default() };
    assert_eq!(
        squeezed(&endpoint::table(&dump().endpoints(), &only)),
        [
            "NAME | STATUS | LOCALITY | CLUSTER",
            "10.0.0.8:9080 | UNHEALTHY | r/z | outbound|9080|v1|reviews.default.svc.cluster.local",
        ]
    );
}

#[test]
fn status_tells_synced_from_stale_and_refused() {
    let syncz = json!([{
        "proxy": "a.default", "cluster_id": "Kubernetes", "control_plane": "sluiced-1", "proxy_version": "0.1.0",
        "resources": {"CDS": {"synced": true, "acked_seconds_ago": 61}, "EDS": {"synced": false},
                      "LDS": {"synced": false, "last_error": "no"}}
    }]);
    assert_eq!(
        squeezed(&status::long_table(&status::of(&syncz, None)))[1],
        "a.default | Kubernetes | SYNCED (1m) | ERROR | STALE | NOT SENT | sluiced-1 | 0.1.0"
    );
    assert!(squeezed(&status::table(&status::of(&syncz, Some("a.default"))))[1].ends_with("3 (CDS,EDS,LDS)"));
    assert!(status::of(&syncz, Some("b.default")).is_empty());
}
