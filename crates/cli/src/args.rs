//! The command line: istioctl's words and aliases.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// The command line of `sluicectl`.
#[derive(Parser, Debug)]
#[command(name = "sluicectl", version, about = "Look into a Sluice mesh", disable_version_flag = true)]
pub struct Args {
    /// The control plane's HTTP address.
    #[arg(long, global = true, env = "SLUICE_CONTROL_PLANE", default_value = "http://127.0.0.1:15014")]
    pub control_plane: String,
    /// Ask this proxy's admin address instead of the control plane.
    #[arg(long, global = true, env = "SLUICE_ADMIN")]
    pub admin: Option<String>,
    /// Namespace of a proxy that is named without one.
    #[arg(long, short = 'n', global = true, default_value = "default")]
    pub namespace: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
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
    /// What a proxy runs.
    #[command(alias = "pc")]
    ProxyConfig {
        /// Which part.
        #[command(subcommand)]
        part: Part,
    },
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
