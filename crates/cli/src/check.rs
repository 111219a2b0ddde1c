//! `check`: whether a mesh can be installed here, and whether the one that is installed works.
//!
//! In: an API server, and through it the control plane's own pages. Out: checks by category as `linkerd check` prints
//! them, √ or × or ‼ with what to do. A × makes the exit code 1. It changes nothing: what it creates, it creates by dry
//! run.

mod api_server;
mod ask;
mod certificates;
mod control_plane;
mod definitions;
mod gateways;
mod other_mesh;
mod proxies;
mod rights;
#[cfg(test)]
mod tests;
mod webhooks;

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::args::{CheckArgs, CheckForm};
use crate::forward;
use crate::reach;
use crate::run::Answer;
use ask::Cluster;

/// Between two attempts of `--wait`.
const AGAIN: Duration = Duration::from_secs(2);
/// Exit code when something does not work.
const BAD: u8 = 1;

/// How one thing is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    about: String,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// It works, but not as it should, or it cannot be seen: what, and what to do.
    Warning(String, String),
    /// It does not work: what, and what to do.
    Bad(String, String),
}

fn good(about: &str) -> Check {
    Check { about: about.to_owned(), state: State::Good }
}

fn warning(about: &str, what: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { about: about.to_owned(), state: State::Warning(what.into(), hint.into()) }
}

fn bad(about: &str, what: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { about: about.to_owned(), state: State::Bad(what.into(), hint.into()) }
}

/// Checks of one thing, under its heading.
struct Category {
    name: &'static str,
    checks: Vec<Check>,
}

/// Checks what the command line names, until it is good or the time for that is over.
pub async fn run(args: &CheckArgs, place: &crate::args::Cluster) -> Result<Answer> {
    let cluster = Cluster::new(reach::client(place).await?, forwarded, &place.istio_namespace);
    let until = Instant::now() + Duration::from_secs(args.wait);
    loop {
        let found = all(&cluster, args.pre).await;
        if is_good(&found) || Instant::now() >= until {
            return render(args.output, &found);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn forwarded(client: kube::Client, namespace: String, pod: String, path: String) -> ask::Page {
    Box::pin(async move { forward::get(client, &namespace, &pod, &path).await })
}

async fn all(cluster: &Cluster, is_before: bool) -> Vec<Category> {
    let server = api_server::check(cluster).await;
    // Without it every other check would say the same.
    let is_reachable = !server.iter().any(|check| matches!(check.state, State::Bad(..)));
    let mut found = vec![Category { name: "kubernetes-api", checks: server }];
    if !is_reachable {
        return found;
    }
    let mut add = |name, checks| found.push(Category { name, checks });
    if is_before {
        add("pre-installation", rights::check_before(cluster).await);
        add("custom-resource-definitions", definitions::check(cluster, true).await);
        add("other-meshes", other_mesh::check(cluster).await);
        return found;
    }
    add("custom-resource-definitions", definitions::check(cluster, false).await);
    add("control-plane", control_plane::check(cluster).await);
    add("rights", rights::check(cluster).await);
    add("identity", certificates::check(cluster).await);
    add("webhooks", webhooks::check(cluster).await);
    add("gateways", gateways::check(cluster).await);
    add("data-plane", proxies::check(cluster).await);
    add("other-meshes", other_mesh::check(cluster).await);
    found
}

fn is_good(found: &[Category]) -> bool {
    !found.iter().flat_map(|category| &category.checks).any(|check| matches!(check.state, State::Bad(..)))
}

fn render(form: CheckForm, found: &[Category]) -> Result<Answer> {
    let text = match form {
        CheckForm::Table => found.iter().map(|category| table(category, true)).collect::<String>() + &verdict(found),
        CheckForm::Short => found.iter().map(|category| table(category, false)).collect::<String>() + &verdict(found),
        CheckForm::Json => format!("{:#}\n", value(found)),
    };
    Ok(Answer { text, exit: if is_good(found) { 0 } else { BAD } })
}

fn verdict(found: &[Category]) -> String {
    format!("Status check results are {}\n", if is_good(found) { '√' } else { '×' })
}

fn table(category: &Category, is_whole: bool) -> String {
    let shown: Vec<&Check> = category.checks.iter().filter(|check| is_whole || check.state != State::Good).collect();
    if shown.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n{}\n", category.name, "-".repeat(category.name.len()));
    for check in shown {
        match &check.state {
            State::Good => text += &format!("√ {}\n", check.about),
            State::Warning(what, hint) => text += &format!("‼ {}\n    {what}\n    hint: {hint}\n", check.about),
            State::Bad(what, hint) => text += &format!("× {}\n    {what}\n    hint: {hint}\n", check.about),
        }
    }
    text + "\n"
}

// linkerd's form.
fn value(found: &[Category]) -> Value {
    let one = |check: &Check| match &check.state {
        State::Good => json!({"description": check.about, "result": "success"}),
        State::Warning(what, hint) => {
            json!({"description": check.about, "result": "warning", "error": what, "hint": hint})
        }
        State::Bad(what, hint) => json!({"description": check.about, "result": "error", "error": what, "hint": hint}),
    };
    let categories: Vec<Value> = found
        .iter()
        .map(|category| {
            let checks: Vec<Value> = category.checks.iter().map(one).collect();
            json!({"categoryName": category.name, "checks": checks})
        })
        .collect();
    json!({"success": is_good(found), "categories": categories})
}
