//! `sluicectl inject` on every kind that makes pods, and on what makes none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use clap::Parser;
use cli::args::Args;
use cli::run::Answer;
use serde_json::{Value, json};

const SPEC: &str =
    "{containers: [{name: app, image: 'app:1', env: [{name: FLAG, value: 'yes'}, {name: N, value: '010'}]}]}";

fn objects() -> String {
    let template = format!("{{metadata: {{labels: {{app: web}}}}, spec: {SPEC}}}");
    let mut text = String::from(
        "# a comment\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n",
    );
    for kind in ["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet"] {
        text += &format!(
            "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web, namespace: shop}}\nspec: {{template: {template}}}\n"
        );
    }
    text += &format!("---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: web}}\nspec: {{template: {template}}}\n");
    text += &format!(
        "---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: web}}\nspec: {{jobTemplate: {{spec: {{template: {template}}}}}}}\n---\n---\n"
    );
    text += &format!(
        "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {SPEC}}}\n- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: web}}}}\n"
    );
    text
}

fn run(command: &str, text: &str, more: &[&str]) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_string_lossy().into_owned();
    let words = [&["sluicectl", command, "-f", &file], more].concat();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(cli::run::run(&Args::try_parse_from(words).unwrap())).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap().into_iter().filter(|one: &Value| !one.is_null()).collect()
}

#[test]
fn every_kind_that_makes_pods_is_injected_and_nothing_else_changes() {
    let before = documents(&objects());
    let answer = run("inject", &objects(), &[]);
    assert_eq!(answer.exit, 0);
    let after = documents(&answer.text);
    assert_eq!(after.len(), before.len());
    assert_eq!(after[0], before[0], "a Service");
    for (at, path) in [
        (1, "/spec/template"),
        (2, "/spec/template"),
        (3, "/spec/template"),
        (4, "/spec/template"),
        (5, "/spec/template"),
        (6, "/spec/jobTemplate/spec/template"),
        (7, "/items/0"),
    ] {
        let pod = after[at].pointer(path).unwrap();
        assert_eq!(pod["spec"]["containers"][1]["name"], "istio-proxy", "{}", after[at]);
        assert_eq!(pod["spec"]["containers"][0], before[at].pointer(path).unwrap()["spec"]["containers"][0]);
        let args = pod["spec"]["containers"][1]["args"].as_array().unwrap();
        let place = args.iter().position(|arg| arg == "--workload").unwrap();
        assert_eq!(args[place + 1], "web", "the workload is named by its object");
    }
    assert_eq!(after[7]["items"][1], before[7]["items"][1]);
    // What is injected stays as it is.
    assert_eq!(documents(&run("inject", &answer.text, &[]).text), after);
    // JSON says the same.
    let lines = run("inject", &objects(), &["-o", "json", "--native-sidecar", "true"]).text;
    let first: Value = serde_json::Deserializer::from_str(&lines).into_iter().next().unwrap().unwrap();
    assert_eq!(first, before[0]);
    assert!(lines.contains("\"restartPolicy\": \"Always\""));
}

#[test]
fn what_cannot_be_injected_is_said() {
    let greedy = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: greedy}}\nspec: {}",
        SPEC.replace("image: 'app:1'", "ports: [{containerPort: 15006}]")
    );
    let answer = run("inject", &greedy, &[]);
    assert_eq!((answer.exit, documents(&answer.text)), (1, documents(&greedy)));
    let host = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: host, namespace: edge}}\nspec: {}",
        SPEC.replace("{containers", "{hostNetwork: true, containers")
    );
    let table = run("check-inject", &format!("{greedy}\n---\n{host}\n---\n{}", objects()), &[]).text;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("OBJECT") && rows.len() == 10, "{table}");
    assert!(rows[1].starts_with("Pod greedy") && rows[1].contains("no") && rows[1].contains("port 15006"), "{table}");
    assert!(rows[2].contains("edge") && rows[2].contains("the node's network"), "{table}");
    assert!(rows[3].starts_with("Deployment web") && rows[3].contains("shop") && rows[3].ends_with("yes"), "{table}");
    assert_eq!(json!(rows[9].contains("Pod web")), json!(true), "{table}");
}

#[test]
fn pc01_proxy_configs_of_the_files_count() {
    let config = |namespace: &str, count: u32| {
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {{name: c, namespace: {namespace}}}\nspec: {{concurrency: {count}}}\n---\n"
        )
    };
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop}}\nspec: {SPEC}\n");
    let concurrency = |text: &str| {
        let after = documents(&run("inject", text, &[]).text);
        let containers = after.last().unwrap()["spec"]["containers"].as_array().unwrap().clone();
        let args = containers.iter().find(|one| one["name"] == "istio-proxy").unwrap()["args"].as_array().unwrap();
        let at = args.iter().position(|arg| arg == "--concurrency").unwrap();
        args[at + 1].as_str().unwrap().to_owned()
    };
    assert_eq!(concurrency(&pod), "2");
    assert_eq!(concurrency(&(config("istio-system", 5) + &pod)), "5");
    assert_eq!(concurrency(&(config("shop", 7) + &config("istio-system", 5) + &config("other", 9) + &pod)), "7");
}
