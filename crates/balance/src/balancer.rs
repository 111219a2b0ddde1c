//! A worker's view of one cluster: which host next, and how busy each is.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use config::{EndpointAddress, Health, Lb};
use rustc_hash::FxHashMap;

use crate::algorithm;
use crate::hosts::{Host, HostSet};
use crate::slow_start::Ages;
use crate::turns::{Turns, pause, stretched};

/// A host of the balancer's current set; valid until the next [`Balancer::update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub u32);

impl HostId {
    /// A host that is not of the set: the address that a client dialled, or a name that it gave.
    pub const OUTSIDE: Self = Self(u32::MAX);
}

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
    /// Milliseconds since any moment that the balancer's other calls count from too; only slow start looks at it.
    pub now: u64,
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
    set: Arc<HostSet>,
    // By place in the set.
    counters: Vec<Rc<Counters>>,
    // By place of the level in the view. Empty turns where the algorithm needs none.
    turns: Vec<Turns>,
    ages: Ages,
    cursor: u32,
    seed: u32,
    // Of hosts outside the set, all together.
    outside: Rc<Counters>,
}

impl Balancer {
    /// A view of a set of hosts, all of which came `now`. `seed` is where turns begin, so that many proxies do not begin
    /// at one host.
    pub fn new(set: Arc<HostSet>, seed: u32, now: u64) -> Self {
        let counters = set.hosts().iter().map(|_| Rc::default()).collect();
        let mut made = Self {
            counters,
            turns: Vec::new(),
            ages: Ages::default(),
            set,
            cursor: seed,
            seed,
            outside: Rc::default(),
        };
        made.begin_turns(&FxHashMap::default(), &FxHashMap::default(), now);
        made
    }

    /// Takes a new set of hosts, perhaps for another algorithm. Hosts that stay, by address, keep their counts, their
    /// turns and their age; requests that are under way at a host that left go on counting there, unseen.
    pub fn update(&mut self, set: Arc<HostSet>, now: u64) {
        let before = std::mem::replace(&mut self.set, set);
        let address = |place: u32| &before.hosts()[place as usize].address;
        let waiting = self.turns.iter().flat_map(Turns::waiting).map(|(host, left)| (address(host), left)).collect();
        let ages = std::mem::take(&mut self.ages);
        let since = (0..).zip(&ages.since).filter_map(|(place, since)| Some((address(place), (*since)?))).collect();
        self.begin_turns(&waiting, &since, now);
        let mut kept: FxHashMap<_, _> =
            before.hosts().iter().map(|host| &host.address).zip(std::mem::take(&mut self.counters)).collect();
        self.counters = self.set.hosts().iter().map(|host| kept.remove(&host.address).unwrap_or_default()).collect();
    }

    // The ages and turns of the set; `waiting` is how long hosts had to wait before, `since` when they came.
    fn begin_turns(
        &mut self,
        waiting: &FxHashMap<&EndpointAddress, u128>,
        since: &FxHashMap<&EndpointAddress, u64>,
        now: u64,
    ) {
        let (set, slow_start) = (&self.set, self.set.shape().slow_start);
        let came = |host: &Arc<Host>| {
            let known = since.get(&host.address).copied();
            known.or((host.health == Health::Healthy).then_some(now))
        };
        let ages = Ages::new(slow_start, set.hosts().iter().map(came));
        let of_host = |place: &u32| {
            let Host { address, weight, .. } = &*set.hosts()[*place as usize];
            let pause = stretched(pause(*weight, 0), ages.factor(slow_start, *place, now));
            (*place, pause, waiting.get(address).copied())
        };
        let by_turns = matches!(set.shape().lb, Lb::RoundRobin | Lb::LeastRequest);
        let levels = set.view().levels().iter();
        self.turns = levels
            .map(|level| match by_turns && (!level.sums.is_empty() || now < ages.until) {
                true => Turns::new(level.usable.iter().map(of_host), self.seed),
                false => Turns::default(),
            })
            .collect();
        self.ages = ages;
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Arc<Host>] {
        self.set.hosts()
    }

    /// One host.
    pub fn host(&self, id: HostId) -> &Arc<Host> {
        &self.set.hosts()[id.0 as usize]
    }

    /// The counters of one host; they stay good after the host has left. [`HostId::OUTSIDE`] has some too.
    pub fn counters(&self, id: HostId) -> &Rc<Counters> {
        self.counters.get(id.0 as usize).unwrap_or(&self.outside)
    }

    /// Counts a request at a host until the guard is dropped, wherever the host is by then.
    pub fn begin(&self, id: HostId) -> Active {
        // A request that follows the dialled address has no host here; it is counted nowhere.
        let counters = self.counters.get(id.0 as usize).cloned().unwrap_or_default();
        counters.active.set(counters.active.get() + 1);
        counters.total.set(counters.total.get() + 1);
        Active(counters)
    }

    /// True when a pick would find a host.
    pub fn has_host(&self) -> bool {
        !self.set.view().levels().is_empty()
    }

    /// A host for a request; `None` when none may be used (503, flag UH). `draw` gives uniform numbers.
    pub fn pick(&mut self, ask: &Ask<'_>, mut draw: impl FnMut() -> u32) -> Option<HostId> {
        // A request without a key goes anywhere, and when it is repeated, on from there (Envoy).
        let by_hash = self.set.shape().lb.is_by_hash();
        let key = by_hash.then(|| ask.hash.unwrap_or_else(|| u64::from(draw()) << 32 | u64::from(draw())));
        let mut picked = self.once(key, 0, ask.now, &mut draw)?;
        if !ask.tried.is_empty() {
            for attempt in 1..=ask.attempts {
                if !ask.tried.contains(&self.set.hosts()[picked as usize].address) {
                    break;
                }
                picked = self.once(key, attempt, ask.now, &mut draw)?;
            }
        }
        Some(HostId(picked))
    }

    fn once(&mut self, key: Option<u64>, attempt: u32, now: u64, draw: &mut impl FnMut() -> u32) -> Option<u32> {
        let Self { set, counters, turns, ages, cursor, .. } = self;
        if let Some(key) = key {
            return set.view().of_key(key, attempt);
        }
        let place = set.view().level(draw)?;
        let level = &set.view().levels()[place];
        let in_turn = !level.sums.is_empty() || now < ages.until;
        let shape = set.shape();
        let factor = |host| ages.factor(shape.slow_start, host, now);
        match shape.lb {
            Lb::LeastRequest if in_turn => algorithm::in_turn(set, counters, &mut turns[place], true, factor),
            Lb::RoundRobin if in_turn => algorithm::in_turn(set, counters, &mut turns[place], false, factor),
            Lb::LeastRequest => Some(algorithm::least_request(level, counters, draw)),
            Lb::RoundRobin => Some(algorithm::round_robin(level, cursor)),
            // A cluster that takes the dialled address has no hosts of its own; if it has, any is as good.
            _ => Some(algorithm::random(level, draw)),
        }
    }
}

impl Active {
    /// The counters of the request's host.
    pub fn counters(&self) -> &Rc<Counters> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}
