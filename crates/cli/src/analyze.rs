//! `analyze`: mistakes in files and in a cluster, before or after they act.
//!
//! In: files, folders, standard input, an API server. Out: findings as `istioctl analyze` prints them, and its exit
//! codes. What is a finding, the crate `analyze` knows; this reads, chooses and prints.

mod files;
mod live;
mod report;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

use analyze::{Inputs, Options, Suppression, analyzers};
use watch::kubernetes::AccessError;
use words::Diagnostic;

use crate::args::{AnalyzeArgs, Cluster, Report};
use crate::reach;
use crate::run::{Answer, Usage};

/// Exit code when findings reach the threshold.
const FOUND: u8 = 79;
/// Exit code when something could not be read as an object.
const UNREADABLE: u8 = 65;

/// Analyzes what the command line names.
pub async fn run(args: &AnalyzeArgs, cluster: &Cluster, namespace: Option<&str>) -> anyhow::Result<Answer> {
    if args.list_analyzers {
        let lines = analyzers::ALL.iter().map(|one| format!("* {}: {}\n", one.name, one.about));
        return Ok(lines.collect::<String>().into());
    }
    let mut options = options(args, cluster)?;
    let (paths, namespace) = said_as_words(&args.files, namespace);
    let mut inputs = Inputs::default();
    let default_namespace = namespace.unwrap_or("default");
    let unreadable = files::read(&paths, args.recursive, default_namespace, &mut inputs)?;
    let own = live(args, cluster, !paths.is_empty(), &mut inputs).await?;
    options.namespace = match (args.all_namespaces, namespace) {
        (true, _) => None,
        (false, Some(namespace)) => Some(namespace.to_owned()),
        (false, None) => own,
    };
    // What somebody names by its file is meant, wherever it belongs.
    options.files_always = namespace.is_none();
    let found = analyze::run(&inputs, &options);
    if !args.ignore_unknown {
        unreadable.iter().for_each(|error| eprintln!("{error}"));
    }
    let is_unreadable = !unreadable.is_empty() && !args.ignore_unknown;
    conclude(args, &options, &found, is_unreadable)
}

fn conclude(
    args: &AnalyzeArgs,
    options: &Options,
    found: &[Diagnostic],
    is_unreadable: bool,
) -> anyhow::Result<Answer> {
    let shown: Vec<&Diagnostic> = found.iter().filter(|one| one.severity >= args.output_threshold.into()).collect();
    let has_failed = found.iter().any(|one| one.severity >= args.failure_threshold.into());
    let is_coloured = args.color.unwrap_or_else(|| std::io::stdout().is_terminal());
    let text = report::render(args.output, &shown, is_coloured)?;
    let whole = options.namespace.as_deref().map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
    if args.output == Report::Log && !is_unreadable && found.is_empty() {
        eprintln!("\u{2714} nothing to report in {whole}");
    }
    if has_failed && args.output == Report::Log {
        eprintln!("error: {whole} has findings of level {} or worse", args.failure_threshold.name());
    }
    let exit = match (has_failed, is_unreadable) {
        (true, _) => FOUND,
        (false, true) => UNREADABLE,
        (false, false) => 0,
    };
    Ok(Answer { text, exit })
}

fn options(args: &AnalyzeArgs, cluster: &Cluster) -> anyhow::Result<Options> {
    let suppressed: Result<Vec<Suppression>, String> =
        args.suppress.iter().map(|text| Suppression::parse(text)).collect();
    let wanted: BTreeSet<String> = args.analyzer.iter().flat_map(|names| names.split(',')).map(str::to_owned).collect();
    if let Some(name) = wanted.iter().find(|name| !analyzers::ALL.iter().any(|one| one.name == **name)) {
        return Err(Usage(format!("{name:?} is no analyzer; `sluicectl analyze -L` lists them")).into());
    }
    Ok(Options {
        suppressed: suppressed.map_err(Usage)?,
        analyzers: wanted,
        root_namespace: cluster.istio_namespace.clone(),
        now_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        ..Options::default()
    })
}

// Tutorials write `analyze namespace NS` (S79); istioctl would take both words for files.
fn said_as_words<'a>(files: &'a [String], namespace: Option<&'a str>) -> (Vec<&'a str>, Option<&'a str>) {
    match files {
        [word, name] if word == "namespace" && !std::path::Path::new(word).exists() => {
            eprintln!("note: istioctl takes these words for files; this is `analyze -n {name}`");
            (Vec::new(), Some(name))
        }
        _ => (files.iter().map(String::as_str).collect(), namespace),
    }
}

// Reads the cluster, and tells its current namespace; nothing without one.
async fn live(
    args: &AnalyzeArgs,
    cluster: &Cluster,
    has_files: bool,
    inputs: &mut Inputs,
) -> anyhow::Result<Option<String>> {
    if args.use_kube == Some(false) {
        return Ok(None);
    }
    match reach::client(cluster).await {
        Ok(client) => {
            live::read(&client, inputs).await?;
            Ok(Some(client.default_namespace().to_owned()))
        }
        Err(AccessError::Nowhere(_)) if has_files && args.use_kube.is_none() => {
            eprintln!("note: no Kubernetes API server is configured; only the files are analyzed");
            Ok(None)
        }
        Err(error) => Err(anyhow::anyhow!("{error}; name files and pass --use-kube=false to do without")),
    }
}
