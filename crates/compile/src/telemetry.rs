//! Telemetry: the front end, and what a proxy tells of its traffic (TE01).
//!
//! Three levels, each over the one before: the mesh's flags, the root namespace's object, the namespace's, the workload's.
//! Of several objects of one level the oldest counts. What a level leaves out, the one before says.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::telemetry::{
    AccessLogging, CustomTag, IstioMetric, Metrics, ModeMatch, ProviderRef, TagOperation, TagSource as Source,
    TelemetrySpec, Tracing as TracingSpec, WorkloadMode,
};
use config::{
    AccessLog, Cluster, Direction, Filter, Label, Listener, LogFilter, Metric, MetricRule, Name, Share, SpanTag,
    TagSource, Tracing, UpstreamProtocol,
};
use words::{Diagnostic, Fingerprint, Labels, Origin};

use crate::mesh::{Collector, MeshConfig};
use crate::notes::Notes;
use crate::scope::{Role, Scope};
use crate::service::Age;
use crate::world::World;
use crate::{cluster, expression, kubernetes};

/// The cluster of the collector.
pub(crate) const COLLECTOR: &str = "otlp-collector";
/// Istio's provider of access logs that needs no declaration.
pub(crate) const ENVOY: &str = "envoy";
/// The provider of spans that `--tracing-otlp` declares.
pub(crate) const OTEL: &str = "otel";
/// Istio's provider of metrics.
const PROMETHEUS: &str = "prometheus";
/// Where `envoy` writes when no file is named.
const STDOUT: &str = "/dev/stdout";

/// A Telemetry by itself.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others.
    pub(crate) age: Age,
    /// Whom it is for within its namespace; `None` for all.
    pub(crate) selector: Option<Labels>,
    /// It names targets that a mesh of sidecars does not have.
    targeted: bool,
    tracing: Vec<Said<Traced>>,
    logging: Vec<Said<Logged>>,
    metrics: Vec<Said<MetricRule>>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// A block, and whom it is for.
#[derive(Debug, Hash)]
struct Said<T> {
    mode: WorkloadMode,
    block: T,
}

/// What one block says of spans; `None`: nothing.
#[derive(Clone, Debug, Hash)]
struct Traced {
    /// There is a collector of the name that is asked for.
    known: bool,
    sampling: Option<Share>,
    disabled: Option<bool>,
    by_request_id: Option<bool>,
    istio_tags: Option<bool>,
    tags: Option<Vec<SpanTag>>,
}

/// What one block says of access logs.
#[derive(Clone, Debug, Hash)]
struct Logged {
    /// Those it names that exist; `None`: it names none, and is for those of the level before.
    providers: Option<Vec<String>>,
    disabled: Option<bool>,
    filter: Option<LogFilter>,
}

/// Lowers a Telemetry.
pub(crate) fn lower(origin: Origin, age: Age, spec: &TelemetrySpec, mesh: &MeshConfig) -> Telemetry {
    let TelemetrySpec { selector, target_ref, target_refs, tracing, metrics, access_logging } = spec;
    let mut notes = Notes::about(&origin);
    notes.not_obeyed(target_ref.is_some(), || "spec.targetRef".into());
    notes.not_obeyed(!target_refs.is_empty(), || "spec.targetRefs".into());
    let selector = selector.as_ref().map(|selector| selector.match_labels.clone()).filter(|labels| !labels.is_empty());
    let tracing = tracing.iter().enumerate();
    let tracing =
        tracing.map(|(index, one)| traced(&format!("spec.tracing[{index}]"), one, mesh, &mut notes)).collect();
    let logging = access_logging.iter().enumerate();
    let logging = logging
        .filter_map(|(index, one)| logged(&format!("spec.accessLogging[{index}]"), one, mesh, &mut notes))
        .collect();
    let mut changed = Vec::new();
    for (index, one) in metrics.iter().enumerate() {
        measured(&format!("spec.metrics[{index}]"), one, &mut notes, &mut changed);
    }
    let targeted = target_ref.is_some() || !target_refs.is_empty();
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, &selector, targeted, &tracing, &logging, &changed, &diagnostics));
    Telemetry { origin, age, selector, targeted, tracing, logging, metrics: changed, diagnostics, print }
}

fn mode(matches: Option<&ModeMatch>) -> WorkloadMode {
    matches.and_then(|matches| matches.mode).unwrap_or_default()
}

fn names(providers: &[ProviderRef]) -> impl Iterator<Item = &str> {
    providers.iter().map(|provider| provider.name.as_deref().unwrap_or_default())
}

fn traced(field: &str, spec: &TracingSpec, mesh: &MeshConfig, notes: &mut Notes) -> Said<Traced> {
    notes.not_obeyed(spec.disable_context_propagation == Some(true), || format!("{field}.disableContextPropagation"));
    let mut known = true;
    // At most one counts (V-108).
    if let Some(name) = names(&spec.providers).next() {
        known = name == OTEL && mesh.collector.is_some();
        if !known {
            let message = format!("no provider of spans is called {name:?}; {}", declared(mesh));
            notes.ignored(format!("{field}.providers[0].name"), message);
        }
    }
    let sampling = spec.random_sampling_percentage.and_then(|percent| {
        let read = Share::percent(percent);
        if read.is_none() {
            notes.ignored(format!("{field}.randomSamplingPercentage"), format!("{percent} is not within 0 to 100"));
        }
        read
    });
    let tags: Vec<SpanTag> =
        spec.custom_tags.iter().filter_map(|(name, tag)| span_tag(field, name, tag, notes)).collect();
    let block = Traced {
        known,
        sampling,
        disabled: spec.disable_span_reporting,
        by_request_id: spec.use_request_id_for_trace_sampling,
        istio_tags: spec.enable_istio_tags,
        tags: (!spec.custom_tags.is_empty()).then_some(tags),
    };
    Said { mode: mode(spec.matches.as_ref()), block }
}

fn declared(mesh: &MeshConfig) -> &'static str {
    match mesh.collector {
        Some(_) => "the mesh declares \"otel\"",
        None => "the mesh declares none (--tracing-otlp)",
    }
}

fn span_tag(field: &str, name: &str, tag: &CustomTag, notes: &mut Notes) -> Option<SpanTag> {
    let field = format!("{field}.customTags.{name}");
    let named = |source: &Source| {
        let name = source.name.clone().filter(|name| !name.is_empty())?;
        Some((name, source.default_value.clone().unwrap_or_default()))
    };
    let source = match tag {
        CustomTag { literal: Some(literal), environment: None, header: None, formatter: None } => {
            literal.value.clone().filter(|value| !value.is_empty()).map(TagSource::Literal)
        }
        CustomTag { literal: None, environment: Some(one), header: None, formatter: None } => {
            named(one).map(|(name, default)| TagSource::Environment(name, default))
        }
        CustomTag { literal: None, environment: None, header: Some(one), formatter: None } => {
            named(one).map(|(name, default)| TagSource::Header(name.to_ascii_lowercase(), default))
        }
        CustomTag { literal: None, environment: None, header: None, formatter: Some(_) } => {
            notes.not_obeyed(true, || format!("{field}.formatter"));
            return None;
        }
        _ => None,
    };
    let Some(source) = source else {
        notes.ignored(field, "exactly one of literal, environment and header is needed, and not empty");
        return None;
    };
    Some(SpanTag { name: name.to_owned(), source })
}

// A block whose filter is not understood is left out: half of a condition would log too much or too little.
fn logged(field: &str, spec: &AccessLogging, mesh: &MeshConfig, notes: &mut Notes) -> Option<Said<Logged>> {
    let mut known = Vec::new();
    for (index, name) in names(&spec.providers).enumerate() {
        if name == ENVOY || mesh.log_providers.contains_key(name) {
            known.push(name.to_owned());
        } else {
            let message = format!(
                "no provider of access logs is called {name:?}; there are \"envoy\" and those of --access-log-provider"
            );
            notes.ignored(format!("{field}.providers[{index}].name"), message);
        }
    }
    let filter = match spec.filter.as_ref().and_then(|filter| filter.expression.as_deref()) {
        None | Some("") => None,
        Some(text) => match expression::condition(text) {
            Ok(filter) => Some(filter),
            Err(reason) => {
                let message = format!("{text:?}: {reason}; the block is left out");
                notes.ignored(format!("{field}.filter.expression"), message);
                return None;
            }
        },
    };
    let providers = (!spec.providers.is_empty()).then_some(known);
    Some(Said { mode: mode(spec.matches.as_ref()), block: Logged { providers, disabled: spec.disabled, filter } })
}

// Adds what a block changes, in its order.
fn measured(field: &str, spec: &Metrics, notes: &mut Notes, changed: &mut Vec<Said<MetricRule>>) {
    notes.not_obeyed(spec.reporting_interval.is_some(), || format!("{field}.reportingInterval"));
    let unknown = names(&spec.providers).enumerate().find(|(_, name)| *name != PROMETHEUS);
    if let Some((index, name)) = unknown {
        let message = format!("no provider of metrics is called {name:?}; there is \"prometheus\"");
        notes.ignored(format!("{field}.providers[{index}].name"), message);
        if spec.providers.len() == 1 {
            return;
        }
    }
    for (index, one) in spec.overrides.iter().enumerate() {
        let field = format!("{field}.overrides[{index}]");
        let matches = one.matches.as_ref();
        let metric = match matches.and_then(|matches| matches.metric) {
            None | Some(IstioMetric::AllMetrics) => None,
            Some(IstioMetric::RequestCount) => Some(Metric::Requests),
            Some(IstioMetric::RequestDuration) => Some(Metric::Duration),
            Some(IstioMetric::RequestSize) => Some(Metric::RequestBytes),
            Some(IstioMetric::ResponseSize) => Some(Metric::ResponseBytes),
            Some(_) => {
                notes.not_obeyed(true, || format!("{field}.match.metric"));
                continue;
            }
        };
        if matches.is_some_and(|matches| matches.custom_metric.is_some()) {
            notes.not_obeyed(true, || format!("{field}.match.customMetric"));
            continue;
        }
        let mut labels = BTreeMap::new();
        for (name, tag) in &one.tag_overrides {
            let text = tag.value.as_deref().unwrap_or_default();
            match (tag.operation.unwrap_or_default(), Label::parse(text)) {
                (TagOperation::Remove, _) => drop(labels.insert(name.clone(), None)),
                _ if !is_label(name) => notes.ignored(format!("{field}.tagOverrides.{name}"), "not a label's name"),
                (TagOperation::Upsert, Some(label)) => drop(labels.insert(name.clone(), Some(label))),
                (TagOperation::Upsert, None) => {
                    let message = format!("{text:?} is not understood; the label stays as it is");
                    notes.ignored(format!("{field}.tagOverrides.{name}.value"), message);
                }
            }
        }
        let mode = matches.and_then(|matches| matches.mode).unwrap_or_default();
        changed.push(Said { mode, block: MetricRule { metric, dropped: one.disabled, labels } });
    }
}

// As Prometheus has them.
fn is_label(name: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') && name.chars().all(is_part)
}

/// What a proxy tells of its traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Effective {
    /// Outbound and at gateways.
    pub(crate) client: Side,
    /// Inbound.
    pub(crate) server: Side,
}

/// What a proxy tells of one side of its traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Side {
    tracing: Option<Tracing>,
    logs: Vec<AccessLog>,
    metrics: Vec<MetricRule>,
}

impl Effective {
    /// Of a proxy; `labels` are those of its pod.
    pub(crate) fn of(scope: &Scope, labels: &Labels, world: &World) -> Self {
        let levels = levels(scope, labels, world);
        let side = |wanted: WorkloadMode| {
            let says = |mode: WorkloadMode| mode == WorkloadMode::ClientAndServer || mode == wanted;
            let tracing = levels.iter().filter_map(|one| one.tracing.iter().find(|said| says(said.mode)));
            let tracing = tracing.map(|said| &said.block).collect::<Vec<_>>();
            let logging = levels.iter().flat_map(|one| one.logging.iter().filter(|said| says(said.mode)));
            let logging = logging.map(|said| &said.block).collect::<Vec<_>>();
            let metrics = levels.iter().flat_map(|one| one.metrics.iter().filter(|said| says(said.mode)));
            let metrics = metrics.map(|said| said.block.clone()).collect();
            let mesh = world.mesh();
            Side { tracing: tracing_of(&tracing, scope, labels, mesh), logs: logs_of(&logging, mesh), metrics }
        };
        Self { client: side(WorkloadMode::Client), server: side(WorkloadMode::Server) }
    }

    /// Some spans go to the collector.
    pub(crate) fn traces(&self) -> bool {
        self.client.tracing.is_some() || self.server.tracing.is_some()
    }

    /// Has a listener tell what is to be told.
    pub(crate) fn put(&self, listener: &mut Listener) {
        let side = match listener.direction {
            Direction::Inbound => &self.server,
            Direction::Outbound => &self.client,
        };
        for chain in listener.chains.iter_mut().chain(&mut listener.default_chain) {
            match &mut chain.filter {
                Filter::Tcp(tcp) => tcp.access_log.clone_from(&side.logs),
                Filter::Http(http) => {
                    http.access_log.clone_from(&side.logs);
                    http.tracing.clone_from(&side.tracing);
                    http.metrics.clone_from(&side.metrics);
                }
            }
        }
    }
}

// The objects that count for a proxy, the weakest first.
fn levels<'a>(scope: &Scope, labels: &Labels, world: &'a World) -> Vec<&'a Arc<Telemetry>> {
    let root = world.mesh().root_namespace.as_str();
    let mut found: [Option<&Arc<Telemetry>>; 3] = [None; 3];
    for one in world.telemetries().filter(|one| !one.targeted) {
        let namespace = &*one.origin.namespace;
        let level = match &one.selector {
            None if namespace == root => 0,
            None if namespace == scope.namespace => 1,
            Some(selector) if namespace == scope.namespace && words::labels_select(selector, labels) => 2,
            _ => continue,
        };
        if found[level].is_none_or(|other| one.age < other.age) {
            found[level] = Some(one);
        }
    }
    found.into_iter().flatten().collect()
}

fn tracing_of(blocks: &[&Traced], scope: &Scope, labels: &Labels, mesh: &MeshConfig) -> Option<Tracing> {
    let collector = mesh.collector.as_ref()?;
    let last = |of: fn(&Traced) -> Option<bool>| blocks.iter().rev().find_map(|block| of(block));
    if last(|block| block.disabled) == Some(true) || blocks.last().is_some_and(|block| !block.known) {
        return None;
    }
    let who = kubernetes::workload(scope.name.clone(), &scope.namespace, labels, mesh);
    let mut tags: BTreeMap<String, TagSource> = BTreeMap::new();
    if last(|block| block.istio_tags) != Some(false) {
        let literals = [
            ("istio.canonical_service", &who.canonical_name),
            ("istio.canonical_revision", &who.canonical_revision),
            ("istio.mesh_id", &mesh.domain),
            ("istio.cluster_id", &scope.cluster_id),
            ("istio.namespace", &who.namespace),
        ];
        let said = literals.into_iter().filter(|(_, value)| !value.is_empty());
        tags.extend(said.map(|(name, value)| (name.to_owned(), TagSource::Literal(value.clone()))));
    }
    let own = blocks.iter().rev().find_map(|block| block.tags.as_ref()).into_iter().flatten();
    tags.extend(own.map(|tag| (tag.name.clone(), tag.source.clone())));
    Some(Tracing {
        collector: COLLECTOR.into(),
        authority: collector.host.clone(),
        service_name: format!("{}.{}", who.canonical_name, who.namespace),
        sampling: blocks.iter().rev().find_map(|block| block.sampling).unwrap_or(mesh.sampling),
        by_request_id: last(|block| block.by_request_id) != Some(false),
        upstream_spans: scope.role == Role::Gateway,
        tags: tags.into_iter().map(|(name, source)| SpanTag { name, source }).collect(),
    })
}

fn logs_of(blocks: &[&Logged], mesh: &MeshConfig) -> Vec<AccessLog> {
    // By provider: is it off, and its filter.
    let mut current: Vec<(String, bool, Option<LogFilter>)> =
        mesh.access_log.iter().map(|_| (ENVOY.to_owned(), false, None)).collect();
    for block in blocks {
        let named = match &block.providers {
            None => current.iter().map(|(name, ..)| name.clone()).collect(),
            Some(named) => named.clone(),
        };
        for name in named {
            let known = current.iter().position(|(other, ..)| *other == name);
            let at = known.unwrap_or_else(|| {
                current.push((name, false, None));
                current.len() - 1
            });
            let Some((_, off, filter)) = current.get_mut(at) else { continue };
            *off = block.disabled.unwrap_or(*off && known.is_some() && block.providers.is_none());
            if block.filter.is_some() {
                filter.clone_from(&block.filter);
            }
        }
    }
    let on = current.into_iter().filter(|(_, off, _)| !off);
    on.filter_map(|(name, _, filter)| Some(AccessLog { filter, ..provider(&name, mesh)? })).collect()
}

fn provider(name: &str, mesh: &MeshConfig) -> Option<AccessLog> {
    if let Some(log) = mesh.log_providers.get(name) {
        return Some(log.clone());
    }
    let stdout = || AccessLog { path: STDOUT.into(), format: config::AccessLogFormat::Default, filter: None };
    (name == ENVOY).then(|| mesh.access_log.clone().unwrap_or_else(stdout))
}

/// The cluster of the collector: HTTP/2, by address or by name.
pub(crate) fn collector(collector: &Collector, mesh: &MeshConfig) -> Cluster {
    let whole = cluster::outside(Name::from(COLLECTOR), &collector.host, collector.port, mesh.connect_timeout);
    Cluster { protocol: UpstreamProtocol::Http2, ..whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh() -> MeshConfig {
        let collector = Some(Collector { host: "collector.example".into(), port: 4317 });
        let log = |path: &str| AccessLog { path: path.into(), format: config::AccessLogFormat::Default, filter: None };
        let log_providers = BTreeMap::from([("errors".to_owned(), log("/tmp/errors"))]);
        MeshConfig { collector, log_providers, access_log: Some(log("/tmp/all")), ..MeshConfig::default() }
    }

    fn telemetry(namespace: &str, spec: serde_json::Value) -> Telemetry {
        let spec: TelemetrySpec = serde_json::from_value(spec).unwrap();
        let age = (String::new(), "it".into(), namespace.into());
        lower(Origin::new("Telemetry", namespace, "it"), age, &spec, &mesh())
    }

    fn tracing(specs: &[serde_json::Value]) -> Option<Tracing> {
        let all: Vec<Telemetry> = specs.iter().map(|spec| telemetry("default", spec.clone())).collect();
        let blocks: Vec<&Traced> = all.iter().flat_map(|one| one.tracing.iter().map(|said| &said.block)).collect();
        let scope = Scope::parse("sidecar~10.0.0.1~web-1.default~default.svc.cluster.local", &serde_json::json!({}));
        tracing_of(&blocks, &scope.unwrap(), &Labels::from([("app".into(), "web".into())]), &mesh())
    }

    fn logs(specs: &[serde_json::Value]) -> Vec<(String, bool)> {
        let all: Vec<Telemetry> = specs.iter().map(|spec| telemetry("default", spec.clone())).collect();
        let blocks: Vec<&Logged> = all.iter().flat_map(|one| one.logging.iter().map(|said| &said.block)).collect();
        logs_of(&blocks, &mesh()).into_iter().map(|log| (log.path, log.filter.is_some())).collect()
    }

    #[test]
    fn te01_a_nearer_level_says_what_it_says_and_inherits_the_rest() {
        let far = serde_json::json!({"tracing": [{"randomSamplingPercentage": 10, "customTags": {"a": {"literal": {"value": "far"}}}}]});
        let near = serde_json::json!({"tracing": [{"customTags": {"b": {"literal": {"value": "near"}}}, "enableIstioTags": false}]});
        let made = tracing(&[far.clone(), near]).unwrap();
        assert_eq!(made.sampling, Share::percent(10.0).unwrap());
        assert_eq!(made.service_name, "web.default");
        assert_eq!(made.tags, [SpanTag { name: "b".into(), source: TagSource::Literal("near".into()) }]);
        let off = serde_json::json!({"tracing": [{"disableSpanReporting": true}]});
        assert_eq!(tracing(&[far.clone(), off]), None);
        assert_eq!(tracing(&[]).unwrap().sampling, Share::percent(1.0).unwrap());
        assert!(tracing(&[far]).unwrap().tags.iter().any(|tag| tag.name == "istio.canonical_service"));
    }

    #[test]
    fn te01_access_logs_by_provider() {
        let all = ("/tmp/all".to_owned(), false);
        assert_eq!(logs(&[]), vec![all.clone()]);
        assert_eq!(logs(&[serde_json::json!({"accessLogging": [{"disabled": true}]})]), []);
        let errors = serde_json::json!({"accessLogging": [{"providers": [{"name": "errors"}], "filter": {"expression": "response.code >= 500"}}]});
        assert_eq!(logs(std::slice::from_ref(&errors)), [all.clone(), ("/tmp/errors".into(), true)]);
        let off = serde_json::json!({"accessLogging": [{"providers": [{"name": "errors"}], "disabled": true}]});
        assert_eq!(logs(&[errors, off]), [all]);
    }

    #[test]
    fn te01_unknown_names_and_conditions_are_named() {
        let found = |spec| telemetry("default", spec).diagnostics.iter().map(ToString::to_string).collect::<String>();
        let unknown = found(serde_json::json!({"tracing": [{"providers": [{"name": "zipkin"}]}]}));
        assert!(unknown.contains("spec.tracing[0].providers[0].name") && unknown.contains("zipkin"), "{unknown}");
        let condition = found(serde_json::json!({"accessLogging": [{"filter": {"expression": "size(x) > 1"}}]}));
        assert!(condition.contains("spec.accessLogging[0].filter.expression"), "{condition}");
        assert!(found(serde_json::json!({"targetRefs": [{"kind": "Gateway", "name": "a"}]})).contains("SLU0100"));
    }
}
