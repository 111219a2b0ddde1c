//! A worker's view of one cluster: which host next, and how busy each is.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use config::{EndpointAddress, Lb};
use rustc_hash::FxHashMap;

use crate::algorithm;
use crate::hosts::{Host, HostSet};
use crate::turns::Turns;

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
    /// The hash of the request's key (DR21), for algorithms that keep a key at a host; the others do not look at it.
    pub hash: Option<u64>,
}

/// Counts of one host in one worker; shared with whoever counts, so that they stay good when the host leaves the set.
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

/// A request under way at a host, until dropped.
#[derive(Debug)]
pub struct Active(Rc<Counters>);

/// A worker's view of one cluster.
#[derive(Debug)]
pub struct Balancer {
    lb: Lb,
    set: Arc<HostSet>,
    // By place in the set.
    counters: Vec<Rc<Counters>>,
    // By place of the level in the view. Empty turns where the algorithm needs none.
    turns: Vec<Turns>,
    cursor: u32,
    seed: u32,
}

impl Balancer {
    /// A view of a set of hosts. `seed` is where turns begin, so that many proxies do not begin at one host.
    pub fn new(lb: Lb, set: Arc<HostSet>, seed: u32) -> Self {
        let counters = set.hosts().iter().map(|_| Rc::default()).collect();
        let turns = turns(lb, &set, seed, &FxHashMap::default());
        Self { lb, counters, turns, set, cursor: seed, seed }
    }

    /// Takes a new set of hosts, perhaps a new algorithm. Hosts that stay, by address, keep their counts and their
    /// turns; requests that are under way at a host that left go on counting there, unseen.
    pub fn update(&mut self, lb: Lb, set: Arc<HostSet>) {
        let before = std::mem::replace(&mut self.set, set);
        let address = |place: u32| &before.hosts()[place as usize].address;
        let waiting = self.turns.iter().flat_map(Turns::waiting).map(|(host, left)| (address(host), left)).collect();
        self.turns = turns(lb, &self.set, self.seed, &waiting);
        let mut kept: FxHashMap<_, _> =
            before.hosts().iter().map(|host| &host.address).zip(std::mem::take(&mut self.counters)).collect();
        self.counters = self.set.hosts().iter().map(|host| kept.remove(&host.address).unwrap_or_default()).collect();
        self.lb = lb;
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
        &self.counters[id.0 as usize]
    }

    /// Counts a request at a host until the guard is dropped, wherever the host is by then.
    pub fn begin(&self, id: HostId) -> Active {
        let counters = self.counters(id).clone();
        counters.active.set(counters.active.get() + 1);
        counters.total.set(counters.total.get() + 1);
        Active(counters)
    }

    /// A host for a request; `None` when none may be used (503, flag UH). `draw` gives uniform numbers.
    pub fn pick(&mut self, ask: &Ask<'_>, mut draw: impl FnMut() -> u32) -> Option<HostId> {
        let mut picked = self.once(&mut draw)?;
        if !ask.tried.is_empty() {
            for _ in 0..ask.attempts {
                if !ask.tried.contains(&self.set.hosts()[picked as usize].address) {
                    break;
                }
                picked = self.once(&mut draw)?;
            }
        }
        Some(HostId(picked))
    }

    fn once(&mut self, draw: &mut impl FnMut() -> u32) -> Option<u32> {
        let Self { lb, set, counters, turns, cursor, .. } = self;
        let place = set.view().level(draw)?;
        let level = &set.view().levels()[place];
        let has_weights = !level.sums.is_empty();
        match lb {
            Lb::LeastRequest if has_weights => algorithm::in_turn(set, counters, &mut turns[place], true),
            Lb::RoundRobin if has_weights => algorithm::in_turn(set, counters, &mut turns[place], false),
            Lb::LeastRequest => Some(algorithm::least_request(level, counters, draw)),
            Lb::RoundRobin => Some(algorithm::round_robin(level, cursor)),
            // A cluster that takes the dialled address has no hosts of its own; if it has, any is as good.
            Lb::Random | Lb::ClusterProvided | Lb::RingHash { .. } | Lb::Maglev { .. } => {
                Some(algorithm::random(level, draw))
            }
        }
    }
}

impl Active {
    /// The counters of the request's host.
    pub fn counters(&self) -> &Counters {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}

// The turns of each level; `waiting` is how long hosts had to wait before.
fn turns(lb: Lb, set: &HostSet, seed: u32, waiting: &FxHashMap<&EndpointAddress, u128>) -> Vec<Turns> {
    let by_turns = matches!(lb, Lb::RoundRobin | Lb::LeastRequest);
    let of_host = |place: &u32| {
        let Host { address, weight, .. } = &*set.hosts()[*place as usize];
        (*place, *weight, waiting.get(address).copied())
    };
    let levels = set.view().levels().iter();
    levels
        .map(|level| match by_turns && !level.sums.is_empty() {
            true => Turns::new(level.usable.iter().map(of_host), seed),
            false => Turns::default(),
        })
        .collect()
}
