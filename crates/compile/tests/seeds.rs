//! The tutorials' objects, applied as their readers do, and what a proxy then gets: readable trees in `golden/`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use compile::World;
use config::{Discovery, Snapshot};
use support::*;

/// The text of seeds, by their numbers.
fn seeds(numbers: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/seeds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text = |number: &u8| {
        let begins = format!("{number:02}-");
        let file = files.iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&begins)).unwrap();
        format!("---\n{}\n", std::fs::read_to_string(file).unwrap())
    };
    numbers.iter().map(text).collect()
}

fn bookinfo() -> String {
    let mut yaml = String::new();
    for (index, (name, versions)) in
        [("productpage", &["v1"][..]), ("details", &["v1"]), ("reviews", &["v1", "v2", "v3"]), ("ratings", &["v1"])]
            .into_iter()
            .enumerate()
    {
        yaml += &service(name, index as u8 + 1, &[("http", 9080)], versions);
    }
    yaml
}

fn shop() -> String {
    service("ecommerce-frontend", 1, &[("http", 80)], &["v1", "v2"])
}

/// The part that the objects shape: tables and clusters, with the findings about objects.
fn golden(world: &World, snapshot: Snapshot) -> String {
    let findings = findings(world);
    // Services that nobody writes about are the same in every golden.
    let mut shown = snapshot;
    shown.listeners.clear();
    shown.clusters.retain(|_, one| one.origin.is_some() && matches!(one.discovery, Discovery::Eds(_)));
    let text = format!("{}{}\n", config::render(&shown), findings.join("\n"));
    assert!(text.lines().count() <= 80, "nobody reads {} lines", text.lines().count());
    text
}

fn shown_as(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

macro_rules! golden {
    ($name:ident, $world:expr, $scope:expr) => {
        #[test]
        fn $name() {
            let world = world(&$world);
            let snapshot = snapshot(&world, &$scope);
            shown_as(stringify!($name), &golden(&world, snapshot));
        }
    };
}

golden!(s01_jason_without_destination_rules, bookinfo() + &seeds(&[1]), sidecar());
golden!(s02_all_v1, bookinfo() + &seeds(&[2, 3, 4, 5, 6]), sidecar());
golden!(s05_canary_with_header, bookinfo() + &seeds(&[6, 8]), sidecar());
golden!(s11_timeout, bookinfo() + &seeds(&[6, 11]), sidecar());
golden!(s13_retries, bookinfo() + &seeds(&[12]), sidecar());
golden!(s18_balancing_by_subset, bookinfo() + &seeds(&[17]), sidecar());
golden!(s20_connection_pools, bookinfo() + &seeds(&[19, 20]), sidecar());
golden!(s31_seven_rules_on_one_host, shop() + &seeds(&[21, 22, 23, 24, 25, 27, 28, 29, 34]), gateway());
golden!(s33_weights_of_the_last_apply, shop() + &seeds(&[21, 31, 32, 33]), gateway());
golden!(s35_two_rules_on_reviews, bookinfo() + &seeds(&[1, 6, 35, 36]), sidecar());

#[test]
fn s31_objects_of_one_age_merge_by_name() {
    let world = world(&(shop() + &seeds(&[21, 22, 24, 25])));
    let snapshot = snapshot(&world, &gateway());
    let routes = &host(&snapshot, "http.80", "ecommerce.example.com:80").routes;
    let host = "|ecommerce-frontend.default.svc.cluster.local";
    assert_eq!(targets(routes), [format!("outbound|80|v2{host}"), format!("outbound|80|{host}")]);
}

#[test]
fn a_whole_sidecar_as_a_tree() {
    let world = world(&(service("web", 1, &[("http", 80)], &["v1"]) + &service("db", 2, &[("tcp", 5432)], &["v1"])));
    let snapshot = snapshot(&world, &sidecar_of("web-v1", "10.0.1.1", serde_json::json!({})));
    shown_as("a_whole_sidecar", &config::render(&snapshot));
}
