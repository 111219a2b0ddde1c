//! The command line: istioctl's words and aliases.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// The command line of `sluicectl`.
#[derive(Parser, Debug)]
#[command(name = "sluicectl", version, about = "Look into a Sluice mesh", disable_version_flag = true)]
pub struct Args {
    /// The control plane's HTTP address, `http://host:15014`, on this machine: others are told nothing. Without it: the
    /// pods in the cluster, whose port the API server forwards; without a cluster: http://127.0.0.1:15014.
    #[arg(long, global = true, env = "SLUICE_CONTROL_PLANE")]
    pub control_plane: Option<String>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Ask this proxy's admin address instead of the control plane.
    #[arg(long, global = true, env = "SLUICE_ADMIN")]
    pub admin: Option<String>,
    /// Namespace of a proxy that is named without one, or to analyze; `default` when absent.
    #[arg(long, short = 'n', global = true)]
    pub namespace: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A cluster, and where the control plane is in it.
#[derive(ClapArgs, Clone, Debug)]
pub struct Cluster {
    /// A kubeconfig file, other than kubectl's own.
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// A context in it, other than its current one.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The namespace of the control plane.
    #[arg(long, short = 'i', global = true, default_value = "istio-system")]
    pub istio_namespace: String,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print the version of this program and of the control plane.
    Version {
        /// Only this program's.
        #[arg(long)]
        short: bool,
    },
    /// Which proxies are connected, and whether they run what they were sent.
    #[command(alias = "ps")]
    ProxyStatus {
        /// One proxy, `pod.namespace`; all when absent.
        proxy: Option<String>,
        /// 0 the short table, 1 the state of each type.
        #[arg(long, short = 'v', default_value_t = 0)]
        verbosity: u8,
        /// The form of the answer.
        #[arg(long, short = 'o', value_enum, default_value_t = Form::Table)]
        output: Form,
    },
    /// Find mistakes in files and in a cluster. Exits with 79 when there are some, 65 when a file cannot be read.
    Analyze(Box<AnalyzeArgs>),
    /// Whether a mesh can be installed, or works. Exits with 1 when it does not.
    Check(CheckArgs),
    /// Put sidecars into the pods of files, as the webhook does, without a cluster (istioctl's kube-inject).
    #[command(alias = "kube-inject")]
    Inject(Box<InjectArgs>),
    /// Which pods of files would be injected, and why not.
    CheckInject(Box<InjectArgs>),
    /// What a proxy runs.
    #[command(alias = "pc")]
    ProxyConfig {
        /// Which part.
        #[command(subcommand)]
        part: Part,
    },
}

/// What to inject, and how.
#[derive(ClapArgs, Debug)]
pub struct InjectArgs {
    /// A file with objects, or `-` for standard input; may be repeated.
    #[arg(long, short = 'f', required = true, value_name = "FILE")]
    pub filename: Vec<String>,
    /// How pods are injected, as a control plane says it under /debug/inject; in place of the flags below.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// The form of the answer.
    #[arg(long, short = 'o', value_enum, default_value_t = Text::Yaml)]
    pub output: Text,
    /// How pods are injected.
    #[command(flatten)]
    pub flags: inject::Settings,
}

/// A form of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Text {
    /// Documents of YAML.
    Yaml,
    /// JSON, one document after the other.
    Json,
}

/// What to analyze, and what to say.
#[derive(ClapArgs, Debug)]
pub struct AnalyzeArgs {
    /// Files, folders, or `-` for standard input; the cluster alone when absent.
    pub files: Vec<String>,
    /// Folders with all that is below them.
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// Every namespace.
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Read the cluster too; without this, when one is configured.
    #[arg(long, short = 'k', num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub use_kube: Option<bool>,
    /// The form of the answer.
    #[arg(long, short = 'o', value_enum, default_value_t = Report::Log)]
    pub output: Report,
    /// Fail when there are findings of this level or worse.
    #[arg(long, value_enum, ignore_case = true, default_value_t = Level::Error)]
    pub failure_threshold: Level,
    /// Print findings of this level or worse.
    #[arg(long, value_enum, ignore_case = true, default_value_t = Level::Info)]
    pub output_threshold: Level,
    /// List the analyzers.
    #[arg(long, short = 'L')]
    pub list_analyzers: bool,
    /// Run only this analyzer; several by commas or by repetition.
    #[arg(long)]
    pub analyzer: Vec<String>,
    /// Leave out a code for an object, `IST0101=VirtualService reviews.default`; `*` stands for any letters.
    #[arg(long, short = 'S')]
    pub suppress: Vec<String>,
    /// Colours; without this, on a terminal.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub color: Option<bool>,
    /// Pass over what cannot be read as an object.
    #[arg(long)]
    pub ignore_unknown: bool,
}

/// What to check.
#[derive(ClapArgs, Debug)]
pub struct CheckArgs {
    /// Before there is a mesh: whether one can be installed.
    #[arg(long)]
    pub pre: bool,
    /// Try again for so many seconds while something does not work.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u64,
    /// The form of the answer.
    #[arg(long, short = 'o', value_enum, default_value_t = CheckForm::Table)]
    pub output: CheckForm,
}

/// The form of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckForm {
    /// A line for each.
    Table,
    /// Only what is not well.
    Short,
    /// JSON, as linkerd's.
    Json,
}

/// The form of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Report {
    /// A line for each.
    Log,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Works, but probably not as meant.
    Warning,
    /// Does not work, or is refused.
    Error,
}

impl Level {
    /// As findings have it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Info => "Info",
            Level::Warning => "Warning",
            Level::Error => "Error",
        }
    }
}

impl From<Level> for words::Severity {
    fn from(level: Level) -> Self {
        match level {
            Level::Info => Self::Info,
            Level::Warning => Self::Warning,
            Level::Error => Self::Error,
        }
    }
}

/// A part of a proxy's configuration.
#[derive(Subcommand, Debug)]
pub enum Part {
    /// Clusters.
    #[command(aliases = ["clusters", "c"])]
    Cluster {
        /// Which proxy.
        #[command(flatten)]
        source: Source,
        /// Only clusters of this service.
        #[arg(long)]
        fqdn: Option<String>,
        /// Only clusters of this port.
        #[arg(long)]
        port: Option<u16>,
        /// Only clusters of this subset.
        #[arg(long)]
        subset: Option<String>,
        /// Only `inbound` or `outbound`.
        #[arg(long)]
        direction: Option<String>,
    },
    /// Listeners.
    #[command(aliases = ["listeners", "l"])]
    Listener {
        /// Which proxy.
        #[command(flatten)]
        source: Source,
        /// Only listeners on this address.
        #[arg(long)]
        address: Option<String>,
        /// Only listeners on this port.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Routes.
    #[command(aliases = ["routes", "r"])]
    Route {
        /// Which proxy.
        #[command(flatten)]
        source: Source,
        /// Only the table of this name.
        #[arg(long)]
        name: Option<String>,
        /// `false`: only the tables and how many virtual hosts they have.
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        verbose: bool,
    },
    /// Endpoints.
    #[command(aliases = ["endpoints", "ep"])]
    Endpoint {
        /// Which proxy.
        #[command(flatten)]
        source: Source,
        /// Only endpoints of this cluster.
        #[arg(long)]
        cluster: Option<String>,
        /// Only endpoints on this port.
        #[arg(long)]
        port: Option<u16>,
        /// Only endpoints on this address.
        #[arg(long)]
        address: Option<String>,
        /// Only `healthy` or `unhealthy` ones.
        #[arg(long)]
        status: Option<String>,
    },
    /// Everything, one table after the other.
    #[command(alias = "a")]
    All {
        /// Which proxy.
        #[command(flatten)]
        source: Source,
    },
    /// The whole dump as JSON; not a command of istioctl's, but tutorials write it.
    Dump {
        /// Which proxy.
        #[command(flatten)]
        source: Source,
    },
}

/// Where a dump comes from, and how it is shown.
#[derive(ClapArgs, Debug)]
pub struct Source {
    /// `pod`, `pod.namespace`; not needed with `--admin` or `--file`.
    pub proxy: Option<String>,
    /// A saved `config_dump`; `-` for standard input.
    #[arg(long, short = 'f')]
    pub file: Option<PathBuf>,
    /// The form of the answer.
    #[arg(long, short = 'o', value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns.
    #[value(alias = "short")]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}
