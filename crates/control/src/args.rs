//! The command line of `sluiced`: what was typed, and what it means. The only place that reads the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use compile::{Collector, DefaultRetries, MeshConfig, OutboundTrafficPolicy};
use config::{AccessLog, AccessLogFormat, Cidr, Share};

/// The command line.
#[derive(Parser, Clone, Debug)]
#[command(name = "sluiced", version, about = "Sluice control plane: Istio's YAML in, Envoy's xDS out")]
pub struct Args {
    /// Read manifests from this directory, and follow it, instead of a Kubernetes API server.
    #[arg(long, env = "SLUICE_CONFIG_DIR", conflicts_with = "kubeconfig")]
    pub config_dir: Option<PathBuf>,
    /// Kubernetes access; without it and without --config-dir, kubectl's own, else the pod's service account.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig other than its current one.
    #[arg(long)]
    pub context: Option<String>,
    /// Where xDS is served, in plaintext.
    #[arg(long, default_value = "0.0.0.0:15010")]
    pub xds_address: SocketAddr,
    /// Where metrics, readiness and debug pages are served.
    #[arg(long, default_value = "0.0.0.0:15014")]
    pub http_address: SocketAddr,
    /// The cluster's DNS domain.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Where mesh-wide defaults live.
    #[arg(long, default_value = "istio-system")]
    pub root_namespace: String,
    /// The name of this cluster.
    #[arg(long, default_value = "Kubernetes")]
    pub cluster_id: String,
    /// What sidecars do with unknown destinations: ALLOW_ANY or REGISTRY_ONLY.
    #[arg(long, default_value = "ALLOW_ANY", value_parser = parse_policy)]
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// Let clusters with outlier detection fail over to farther localities when nothing else is said, as Istio's
    /// localityLbSetting.enabled.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub locality_lb: bool,
    /// Have every proxy write an access log to this file; /dev/stdout as in Istio's accessLogFile.
    #[arg(long)]
    pub access_log_file: Option<String>,
    /// The access log as JSON objects.
    #[arg(long)]
    pub access_log_json: bool,
    /// One more access log for Telemetry to name: its provider's name and file, errors=/dev/stderr; with ,json behind it
    /// as JSON objects. May be repeated. The provider envoy is always there.
    #[arg(long, value_name = "NAME=PATH[,json]", value_parser = parse_log)]
    pub access_log_provider: Vec<(String, AccessLog)>,
    /// Have every proxy send spans here, OTLP over gRPC: host or host:port (4317). Telemetry calls this provider otel.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_collector)]
    pub tracing_otlp: Option<Collector>,
    /// How many requests are traced where no Telemetry says so, in percent.
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = parse_percent)]
    pub tracing_sampling: Share,
    /// What is retried where no rule says so: istio (also what a gRPC application answers with unavailable or
    /// cancelled), safe (only what no application has seen), or off.
    #[arg(long, default_value = "istio", value_parser = parse_retries)]
    pub default_retries: DefaultRetries,
    /// Do not put -shadow behind the host name of mirrored requests.
    #[arg(long)]
    pub no_shadow_host_suffix: bool,
    /// Obey the x-envoy-* headers of requests from these addresses (10.0.0.0/8); without it, of none.
    #[arg(long, value_name = "CIDR", value_parser = parse_cidr)]
    pub internal_addresses: Vec<Cidr>,
    /// End HTTP streams on which nothing moved for this long (5m).
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub stream_idle_timeout: Option<Duration>,
    /// Give TLS Secrets to gateways of their namespace that name them (credentialName). Proxies are not authenticated
    /// yet: whoever reaches --xds-address can pass for such a gateway.
    #[arg(long, env = "SLUICE_SERVE_SECRETS")]
    pub serve_secrets: bool,
    /// The name of this replica, under which it stands for election; in a cluster the pod's. Without it, host and process.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// Never write to the Kubernetes API server: no Lease, no status, no events, nothing for the mesh.
    #[arg(long, env = "SLUICE_READ_ONLY")]
    pub read_only: bool,
    /// What to log, in the form of `RUST_LOG`.
    #[arg(long, env = "SLUICE_LOG", default_value = "info")]
    pub log_level: String,
}

fn parse_policy(text: &str) -> Result<OutboundTrafficPolicy, String> {
    OutboundTrafficPolicy::parse(text).ok_or_else(|| "expected ALLOW_ANY or REGISTRY_ONLY".to_owned())
}

fn parse_retries(text: &str) -> Result<DefaultRetries, String> {
    DefaultRetries::parse(text).ok_or_else(|| "expected istio, safe or off".to_owned())
}

fn parse_log(text: &str) -> Result<(String, AccessLog), String> {
    let expected = || "expected a provider's name and a file such as errors=/dev/stderr".to_owned();
    let (name, path) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(expected)?;
    let (path, format) = match path.strip_suffix(",json") {
        Some(path) => (path, AccessLogFormat::Json(Default::default())),
        None => (path, AccessLogFormat::Default),
    };
    if path.is_empty() {
        return Err(expected());
    }
    Ok((name.to_owned(), AccessLog { path: path.to_owned(), format, filter: None }))
}

fn parse_collector(text: &str) -> Result<Collector, String> {
    Collector::parse(text)
        .ok_or_else(|| "expected a host or host:port such as otel-collector.observability:4317".to_owned())
}

fn parse_percent(text: &str) -> Result<Share, String> {
    let read = text.parse().ok().and_then(Share::percent);
    read.ok_or_else(|| "expected a percentage from 0 to 100 such as 0.5".to_owned())
}

fn parse_cidr(text: &str) -> Result<Cidr, String> {
    Cidr::parse(text).ok_or_else(|| "expected an address range such as 10.0.0.0/8".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let read = words::duration::parse(text).filter(|duration| !duration.is_zero());
    read.ok_or_else(|| "expected a duration above 0 such as 5m".to_owned())
}

impl Args {
    /// The name of this replica, unlike that of any other.
    pub fn replica(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let made = || format!("sluiced-{}-{}", host().trim(), std::process::id());
        self.pod_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(made)
    }

    /// The mesh's settings.
    pub fn mesh(&self) -> MeshConfig {
        let format = match self.access_log_json {
            true => AccessLogFormat::Json(Default::default()),
            false => AccessLogFormat::Default,
        };
        MeshConfig {
            domain: self.cluster_domain.clone(),
            root_namespace: self.root_namespace.clone(),
            cluster_id: self.cluster_id.clone(),
            outbound_traffic_policy: self.outbound_traffic_policy,
            default_retries: self.default_retries,
            shadow_host_suffix: !self.no_shadow_host_suffix,
            internal_addresses: self.internal_addresses.clone(),
            stream_idle_timeout: self.stream_idle_timeout,
            access_log: self.access_log_file.clone().map(|path| AccessLog { path, format, filter: None }),
            log_providers: self.access_log_provider.iter().cloned().collect(),
            collector: self.tracing_otlp.clone(),
            sampling: self.tracing_sampling,
            locality_lb: self.locality_lb,
            ..MeshConfig::default()
        }
    }
}
