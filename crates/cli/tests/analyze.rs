//! `sluicectl analyze` as a program: what it prints, and its exit codes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

// In an empty home: no kubeconfig of the machine is found.
fn run_in(folder: &Path, args: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluicectl"))
        .arg("analyze")
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path: PathBuf = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

const BAD: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec:\n  hosts: [reviews]\n  \
                   http:\n  - route:\n    - destination:\n        host: reviews\n        subset: v9\n";
const RULE: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\nspec:\n  host: reviews\n  \
                    subsets: [{name: v1, labels: {version: v1}}, {name: v9, labels: {version: v9}}]\n";
const WARNS: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: old, namespace: prod}\nspec:\n  \
                     host: old\n  trafficPolicy:\n    outlierDetection: {consecutiveErrors: 1}\n";
const LINE: &str = "Error [IST0101] (VirtualService default/reviews bad.yaml:10:9) spec.http[0].route[0].destination.subset: subset \
                    \"v9\" is in no DestinationRule for reviews.default.svc.cluster.local; requests for it get 503; create a \
                    DestinationRule for reviews with this subset\n";

#[test]
fn s76_findings_are_lines_with_object_place_and_field_and_exit_with_79() {
    let folder = folder(&[("bad.yaml", BAD), ("rule.yaml", RULE)]);
    let ran = run_in(folder.path(), &["--use-kube=false", "bad.yaml"], "");
    assert_eq!((ran.code, ran.out.as_str()), (79, LINE), "{}", ran.err);
    assert_eq!(ran.err, "error: all namespaces has findings of level Error or worse\n");
    let ran = run_in(folder.path(), &["--use-kube=false", "bad.yaml", "rule.yaml"], "");
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "", "\u{2714} nothing to report in all namespaces\n")
    );
}

#[test]
fn json_and_yaml_have_istioctls_keys() {
    let folder = folder(&[("bad.yaml", BAD)]);
    let ran = run_in(folder.path(), &["--use-kube=false", "-o", "json", "bad.yaml"], "");
    let expected = r#"[
  {
    "code": "IST0101",
    "documentationUrl": "https://istio.io/latest/docs/reference/config/analysis/ist0101/",
    "field": "spec.http[0].route[0].destination.subset",
    "fix": "create a DestinationRule for reviews with this subset",
    "level": "Error",
    "message": "subset \"v9\" is in no DestinationRule for reviews.default.svc.cluster.local; requests for it get 503",
    "origin": "VirtualService default/reviews",
    "reference": "bad.yaml:10:9"
  }
]
"#;
    assert_eq!((ran.code, ran.out.as_str()), (79, expected));
    let ran = run_in(folder.path(), &["--use-kube=false", "-o", "yaml", "bad.yaml"], "");
    assert!(ran.out.starts_with("- code: IST0101\n"), "{}", ran.out);
    assert!(ran.out.contains("\n  reference: bad.yaml:10:9\n"), "{}", ran.out);
    let ran = run_in(folder.path(), &["--use-kube=false", "-o", "json", "-"], RULE);
    assert_eq!((ran.code, ran.out.as_str()), (0, "[]\n"));
}

#[test]
fn thresholds_choose_what_fails_and_what_is_printed() {
    let folder = folder(&[("warns.yaml", WARNS)]);
    let run = |args: &[&str]| run_in(folder.path(), &[&["--use-kube=false", "warns.yaml"], args].concat(), "");
    let plain = run(&[]);
    assert_eq!(plain.code, 0);
    assert!(
        plain.out.starts_with("Warning [IST0133] (DestinationRule prod/old warns.yaml:7:24) spec."),
        "{}",
        plain.out
    );
    assert!(plain.out.contains("write consecutive5xxErrors"), "{}", plain.out);
    assert_eq!(run(&["--failure-threshold", "Warning"]).code, 79);
    let quiet = run(&["--output-threshold", "Error", "--failure-threshold=warning"]);
    assert_eq!((quiet.code, quiet.out.as_str()), (79, ""));
    assert_eq!(run(&["-n", "other"]).out, "");
    assert_eq!(run(&["-n", "prod"]).out, plain.out);
    assert_eq!(run(&["-S", "IST0133=DestinationRule *.prod"]).out, "");
    assert_eq!(run(&["--analyzer", "schema.ValidationAnalyzer"]).out, plain.out);
    assert_eq!(run(&["--analyzer", "virtualservice.GatewayAnalyzer"]).out, "");
    assert!(run(&["--color"]).out.starts_with("\u{1b}[33mWarning\u{1b}[0m [IST0133]"));
}

#[test]
fn what_is_no_object_exits_with_65() {
    let folder =
        folder(&[("broken.yaml", "kind: [a\n"), ("notes/deep.yaml", BAD), ("rule.yml", RULE), ("README.md", "x: [")]);
    let ran = run_in(folder.path(), &["--use-kube=false", "."], "");
    assert_eq!((ran.code, ran.out.as_str()), (65, ""), "{}", ran.err);
    assert!(ran.err.starts_with("Error [IST0106] (./broken.yaml:"), "{}", ran.err);
    assert_eq!(run_in(folder.path(), &["--use-kube=false", "--ignore-unknown", "."], "").code, 0);
    let deep = run_in(folder.path(), &["--use-kube=false", "--ignore-unknown", "-R", "."], "");
    assert_eq!(deep.code, 0, "with the rule beside it the subset is there: {}", deep.out);
    let only = run_in(folder.path(), &["--use-kube=false", "-R", "notes"], "");
    assert_eq!(only.code, 79);
    assert!(only.out.contains("notes/deep.yaml:10:9"), "{}", only.out);
}

#[test]
fn wrong_command_lines_exit_with_64() {
    let folder = folder(&[("bad.yaml", BAD)]);
    for args in [&["--nonsense"][..], &["gone.yaml"], &["-S", "IST0101", "bad.yaml"], &["--analyzer", "x", "bad.yaml"]]
    {
        let ran = run_in(folder.path(), args, "");
        assert_eq!(ran.code, 64, "{args:?}: {}", ran.err);
    }
}

#[test]
fn s79_the_tutorials_spelling_works_with_a_note() {
    let folder = folder(&[]);
    let ran = run_in(folder.path(), &["namespace", "prod"], "");
    assert!(
        ran.err.starts_with("note: istioctl takes these words for files; this is `analyze -n prod`\n"),
        "{}",
        ran.err
    );
    // There is no cluster here, and nothing else to analyze.
    assert!(ran.err.contains("no Kubernetes API server is configured"), "{}", ran.err);
    assert_eq!(ran.code, 1);
}

#[test]
fn without_a_cluster_files_are_analyzed_alone() {
    let folder = folder(&[("bad.yaml", BAD)]);
    let ran = run_in(folder.path(), &["bad.yaml"], "");
    assert_eq!((ran.code, ran.out.as_str()), (79, LINE));
    assert!(
        ran.err.starts_with("note: no Kubernetes API server is configured; only the files are analyzed\n"),
        "{}",
        ran.err
    );
    let asked = run_in(folder.path(), &["--use-kube", "bad.yaml"], "");
    assert_eq!(asked.code, 1, "{}", asked.err);
}

#[test]
fn analyzers_are_listed() {
    let folder = folder(&[]);
    let ran = run_in(folder.path(), &["-L"], "");
    assert_eq!(ran.code, 0);
    assert!(
        ran.out.contains("* virtualservice.DestinationHostAnalyzer: hosts and ports of destinations\n"),
        "{}",
        ran.out
    );
}

#[test]
fn the_seeds_are_read() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/seeds");
    let folder = folder(&[]);
    let ran = run_in(folder.path(), &["--use-kube=false", "--failure-threshold", "Info", &seeds.to_string_lossy()], "");
    assert_eq!(ran.code, 79, "{}", ran.err);
    assert!(!ran.out.contains("IST0106"), "{}", ran.out);
    for code in ["IST0133", "IST0101", "IST0109"] {
        assert!(ran.out.contains(code), "{code}: {}", ran.out);
    }
}
