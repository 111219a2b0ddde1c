//! Answers to questions, from the loop's own state.

use std::sync::Arc;
use std::time::Instant;

use api::{Kind, Object, ObjectKey};
use serde_json::{Value, json};
use words::Severity;
use xds::TypeUrl;

use crate::control::Control;
use crate::debug;
use crate::event::{About, Answer};
use crate::peers;
use crate::progress::Stand;
use crate::proxies::{self, Proxy};
use crate::webhook;

impl Control {
    pub(crate) fn answer(&self, about: &About, now: Instant) -> Answer {
        match about {
            About::Ready => match self.missing() {
                None => Answer::of(200, json!("ready\n")),
                Some(reason) => Answer::of(503, json!(format!("not ready: {reason}\n"))),
            },
            About::Syncz => Answer::of(200, self.syncz(now)),
            About::World => self.world_dump(),
            About::Diagnostics => {
                let found = self.all_diagnostics();
                Answer { status: 200, body: Box::new(move || json!(found)) }
            }
            About::Progress { from: Some(address), .. } if !self.replicas.has(&self.objects, *address) => {
                Answer::of(403, json!(format!("{address} is the address of no replica of this control plane\n")))
            }
            About::Progress { of, .. } => Answer::of(200, self.progress_of(of)),
            About::ConfigDump(name) => match proxies::find(&self.proxies, name) {
                Some(proxy) => {
                    let (compiled, layers) = (proxy.compiled.clone(), proxy.layers.clone());
                    Answer { status: 200, body: Box::new(move || debug::config_dump(&compiled, &layers)) }
                }
                None => {
                    let known: Vec<&str> = self.proxies.values().map(|proxy| proxy.name.as_str()).collect();
                    let text = format!("no proxy {name:?} is connected; connected are: {}\n", known.join(", "));
                    Answer::of(404, json!(text))
                }
            },
        }
    }

    /// What a webhook needs to know around an object.
    pub(crate) fn known(&self, ask: &webhook::Ask) -> webhook::Known {
        let namespace = ObjectKey::new(Kind::Namespace, "", &ask.namespace);
        let labels = self.objects.get(&namespace).map(|object| object.metadata().labels.clone());
        let root = &self.world().mesh().root_namespace;
        let is_config = |key: &ObjectKey| {
            key.kind == Kind::ProxyConfig && (*key.namespace == *ask.namespace || *key.namespace == **root)
        };
        let of = |wanted: &dyn Fn(&ObjectKey) -> bool| {
            self.objects.iter().filter(|(key, _)| wanted(key)).map(|(_, object)| object.clone()).collect()
        };
        let others = if ask.wants_others { of(&|key| webhook::is_referred(key.kind)) } else { Vec::new() };
        webhook::Known { synced: self.is_synced(), labels, configs: of(&is_config), others }
    }

    fn syncz(&self, now: Instant) -> Value {
        self.proxies.values().map(|proxy| syncz_of(proxy, &self.replicas.me, now)).collect()
    }

    fn progress_of(&self, asked: &[Option<(ObjectKey, i64)>]) -> Value {
        let stand = |one: &Option<(ObjectKey, i64)>| {
            let known = one.as_ref().zip(self.reporting.as_ref());
            known.map_or_else(Stand::default, |((key, generation), all)| all.progress.stand(key, *generation))
        };
        asked.iter().map(|one| peers::to_json(&stand(one))).collect()
    }

    fn world_dump(&self) -> Answer {
        let objects: Vec<Arc<Object>> = self.objects.values().cloned().collect();
        let (found, synced) = (self.all_diagnostics(), self.is_synced());
        let body = move || {
            let objects: Vec<Value> = objects.iter().map(|object| json!(object.as_ref())).collect();
            let errors = found.iter().filter(|found| found.severity == Severity::Error).count();
            json!({"synced": synced, "objects": objects, "errors": errors, "diagnostics": found})
        };
        Answer { status: 200, body: Box::new(body) }
    }
}

fn syncz_of(proxy: &Proxy, identity: &str, now: Instant) -> Value {
    let status = proxy.status.read();
    let resources = TypeUrl::ALL.into_iter().zip(&status).filter(|(_, status)| status.subscribed);
    let resources = resources.map(|(kind, status)| {
        let ago = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at).as_secs());
        let one = json!({
            "synced": status.is_synced(), "held": status.held,
            "sent": status.sent_nonce, "sent_seconds_ago": ago(status.sent_at),
            "acked": status.acked_nonce, "acked_seconds_ago": ago(status.acked_at),
            "latency_microseconds": status.latency_us, "last_error": status.last_error,
        });
        (kind.short().to_owned(), one)
    });
    let resources: serde_json::Map<String, Value> = resources.collect();
    // Istio's own field names, beside the map: Kiali and older tools read them.
    let nonce = |kind: TypeUrl, sent: bool| {
        let status = &status[kind.index()];
        if sent { status.sent_nonce.clone() } else { status.acked_nonce.clone() }
    };
    json!({
        "proxy": proxy.name, "node": proxy.node_id, "cluster_id": proxy.scope.cluster_id,
        "proxy_type": format!("{:?}", proxy.scope.role).to_lowercase(), "proxy_version": proxy.version,
        "istio_version": proxy.version, "control_plane": identity,
        "protocol": format!("{:?}", proxy.mode).to_lowercase(),
        "connected_seconds": now.saturating_duration_since(proxy.connected_at).as_secs(),
        "cluster_sent": nonce(TypeUrl::Cluster, true), "cluster_acked": nonce(TypeUrl::Cluster, false),
        "listener_sent": nonce(TypeUrl::Listener, true), "listener_acked": nonce(TypeUrl::Listener, false),
        "route_sent": nonce(TypeUrl::Route, true), "route_acked": nonce(TypeUrl::Route, false),
        "endpoint_sent": nonce(TypeUrl::Endpoints, true), "endpoint_acked": nonce(TypeUrl::Endpoints, false),
        "resources": resources,
    })
}
