//! Commands as tutorials spell them, on a saved dump.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

const DUMP: &str = r#"{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [
    {"route_config": {"name": "9080", "virtual_hosts": [{"name": "reviews:9080", "domains": ["reviews"], "routes": [
        {"match": {"prefix": "/"}}]}]}}]}]}"#;

fn run(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.json");
    std::fs::write(&file, DUMP).unwrap();
    Command::new(env!("CARGO_BIN_EXE_sluicectl")).args(args).arg("-f").arg(&file).output().unwrap()
}

#[test]
fn s77_routes_is_an_alias_of_route() {
    let tutorial = run(&["proxy-config", "routes"]);
    assert_eq!(tutorial.stdout, run(&["pc", "route"]).stdout);
    assert!(String::from_utf8_lossy(&tutorial.stdout).starts_with("NAME     VHOST NAME"), "{tutorial:?}");
}

#[test]
fn s80_dump_prints_everything_with_a_note() {
    let output = run(&["proxy-config", "dump"]);
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && note.starts_with("note: istioctl has no `proxy-config dump`"), "{output:?}");
    assert_eq!(output.stdout, run(&["proxy-config", "all", "-o", "json"]).stdout);
}
