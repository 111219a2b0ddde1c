//! The control plane's metrics, under the names that Istio's dashboards read, and a few of our own.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use xds::TypeUrl;

/// A resource type as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfType {
    r#type: String,
}

impl OfType {
    pub(crate) fn new(kind: TypeUrl) -> Self {
        Self { r#type: kind.short().to_lowercase() }
    }
}

/// A severity as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfSeverity {
    pub(crate) severity: String,
}

/// A reason as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfReason {
    reason: &'static str,
}

impl OfReason {
    pub(crate) fn new(reason: &'static str) -> Self {
        Self { reason }
    }
}

/// All metrics of this process.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) connected: Gauge,
    pub(crate) pushes: Family<OfType, Counter>,
    pub(crate) push_bytes: Family<OfType, Counter>,
    pub(crate) rejects: Counter,
    pub(crate) refused: Counter,
    pub(crate) compile_seconds: Histogram,
    pub(crate) convergence_seconds: Histogram,
    pub(crate) changes: Counter,
    pub(crate) services: Gauge,
    pub(crate) virtual_services: Gauge,
    pub(crate) diagnostics: Family<OfSeverity, Gauge>,
    pub(crate) source_connected: Gauge,
    pub(crate) unpublished: Gauge,
    pub(crate) certificates: Counter,
    pub(crate) certificates_refused: Family<OfReason, Counter>,
    pub(crate) strangers: Family<OfReason, Counter>,
    pub(crate) root_expiry: Gauge,
    pub(crate) authority_expiry: Gauge,
}

/// From a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0];

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            connected: Gauge::default(),
            pushes: Family::default(),
            push_bytes: Family::default(),
            rejects: Counter::default(),
            refused: Counter::default(),
            compile_seconds: Histogram::new(SECONDS),
            convergence_seconds: Histogram::new(SECONDS),
            changes: Counter::default(),
            services: Gauge::default(),
            virtual_services: Gauge::default(),
            diagnostics: Family::default(),
            source_connected: Gauge::default(),
            unpublished: Gauge::default(),
            certificates: Counter::default(),
            certificates_refused: Family::default(),
            strangers: Family::default(),
            root_expiry: Gauge::default(),
            authority_expiry: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("pilot_xds", "Proxies connected", self.connected.clone());
        registry.register("pilot_xds_pushes", "Responses sent, by type", self.pushes.clone());
        registry.register("sluice_xds_push_bytes", "Bytes sent, by type", self.push_bytes.clone());
        registry.register("pilot_total_xds_rejects", "Responses that proxies refused", self.rejects.clone());
        registry.register("sluice_xds_refused", "Proxies refused because of their node", self.refused.clone());
        registry.register("sluice_compile_seconds", "From a change to new targets", self.compile_seconds.clone());
        let convergence = self.convergence_seconds.clone();
        registry.register(
            "pilot_proxy_convergence_time",
            "From a change to a proxy's acknowledgement, seconds",
            convergence,
        );
        registry.register("pilot_k8s_cfg_events", "Changes of objects", self.changes.clone());
        registry.register("pilot_services", "Services and ServiceEntries known", self.services.clone());
        registry.register("pilot_virt_services", "VirtualServices known", self.virtual_services.clone());
        registry.register("sluice_diagnostics", "Findings about objects, by severity", self.diagnostics.clone());
        registry.register("sluice_source_connected", "1 while changes arrive", self.source_connected.clone());
        registry.register("sluice_unpublished", "Configurations held back by the check", self.unpublished.clone());
        registry.register("sluice_certificates_issued", "Certificates given to workloads", self.certificates.clone());
        let refused = self.certificates_refused.clone();
        registry.register("sluice_certificates_refused", "Requests for certificates refused, by reason", refused);
        let strangers = self.strangers.clone();
        registry.register("sluice_authentication_refused", "Requests of nobody we know, by reason", strangers);
        let (root, own) = (self.root_expiry.clone(), self.authority_expiry.clone());
        registry.register("citadel_server_root_cert_expiry_timestamp", "When the first root expires, Unix time", root);
        registry.register("citadel_server_cert_chain_expiry_timestamp", "When the CA expires, Unix time", own);
    }

    /// The Prometheus text form.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}
