//! A worker: one thread, one runtime, its own sockets, pools, counts. It takes commands from the config thread, and
//! shares nothing on the way of a request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::Direction;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;
use transport::network::{Bound, Network};

use crate::access_log::{Format, Line};
use crate::cluster::ClusterState;
use crate::connection;
use crate::dynamic::Hosts;
use crate::identity::Identity;
use crate::leaving::{self, Signs};
use crate::metrics::{Metrics, Scrape};
use crate::plan::{ListenerPlan, Plan};
use crate::resolvers::Resolvers;
use crate::stats::ClusterStats;

/// Access-log bytes that wait to be written, per file; lines beyond are dropped and counted.
const LOG_BYTES_MAX: usize = 1 << 20;
/// A log buffer of this size is written at once.
const LOG_BYTES_FLUSH: usize = 64 << 10;
/// A smaller one, after this long.
const LOG_FLUSH_AFTER: Duration = Duration::from_millis(50);
/// How often the idle connections of clusters that keep them shortly are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The others have their turn in each of so many of these.
const SWEEPS_OF_ALL: u32 = 30;
/// Commands that wait for a worker.
pub const COMMANDS_MAX: usize = 64;

/// What a worker is told.
pub enum Command {
    /// Obey this from now on. Sockets for listeners that are new come with it.
    Install(Arc<Plan>, Vec<(usize, SocketAddr, Bound)>),
    /// Say what you counted.
    Scrape(oneshot::Sender<Scrape>),
    /// Ask clients to go elsewhere, or no longer (HTTP/1: `connection: close`).
    Discourage(bool),
    /// The same for good, and HTTP/2 too (GOAWAY). Whoever comes is still served.
    Drain,
    /// Take no new connections, end those that are idle, let the others finish. What the application of a sidecar
    /// still wants to send is taken.
    Close {
        /// Only what comes from outside.
        inbound_only: bool,
    },
    /// Say how many connections there are, and how many there have been.
    Busy(oneshot::Sender<Busy>),
}

/// How much a worker has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// Connections that are open.
    pub open: usize,
    /// Connections that there have been.
    pub total: u64,
}

/// How far a worker is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It is not.
    #[default]
    Open,
    /// Clients are asked to go elsewhere.
    Draining,
    /// Nobody new is let in.
    Closing,
}

/// A worker's state; shared by its tasks, never leaves its thread.
pub struct Worker {
    /// Who this proxy is.
    pub identity: Arc<Identity>,
    /// What its connections are made of.
    pub network: Network,
    /// Hosts that requests named.
    pub hosts: Hosts,
    plan: RefCell<Arc<Plan>>,
    clusters: RefCell<Vec<Option<Rc<ClusterState>>>>,
    /// Counts.
    pub metrics: Metrics,
    random: Cell<u64>,
    // Where the worker's clock begins.
    began: Instant,
    logs: RefCell<HashMap<String, LogFile>>,
    log_flush_due: Cell<bool>,
    signs: watch::Sender<Signs>,
    discourages: Cell<bool>,
    /// Copies of requests.
    pub mirrors: crate::mirror::UnderWay,
    /// Spans for collectors.
    pub spans: crate::spans::Spans,
    /// Public keys of token issuers.
    pub keys: crate::jwks::Store,
    /// Connections and requests that are not over.
    pub busy: Cell<usize>,
}

struct LogFile {
    file: Option<std::fs::File>,
    waiting: String,
}

impl Worker {
    /// A worker that obeys nothing yet. `seed` must differ between workers.
    pub fn new(identity: Arc<Identity>, resolvers: Resolvers, network: Network, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            network,
            identity,
            hosts: Hosts::new(resolvers),
            plan: RefCell::default(),
            clusters: RefCell::default(),
            metrics: Metrics::default(),
            random: Cell::new(seed | 1),
            began: Instant::now(),
            logs: RefCell::default(),
            log_flush_due: Cell::new(false),
            signs: watch::Sender::default(),
            discourages: Cell::new(false),
            mirrors: crate::mirror::UnderWay::default(),
            spans: crate::spans::Spans::default(),
            keys: crate::jwks::Store::default(),
            busy: Cell::new(0),
        })
    }

    /// The plan of this moment. A request takes it once.
    pub fn plan(&self) -> Arc<Plan> {
        self.plan.borrow().clone()
    }

    /// A cluster by slot; `None` when it does not exist.
    pub fn cluster(&self, slot: u32) -> Option<Rc<ClusterState>> {
        self.clusters.borrow().get(slot as usize)?.clone()
    }

    /// A uniform number (xorshift*; for spreading load, not for secrets).
    pub fn draw64(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A uniform number.
    pub fn draw(&self) -> u32 {
        (self.draw64() >> 32) as u32
    }

    /// Milliseconds of the worker's clock at a moment.
    pub fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_millis() as u64
    }

    /// The clock, for balancers that look at it; others do not pay for it.
    pub fn millis_for(&self, plan: &crate::plan::ClusterPlan) -> u64 {
        plan.config.balancing.slow_start.map_or(0, |_| self.millis(Instant::now()))
    }

    /// What concerns connections that are open.
    pub fn signs(&self) -> watch::Receiver<Signs> {
        self.signs.subscribe()
    }

    fn phase(&self) -> Phase {
        self.signs.borrow().phase
    }

    /// True for a listener of a sidecar that our own application speaks to.
    pub fn is_of_application(&self, listener: usize) -> bool {
        let plan = self.plan.borrow();
        let listener = plan.listeners.get(listener).and_then(Option::as_ref);
        listener.is_some_and(|one| leaving::is_of_application(&self.identity.node_id, one.config.direction))
    }

    /// True when the worker is about to end.
    pub fn is_closing(&self) -> bool {
        self.phase() == Phase::Closing
    }

    /// True while clients are asked to go elsewhere with their next request.
    pub fn discourages(&self) -> bool {
        self.discourages.get()
    }

    fn drain(&self) {
        self.discourages.set(true);
        self.signs.send_if_modified(|signs| {
            let is_first = signs.phase == Phase::Open;
            signs.phase = Phase::Draining.max(signs.phase);
            is_first
        });
    }

    // What an application still has to say is taken until the end (Istio drains a sidecar's inbound side).
    fn stays_open(&self, listener: &ListenerPlan, inbound_only: bool) -> bool {
        let direction = listener.config.direction;
        let only_outbound = inbound_only && direction == Direction::Outbound;
        only_outbound || leaving::is_of_application(&self.identity.node_id, direction)
    }

    /// Obeys a plan from now on.
    pub fn install(&self, plan: Arc<Plan>) {
        let now = self.millis(Instant::now());
        let mut clusters = self.clusters.borrow_mut();
        if clusters.len() < plan.clusters.len() {
            clusters.resize_with(plan.clusters.len(), || None);
        }
        for (slot, state) in clusters.iter_mut().enumerate() {
            match (plan.clusters.get(slot).and_then(Option::as_ref), state.as_ref()) {
                (None, _) => *state = None,
                (Some(newer), Some(state)) => {
                    if !Arc::ptr_eq(&state.plan.borrow(), newer) {
                        state.update(newer.clone(), now);
                        // Hosts that have gone get no more: what is idle goes now, what is under way when it is done.
                        state.sweep(Instant::now());
                    }
                }
                (Some(newer), None) => {
                    *state = Some(Rc::new(ClusterState::new(newer.clone(), self.network.clone(), self.draw(), now)))
                }
            }
        }
        drop(clusters);
        let have_changed = have_changed(&self.plan.borrow().listeners, &plan.listeners);
        *self.plan.borrow_mut() = plan;
        if have_changed {
            self.signs.send_modify(|signs| signs.listeners += 1);
        }
    }

    /// Writes a line to an access log, sooner or later.
    pub fn log(self: &Rc<Self>, format: &Format, line: &Line<'_>) {
        if !format.takes(line) {
            return;
        }
        let mut logs = self.logs.borrow_mut();
        let log = logs.entry(format.path.clone()).or_insert_with(|| LogFile::open(&format.path));
        if log.waiting.len() >= LOG_BYTES_MAX {
            crate::cluster::bump(&self.metrics.log_dropped);
            return;
        }
        format.write(line, &mut log.waiting);
        if log.waiting.len() >= LOG_BYTES_FLUSH {
            log.flush();
        } else if !self.log_flush_due.replace(true) {
            let worker = self.clone();
            spawn_local(async move {
                tokio::time::sleep(LOG_FLUSH_AFTER).await;
                worker.log_flush_due.set(false);
                worker.flush_logs();
            });
        }
    }

    /// Writes out what waits in access logs.
    pub fn flush_logs(&self) {
        self.logs.borrow_mut().values_mut().for_each(LogFile::flush);
    }

    fn scrape(&self) -> Scrape {
        let mut scrape = self.metrics.read();
        scrape.add_single("sluice_spans_sent", self.spans.sent.get());
        scrape.add_single("sluice_spans_dropped", self.spans.dropped.get());
        scrape.add_single("sluice_span_exports_failed", self.spans.failed.get());
        for state in self.clusters.borrow().iter().flatten() {
            let name = state.plan.borrow().config.name.to_string();
            scrape.clusters.insert(name, ClusterStats::read(state));
        }
        scrape
    }

    fn sweep(&self, all: bool, now: Instant) {
        for state in self.clusters.borrow().iter().flatten().filter(|state| all || state.is_impatient()) {
            state.sweep(now);
        }
    }
}

impl LogFile {
    fn open(path: &str) -> Self {
        let opened = match path {
            "/dev/stdout" => std::fs::OpenOptions::new().append(true).open("/proc/self/fd/1"),
            "/dev/stderr" => std::fs::OpenOptions::new().append(true).open("/proc/self/fd/2"),
            path => std::fs::OpenOptions::new().create(true).append(true).open(path),
        };
        let file = opened.map_err(|error| tracing::error!("access log {path}: {error}; no lines will be written")).ok();
        Self { file, waiting: String::new() }
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(self.waiting.as_bytes())
        {
            tracing::warn!("access log: {error}");
        }
        self.waiting.clear();
    }
}

/// Runs a worker until its commands end.
pub async fn run(worker: Rc<Worker>, mut commands: mpsc::Receiver<Command>) {
    let mut listening: HashMap<(usize, SocketAddr), JoinHandle<()>> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    let mut sweeps = 0_u32;
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => break,
                Some(Command::Install(plan, sockets)) => {
                    // A listener that has moved: its old socket goes.
                    listening.retain(|(slot, address), task| {
                        let stays = is_bound(&plan, *slot, *address);
                        if !stays {
                            task.abort();
                        }
                        stays
                    });
                    worker.install(plan);
                    for (slot, address, socket) in sockets {
                        if let Some(task) = accept(&worker, slot, socket)
                            && let Some(old) = listening.insert((slot, address), task)
                        {
                            old.abort();
                        }
                    }
                }
                // Who asked may have gone.
                Some(Command::Scrape(answer)) => drop(answer.send(worker.scrape())),
                Some(Command::Discourage(on)) => worker.discourages.set(on || worker.phase() > Phase::Open),
                Some(Command::Drain) => worker.drain(),
                Some(Command::Close { inbound_only }) => {
                    worker.drain();
                    let plan = worker.plan();
                    listening.retain(|(slot, _), task| {
                        let stays = bound(&plan, *slot).is_some_and(|one| worker.stays_open(one, inbound_only));
                        if !stays {
                            task.abort();
                        }
                        stays
                    });
                    if !inbound_only {
                        worker.signs.send_modify(|signs| signs.phase = Phase::Closing);
                        worker.spans.hurry();
                    }
                }
                Some(Command::Busy(answer)) => {
                    let total = worker.metrics.downstream_connections.get();
                    let _ = answer.send(Busy { open: worker.busy.get(), total });
                }
            },
            _ = sweep.tick() => {
                sweeps = sweeps.wrapping_add(1);
                worker.sweep(sweeps.is_multiple_of(SWEEPS_OF_ALL), Instant::now());
            }
        }
    }
    worker.flush_logs();
}

// True when a listener is gone or says something else. Routes and secrets change no connection's chain, and hosts neither.
fn have_changed(old: &[Option<Arc<ListenerPlan>>], new: &[Option<Arc<ListenerPlan>>]) -> bool {
    old.iter().enumerate().filter_map(|(slot, old)| Some((slot, old.as_ref()?))).any(|(slot, old)| {
        let newer = new.get(slot).and_then(Option::as_ref);
        newer.is_none_or(|newer| !Arc::ptr_eq(&old.config, &newer.config))
    })
}

/// The listener of a slot, when it has a socket.
pub fn bound(plan: &Plan, slot: usize) -> Option<&Arc<ListenerPlan>> {
    plan.listeners.get(slot)?.as_ref().filter(|listener| listener.config.bind_to_port)
}

/// True when the listener of a slot has a socket at this address.
pub fn is_bound(plan: &Plan, slot: usize, address: SocketAddr) -> bool {
    bound(plan, slot).is_some_and(|listener| listener.config.addresses().any(|one| one == address))
}

fn accept(worker: &Rc<Worker>, slot: usize, socket: Bound) -> Option<JoinHandle<()>> {
    let mut listener = socket.into_listener().map_err(|error| tracing::error!("listener {slot}: {error}")).ok()?;
    let worker = worker.clone();
    Some(spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    spawn_local(connection::serve(worker.clone(), slot, stream, peer));
                }
                Err(error) => {
                    tracing::warn!("accept: {error}");
                    // Out of file descriptors, most likely: let some connections end.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }))
}
