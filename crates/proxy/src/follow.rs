//! Following the control plane: responses in, plans out; acknowledged when they are obeyed, refused with reasons.
//!
//! What was accepted last stays until something better comes: a resource that cannot be obeyed, a snapshot that does not
//! pass the check, a control plane that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use codec::{Decoded, ResourceKind};
use config::{
    Cluster, Discovery, Endpoints, Filter, Listener, NAME_TABLE, Name, NameTable, RouteSource, RouteTable, Secret,
    Snapshot, VirtualHost,
};
use tokio::time::Instant;
use xds::TypeUrl;
use xds::client::{Update, Upsert};

use crate::own::OwnSecrets;
use crate::tls;

/// How long a listener or cluster is held back for a secret that nobody answers about. A control plane of ours says at
/// once that there is none.
const SECRET_WAIT: Duration = Duration::from_secs(5);

/// Everything that was accepted, by type and name.
#[derive(Default)]
pub struct Holdings {
    clusters: BTreeMap<Name, Arc<Cluster>>,
    endpoints: BTreeMap<Name, Arc<Endpoints>>,
    listeners: BTreeMap<Name, Arc<Listener>>,
    /// The control plane has said which listeners there are, even if none: a gateway without rules is ready too.
    pub knows_listeners: bool,
    tables: BTreeMap<Name, Held>,
    /// By `<table>/<host>`.
    hosts: BTreeMap<Name, Arc<VirtualHost>>,
    names: Option<Arc<NameTable>>,
    /// We answer DNS questions, so names are wanted.
    wants_names: bool,
    /// `None`: there is none, or nobody answers. What is wanted and not here is waited for.
    secrets: BTreeMap<Name, Option<Arc<Secret>>>,
    /// Those that nobody is asked for.
    own: OwnSecrets,
    /// Secrets that are waited for, and since when.
    awaited: BTreeMap<Name, Instant>,
    /// Version of each resource, for `config_dump`.
    pub versions: BTreeMap<(TypeUrl, Name), String>,
}

struct Held {
    table: Arc<RouteTable>,
    vhds: bool,
}

impl Holdings {
    /// Nothing yet. `wants_names`: we answer DNS questions.
    pub fn new(wants_names: bool) -> Self {
        Self { wants_names, ..Self::default() }
    }

    /// Takes the secrets that we have of our own.
    pub fn take_own(&mut self, own: OwnSecrets) {
        self.own = own;
    }

    /// Takes an update; why some of it was not accepted, in words.
    pub fn take(&mut self, update: &Update) -> Vec<String> {
        let Some(kind) = resource_kind(update.kind) else { return Vec::new() };
        let mut refused = Vec::new();
        for Upsert { name, version, body } in &update.upserts {
            match read(kind, name, body) {
                Ok(decoded) => {
                    self.insert(name.as_str().into(), decoded);
                    self.versions.insert((update.kind, name.as_str().into()), version.clone());
                }
                Err(reason) => {
                    if update.kind == TypeUrl::Secret {
                        // Answered: nobody waits for it, and the one from before goes on.
                        self.secrets.entry(name.as_str().into()).or_insert(None);
                    }
                    refused.push(reason);
                }
            }
        }
        for name in &update.removed {
            self.remove(update.kind, name);
        }
        if matches!(update.kind, TypeUrl::Cluster | TypeUrl::Listener) {
            self.forget_secrets();
        }
        self.knows_listeners |= update.kind == TypeUrl::Listener && refused.is_empty();
        refused
    }

    fn insert(&mut self, name: Name, decoded: Decoded) {
        match decoded {
            Decoded::Cluster(cluster) => {
                self.clusters.insert(name, Arc::new(cluster));
            }
            Decoded::Endpoints(endpoints) => {
                self.endpoints.insert(name, Arc::new(endpoints));
            }
            Decoded::Listener(listener) => {
                self.listeners.insert(name, Arc::new(listener));
            }
            Decoded::Route { table, vhds } => {
                self.tables.insert(name.clone(), Held { table: Arc::new(table), vhds });
                self.gather(&name);
            }
            Decoded::NameTable(table) => self.names = Some(Arc::new(table)),
            Decoded::Secret(secret) => {
                self.secrets.insert(name, Some(Arc::new(secret)));
            }
            Decoded::VirtualHost(host) => {
                let table: Option<Name> = name.split_once('/').map(|(table, _)| table.into());
                self.hosts.insert(name, Arc::new(host));
                if let Some(table) = table {
                    self.gather(&table);
                }
            }
        }
    }

    fn remove(&mut self, kind: TypeUrl, name: &str) {
        self.versions.remove(&(kind, name.into()));
        match kind {
            TypeUrl::Cluster => drop(self.clusters.remove(name)),
            TypeUrl::Endpoints => drop(self.endpoints.remove(name)),
            TypeUrl::Listener => drop(self.listeners.remove(name)),
            TypeUrl::Route => drop(self.tables.remove(name)),
            TypeUrl::VirtualHost => {
                self.hosts.remove(name);
                if let Some((table, _)) = name.split_once('/') {
                    self.gather(table);
                }
            }
            TypeUrl::NameTable => self.names = None,
            // As in Envoy: a certificate that is gone at its source still serves those who name it.
            TypeUrl::Secret => _ = self.secrets.entry(name.into()).or_insert(None),
            TypeUrl::ExtensionConfig => {}
        }
    }

    // Puts the virtual hosts that travel on their own into their table.
    fn gather(&mut self, table: &str) {
        let Some(held) = self.tables.get_mut(table).filter(|held| held.vhds) else { return };
        let prefix = format!("{table}/");
        let from = self.hosts.range::<str, _>((std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded));
        let hosts: Vec<_> =
            from.take_while(|(name, _)| name.starts_with(&prefix)).map(|(_, host)| host.clone()).collect();
        let RouteTable { name, ignore_port, virtual_hosts: _ } = held.table.as_ref();
        held.table = Arc::new(RouteTable { name: name.clone(), ignore_port: *ignore_port, virtual_hosts: hosts });
    }

    /// The names of a type that are needed by what is held.
    pub fn wanted(&self, kind: TypeUrl) -> BTreeSet<String> {
        match kind {
            TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::ExtensionConfig => BTreeSet::new(),
            TypeUrl::NameTable => self.wants_names.then(|| NAME_TABLE.to_owned()).into_iter().collect(),
            TypeUrl::Secret => self.secret_names().map(ToString::to_string).collect(),
            TypeUrl::Endpoints => self
                .clusters
                .values()
                .filter_map(|cluster| match &cluster.discovery {
                    Discovery::Eds(name) => Some(name.to_string()),
                    _ => None,
                })
                .collect(),
            TypeUrl::Route => {
                self.listeners.values().flat_map(|listener| tables_of(listener)).map(|name| name.to_string()).collect()
            }
            TypeUrl::VirtualHost => {
                self.tables.iter().filter(|(_, held)| held.vhds).map(|(name, _)| name.to_string()).collect()
            }
        }
    }

    fn all_secret_names(&self) -> impl Iterator<Item = &Name> {
        let listeners = self.listeners.values().flat_map(|listener| listener.secrets());
        listeners.chain(self.clusters.values().flat_map(|cluster| cluster.secrets()))
    }

    // Those that are asked for.
    fn secret_names(&self) -> impl Iterator<Item = &Name> {
        self.all_secret_names().filter(|name| !config::is_own_secret(name))
    }

    // Whatever is needed of our own is here.
    fn has_own(&self) -> bool {
        let mut own = self.all_secret_names().filter(|name| config::is_own_secret(name));
        own.all(|name| self.own.contains_key(name))
    }

    // Keys that nobody names are not kept.
    fn forget_secrets(&mut self) {
        if self.secrets.is_empty() && self.awaited.is_empty() {
            return;
        }
        let named: BTreeSet<Name> = self.secret_names().cloned().collect();
        self.secrets.retain(|name, _| named.contains(name));
        self.awaited.retain(|name, _| named.contains(name));
    }

    /// When to stop waiting for the secret that was waited for longest.
    pub fn gives_up_at(&self) -> Option<Instant> {
        self.awaited.values().min().map(|since| *since + SECRET_WAIT)
    }

    /// Goes on without secrets that did not come.
    pub fn give_up(&mut self, now: Instant) {
        let late: Vec<Name> = self
            .awaited
            .iter()
            .filter(|(_, since)| now >= **since + SECRET_WAIT)
            .map(|(name, _)| name.clone())
            .collect();
        for name in late {
            tracing::warn!(secret = &*name, "the control plane does not answer; going on without");
            self.secrets.insert(name, None);
        }
    }

    /// What can be obeyed now: listeners whose tables and secrets are here, clusters whose endpoints and secrets are here.
    /// What waits for a secret stays as it is in `obeyed`, the last of these. The second value is true when nothing is
    /// waited for.
    pub fn snapshot(&mut self, obeyed: &Snapshot, now: Instant) -> (Snapshot, bool) {
        let unanswered: Vec<Name> =
            self.secret_names().filter(|name| !self.secrets.contains_key(*name)).cloned().collect();
        self.awaited.retain(|name, _| unanswered.contains(name));
        let mut snapshot = Snapshot { names: self.names.clone(), ..Snapshot::default() };
        // Without its certificate a proxy of the mesh can only refuse: it is not ready.
        let mut whole = unanswered.is_empty() && self.has_own();
        for name in unanswered {
            self.awaited.entry(name).or_insert(now);
        }
        for (name, cluster) in &self.clusters {
            let newest = if self.is_answered(cluster.secrets()) { Some(cluster) } else { obeyed.clusters.get(name) };
            let Some(cluster) = newest else { continue };
            if let Discovery::Eds(service) = &cluster.discovery {
                let Some(endpoints) = self.endpoints.get(service) else {
                    whole = false;
                    continue;
                };
                snapshot.endpoints.insert(service.clone(), endpoints.clone());
            }
            snapshot.clusters.insert(name.clone(), cluster.clone());
        }
        for (name, listener) in &self.listeners {
            let newest = if self.is_answered(listener.secrets()) { Some(listener) } else { obeyed.listeners.get(name) };
            let Some(listener) = newest else { continue };
            let tables: Option<Vec<_>> = tables_of(listener).map(|name| self.table(name)).collect();
            let Some(tables) = tables else {
                whole = false;
                continue;
            };
            snapshot.routes.extend(tables.into_iter().map(|table| (table.name.clone(), table)));
            snapshot.listeners.insert(name.clone(), listener.clone());
        }
        let held = self.secrets.iter().filter_map(|(name, secret)| Some((name.clone(), secret.clone()?)));
        snapshot.secrets = held.chain(self.own.iter().map(|(name, secret)| (name.clone(), secret.clone()))).collect();
        (snapshot, whole)
    }

    fn is_answered<'a>(&self, mut names: impl Iterator<Item = &'a Name>) -> bool {
        names.all(|name| self.secrets.contains_key(name) || config::is_own_secret(name))
    }

    // A table whose hosts travel on their own is here once one of them is: a table without hosts answers nothing.
    fn table(&self, name: &Name) -> Option<Arc<RouteTable>> {
        let held = self.tables.get(name)?;
        (!held.vhds || !held.table.virtual_hosts.is_empty()).then(|| held.table.clone())
    }
}

fn tables_of(listener: &Listener) -> impl Iterator<Item = &Name> {
    listener.all_chains().filter_map(|chain| match &chain.filter {
        Filter::Http(http) => match &http.routes {
            RouteSource::Rds(name) => Some(name),
            RouteSource::Inline(_) => None,
        },
        Filter::Tcp(_) => None,
    })
}

// `None` for types that we never ask for.
fn read(kind: ResourceKind, name: &str, body: &[u8]) -> Result<Decoded, String> {
    let (decoded, notes) = codec::decode(kind, name, body).map_err(|rejected| rejected.to_string())?;
    if let Decoded::Secret(secret) = &decoded {
        tls::check(&secret.content).map_err(|reason| format!("secret {name:?}: {reason}"))?;
    }
    for note in notes {
        tracing::warn!(resource = name, "{note}");
    }
    Ok(decoded)
}

fn resource_kind(kind: TypeUrl) -> Option<ResourceKind> {
    Some(match kind {
        TypeUrl::Cluster => ResourceKind::Cluster,
        TypeUrl::Endpoints => ResourceKind::Endpoints,
        TypeUrl::Listener => ResourceKind::Listener,
        TypeUrl::Route => ResourceKind::Route,
        TypeUrl::VirtualHost => ResourceKind::VirtualHost,
        TypeUrl::NameTable => ResourceKind::NameTable,
        TypeUrl::Secret => ResourceKind::Secret,
        TypeUrl::ExtensionConfig => return None,
    })
}

#[cfg(test)]
mod tests {
    use config::{SecretContent, Source};

    use super::*;

    const NAME: &str = "kubernetes://shop-cert";

    fn update(chain: &str, key: &str) -> Update {
        let inline = |text: &str| Source::Inline(text.as_bytes().into());
        let content = SecretContent::Certificate { chain: inline(chain), key: inline(key) };
        let secret = Arc::new(Secret { name: NAME.into(), content });
        let snapshot = Snapshot { secrets: BTreeMap::from([(NAME.into(), secret)]), ..Snapshot::default() };
        let encoded = codec::Encoder::default().snapshot(&snapshot, codec::Options::default());
        let upsert = |one: &codec::Encoded| Upsert {
            name: one.name.to_string(),
            version: one.version.clone(),
            body: one.body.clone(),
        };
        let upserts = encoded.iter().map(|one| upsert(one)).collect();
        Update { kind: TypeUrl::Secret, nonce: "1".into(), upserts, removed: Vec::new() }
    }

    #[test]
    fn r44_a_secret_that_cannot_be_used_is_refused_and_the_one_before_goes_on() {
        let make = || identity::Authority::create("cluster.local", std::time::SystemTime::now()).unwrap();
        let ((chain, key), (_, other)) = (make(), make());
        let mut holdings = Holdings::new(false);
        let held = |holdings: &Holdings| holdings.secrets.get(NAME).cloned();
        let refused = holdings.take(&update(&chain, &other));
        assert!(refused[0].contains(NAME) && refused[0].contains("not that of the certificate"), "{refused:?}");
        assert_eq!(held(&holdings), Some(None), "answered, and nobody waits");
        assert_eq!(holdings.take(&update(&chain, &key)), Vec::<String>::new());
        let good = held(&holdings);
        assert!(matches!(good, Some(Some(_))));
        assert_eq!(holdings.take(&update(&chain, "no key")).len(), 1);
        assert_eq!(held(&holdings), good);
        assert!(!refused[0].contains("PRIVATE KEY"));
    }
}
