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
    /// Where xDS is served in plaintext, to whoever connects; off or empty: nowhere. For development, and for who is in the
    /// same pod.
    #[arg(long, default_value = "127.0.0.1:15010", value_parser = parse_listen)]
    pub xds_address: Listen,
    /// Where xDS and certificates are served over TLS, to authenticated callers, 0.0.0.0:15012; nowhere when absent.
    #[arg(long)]
    pub secure_address: Option<SocketAddr>,
    /// Where the webhooks are served over TLS, 0.0.0.0:15017; nowhere when absent.
    #[arg(long)]
    pub webhook_address: Option<SocketAddr>,
    /// The MutatingWebhookConfiguration whose caBundle is kept.
    #[arg(long, value_name = "NAME", default_value = "sluice-sidecar-injector")]
    pub injector_webhook: String,
    /// The ValidatingWebhookConfiguration whose caBundle and failurePolicy are kept.
    #[arg(long, value_name = "NAME", default_value = "sluice-validator")]
    pub validator_webhook: String,
    /// How pods are injected.
    #[command(flatten)]
    pub injection: inject::Settings,
    /// The certificate authority: ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem, as in Istio's Secret cacerts.
    /// Where there is none, the Secret istio-ca-secret is used, and made once.
    #[arg(long, value_name = "DIR", default_value = "/etc/cacerts")]
    pub ca_dir: PathBuf,
    /// The trust domain of identities, spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT.
    #[arg(long, default_value = "cluster.local", value_parser = parse_trust_domain)]
    pub trust_domain: String,
    /// How long workloads' certificates are valid, at most (24h). Proxies renew them at half of it.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub workload_cert_ttl: Duration,
    /// One more name of this server, for its own certificate: a DNS name or an address; may be repeated. The names of the
    /// Services sluiced and istiod are always there.
    #[arg(long, value_name = "NAME")]
    pub serving_name: Vec<String>,
    /// The namespace that this program runs in; the root namespace when absent.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// The namespaces whose TLS Secrets are read, for gateways there; * for all. The root namespace when absent.
    #[arg(long, value_name = "NAMESPACE,…", value_delimiter = ',')]
    pub secret_namespaces: Vec<String>,
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
    /// Speak mutual TLS to workloads of the mesh where no DestinationRule says what to do, as Istio's enableAutoMtls.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub auto_mtls: bool,
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
    /// End the streams of proxies after about this long, so that they spread over the replicas; 0s for never.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = parse_age)]
    pub max_connection_age: Duration,
    /// Give TLS Secrets to gateways of their namespace that name them (credentialName) over plaintext, too: whoever
    /// reaches --xds-address can pass for such a gateway. Over TLS they are given without this flag.
    #[arg(long, env = "SLUICE_SERVE_SECRETS")]
    pub serve_secrets: bool,
    /// Let proxies fetch the keys of tokens (jwksUri) from loopback and link-local addresses; for tests.
    #[arg(long)]
    pub allow_local_jwks: bool,
    /// The name of this replica, under which it stands for election; in a cluster the pod's. Without it, host and process.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// The Lease by which replicas agree who writes, in the root namespace.
    #[arg(long, value_name = "NAME", default_value = crate::leader::LEASE)]
    pub lease: String,
    /// The ClusterRole of the release: the Lease and the ConfigMaps with the roots belong to it, and go when it goes.
    #[arg(long, value_name = "CLUSTERROLE")]
    pub owner: Option<String>,
    /// Never write to the Kubernetes API server: no Lease, no status, no events, nothing for the mesh.
    #[arg(long, env = "SLUICE_READ_ONLY")]
    pub read_only: bool,
    /// What to log, in the form of `RUST_LOG`.
    #[arg(long, env = "SLUICE_LOG", default_value = "info")]
    pub log_level: String,
}

/// Where to listen, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

fn parse_listen(text: &str) -> Result<Listen, String> {
    match text {
        "" | "off" => Ok(Listen(None)),
        text => text.parse().map(|address| Listen(Some(address))).map_err(|_| "expected ip:port, or off".to_owned()),
    }
}

fn parse_trust_domain(text: &str) -> Result<String, String> {
    let id = words::SpiffeId::parse(&format!("spiffe://{text}/ns/a/sa/a"));
    id.map(|id| id.trust_domain).ok_or_else(|| "expected a trust domain such as cluster.local".to_owned())
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

fn parse_age(text: &str) -> Result<Duration, String> {
    words::duration::parse(text).ok_or_else(|| "expected a duration such as 30m, or 0s".to_owned())
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

    /// The namespace that this program runs in.
    pub fn own_namespace(&self) -> &str {
        self.pod_namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.root_namespace)
    }

    /// After how long streams and connections of proxies are ended; `None`: never.
    pub fn age_max(&self) -> Option<Duration> {
        Some(self.max_connection_age).filter(|age| !age.is_zero())
    }

    /// Where Secrets are read; empty: everywhere.
    pub fn secret_namespaces(&self) -> Vec<String> {
        let named: Vec<String> = self.secret_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
        match named.is_empty() {
            true => vec![self.root_namespace.clone()],
            false if named.iter().any(|name| name == "*") => Vec::new(),
            false => named,
        }
    }

    /// What our own certificate is for: the Services of the control plane, and what was said.
    pub fn serving_names(&self) -> Vec<String> {
        let namespace = self.own_namespace();
        let full = format!("{namespace}.svc.{}", self.cluster_domain);
        let suffixes = [namespace.to_owned(), format!("{namespace}.svc"), full];
        let services = ["sluiced", "istiod"].into_iter();
        let names = services.flat_map(|name| suffixes.iter().map(move |suffix| format!("{name}.{suffix}")));
        names.chain(self.serving_name.iter().cloned()).collect()
    }

    /// How pods are injected.
    pub fn injection(&self) -> inject::Settings {
        let (cluster_domain, cluster_id) = (self.cluster_domain.clone(), self.cluster_id.clone());
        inject::Settings { cluster_domain, cluster_id, ..self.injection.clone() }
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
            trust_domain: self.trust_domain.clone(),
            auto_mtls: self.auto_mtls,
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
            local_keys: self.allow_local_jwks,
            ..MeshConfig::default()
        }
    }
}
