//! The command line of `sluice-proxy`: what was typed, and what it means. The only place that reads the environment.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde_json::{Map, Value, json};

use crate::application::Application;
use crate::identity::Identity;

/// The command line.
#[derive(Parser, Clone, Debug)]
#[command(name = "sluice-proxy", version, about = "Sluice proxy: sidecar and gateway, obeying Envoy's xDS")]
pub struct Args {
    /// Who this is: `<sidecar|router>~<ip>~<pod>.<namespace>~<domain>`.
    #[arg(long, env = "SLUICE_NODE")]
    pub node: String,
    /// The control plane: `https://istiod.istio-system.svc:15012`, or `http://host:15010` in plaintext.
    #[arg(long, env = "SLUICE_CONTROL_PLANE")]
    pub control_plane: String,
    /// A label of the workload, `key=value`; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// Labels of the workload, lines `key="value"`, as a pod's downward API writes them.
    #[arg(long, value_name = "FILE")]
    pub labels_file: Option<PathBuf>,
    /// A token of the service account, for the audience istio-ca: with it a certificate is asked for. Read at each use.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A directory with a certificate to ask for our own with, instead of a token: cert-chain.pem and key.pem.
    #[arg(long, value_name = "DIR", conflicts_with = "identity_dir")]
    pub bootstrap_identity_dir: Option<PathBuf>,
    /// The roots that the control plane's certificate, and those of peers, lead to. Read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub root_cert_file: Option<PathBuf>,
    /// More node metadata, `key=value`; may be repeated.
    #[arg(long = "metadata", value_name = "KEY=VALUE", value_parser = pair)]
    pub metadata: Vec<(String, String)>,
    /// The workload's name, for metrics; the pod's when absent.
    #[arg(long)]
    pub workload: Option<String>,
    /// The workload's service account.
    #[arg(long)]
    pub service_account: Option<String>,
    /// Read our certificate (cert-chain.pem), its key (key.pem) and the roots of the mesh (root-cert.pem) here, again when
    /// they change; with an identity, connections within the mesh are secured by mutual TLS.
    #[arg(long, value_name = "DIR")]
    pub identity_dir: Option<PathBuf>,
    /// Every address of the pod, with commas; the node's own when absent.
    #[arg(long, env = "INSTANCE_IPS", value_name = "IP,…")]
    pub instance_ips: Option<String>,
    /// The name of the cluster.
    #[arg(long, default_value = "Kubernetes")]
    pub cluster_id: String,
    /// How traffic gets here.
    #[arg(long, value_enum, default_value_t = Interception::Redirect)]
    pub interception: Interception,
    /// Where applications reach us without iptables, `127.0.0.1:15080`.
    #[arg(long)]
    pub outbound_address: Option<SocketAddr>,
    /// The application's own address, when it is not on 127.0.0.1.
    #[arg(long)]
    pub app_ip: Option<IpAddr>,
    /// Bind listeners to this address instead of all.
    #[arg(long)]
    pub bind_ip: Option<IpAddr>,
    /// Answer the application's DNS questions here, over UDP and TCP, `127.0.0.1:15053` (Istio's DNS_CAPTURE).
    #[arg(long)]
    pub dns_address: Option<SocketAddr>,
    /// Ask this resolver for names instead of those of /etc/resolv.conf; may be repeated.
    #[arg(long = "resolver", value_name = "IP:PORT")]
    pub resolvers: Vec<SocketAddr>,
    /// Fetch the keys of tokens (jwksUri) also from loopback and link-local addresses; for tests.
    #[arg(long)]
    pub allow_local_jwks: bool,
    /// Where the admin pages are.
    #[arg(long, default_value = "127.0.0.1:15000")]
    pub admin_address: SocketAddr,
    /// Where readiness is asked for, `/healthz/ready`.
    #[arg(long, default_value = "0.0.0.0:15021")]
    pub status_address: SocketAddr,
    /// Where metrics of proxy and application are, and the application's health for kubelet, 0.0.0.0:15020; nowhere when
    /// absent.
    #[arg(long)]
    pub application_address: Option<SocketAddr>,
    /// Where the proxy's own metrics are, 0.0.0.0:15090; nowhere when absent.
    #[arg(long)]
    pub metrics_address: Option<SocketAddr>,
    /// The application's probes as the pod had them, JSON by path; the injector writes it.
    #[arg(long, env = "ISTIO_KUBE_APP_PROBERS", value_name = "JSON")]
    pub app_probers: Option<String>,
    /// Where the application's own metrics are, JSON with scrape, port and path; the injector writes it.
    #[arg(long, env = "ISTIO_PROMETHEUS_ANNOTATIONS", value_name = "JSON")]
    pub app_metrics: Option<String>,
    /// Worker threads; one per core when 0.
    #[arg(long, default_value_t = 0)]
    pub concurrency: usize,
    /// Write an access log to this file even where the control plane asks for none.
    #[arg(long)]
    pub access_log: Option<String>,
    /// That access log as JSON objects.
    #[arg(long)]
    pub access_log_json: bool,
    /// How long clients that do not know yet are served after SIGTERM, in seconds (Istio's terminationDrainDuration); a
    /// sidecar's drain may be shorter when nobody comes, but not than 5 s if a Service leads to it.
    #[arg(long, default_value_t = 5)]
    pub drain_seconds: u64,
    /// How long what is under way may take to end after that, in seconds.
    #[arg(long, default_value_t = 20)]
    pub drain_finish_seconds: u64,
    /// What to log, in the form of `RUST_LOG`.
    #[arg(long, env = "SLUICE_LOG", default_value = "info")]
    pub log_level: String,
}

/// How traffic gets to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Interception {
    /// iptables REDIRECT.
    Redirect,
    /// iptables TPROXY.
    Tproxy,
    /// Applications dial the proxy.
    None,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Args {
    /// Who this is.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let mut labels = Map::new();
        if let Some(path) = &self.labels_file {
            let text = std::fs::read_to_string(path).with_context(|| format!("--labels-file {}", path.display()))?;
            labels.extend(crate::identity::downward_labels(&text).into_iter().map(|(key, value)| (key, json!(value))));
        }
        labels.extend(self.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
        let mut metadata: Map<String, Value> =
            self.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let ip = self.node.split('~').nth(1).unwrap_or_default().to_owned();
        let interception = match self.interception {
            Interception::Redirect => "REDIRECT",
            Interception::Tproxy => "TPROXY",
            Interception::None => "NONE",
        };
        let known = [
            ("CLUSTER_ID", Some(self.cluster_id.clone())),
            ("INTERCEPTION_MODE", Some(interception.to_owned())),
            ("INSTANCE_IPS", Some(self.instance_ips.clone().filter(|ips| !ips.is_empty()).unwrap_or(ip))),
            ("WORKLOAD_NAME", self.workload.clone()),
            ("SERVICE_ACCOUNT", self.service_account.clone()),
            ("SLUICE_IDENTITY", self.has_identity_source().then(|| "true".to_owned())),
            ("DNS_CAPTURE", self.dns_address.map(|_| "true".to_owned())),
            ("SLUICE_OUTBOUND_ADDRESS", self.outbound_address.map(|address| address.to_string())),
            ("SLUICE_APP_IP", self.app_ip.map(|ip| ip.to_string())),
            ("SLUICE_BIND_IP", self.bind_ip.map(|ip| ip.to_string())),
        ];
        for (key, value) in known {
            if let Some(value) = value {
                metadata.entry(key).or_insert(json!(value));
            }
        }
        Ok(Identity::new(&self.node, &labels, metadata))
    }

    /// A certificate is asked for, and kept fresh.
    pub fn has_agent(&self) -> bool {
        self.identity_dir.is_none() && (self.token_file.is_some() || self.bootstrap_identity_dir.is_some())
    }

    fn has_identity_source(&self) -> bool {
        self.identity_dir.is_some() || self.has_agent()
    }

    /// What is known of the application.
    ///
    /// # Errors
    /// A flag about it cannot be read.
    pub fn application(&self) -> Result<Application, String> {
        let own = self.node.split('~').nth(1).and_then(|ip| ip.parse().ok());
        Application::new(self.app_probers.as_deref(), self.app_metrics.as_deref(), self.app_ip.or(own))
    }

    /// Worker threads.
    pub fn workers(&self) -> usize {
        match self.concurrency {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        }
    }

    /// How long what is under way may take after the drain.
    pub fn finish(&self) -> Duration {
        Duration::from_secs(self.drain_finish_seconds)
    }

    /// How long a drain may take.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
