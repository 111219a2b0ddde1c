//! The replicas of the control plane, by their pods: whom to ask, and who may ask us.
//!
//! In: objects. Out: addresses. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::kubernetes::PodCondition;
use api::{Kind, Object, ObjectKey};

/// Replicas that are asked.
const PEERS_MAX: usize = 16;

/// Another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) http: SocketAddr,
}

/// Where they are, and which is this one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replicas {
    /// The namespace they run in, which need not be the mesh's root namespace.
    pub(crate) namespace: String,
    /// The name of this one.
    pub(crate) me: String,
    /// Where they serve their pages.
    pub(crate) http_port: u16,
}

/// The objects among which their pods are.
type Objects = BTreeMap<ObjectKey, Arc<Object>>;

impl Replicas {
    /// The other ones that are ready.
    pub(crate) fn peers(&self, objects: &Objects) -> Vec<Peer> {
        let others = self.pods(objects).filter(|(name, _, is_ready)| *is_ready && *name != self.me);
        let peers = others.map(|(name, ip, _)| Peer { name: name.into(), http: SocketAddr::new(ip, self.http_port) });
        peers.take(PEERS_MAX).collect()
    }

    /// True for the address of any of them: one that leads may have ceased to be ready.
    pub(crate) fn has(&self, objects: &Objects, address: IpAddr) -> bool {
        self.pods(objects).any(|(_, ip, _)| ip == address)
    }

    // Name, address, whether it is ready.
    fn pods<'a>(&'a self, objects: &'a Objects) -> impl Iterator<Item = (&'a str, IpAddr, bool)> {
        let all = objects.range(ObjectKey::new(Kind::Pod, &self.namespace, "")..);
        let here = all.take_while(|(key, _)| key.kind == Kind::Pod && *key.namespace == *self.namespace);
        here.filter_map(|(key, object)| {
            let Object::Pod(pod) = object.as_ref() else { return None };
            pod.metadata.labels.get("app").filter(|app| *app == "sluiced")?;
            let is_ready = |one: &PodCondition| one.condition == "Ready" && one.status == "True";
            let ip = pod.spec.status.pod_ip.parse().ok()?;
            Some((&*key.name, ip, pod.spec.status.conditions.iter().any(is_ready)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(pods: &[(&str, &str, &str, &str)]) -> Objects {
        let one = |(namespace, name, ip, ready): &(&str, &str, &str, &str)| {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: sluiced}}}}\n\
                 status: {{podIP: {ip}, conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
            );
            let object = api::parse::parse_yaml(&text, "pods.yaml").remove(0).unwrap().object.unwrap();
            (object.key(), Arc::new(object))
        };
        pods.iter().map(one).collect()
    }

    // As `helm install -n mesh` with rootNamespace istio-system.
    #[test]
    fn replicas_are_where_the_release_is() {
        let all = objects(&[
            ("istio-system", "other", "10.0.0.9", "True"),
            ("mesh", "a", "10.0.0.1", "True"),
            ("mesh", "b", "10.0.0.2", "True"),
            ("mesh", "c", "10.0.0.3", "False"),
        ]);
        let replicas = Replicas { namespace: "mesh".into(), me: "a".into(), http_port: 15014 };
        let peer = Peer { name: "b".into(), http: "10.0.0.2:15014".parse().unwrap() };
        assert_eq!(replicas.peers(&all), [peer]);
        let known = |ip: &str| replicas.has(&all, ip.parse().unwrap());
        assert!(known("10.0.0.2") && known("10.0.0.3") && !known("10.0.0.9"));
    }
}
