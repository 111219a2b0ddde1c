//! One worker's side of a cluster: its balancer, its idle connections, its counts.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use balance::Balancer;
use config::{Discovery, EndpointAddress};
use rustc_hash::FxHashMap;
use transport::io::ConnectOptions;
use transport::pool::Pool;

use crate::metrics::{Series, SeriesKey};
use crate::plan::ClusterPlan;

/// How long an unused connection is kept when the cluster says nothing (DR39).
const IDLE_DEFAULT: Duration = Duration::from_secs(3600);

/// A cluster on one worker.
pub struct ClusterState {
    /// The plan it follows now.
    pub plan: RefCell<Arc<ClusterPlan>>,
    /// Picks hosts.
    pub balancer: RefCell<Balancer>,
    /// Idle connections.
    pub pool: RefCell<Pool>,
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
    /// `upstream_cx_connect_fail`.
    pub connect_failures: Cell<u64>,
    /// `upstream_rq_none_healthy` (`lb_…` in older names).
    pub none_healthy: Cell<u64>,
}

/// The time since this process first asked.
pub fn uptime() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// Adds one.
pub fn bump(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl ClusterState {
    /// A cluster that nothing was sent to yet; `now` is of the worker's clock.
    pub fn new(plan: Arc<ClusterPlan>, seed: u32, now: u64) -> Self {
        Self {
            balancer: RefCell::new(Balancer::new(plan.hosts.clone(), seed, now)),
            plan: RefCell::new(plan),
            pool: RefCell::default(),
            counts: Counts::default(),
            series: RefCell::default(),
        }
    }

    /// Follows a newer plan; what is under way and what is idle stays.
    pub fn update(&self, plan: Arc<ClusterPlan>, now: u64) {
        self.balancer.borrow_mut().update(plan.hosts.clone(), now);
        // Keys name hosts by number, and labels name the service: both may have changed.
        self.series.borrow_mut().clear();
        *self.plan.borrow_mut() = plan;
    }

    /// True when a request can be sent somewhere.
    pub fn has_host(&self) -> bool {
        let follows = matches!(self.plan.borrow().config.discovery, Discovery::OriginalDst | Discovery::Dynamic(_));
        follows || self.balancer.borrow().has_host()
    }

    /// How long an unused connection is kept.
    pub fn idle_max(&self) -> Duration {
        match self.plan.borrow().config.idle_timeout {
            None => IDLE_DEFAULT,
            Some(Duration::ZERO) => Duration::MAX,
            Some(idle) => idle,
        }
    }

    /// How its connections are made.
    pub fn connect_options(plan: &ClusterPlan) -> ConnectOptions {
        ConnectOptions {
            source: plan.config.source_address,
            keepalive: plan
                .config
                .tcp_keepalive
                .map(|keepalive| (keepalive.probes, keepalive.time_seconds, keepalive.interval_seconds)),
        }
    }
}

/// The socket address of a host; `None` for names and Unix sockets, which are not dialled here.
pub fn socket(address: &EndpointAddress) -> Option<SocketAddr> {
    match address {
        EndpointAddress::Socket(socket) => Some(*socket),
        EndpointAddress::Dns(..) | EndpointAddress::Pipe(_) => None,
    }
}
