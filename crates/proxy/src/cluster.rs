//! One worker's side of a cluster: its balancer, its idle connections, its counts.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use balance::Balancer;
use config::{Discovery, EndpointAddress};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;
use transport::io::ConnectOptions;
use transport::network::Network;
use transport::pool::{Bounds, Key, Pool};
use transport::upstream::Http1;

use crate::metrics::{Series, SeriesKey};
use crate::plan::ClusterPlan;
use crate::upstream::Waiting;

/// How long an unused connection is kept when the cluster says nothing (DR39).
const IDLE_DEFAULT: Duration = Duration::from_secs(3600);

/// Connections that may end sooner than this are swept more often.
const IMPATIENT: Duration = Duration::from_secs(60);

/// A cluster on one worker.
pub struct ClusterState {
    /// The plan it follows now.
    pub plan: RefCell<Arc<ClusterPlan>>,
    /// What its connections are made of.
    pub network: Network,
    /// Picks hosts.
    pub balancer: RefCell<Balancer>,
    /// Idle connections.
    pub pool: RefCell<Pool>,
    /// How long connections are kept, of the plan.
    pub bounds: Cell<Bounds>,
    /// Who waits for one.
    pub waiting: Waiting,
    /// The ejections that the balancer has seen.
    pub ejections: Cell<u64>,
    /// Counts under Envoy's names.
    pub counts: Counts,
    /// Series of Istio's metrics, by small keys.
    pub series: RefCell<FxHashMap<SeriesKey, Rc<Series>>>,
}

/// Envoy's counters of a cluster that people rely on.
#[derive(Debug, Default)]
pub struct Counts {
    /// `upstream_rq_total`.
    pub requests: Cell<u64>,
    /// `upstream_rq_active`.
    pub active: Cell<u64>,
    /// `upstream_rq_retry`.
    pub retries: Cell<u64>,
    /// `upstream_rq_retry_success`.
    pub retry_successes: Cell<u64>,
    /// `upstream_rq_retry_limit_exceeded`.
    pub retries_exhausted: Cell<u64>,
    /// `upstream_rq_retry_overflow`.
    pub retry_overflows: Cell<u64>,
    /// `upstream_rq_per_try_timeout`.
    pub try_timeouts: Cell<u64>,
    /// Copies of requests that were sent here; ours.
    pub mirrored: Cell<u64>,
    /// Copies that got no answer.
    pub mirrors_failed: Cell<u64>,
    /// Copies that were not made because too many were under way.
    pub mirrors_dropped: Cell<u64>,
    /// `upstream_rq_timeout`.
    pub timeouts: Cell<u64>,
    /// `upstream_rq_pending_overflow`.
    pub overflows: Cell<u64>,
    /// `upstream_rq_<n>xx`.
    pub classes: [Cell<u64>; 6],
    /// `upstream_cx_total`.
    pub connections: Cell<u64>,
    /// `upstream_cx_http1_total`.
    pub http1_connections: Cell<u64>,
    /// `upstream_cx_http2_total`.
    pub http2_connections: Cell<u64>,
    /// `upstream_cx_active`.
    pub connections_active: Cell<u64>,
    /// `upstream_cx_overflow`.
    pub connection_overflows: Cell<u64>,
    /// `upstream_rq_pending_total`.
    pub pending: Cell<u64>,
    /// `upstream_rq_pending_active`.
    pub pending_active: Cell<u64>,
    /// `upstream_cx_connect_fail`.
    pub connect_failures: Cell<u64>,
    /// `upstream_rq_none_healthy` (`lb_…` in older names).
    pub none_healthy: Cell<u64>,
}

/// The time since this process first asked; the same for all workers.
pub fn uptime() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}

/// Adds one.
pub fn bump(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl ClusterState {
    /// A cluster that nothing was sent to yet; `now` is of the worker's clock.
    pub fn new(plan: Arc<ClusterPlan>, network: Network, seed: u32, now: u64) -> Self {
        Self {
            network,
            balancer: RefCell::new(Balancer::new(plan.hosts.clone(), seed, now)),
            bounds: Cell::new(bounds(&plan.config)),
            plan: RefCell::new(plan),
            pool: RefCell::default(),
            waiting: Waiting::default(),
            ejections: Cell::new(u64::MAX),
            counts: Counts::default(),
            series: RefCell::default(),
        }
    }

    /// Follows a newer plan; what is under way and what is idle stays.
    pub fn update(&self, plan: Arc<ClusterPlan>, now: u64) {
        self.balancer.borrow_mut().update(plan.hosts.clone(), now);
        // Keys name hosts by number, and labels name the service: both may have changed.
        self.series.borrow_mut().clear();
        self.bounds.set(bounds(&plan.config));
        self.ejections.set(u64::MAX);
        *self.plan.borrow_mut() = plan;
    }

    /// True when a request can be sent somewhere.
    pub fn has_host(&self) -> bool {
        let follows = matches!(self.plan.borrow().config.discovery, Discovery::OriginalDst | Discovery::Dynamic(_));
        follows || self.balancer.borrow().has_host()
    }

    /// Takes back a connection whose answer was read: for who waits, or for later.
    pub fn give(&self, mut connection: Box<Http1>, now: Instant) {
        connection.idle_since = now;
        if !self.bounds.get().allow(&connection, now) || !connection.is_reusable() {
            return;
        }
        if let Some(connection) = self.waiting.offer(connection) {
            self.pool.borrow_mut().give(connection, now);
        }
    }

    /// Lets go of connections that have been idle too long, are too old, were closed by their upstream, or go to hosts
    /// that are gone.
    pub fn sweep(&self, now: Instant) {
        if self.pool.borrow().is_empty() {
            return;
        }
        let there: FxHashSet<SocketAddr> =
            self.balancer.borrow().hosts().iter().filter_map(|host| socket(&host.address)).collect();
        let is_dialled = matches!(self.plan.borrow().config.discovery, Discovery::OriginalDst | Discovery::Dynamic(_));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let plan = self.plan.borrow().clone();
        let is_there = |key: &Key| key.era == plan.era(key.host) && (is_dialled || there.contains(&key.host));
        self.pool.borrow_mut().sweep(&self.bounds.get(), now, &mut cx, is_there);
    }

    /// True when its connections have to be looked at every second.
    pub fn is_impatient(&self) -> bool {
        let Bounds { idle_max, age_max, .. } = self.bounds.get();
        idle_max.min(age_max) < IMPATIENT
    }

    /// How its connections are made.
    pub fn connect_options(plan: &ClusterPlan) -> ConnectOptions {
        ConnectOptions {
            source: plan.config.source_address,
            source_v6: plan.config.source_address_v6,
            keepalive: plan
                .config
                .tcp_keepalive
                .map(|keepalive| (keepalive.probes, keepalive.time_seconds, keepalive.interval_seconds)),
        }
    }
}

/// How long a cluster's connections are kept.
fn bounds(config: &config::Cluster) -> Bounds {
    Bounds {
        idle_max: match config.idle_timeout {
            None => IDLE_DEFAULT,
            Some(Duration::ZERO) => Duration::MAX,
            Some(idle) => idle,
        },
        age_max: config.max_connection_duration.unwrap_or(Duration::MAX),
        requests_max: config.max_requests_per_connection.unwrap_or(u32::MAX),
        streams_max: config.http2.max_concurrent_streams.unwrap_or(u32::MAX),
    }
}

/// The address of a host, for a Unix socket the one that stands for it; `None` for names, which are not dialled here.
pub fn socket(address: &EndpointAddress) -> Option<SocketAddr> {
    match address {
        EndpointAddress::Socket(socket) => Some(*socket),
        EndpointAddress::Pipe(path) => Some(transport::pipe::stand_in(path)),
        EndpointAddress::Dns(..) => None,
    }
}
