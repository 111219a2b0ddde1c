//! A plan: a snapshot made ready to be obeyed. Immutable, shared by all workers.
//!
//! In: snapshots, one after the other. Out: plans that reuse what did not change. Names become numbers ("slots") that
//! stay the same for as long as the process lives, so that a request never looks a name up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use balance::{Detector, HostSet, Limits, Shape};
use config::{
    Cluster, Direction, Discovery, Endpoints, Filter, FilterChain, HttpManager, Listener, Name, RouteSource, Snapshot,
};
use http::HeaderValue;
use routing::Router;
use rustc_hash::FxHashSet;
use words::Origin;

use crate::cluster::socket;
use crate::guard::Guard;
use crate::metric_labels::Changes;
use crate::tls::{self, ClientTls, Materials, ServerTls};
use crate::trace::Tracer;

/// A snapshot, ready.
#[derive(Default)]
pub struct Plan {
    /// Counts plans.
    pub generation: u64,
    /// What it was made of.
    pub snapshot: Arc<Snapshot>,
    /// Listeners by slot.
    pub listeners: Vec<Option<Arc<ListenerPlan>>>,
    /// Listeners that take over connections by their original destination.
    pub by_destination: BTreeMap<SocketAddr, usize>,
    /// Clusters by slot.
    pub clusters: Vec<Option<Arc<ClusterPlan>>>,
    /// Token buckets of rate limits.
    pub buckets: crate::rate_limit::ByName,
}

/// A listener, ready.
pub struct ListenerPlan {
    /// Its slot.
    pub slot: usize,
    /// What the snapshot says.
    pub config: Arc<Listener>,
    /// Chains, the default one last.
    pub chains: Vec<ChainPlan>,
    /// True when the last chain is the default one.
    pub has_default: bool,
    /// The first bytes must be looked at before a chain can be chosen.
    pub sniffs: bool,
}

/// A filter chain, ready.
pub enum ChainPlan {
    /// HTTP.
    Http(Arc<HttpPlan>),
    /// Bytes: the clusters and their shares, summed up.
    Tcp(Arc<TcpPlan>),
}

/// An HTTP connection manager, ready.
pub struct HttpPlan {
    /// Whose traffic it is.
    pub direction: Direction,
    /// What the snapshot says.
    pub manager: HttpManager,
    /// TLS that is terminated first.
    pub tls: Option<Arc<ServerTls>>,
    /// Its routes.
    pub router: Arc<Router>,
    /// The `server` header, when it is to be overwritten.
    pub server: Option<HeaderValue>,
    /// Access logs, compiled.
    pub logs: Vec<Arc<crate::access_log::Format>>,
    /// Who makes spans.
    pub tracer: Option<Arc<Tracer>>,
    /// What is different of the metrics.
    pub changes: Option<Changes>,
    /// What is looked at before a request is routed; `None`: nothing.
    pub guard: Option<Box<Guard>>,
}

/// A TCP proxy, ready.
pub struct TcpPlan {
    /// Whose traffic it is.
    pub direction: Direction,
    /// What the snapshot says.
    pub config: config::TcpProxy,
    /// The object behind the chain.
    pub origin: Option<Origin>,
    /// TLS that is terminated first.
    pub tls: Option<Arc<ServerTls>>,
    /// Sum of weights up to each cluster, and its slot.
    pub shares: Vec<(u32, u32)>,
    /// Access logs, compiled.
    pub logs: Vec<Arc<crate::access_log::Format>>,
}

/// A cluster, ready.
pub struct ClusterPlan {
    /// What the snapshot says.
    pub config: Arc<Cluster>,
    /// Its hosts.
    pub hosts: Arc<HostSet>,
    /// TLS to its hosts.
    pub tls: Option<Arc<ClientTls>>,
    /// The hosts that it is for; `None`: all of them.
    pub secured: Option<FxHashSet<SocketAddr>>,
    /// Its bounds, shared by the workers and kept over updates.
    pub limits: Arc<Limits>,
    /// Which hosts are left alone for now; shared and kept likewise.
    pub outlier: Option<Arc<Detector>>,
}

impl ChainPlan {
    /// TLS that is terminated before anything else.
    pub fn tls(&self) -> Option<&Arc<ServerTls>> {
        match self {
            Self::Http(http) => http.tls.as_ref(),
            Self::Tcp(tcp) => tcp.tls.as_ref(),
        }
    }
}

impl ClusterPlan {
    /// What connections to a host are made with; `None` is plaintext.
    pub fn tls_to(&self, host: SocketAddr) -> Option<&Arc<ClientTls>> {
        let is_secured = |_: &&Arc<ClientTls>| self.secured.as_ref().is_none_or(|secured| secured.contains(&host));
        self.tls.as_ref().filter(is_secured)
    }

    /// Tells connections to a host apart by what they are made with; 0 is plaintext.
    pub fn era(&self, host: SocketAddr) -> u64 {
        self.tls_to(host).map_or(0, |tls| tls.era)
    }
}

/// Makes plans, and remembers the last one.
#[derive(Default)]
pub struct Planner {
    listener_slots: BTreeMap<Name, usize>,
    cluster_slots: BTreeMap<Name, u32>,
    routers: BTreeMap<Name, Arc<Router>>,
    last: Arc<Plan>,
    /// What resolvers found, by cluster.
    resolved: BTreeMap<Name, Arc<HostSet>>,
    materials: Materials,
    extra_log: Option<Arc<crate::access_log::Format>>,
}

impl Planner {
    /// A planner; `extra_log` is written by every chain that has no log of its own.
    pub fn new(extra_log: Option<Arc<crate::access_log::Format>>) -> Self {
        Self { extra_log, ..Self::default() }
    }

    /// Makes a plan of a snapshot that passed the check.
    ///
    /// # Errors
    /// A sentence that names the resource that cannot be obeyed.
    pub fn plan(&mut self, snapshot: Arc<Snapshot>) -> Result<Arc<Plan>, String> {
        let mut plan = Plan { generation: self.last.generation + 1, snapshot: snapshot.clone(), ..Plan::default() };
        self.materials = tls::materials(&snapshot.secrets, &self.materials);
        let mut routers = BTreeMap::new();
        for (name, table) in &snapshot.routes {
            let known = self.routers.get(name).filter(|router| Arc::ptr_eq(router.table(), table)).cloned();
            let router = match known {
                Some(router) => router,
                None => self.router(table.clone())?,
            };
            routers.insert(name.clone(), router);
        }
        self.routers = routers;
        for (name, listener) in &snapshot.listeners {
            let count = self.listener_slots.len();
            let slot = *self.listener_slots.entry(name.clone()).or_insert(count);
            let kept = self.last.listeners.get(slot).and_then(Option::as_ref);
            let ready = match kept.filter(|kept| Arc::ptr_eq(&kept.config, listener) && self.is_as_planned(kept)) {
                Some(kept) => kept.clone(),
                None => Arc::new(self.listener(slot, listener)?),
            };
            if plan.listeners.len() <= slot {
                plan.listeners.resize_with(slot + 1, || None);
            }
            if !listener.bind_to_port {
                plan.by_destination.extend(listener.addresses().map(|address| (address, slot)));
            }
            plan.listeners[slot] = Some(ready);
        }
        for (name, cluster) in &snapshot.clusters {
            let slot = self.cluster_slot(name) as usize;
            let ready = self.cluster(slot, cluster, &snapshot);
            if plan.clusters.len() <= slot {
                plan.clusters.resize_with(slot + 1, || None);
            }
            plan.clusters[slot] = Some(ready);
        }
        plan.buckets = crate::rate_limit::buckets(&snapshot, &self.last.buckets);
        let plan = Arc::new(plan);
        self.last = plan.clone();
        Ok(plan)
    }

    /// Takes what a resolver found for a cluster; used from the next plan on.
    pub fn resolved(&mut self, cluster: Name, hosts: Arc<HostSet>) {
        self.resolved.insert(cluster, hosts);
    }

    fn cluster_slot(&mut self, name: &Name) -> u32 {
        let count = self.cluster_slots.len() as u32;
        *self.cluster_slots.entry(name.clone()).or_insert(count)
    }

    fn router(&mut self, table: Arc<config::RouteTable>) -> Result<Arc<Router>, String> {
        let name = table.name.clone();
        let router = Router::new(table, &mut |cluster| self.cluster_slot(cluster));
        router.map(Arc::new).map_err(|error| format!("route table {name:?}: {error}"))
    }

    /// True when a file with a key or certificate is not as it was when the last plan was made.
    pub fn has_stale_files(&self) -> bool {
        tls::any_stale(&self.materials)
    }

    /// True when there are files to look at.
    pub fn has_files(&self) -> bool {
        tls::any_files(&self.materials)
    }

    // The listener is the same; its tables and secrets may not be.
    fn is_as_planned(&self, listener: &ListenerPlan) -> bool {
        let mut secured = listener.chains.iter().filter_map(ChainPlan::tls);
        secured.all(|tls| tls.is_as_in(&self.materials)) && self.routers_are_those_of(listener)
    }

    fn routers_are_those_of(&self, listener: &ListenerPlan) -> bool {
        listener.chains.iter().all(|chain| match chain {
            ChainPlan::Tcp(_) => true,
            ChainPlan::Http(http) => match &http.manager.routes {
                RouteSource::Inline(_) => true,
                RouteSource::Rds(name) => {
                    self.routers.get(name).is_some_and(|router| Arc::ptr_eq(router, &http.router))
                }
            },
        })
    }

    fn listener(&mut self, slot: usize, listener: &Arc<Listener>) -> Result<ListenerPlan, String> {
        let mut chains = Vec::new();
        for chain in listener.all_chains() {
            let tls = chain.tls.as_ref().map(|tls| Arc::new(ServerTls::new(tls, &self.materials)));
            let ready = self.chain(listener, chain, tls);
            chains
                .push(ready.map_err(|error| format!("listener {:?} chain {:?}: {error}", listener.name, chain.name))?);
        }
        let looks = |chain: &config::FilterChain| {
            let matches = &chain.matches;
            matches.transport != config::TransportMatch::Any
                || !matches.application_protocols.is_empty()
                || !matches.server_names.is_empty()
        };
        let sniffs = listener.chains.iter().any(looks);
        Ok(ListenerPlan {
            slot,
            config: listener.clone(),
            chains,
            has_default: listener.default_chain.is_some(),
            sniffs,
        })
    }

    fn chain(
        &mut self,
        listener: &Listener,
        chain: &FilterChain,
        tls: Option<Arc<ServerTls>>,
    ) -> Result<ChainPlan, String> {
        let direction = listener.direction;
        match &chain.filter {
            Filter::Tcp(tcp) => {
                let mut sum = 0_u32;
                let many: Vec<(Name, u32)> = match &tcp.cluster {
                    config::ClusterChoice::One(name) => vec![(name.clone(), 1)],
                    config::ClusterChoice::Weighted(many) => {
                        many.iter().map(|one| (one.cluster.clone(), one.weight)).collect()
                    }
                };
                let mut share = |(name, weight): (Name, u32)| {
                    sum = sum.saturating_add(weight);
                    (sum, self.cluster_slot(&name))
                };
                let shares = many.into_iter().map(&mut share).collect();
                let logs = self.logs(&tcp.access_log);
                Ok(ChainPlan::Tcp(Arc::new(TcpPlan {
                    direction,
                    config: tcp.clone(),
                    origin: chain.origin.clone(),
                    tls,
                    shares,
                    logs,
                })))
            }
            Filter::Http(manager) => {
                let router = match &manager.routes {
                    RouteSource::Inline(table) => self.router(table.clone())?,
                    RouteSource::Rds(name) => {
                        self.routers.get(name).cloned().ok_or_else(|| format!("no route table {name:?}"))?
                    }
                };
                let server = match &manager.server_header {
                    config::ServerHeader::Overwrite(name) => HeaderValue::from_str(name).ok(),
                    config::ServerHeader::PassThrough => None,
                };
                let logs = self.logs(&manager.access_log);
                let tracer = manager.tracing.as_ref().map(|tracing| {
                    let slot = self.cluster_slot(&tracing.collector);
                    Arc::new(Tracer::new(tracing, slot, direction))
                });
                Ok(ChainPlan::Http(Arc::new(HttpPlan {
                    tracer,
                    guard: Guard::new(manager, &mut |cluster| self.cluster_slot(cluster)),
                    changes: Changes::new(&manager.metrics),
                    direction,
                    manager: manager.clone(),
                    tls,
                    router,
                    server,
                    logs,
                })))
            }
        }
    }

    fn logs(&self, logs: &[config::AccessLog]) -> Vec<Arc<crate::access_log::Format>> {
        match logs.is_empty() {
            true => self.extra_log.iter().cloned().collect(),
            false => logs.iter().map(|log| Arc::new(crate::access_log::Format::new(log))).collect(),
        }
    }

    fn cluster(&self, slot: usize, cluster: &Arc<Cluster>, snapshot: &Snapshot) -> Arc<ClusterPlan> {
        let last = self.last.clusters.get(slot).and_then(Option::as_ref);
        let given: Option<&Endpoints> = match &cluster.discovery {
            Discovery::Eds(name) => snapshot.endpoints.get(name).map(Arc::as_ref),
            Discovery::Static(endpoints) => Some(endpoints),
            Discovery::StrictDns(_) | Discovery::LogicalDns(_) | Discovery::OriginalDst | Discovery::Dynamic(_) => None,
        };
        let shape = Shape::of(cluster);
        let hosts = match given {
            Some(endpoints) => {
                let before = last.filter(|last| last.hosts.shape() == shape).filter(|last| {
                    let eds = |one: &Cluster, all: &Snapshot| match &one.discovery {
                        Discovery::Eds(name) => all.endpoints.get(name).cloned(),
                        _ => None,
                    };
                    let (was, is) = (eds(&last.config, &self.last.snapshot), eds(cluster, snapshot));
                    matches!((was, is), (Some(was), Some(is)) if Arc::ptr_eq(&was, &is))
                });
                before.map_or_else(|| Arc::new(HostSet::new(endpoints, shape)), |last| last.hosts.clone())
            }
            None => match self.resolved.get(&cluster.name) {
                Some(hosts) if hosts.shape() == shape => hosts.clone(),
                // Found for another choice; the resolver finds them anew.
                Some(hosts) => Arc::new(hosts.reshaped(shape)),
                None => Arc::default(),
            },
        };
        let secured = last.and_then(|last| last.tls.as_ref());
        let is_secured = secured.is_none_or(|tls| tls.is_as_in(&self.materials));
        if let Some(last) = last
            && Arc::ptr_eq(&last.config, cluster)
            && Arc::ptr_eq(&last.hosts, &hosts)
            && is_secured
        {
            return last.clone();
        }
        // Settings that stay keep their connections.
        let stays = last.is_some_and(|last| last.config.tls == cluster.tls && last.config.protocol == cluster.protocol)
            && is_secured;
        let tls = match (&cluster.tls, secured.filter(|_| stays)) {
            (None, _) => None,
            (Some(_), Some(kept)) => Some(kept.clone()),
            (Some(tls), None) => Some(Arc::new(ClientTls::new(tls, cluster.protocol, &self.materials))),
        };
        let limits = match last {
            Some(last) if last.config.thresholds == cluster.thresholds => last.limits.clone(),
            Some(last) => Arc::new(last.limits.with(&cluster.thresholds)),
            None => Arc::new(Limits::new(&cluster.thresholds)),
        };
        let outlier = cluster.outlier.as_ref().map(|outlier| {
            let before = last.and_then(|last| last.outlier.as_deref());
            Arc::new(Detector::new(outlier.clone(), hosts.clone(), before))
        });
        let marked_only = cluster.tls.as_ref().is_some_and(|tls| tls.marked_only);
        let marked = hosts.hosts().iter().filter(|host| host.mtls).filter_map(|host| socket(&host.address));
        let secured = marked_only.then(|| marked.collect());
        Arc::new(ClusterPlan { config: cluster.clone(), hosts, tls, secured, limits, outlier })
    }
}
