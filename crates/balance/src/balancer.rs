//! A worker's view of one cluster: which host next, and how busy each is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use config::{EndpointAddress, Lb};

use crate::algorithm;
use crate::hosts::{Host, HostSet};

/// A host of the balancer's current set; valid until the next [`Balancer::update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub u32);

/// What is known of a pick besides the cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Addresses that this request was sent to before.
    pub tried: &'a [EndpointAddress],
    /// How often a pick is repeated to avoid them; then one of them is accepted (Envoy
    /// `host_selection_retry_max_attempts`).
    pub attempts: u32,
}

/// What a host is doing; kept by address when the set of hosts changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    counters: Rc<Counters>,
    pub(crate) credit: i64,
}

/// Counts of one host in one worker.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests under way.
    pub active: Cell<u32>,
    /// Requests ever.
    pub total: Cell<u64>,
    /// Requests that failed: no answer, or a 5xx.
    pub errors: Cell<u64>,
    /// Open connections.
    pub connections: Cell<u32>,
    /// Connections ever.
    pub connections_total: Cell<u64>,
    /// Connections that could not be made.
    pub connect_failures: Cell<u64>,
}

impl State {
    pub(crate) fn active(&self) -> u32 {
        self.counters.active.get()
    }
}

/// A worker's view of one cluster.
#[derive(Debug)]
pub struct Balancer {
    lb: Lb,
    set: Arc<HostSet>,
    states: Vec<State>,
    cursor: u32,
}

impl Balancer {
    /// A view of a set of hosts. `seed` is where round robin begins, so that many proxies do not begin at one host.
    pub fn new(lb: Lb, set: Arc<HostSet>, seed: u32) -> Self {
        let states = vec_of(set.hosts().len());
        Self { lb, set, states, cursor: seed }
    }

    /// Takes a new set of hosts, perhaps a new algorithm. Hosts that stay, by address, keep their counts; requests that
    /// are under way at a host that left go on counting there, unseen.
    pub fn update(&mut self, lb: Lb, set: Arc<HostSet>) {
        let mut kept: BTreeMap<&EndpointAddress, State> =
            self.set.hosts().iter().map(|host| &host.address).zip(std::mem::take(&mut self.states)).collect();
        self.states = set.hosts().iter().map(|host| kept.remove(&host.address).unwrap_or_default()).collect();
        self.lb = lb;
        self.set = set;
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Arc<Host>] {
        self.set.hosts()
    }

    /// One host.
    pub fn host(&self, id: HostId) -> &Arc<Host> {
        &self.set.hosts()[id.0 as usize]
    }

    /// The counters of one host; they stay good after the host has left.
    pub fn counters(&self, id: HostId) -> &Rc<Counters> {
        &self.states[id.0 as usize].counters
    }

    /// A host for a request; `None` when none may be used (503, flag UH). `draw` gives uniform numbers.
    pub fn pick(&mut self, ask: &Ask<'_>, mut draw: impl FnMut() -> u32) -> Option<HostId> {
        if self.set.usable.is_empty() {
            return None;
        }
        let mut picked = self.once(&mut draw);
        for _ in 0..ask.attempts {
            if ask.tried.is_empty() || !ask.tried.contains(&self.set.hosts()[picked as usize].address) {
                break;
            }
            picked = self.once(&mut draw);
        }
        Some(HostId(picked))
    }

    fn once(&mut self, draw: &mut impl FnMut() -> u32) -> u32 {
        match self.lb {
            Lb::LeastRequest => algorithm::least_request(&self.set, &self.states, draw),
            Lb::RoundRobin => algorithm::round_robin(&self.set, &mut self.states, &mut self.cursor),
            // A cluster that takes the dialled address has no hosts of its own; if it has, any is as good.
            Lb::Random | Lb::ClusterProvided => algorithm::random(&self.set, draw),
        }
    }
}

// `vec![State::default(); n]` would share one set of counters between all hosts.
fn vec_of(count: usize) -> Vec<State> {
    (0..count).map(|_| State::default()).collect()
}
