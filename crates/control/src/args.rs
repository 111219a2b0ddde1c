//! The command line of `sluiced`: what was typed, and what it means. The only place that reads the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use compile::{MeshConfig, OutboundTrafficPolicy};
use config::{AccessLog, AccessLogFormat};

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
    /// Have every proxy write an access log to this file; /dev/stdout as in Istio's accessLogFile.
    #[arg(long)]
    pub access_log_file: Option<String>,
    /// The access log as JSON objects.
    #[arg(long)]
    pub access_log_json: bool,
    /// What to log, in the form of `RUST_LOG`.
    #[arg(long, env = "SLUICE_LOG", default_value = "info")]
    pub log_level: String,
}

fn parse_policy(text: &str) -> Result<OutboundTrafficPolicy, String> {
    OutboundTrafficPolicy::parse(text).ok_or_else(|| "expected ALLOW_ANY or REGISTRY_ONLY".to_owned())
}

impl Args {
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
            access_log: self.access_log_file.clone().map(|path| AccessLog { path, format }),
            ..MeshConfig::default()
        }
    }
}
