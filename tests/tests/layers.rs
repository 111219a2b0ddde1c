//! The layers of the workspace, from `cargo metadata`: what a crate may depend on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const PURE: [&str; 10] =
    ["words", "api", "config", "analyze", "inject", "compile", "codec", "routing", "balance", "policy"];

fn allowed(name: &str) -> &'static [&'static str] {
    match name {
        "words" => &[],
        "api" | "config" => &["words"],
        // Whether a certificate and its key can be served: plain values, no IO.
        "compile" => &["words", "api", "config", "identity"],
        "codec" | "routing" | "balance" | "policy" => &["words", "config"],
        "xds" | "transport" | "identity" => &["words"],
        "watch" => &["words", "api"],
        "control" => &["words", "api", "config", "inject", "compile", "codec", "xds", "watch", "identity", "transport"],
        "proxy" => &["words", "config", "codec", "xds", "routing", "balance", "policy", "transport", "identity"],
        "analyze" | "inject" => &["words", "api"],
        "cli" => &["words", "api", "analyze", "inject", "watch"],
        "demo" => &[],
        "xtask" => &["api"],
        "bench" => &["codec", "testkit"],
        "testkit" => &[],
        "tests" => &["testkit"],
        "memory" => &[
            "words",
            "api",
            "config",
            "compile",
            "codec",
            "xds",
            "watch",
            "transport",
            "control",
            "proxy",
            "testkit",
            "tests",
        ],
        other => panic!("crate {other} has no layer yet: say in this test what it may depend on"),
    }
}

fn metadata() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version", "1"]).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().trim_start_matches("sluice-").to_owned();
    let normal = |dependency: &&serde_json::Value| dependency["kind"].is_null();
    let packages = value["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter().filter(normal);
            (
                text(&package["name"]),
                dependencies.map(|one| one["name"].as_str().unwrap_or_default().to_owned()).collect(),
            )
        })
        .collect()
}

#[test]
fn crates_depend_downwards_only() {
    let metadata = metadata();
    assert!(metadata.len() >= 15, "{metadata:?}");
    for (name, dependencies) in &metadata {
        let ours: BTreeSet<&str> = dependencies.iter().filter_map(|one| one.strip_prefix("sluice-")).collect();
        let allowed: BTreeSet<&str> = allowed(name).iter().copied().collect();
        assert!(ours.is_subset(&allowed), "{name} may depend on {allowed:?}, depends on {ours:?}");
    }
}

#[test]
fn pure_crates_know_no_runtime() {
    let metadata = metadata();
    for name in PURE {
        let banned = ["tokio", "hyper", "tonic", "kube", "socket2"];
        let found: Vec<_> = metadata[name].iter().filter(|one| banned.contains(&one.as_str())).collect();
        assert!(found.is_empty(), "{name} depends on {found:?}");
    }
}
