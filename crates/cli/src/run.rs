//! Each command: fetch, filter, print.

use std::io::Read;

use anyhow::{Context, Result, bail};

use crate::args::{Args, Command, Form, Part, Source};
use crate::dump::Dump;
use crate::reach::Plane;
use crate::{analyze, check, cluster, endpoint, fetch, inject, listener, output, route, status};

/// What a command prints to standard output, and its exit code.
#[derive(Debug)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// 0 when all is well.
    pub exit: u8,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, exit: 0 }
    }
}

/// A wrong command line, found only after it was read.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Runs a command.
pub async fn run(args: &Args) -> Result<Answer> {
    match &args.command {
        Command::Inject(what) => inject::run(what, namespaces(args)),
        Command::CheckInject(what) => inject::check(what, namespaces(args)),
        Command::Analyze(what) => analyze::run(what, &args.cluster, args.namespace.as_deref()).await,
        Command::Check(what) => check::run(what, &args.cluster).await,
        other => look(args, other).await.map(Answer::from),
    }
}

fn namespaces(args: &Args) -> inject::Namespaces<'_> {
    inject::Namespaces { own: namespace(args), root: &args.cluster.istio_namespace }
}

// The commands that look into what runs.
async fn look(args: &Args, command: &Command) -> Result<String> {
    match command {
        Command::Inject(_) | Command::CheckInject(_) | Command::Analyze(_) | Command::Check(_) => {
            bail!("not a command that looks into what runs")
        }
        Command::Version { short } => version(args, *short).await,
        Command::ProxyStatus { proxy, verbosity, output } => {
            let all = Plane::find(args).await?.proxies().await?;
            let wanted = proxy.as_deref().map(|name| full_name(name, namespace(args)));
            let found = status::of(&all, wanted.as_deref());
            if let (Some(wanted), true) = (&wanted, found.is_empty()) {
                bail!("no proxy {wanted} is connected; `sluicectl proxy-status` lists those that are");
            }
            let table = || if *verbosity == 0 { status::table(&found) } else { status::long_table(&found) };
            output::render(*output, &found, table)
        }
        Command::ProxyConfig { part } => config(args, part).await,
    }
}

async fn version(args: &Args, short: bool) -> Result<String> {
    let ours = env!("CARGO_PKG_VERSION");
    if short {
        return Ok(format!("{ours}\n"));
    }
    let asked = async { Plane::find(args).await?.ask_any("/version").await };
    let theirs = match asked.await {
        Ok(text) => String::from_utf8_lossy(&text).trim().to_owned(),
        Err(error) => format!("unknown ({error:#})"),
    };
    Ok(format!("client version: {ours}\ncontrol plane version: {theirs}\n"))
}

async fn config(args: &Args, part: &Part) -> Result<String> {
    match part {
        Part::Cluster { source, fqdn, port, subset, direction } => {
            let dump = load(args, source).await?;
            let filter = cluster::Filter {
                fqdn: fqdn.as_deref(),
                port: *port,
                subset: subset.as_deref(),
                direction: direction.as_deref(),
            };
            let mut found = dump.clusters();
            found.retain(|one| filter.takes(one));
            output::render(source.output, &found, || cluster::table(&found))
        }
        Part::Listener { source, address, port } => {
            let dump = load(args, source).await?;
            let mut found = dump.listeners();
            found.retain(|one| listener::takes(one, address.as_deref(), *port));
            output::render(source.output, &found, || listener::table(&found))
        }
        Part::Route { source, name, verbose } => {
            let dump = load(args, source).await?;
            let mut found = dump.routes();
            found.retain(|one| name.as_deref().is_none_or(|name| one["name"] == name));
            let table = || if *verbose { route::table(&found) } else { route::summary(&found) };
            output::render(source.output, &found, table)
        }
        Part::Endpoint { source, cluster, port, address, status } => {
            let dump = load(args, source).await?;
            let filter = endpoint::Filter {
                cluster: cluster.as_deref(),
                port: *port,
                address: address.as_deref(),
                status: status.as_deref(),
            };
            let found = dump.endpoints();
            output::render(source.output, &found, || endpoint::table(&found, &filter))
        }
        Part::All { source } => all(&load(args, source).await?, source.output),
        Part::Dump { source } => {
            eprintln!("note: istioctl has no `proxy-config dump`; this is `proxy-config all -o json`");
            all(&load(args, source).await?, Form::Json)
        }
    }
}

fn all(dump: &Dump, form: Form) -> Result<String> {
    let tables = || {
        let none = endpoint::Filter::default();
        [
            cluster::table(&dump.clusters()),
            listener::table(&dump.listeners()),
            route::table(&dump.routes()),
            endpoint::table(&dump.endpoints(), &none),
        ]
        .join("\n")
    };
    match form {
        Form::Table => Ok(tables()),
        Form::Json => Ok(format!("{}\n", serde_json::to_string_pretty(&dump.0)?)),
        Form::Yaml => Ok(serde_saphyr::to_string(&dump.0)?),
    }
}

async fn load(args: &Args, source: &Source) -> Result<Dump> {
    if let Some(file) = &source.file {
        let text = if file.as_os_str() == "-" {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            text
        } else {
            std::fs::read(file).with_context(|| format!("read {}", file.display()))?
        };
        return Dump::read(&text);
    }
    if let Some(admin) = &args.admin {
        return Dump::read(&fetch::get(admin, "/config_dump?include_eds").await?);
    }
    let Some(proxy) = &source.proxy else {
        bail!("which proxy? name a pod (`sluicectl proxy-status` lists them), or use --admin URL or --file DUMP");
    };
    let name = full_name(proxy, namespace(args));
    Dump::read(&Plane::find(args).await?.ask_any(&format!("/debug/config_dump?proxyID={name}")).await?)
}

fn namespace(args: &Args) -> &str {
    args.namespace.as_deref().unwrap_or("default")
}

// `pod`, `pod/pod`, `pod.namespace` to `pod.namespace`.
fn full_name(name: &str, namespace: &str) -> String {
    let name = name.strip_prefix("pod/").unwrap_or(name);
    if name.contains('.') { name.to_owned() } else { format!("{name}.{namespace}") }
}
