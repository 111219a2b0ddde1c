//! Mesh-wide settings that shape what is compiled (Istio's MeshConfig, reference section 2.9), with Istio's defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use config::{AccessLog, Cidr, Share};
use words::Fingerprint;

/// Settings of the whole mesh. Every field is part of what is compiled: a change recompiles what it touches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeshConfig {
    /// The cluster's DNS domain, `cluster.local`.
    pub domain: String,
    /// Where mesh-wide defaults live, `istio-system`.
    pub root_namespace: String,
    /// What a sidecar does with destinations that no service has.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// `exportTo` of services that say nothing (X20).
    pub default_service_export_to: Vec<String>,
    /// `exportTo` of VirtualServices that say nothing (X20).
    pub default_virtual_service_export_to: Vec<String>,
    /// `exportTo` of DestinationRules that say nothing (X20).
    pub default_destination_rule_export_to: Vec<String>,
    /// A line per request and connection; `None`: no access log, as in Istio (DP09).
    pub access_log: Option<AccessLog>,
    /// More access logs by the names of their providers, for Telemetry (Istio's extension providers `envoyFileAccessLog`).
    pub log_providers: BTreeMap<String, AccessLog>,
    /// Who gets spans: the provider `otel`, which is the mesh's default; `None`: nobody.
    pub collector: Option<Collector>,
    /// How many requests are traced where no Telemetry says so, 1 % as in Istio.
    pub sampling: Share,
    /// What is retried where no rule says so (VS80).
    pub default_retries: DefaultRetries,
    /// Copies of requests have `-shadow` behind their host name (TR08).
    pub shadow_host_suffix: bool,
    /// Whose `x-envoy-*` request headers are obeyed; empty: nobody's, as in Istio.
    pub internal_addresses: Vec<Cidr>,
    /// HTTP streams on which nothing moved for this long are ended; `None`: never, as in Istio (DP07).
    pub stream_idle_timeout: Option<Duration>,
    /// Clusters with outlier detection fail over by locality (`localityLbSetting.enabled`, DR55).
    pub locality_lb: bool,
    /// Proxies may fetch the keys of tokens from loopback and link-local addresses; for tests.
    pub local_keys: bool,
    /// The name of this cluster, `Kubernetes`.
    pub cluster_id: String,
    /// Bound on connecting to an upstream, 10 s (DR31).
    pub connect_timeout: Duration,
    /// What the ids of the mesh's workloads begin with, `cluster.local`.
    pub trust_domain: String,
    /// Workloads of the mesh are spoken to by mutual TLS where no DestinationRule says what to do (`enableAutoMtls`, PA04).
    pub auto_mtls: bool,
    /// Port of the listener that outbound traffic is captured by, 15001.
    pub proxy_listen_port: u16,
    /// Port of the listener that inbound traffic is captured by, 15006.
    pub proxy_inbound_listen_port: u16,
}

/// An OpenTelemetry collector, which takes OTLP over gRPC in plaintext.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collector {
    /// A name or an address.
    pub host: String,
    /// The port, 4317.
    pub port: u16,
}

impl Collector {
    /// Port of OTLP over gRPC.
    pub const PORT: u16 = 4317;

    /// Reads `host`, `host:port` or `[::1]:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = words::host::split_port(text);
        // Anything after a colon that is no port.
        let whole = port.is_some() || host == text;
        (whole && !host.is_empty())
            .then(|| Self { host: host.trim_matches(['[', ']']).to_owned(), port: port.unwrap_or(Self::PORT) })
    }
}

/// What happens to requests for unknown destinations (VS75, DP02).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutboundTrafficPolicy {
    /// They go where the application dialled.
    #[default]
    AllowAny,
    /// HTTP is answered 502, everything else is closed.
    RegistryOnly,
}

/// What is retried where no rule says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DefaultRetries {
    /// What Istio retries: two more tries, also of requests that the application refused in gRPC's words (TR01).
    #[default]
    Istio,
    /// Two more tries, only of requests that no application has seen.
    Safe,
    /// Nothing.
    Off,
}

impl DefaultRetries {
    /// Reads `istio`, `safe` or `off`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "istio" => Some(Self::Istio),
            "safe" => Some(Self::Safe),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            outbound_traffic_policy: OutboundTrafficPolicy::AllowAny,
            default_service_export_to: vec!["*".into()],
            default_virtual_service_export_to: vec!["*".into()],
            default_destination_rule_export_to: vec!["*".into()],
            access_log: None,
            log_providers: BTreeMap::new(),
            collector: None,
            sampling: Share::per_million(10_000),
            default_retries: DefaultRetries::Istio,
            shadow_host_suffix: true,
            internal_addresses: Vec::new(),
            stream_idle_timeout: None,
            locality_lb: true,
            local_keys: false,
            cluster_id: "Kubernetes".into(),
            connect_timeout: config::default_connect_timeout(),
            trust_domain: "cluster.local".into(),
            auto_mtls: true,
            proxy_listen_port: 15001,
            proxy_inbound_listen_port: 15006,
        }
    }
}

impl MeshConfig {
    /// The content, as part of memo keys.
    pub(crate) fn print(&self) -> Fingerprint {
        Fingerprint::of(self)
    }

    /// The access logs of a listener.
    pub(crate) fn access_logs(&self) -> Vec<AccessLog> {
        self.access_log.iter().cloned().collect()
    }
}

impl OutboundTrafficPolicy {
    /// Reads `ALLOW_ANY` or `REGISTRY_ONLY`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "ALLOW_ANY" => Some(Self::AllowAny),
            "REGISTRY_ONLY" => Some(Self::RegistryOnly),
            _ => None,
        }
    }
}
