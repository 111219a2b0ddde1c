//! `inject`: sidecars into the pods of files, by the crate that the webhook uses; `check-inject`: which, and why not.
//!
//! In: YAML or JSON with objects of any kind, lists too. Out: the same objects in the same order; those that make pods have
//! a sidecar in them, unless they say no. ProxyConfigs among them count, wherever they stand. Asks no cluster: a namespace's
//! labels count as given, since somebody asks by hand, and ProxyConfigs that are only there are not known.

use std::io::Read;

use ::inject::{Outcome, Request, Settings, Templated};
use anyhow::{Context, Result, bail};
use api::{ProxyConfigSpec, Resource};
use serde_json::Value;

use crate::args::{InjectArgs, Text};
use crate::run::Answer;
use crate::table;

/// Largest file read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Exit code when pods cannot be injected.
const REFUSED: u8 = 1;

/// What came of one object that makes pods.
struct Made {
    what: String,
    namespace: String,
    injected: bool,
    words: String,
}

/// Where objects are that do not say it, and where those for the whole mesh are.
#[derive(Clone, Copy)]
pub struct Namespaces<'a> {
    /// Of objects that do not say it.
    pub own: &'a str,
    /// Of the mesh.
    pub root: &'a str,
}

/// Injects what the command line names.
pub fn run(args: &InjectArgs, namespaces: Namespaces<'_>) -> Result<Answer> {
    let (documents, made) = inject(args, namespaces)?;
    let mut exit = 0;
    for one in made.iter().filter(|one| !one.words.is_empty()) {
        eprintln!("{}: {}", one.what, one.words);
    }
    if made.iter().any(|one| !one.injected && one.words.starts_with(CANNOT)) {
        exit = REFUSED;
    }
    let text = match args.output {
        Text::Json => documents.iter().map(|one| Ok(format!("{}\n", serde_json::to_string_pretty(one)?))).collect(),
        Text::Yaml => documents
            .iter()
            .map(|one| Ok(format!("{}---\n", serde_saphyr::to_string(one)?)))
            .collect::<Result<String>>(),
    };
    Ok(Answer { text: text?, exit })
}

/// Says which pods would be injected.
pub fn check(args: &InjectArgs, namespaces: Namespaces<'_>) -> Result<Answer> {
    let (_, made) = inject(args, namespaces)?;
    let rows: Vec<Vec<String>> = made
        .into_iter()
        .map(|one| vec![one.what, one.namespace, if one.injected { "yes" } else { "no" }.to_owned(), one.words])
        .collect();
    Ok(table::render(&["OBJECT", "NAMESPACE", "INJECTED", "REASON"], &rows).into())
}

const CANNOT: &str = "cannot be injected: ";

fn inject(args: &InjectArgs, namespaces: Namespaces<'_>) -> Result<(Vec<Value>, Vec<Made>)> {
    let settings = settings(args)?;
    let (mut documents, mut configs) = (Vec::new(), Vec::new());
    for name in &args.filename {
        documents.extend(read(name)?);
    }
    documents.iter().try_for_each(|one| gather(one, namespaces.own, &mut configs))?;
    let mut work = Work { settings: &settings, namespaces, configs: &configs, made: Vec::new() };
    documents.iter_mut().for_each(|document| work.each(document));
    Ok((documents, work.made))
}

fn gather(object: &Value, namespace: &str, configs: &mut Vec<Resource<ProxyConfigSpec>>) -> Result<()> {
    if object["kind"] == "List" {
        let mut items = object["items"].as_array().into_iter().flatten();
        return items.try_for_each(|item| gather(item, namespace, configs));
    }
    let group = object["apiVersion"].as_str().unwrap_or_default();
    if object["kind"] != "ProxyConfig" || !group.starts_with("networking.istio.io/") {
        return Ok(());
    }
    let what = || format!("ProxyConfig {}", object["metadata"]["name"].as_str().unwrap_or_default());
    let mut metadata: api::Meta = serde_json::from_value(object["metadata"].clone()).with_context(what)?;
    if metadata.namespace.is_empty() {
        metadata.namespace = namespace.to_owned();
    }
    let spec = match &object["spec"] {
        Value::Null => ProxyConfigSpec::default(),
        spec => serde_json::from_value(spec.clone()).with_context(what)?,
    };
    configs.push(Resource { metadata, spec });
    Ok(())
}

fn settings(args: &InjectArgs) -> Result<Settings> {
    let Some(file) = &args.settings else { return Ok(args.flags.clone()) };
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is not what /debug/inject says", file.display()))
}

fn read(name: &str) -> Result<Vec<Value>> {
    let mut text = String::new();
    let source: Box<dyn Read> = match name {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(name).with_context(|| format!("read {name}"))?),
    };
    source.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(|| format!("read {name}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("{name} has more than {FILE_BYTES_MAX} bytes");
    }
    let documents = serde_saphyr::from_multiple(&text).with_context(|| format!("{name} is not YAML"))?;
    Ok(documents.into_iter().filter(|one: &Value| !one.is_null()).collect())
}

// What the files are injected with, and what came of it.
struct Work<'a> {
    settings: &'a Settings,
    namespaces: Namespaces<'a>,
    configs: &'a [Resource<ProxyConfigSpec>],
    made: Vec<Made>,
}

impl Work<'_> {
    // A list is injected item by item, and stays a list.
    fn each(&mut self, object: &mut Value) {
        if object["kind"] == "List"
            && let Some(items) = object["items"].as_array_mut()
        {
            return items.iter_mut().for_each(|item| self.each(item));
        }
        let (kind, name) = (object["kind"].as_str().unwrap_or_default(), &object["metadata"]["name"]);
        let what = format!("{kind} {}", name.as_str().unwrap_or_default());
        let Some(Templated { pod, owner, namespace: own }) = ::inject::pod_of(object) else { return };
        let namespace = own.unwrap_or_else(|| self.namespaces.own.to_owned());
        let workload = owner.map(|(_, name)| name);
        let configs = ::inject::configs(self.configs.iter(), pod, &namespace, self.namespaces.root);
        let request = Request {
            pod,
            namespace: &namespace,
            labels: None,
            workload: workload.as_deref(),
            configs: &configs,
            settings: self.settings,
        };
        let (injected, words) = match ::inject::run(request) {
            Outcome::Injected { pod: after, warnings } => {
                *pod = after;
                (true, warnings.join("; "))
            }
            Outcome::Left(reason) => (false, format!("left as it is: {reason}")),
            Outcome::Refused(reason) => (false, format!("{CANNOT}{reason}")),
        };
        self.made.push(Made { what, namespace, injected, words });
    }
}
