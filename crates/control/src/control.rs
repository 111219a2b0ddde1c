//! The loop's state and what each event does to it. No IO: what must happen outside is a value sent to a channel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use api::{Change, Kind, Object, ObjectKey};
use compile::{Compiler, Dirty, MeshConfig, Scope, SecretsRight, World};
use tokio::sync::watch as watch_channel;
use watch::kubernetes::Reference;
use words::{Diagnostic, Severity, SpiffeId};
use xds::Target;
use xds::grpc::{StreamEvent, StreamId, Wish};

use crate::authenticate::Caller;
use crate::authorise;
use crate::layers::Layers;
use crate::leader::share;
use crate::lifetime::Lifetimes;
use crate::metrics::{Metrics, OfSeverity, OfType};
use crate::proxies::{Line, Proxies, Proxy};
use crate::replicas::Replicas;
use crate::reporter::AT_ONCE;
use crate::reporting::{Reporting, Work};
use crate::rights::Rights;
use crate::secure::Secure;

/// Everything the control plane knows.
pub(crate) struct Control {
    world: World,
    compiler: Compiler,
    layers: Layers,
    pub(crate) proxies: Proxies,
    trust: Trust,
    /// Objects as they were given, for `/debug/world`.
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// What sources could not read, and what files say.
    findings: BTreeMap<watch::event::Scope, Vec<Diagnostic>>,
    /// What the objects say when they are put together; made anew when somebody looks.
    synced: bool,
    /// Since when a change waits to be published.
    dirty_since: Option<Instant>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) replicas: Replicas,
    said: Vec<Diagnostic>,
    /// For the status of objects; `None` when there is no API server.
    pub(crate) reporting: Option<Reporting>,
    /// When streams end.
    pub(crate) lifetimes: Lifetimes,
}

/// What the loop knows of identities.
pub(crate) struct Trust {
    /// Secrets are served to who is not authenticated, too.
    pub(crate) serves_secrets: bool,
    /// What the secure ports serve with, if there are any.
    pub(crate) secure: Option<Secure>,
    /// Who of those that are authenticated may hold Secrets.
    pub(crate) rights: Rights,
    /// The namespaces there are: each gets the roots.
    pub(crate) namespaces: watch_channel::Sender<BTreeSet<Arc<str>>>,
}

impl Trust {
    fn right_of(&self, caller: Option<&Caller>) -> SecretsRight {
        match caller {
            _ if self.serves_secrets => SecretsRight::Granted,
            None => SecretsRight::Unknown,
            Some(caller) if self.rights.of(&caller.id) == Some(true) => SecretsRight::Granted,
            Some(_) => SecretsRight::Denied,
        }
    }
}

impl Control {
    pub(crate) fn new(mesh: MeshConfig, trust: Trust, metrics: Arc<Metrics>, replicas: Replicas) -> Self {
        Self {
            world: World::new(mesh),
            compiler: Compiler::default(),
            layers: Layers::default(),
            trust,
            proxies: Proxies::new(),
            objects: BTreeMap::new(),
            findings: BTreeMap::new(),
            synced: false,
            dirty_since: None,
            metrics,
            replicas,
            said: Vec::new(),
            reporting: None,
            lifetimes: Lifetimes::new(None),
        }
    }

    /// Everything that was applied.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// True once the source has given a whole world. Nothing is published before.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// What a proxy has to wait for; `None` once it can be served.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let has_authority = self.trust.secure.as_ref().is_none_or(|secure| secure.serving().is_some());
        if self.lifetimes.is_stopping() {
            return Some("it is stopping");
        }
        match (self.synced, has_authority) {
            (false, _) => Some("the source has not given a whole world yet"),
            (true, false) => Some("there is no certificate authority yet"),
            (true, true) => None,
        }
    }

    /// True when a change waits to be published.
    pub(crate) fn is_dirty(&self) -> bool {
        self.synced && self.dirty_since.is_some()
    }

    pub(crate) fn on_source(&mut self, event: watch::Event, now: Instant) {
        match event {
            watch::Event::Batch(changes) => changes.into_iter().for_each(|change| self.apply(change, now)),
            watch::Event::Diagnostics { scope, list } => {
                list.iter().filter(|found| found.severity > Severity::Info).for_each(log);
                if list.is_empty() && self.findings.remove(&scope).is_some() {
                    tracing::info!("nothing more is to be said about {scope}");
                } else if !list.is_empty() {
                    self.findings.insert(scope.clone(), list);
                }
                if let (Some(reporting), watch::event::Scope::Object(key)) = (&mut self.reporting, scope) {
                    reporting.mark(key, !self.synced, now);
                }
            }
            watch::Event::Seen(key, seen) => {
                if let Some(reporting) = &mut self.reporting {
                    reporting.see(key, seen, !self.synced, now);
                }
            }
            watch::Event::Synced => {
                tracing::info!(objects = self.objects.len(), "the world is complete");
                self.synced = true;
                self.dirty_since.get_or_insert(now);
            }
            watch::Event::SourceState { connected, message } => {
                self.metrics.source_connected.set(connected.into());
                match connected {
                    true => tracing::info!("the source is connected"),
                    false => tracing::warn!("the source is not reachable, the last state stays: {message}"),
                }
            }
        }
    }

    fn apply(&mut self, change: Change, now: Instant) {
        self.metrics.changes.inc();
        self.note_namespace(&change);
        match &change {
            Change::Upsert(object) => {
                self.objects.insert(object.key(), object.clone());
                if let Some(reporting) = self.reporting.as_mut().filter(|_| object.kind().is_custom()) {
                    reporting.progress.introduce(object.key(), object.metadata().generation);
                }
            }
            Change::Delete(key) => {
                self.objects.remove(key);
            }
        }
        if self.world.apply(change) != Dirty::None {
            self.dirty_since.get_or_insert(now);
        }
    }

    fn note_namespace(&self, change: &Change) {
        let (key, is_there) = match change {
            Change::Upsert(object) => (object.key(), true),
            Change::Delete(key) => (key.clone(), false),
        };
        if key.kind == Kind::Namespace {
            self.trust.namespaces.send_if_modified(|all| match is_there {
                true => all.insert(key.name.clone()),
                false => all.remove(&key.name),
            });
        }
    }

    pub(crate) fn on_stream(&mut self, event: StreamEvent, now: Instant) {
        match event {
            StreamEvent::Connected { id, node, mode, wish, status, head } => {
                let metadata = codec::node::metadata(&node);
                let caller = head.extensions.get::<Arc<Caller>>().cloned();
                match self.admit(&node.id, &metadata, caller.as_deref()) {
                    Ok(scope) => {
                        let version = metadata["ISTIO_VERSION"].as_str().unwrap_or_default();
                        let version = version.chars().take(VERSION_CHARS_MAX).collect();
                        let proxy = Proxy::new(scope, node.id, version, Line { mode, wish, status, caller }, now);
                        self.connect(id, proxy, now);
                    }
                    Err(reason) => {
                        self.metrics.refused.inc();
                        tracing::warn!(node = node.id, "refused: {reason}");
                        wish.send_replace(Wish::Refuse(reason.into()));
                    }
                }
            }
            StreamEvent::Disconnected { id } => {
                if let Some(proxy) = self.let_go(id, now) {
                    tracing::info!(proxy = proxy.name, "disconnected");
                }
            }
            StreamEvent::Sent { id, kind, bytes } => {
                self.metrics.pushes.get_or_create(&OfType::new(kind)).inc();
                self.metrics.push_bytes.get_or_create(&OfType::new(kind)).inc_by(bytes as u64);
                if let Some(proxy) = self.proxies.get_mut(&id) {
                    proxy.unanswered += 1;
                }
            }
            StreamEvent::Acked { id, kind: _, latency_us: _ } => self.answered(id, now),
            StreamEvent::Settled { id, version } => {
                if let Some(reporting) = &mut self.reporting {
                    reporting.progress.settle(id, &version, now);
                }
            }
            StreamEvent::Nacked { id, kind, error, .. } => {
                self.metrics.rejects.inc();
                if let Some(proxy) = self.proxies.get(&id) {
                    tracing::error!(proxy = proxy.name, kind = kind.short(), "refused, it keeps what it had: {error}");
                    if let Some(reporting) = &mut self.reporting {
                        let refused = reporting.progress.refuse(id, &error);
                        reporting.blame(&refused, &proxy.name, &error);
                    }
                }
                self.answered(id, now);
            }
        }
    }

    fn answered(&mut self, id: StreamId, now: Instant) {
        let Some(proxy) = self.proxies.get_mut(&id) else { return };
        proxy.unanswered = proxy.unanswered.saturating_sub(1);
        if proxy.unanswered == 0
            && let Some(since) = proxy.waiting_since.take()
        {
            self.metrics.convergence_seconds.observe(now.saturating_duration_since(since).as_secs_f64());
        }
    }

    // Who has shown who it is may say nothing else.
    fn admit(&self, node_id: &str, metadata: &serde_json::Value, caller: Option<&Caller>) -> Result<Scope, String> {
        let scope = Scope::parse(node_id, metadata).map_err(|error| error.to_string())?;
        if let Some(caller) = caller {
            let admitted = authorise::node(&scope, node_id, metadata, caller);
            let admitted = admitted.and_then(|()| self.check_number(&scope, caller));
            admitted.inspect_err(|words| self.tell_owner(&scope, caller, words))?;
        }
        Ok(Scope { secrets: self.trust.right_of(caller), ..scope })
    }

    /// A service account has got or lost the right to hold Secrets.
    pub(crate) fn on_rights(&mut self, now: Instant) {
        for proxy in self.proxies.values_mut() {
            let Some(caller) = proxy.caller.as_deref().filter(|caller| self.trust.rights.of(&caller.id).is_some())
            else {
                continue;
            };
            let right = self.trust.right_of(Some(caller));
            if proxy.scope.secrets != right {
                proxy.scope.secrets = right;
                self.dirty_since.get_or_insert(now);
            }
        }
    }

    /// Whether anything runs as this identity; `None` while the world is not complete.
    pub(crate) fn runs(&self, id: &SpiffeId) -> Option<bool> {
        self.synced.then(|| self.world.has_workload_of(&id.namespace, &id.service_account))
    }

    // A proxy has one stream, and one more for a moment while it goes elsewhere.
    fn check_number(&self, scope: &Scope, caller: &Caller) -> Result<(), String> {
        let is_same = |proxy: &&Proxy| {
            proxy.scope.name == scope.name && proxy.caller.as_ref().is_some_and(|other| other.id == caller.id)
        };
        match self.proxies.values().filter(is_same).count() {
            count if count < STREAMS_MAX => Ok(()),
            count => Err(format!("{count} streams of {} with the identity {} are enough", scope.name, caller.id)),
        }
    }

    // The proxy is told and says so in its log; whoever looks at its pod shall see it, too. A certificate names no pod: the
    // claimed one counts if it could be the caller's.
    fn tell_owner(&self, scope: &Scope, caller: &Caller, words: &str) {
        let Some(reporting) = &self.reporting else { return };
        if let Some(pod) = caller.pod_reference().or_else(|| self.claimed_pod(scope, caller)) {
            reporting.recorder.warn(&pod, "ProxyRefused", words);
        }
    }

    fn claimed_pod(&self, scope: &Scope, caller: &Caller) -> Option<Reference> {
        let namespace = &caller.id.namespace;
        if !self.world.runs_as(namespace, &scope.name, &caller.id.service_account) {
            return None;
        }
        let key = ObjectKey::new(Kind::Pod, namespace, &scope.name);
        let uid = self.objects.get(&key)?.metadata().uid.to_string();
        let (namespace, name) = (namespace.clone(), scope.name.clone());
        Some(Reference { api_version: "v1".into(), kind: "Pod".into(), namespace, name, uid })
    }

    fn connect(&mut self, id: StreamId, proxy: Proxy, now: Instant) {
        if self.lifetimes.is_stopping() || !self.synced {
            // Another replica can serve it; without its wish the stream ends (UNAVAILABLE).
            return tracing::debug!(proxy = proxy.name, "not now");
        }
        self.lifetimes.begin(id, now, share());
        tracing::info!(proxy = proxy.name, mode = ?proxy.mode, "connected");
        self.metrics.connected.inc();
        let name = proxy.name.clone();
        self.proxies.insert(id, proxy);
        let told = self.publish_to(id, now);
        if let Some(reporting) = &mut self.reporting {
            let version = if let Told::Target(version) = told { version } else { String::new() };
            reporting.progress.connect(id, &name, version, now);
        }
    }

    // Without its wish the stream ends, if it has not: UNAVAILABLE, and the proxy goes to any replica.
    fn let_go(&mut self, id: StreamId, now: Instant) -> Option<Proxy> {
        self.lifetimes.forget(id);
        let proxy = self.proxies.remove(&id)?;
        self.metrics.connected.dec();
        if let Some(reporting) = &mut self.reporting {
            reporting.progress.disconnect(id, now);
        }
        Some(proxy)
    }

    /// Takes no new stream from now on, and ends those that there are one after the other.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.lifetimes.stop(self.proxies.keys().copied(), now, share);
    }

    /// True when the program may end.
    pub(crate) fn has_stopped(&self, now: Instant) -> bool {
        self.lifetimes.has_stopped(now)
    }

    /// Compiles the world for every connected proxy and tells those for which something changed.
    pub(crate) fn publish(&mut self, now: Instant) {
        let Some(since) = self.dirty_since.take() else { return };
        let ids: Vec<StreamId> = self.proxies.keys().copied().collect();
        let (mut touched, mut held_back) = (Vec::new(), Vec::new());
        for id in ids {
            match self.publish_to(id, since) {
                Told::Nothing => {}
                Told::Target(version) => touched.push((id, version)),
                Told::HeldBack(reason) => held_back.push((self.proxies[&id].name.clone(), reason)),
            }
        }
        self.layers.sweep();
        self.say_what_is_new();
        if let Some(reporting) = &mut self.reporting {
            reporting.progress.publish(&touched, &held_back, since, Instant::now());
            let layers: BTreeMap<*const compile::Layer, &Arc<compile::Layer>> =
                self.proxies.values().flat_map(|proxy| &proxy.compiled).map(|one| (Arc::as_ptr(one), one)).collect();
            let of_layers = layers.values().flat_map(|layer| &layer.diagnostics);
            reporting.find(self.said.iter().chain(of_layers), now);
        }
        self.metrics.compile_seconds.observe(now.elapsed().as_secs_f64());
    }

    fn publish_to(&mut self, id: StreamId, since: Instant) -> Told {
        let Some(proxy) = self.proxies.get_mut(&id) else { return Told::Nothing };
        let compiled = self.compiler.compile(&self.world, &proxy.scope).layers;
        let mut layers = Vec::with_capacity(compiled.len());
        for (index, layer) in compiled.iter().enumerate() {
            match self.layers.publish(layer, &compiled[..index], proxy.options) {
                Ok(layer) => layers.push(layer),
                Err(problems) => {
                    self.metrics.unpublished.inc();
                    for problem in problems.iter() {
                        tracing::error!(
                            proxy = proxy.name,
                            "not published, the last good configuration stays: {problem}"
                        );
                    }
                    let reason = problems.first().map(ToString::to_string).unwrap_or_default();
                    return Told::HeldBack(reason);
                }
            }
        }
        let same =
            layers.len() == proxy.layers.len() && layers.iter().zip(&proxy.layers).all(|(a, b)| Arc::ptr_eq(a, b));
        proxy.compiled = compiled;
        if same {
            return Told::Nothing;
        }
        proxy.layers.clone_from(&layers);
        proxy.waiting_since.get_or_insert(since);
        let target = Target { layers };
        let version = target.version();
        // The stream may have ended a moment ago; its Disconnected is on the way.
        proxy.wish.send_replace(Wish::Hold(target));
        Told::Target(version)
    }

    /// What is due without anything having happened. Call it when nothing waits to be published.
    pub(crate) fn follow_up(&mut self, now: Instant) {
        while let Some(id) = self.lifetimes.take(now) {
            if let Some(proxy) = self.let_go(id, now) {
                tracing::info!(proxy = proxy.name, "sent away, to whichever replica");
            }
        }
        let Some(reporting) = self.reporting.as_mut().filter(|_| self.synced) else { return };
        if self.dirty_since.is_none() && reporting.progress.has_fresh() {
            reporting.progress.nothing_to_publish(now);
        }
        reporting.progress.tick(now);
        reporting.follow_progress(now);
    }

    /// When [`Control::follow_up`] has something to do.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let progress = self.reporting.as_ref().and_then(|reporting| reporting.progress.deadline());
        progress.into_iter().chain(self.lifetimes.deadline(now)).min()
    }

    /// Statuses that may have to be written, for the replica that leads.
    pub(crate) fn work(&mut self, now: Instant) -> Work {
        let Some(reporting) = &mut self.reporting else { return Work::default() };
        let findings = &self.findings;
        let of_source = |key: &ObjectKey| {
            findings.get(&watch::event::Scope::Object(key.clone())).into_iter().flatten().cloned().collect()
        };
        let drafts = reporting.drafts(AT_ONCE, now, of_source);
        Work { drafts, peers: self.replicas.peers(&self.objects) }
    }

    /// Every finding: what sources could not read, what objects say when put together, what only one proxy shows.
    pub(crate) fn all_diagnostics(&self) -> Vec<Diagnostic> {
        let mut all: Vec<Diagnostic> = self.findings.values().flatten().cloned().collect();
        if self.synced {
            all.extend(self.compiler.diagnostics(&self.world));
            for layer in self.proxies.values().flat_map(|proxy| &proxy.compiled) {
                all.extend(layer.diagnostics.iter().cloned());
            }
        }
        all.sort();
        all.dedup();
        all
    }

    // Each finding is logged when it appears, once.
    fn say_what_is_new(&mut self) {
        let now = self.compiler.diagnostics(&self.world);
        now.iter().filter(|found| found.severity > Severity::Info && !self.said.contains(found)).for_each(log);
        self.said = now;
        for severity in [Severity::Info, Severity::Warning, Severity::Error] {
            let count = self.said.iter().filter(|found| found.severity == severity).count();
            let label = OfSeverity { severity: severity.to_string().to_lowercase() };
            self.metrics.diagnostics.get_or_create(&label).set(count as i64);
        }
        let count = |kinds: &[Kind]| self.objects.keys().filter(|key| kinds.contains(&key.kind)).count() as i64;
        self.metrics.services.set(count(&[Kind::Service, Kind::ServiceEntry]));
        self.metrics.virtual_services.set(count(&[Kind::VirtualService]));
    }
}

/// Streams of one pod and identity at a time.
const STREAMS_MAX: usize = 16;
/// Characters of a proxy's version.
const VERSION_CHARS_MAX: usize = 64;

/// What a publication meant to one proxy.
enum Told {
    /// It holds this already.
    Nothing,
    /// A new target, of this version.
    Target(String),
    /// The check refuses what was compiled; for this reason.
    HeldBack(String),
}

fn log(found: &Diagnostic) {
    match found.severity {
        Severity::Error => tracing::error!("{found}"),
        Severity::Warning => tracing::warn!("{found}"),
        Severity::Info => tracing::info!("{found}"),
    }
}
