//! A connection for a request, within the bounds of its cluster (DR30, DR35 to DR37, DR42, as Envoy's pools have them).
//!
//! In: a host. Out: an idle connection, a stream of a shared one, or a new connection. While the bound on connections is
//! reached, a request waits, oldest first, until a connection of its own worker to the host is free or has ended; as
//! many may wait as the bound on pending requests says. A worker without any connection to the host may always make one:
//! it would otherwise wait for what never comes. Knows no retries.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::Poll;

use balance::Counters;
use balance::limits::Permit;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tokio::time::Instant;
use transport::io::Io;
use transport::pool::Key;
use transport::upstream::{Http1, Http2, Stream};

use crate::cluster::{ClusterState, bump};
use crate::failure::Failure;
use crate::forward::connect;
use crate::plan::ClusterPlan;
use crate::principals::Principal;
use crate::tls::Load;

/// Requests of one worker that wait for connections to the hosts of one cluster.
#[derive(Default)]
pub struct Waiting {
    hosts: RefCell<FxHashMap<Key, Host>>,
    // All queues together: an answer that nobody waits for costs a look at a number.
    count: Cell<u32>,
}

/// One host, as far as one worker's connections to it are concerned.
#[derive(Default)]
struct Host {
    // Connections, made or being made.
    open: u32,
    // HTTP/2 connections being made.
    making: u32,
    http1: VecDeque<oneshot::Sender<Turn>>,
    http2: VecDeque<oneshot::Sender<Turn>>,
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Http1,
    Http2,
}

/// What ends a wait.
enum Turn {
    /// A connection that became free.
    Connection(Box<Http1>),
    /// A shared connection may take another stream.
    Stream,
    /// The place of a connection that ended.
    Place(Place),
    /// The connection that was being made could not be made.
    Failed(Failure),
}

/// A host, and what its connections are made by.
#[derive(Clone, Copy)]
pub struct Aim<'a> {
    /// The cluster.
    pub cluster: &'a Rc<ClusterState>,
    /// What the request obeys.
    pub plan: &'a ClusterPlan,
    /// Where to.
    pub host: &'a Key,
    /// The host's counts.
    pub counters: &'a Rc<Counters>,
}

/// Counts a connection from before it is made until it has ended; then the next who waits gets its place.
pub struct Place {
    // Idle connections belong to the cluster: they must not keep it.
    cluster: Weak<ClusterState>,
    host: Key,
    counters: Rc<Counters>,
    // `None`: beyond the bound, as the first of its worker.
    permit: Option<Permit>,
}

impl Place {
    /// A place within the bound on connections, or the first of this worker at this host.
    fn take(aim: Aim<'_>) -> Option<Self> {
        let Aim { cluster, plan, host, counters } = aim;
        let permit = plan.limits.connections.take();
        if permit.is_none() {
            if cluster.waiting.open(host) > 0 {
                return None;
            }
            bump(&cluster.counts.connection_overflows);
        }
        Some(Self::with(cluster, host.clone(), counters.clone(), permit))
    }

    /// A place with what it takes from the bound.
    pub fn with(cluster: &Rc<ClusterState>, host: Key, counters: Rc<Counters>, permit: Option<Permit>) -> Self {
        cluster.waiting.hosts.borrow_mut().entry(host.clone()).or_default().open += 1;
        bump(&cluster.counts.connections_active);
        counters.connections.set(counters.connections.get() + 1);
        Self { cluster: Rc::downgrade(cluster), host, counters, permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.counters.connections;
        connections.set(connections.get().saturating_sub(1));
        let Some(cluster) = self.cluster.upgrade() else { return };
        let active = &cluster.counts.connections_active;
        active.set(active.get().saturating_sub(1));
        let left = cluster.waiting.close(&self.host);
        let permit = self.permit.take();
        // Beyond the bound, a place is only for who would have none else.
        if !cluster.waiting.is_empty()
            && (permit.is_some() || left == 0)
            && let Some(turn) = cluster.waiting.next_of_any(&self.host)
        {
            // Who has gone meanwhile drops it, and this begins again.
            let _ = turn.send(Turn::Place(Self::with(&cluster, self.host.clone(), self.counters.clone(), permit)));
        }
    }
}

impl Waiting {
    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    fn open(&self, host: &Key) -> u32 {
        self.hosts.borrow().get(host).map_or(0, |host| host.open)
    }

    // The connections that are left.
    fn close(&self, host: &Key) -> u32 {
        let mut hosts = self.hosts.borrow_mut();
        let Some(one) = hosts.get_mut(host) else { return 0 };
        one.open = one.open.saturating_sub(1);
        let left = one.open;
        // Hosts come and go.
        if left == 0 && one.making == 0 && one.http1.is_empty() && one.http2.is_empty() {
            hosts.remove(host);
        }
        left
    }

    // True when the connections being made will do for all who wait.
    fn suffices(&self, host: &Key, streams_max: u32) -> bool {
        let hosts = self.hosts.borrow();
        hosts.get(host).is_some_and(|one| one.making.saturating_mul(streams_max) as usize > one.http2.len())
    }

    // The first who still waits.
    fn next(&self, wants: Wants, host: &Key) -> Option<oneshot::Sender<Turn>> {
        let mut hosts = self.hosts.borrow_mut();
        let queue = hosts.get_mut(host)?.queue(wants);
        while let Some(turn) = queue.pop_front() {
            self.count.set(self.count.get().saturating_sub(1));
            if !turn.is_closed() {
                return Some(turn);
            }
        }
        None
    }

    fn next_of_any(&self, host: &Key) -> Option<oneshot::Sender<Turn>> {
        self.next(Wants::Http1, host).or_else(|| self.next(Wants::Http2, host))
    }

    /// A connection that became free; it comes back when nobody waits for it.
    pub fn offer(&self, mut connection: Box<Http1>) -> Option<Box<Http1>> {
        while !self.is_empty() {
            let Some(turn) = self.next(Wants::Http1, &connection.key) else { break };
            match turn.send(Turn::Connection(connection)) {
                Err(Turn::Connection(back)) => connection = back,
                _ => return None,
            }
        }
        Some(connection)
    }

    /// Shared connections may take this many streams more than before.
    pub fn offer_streams(&self, host: &Key, count: u32) {
        for _ in 0..count {
            let Some(turn) = (!self.is_empty()).then(|| self.next(Wants::Http2, host)).flatten() else { return };
            // Who has gone meanwhile has passed it on.
            let _ = turn.send(Turn::Stream);
        }
    }

    fn fail_streams(&self, host: &Key, failure: &Failure) {
        while let Some(turn) = self.next(Wants::Http2, host) {
            let _ = turn.send(Turn::Failed(failure.clone()));
        }
    }
}

impl Host {
    fn queue(&mut self, wants: Wants) -> &mut VecDeque<oneshot::Sender<Turn>> {
        match wants {
            Wants::Http1 => &mut self.http1,
            Wants::Http2 => &mut self.http2,
        }
    }
}

/// A request that has no connection yet: a place below the bound on pending requests.
pub struct Pending<'a> {
    cluster: &'a ClusterState,
    _permit: Permit,
}

impl<'a> Pending<'a> {
    /// A place, or the failure that the client is told.
    pub fn take(cluster: &'a ClusterState, plan: &ClusterPlan) -> Result<Self, Failure> {
        let Some(permit) = plan.limits.pending.take() else {
            bump(&cluster.counts.overflows);
            return Err(Failure::Overflow);
        };
        bump(&cluster.counts.pending);
        bump(&cluster.counts.pending_active);
        Ok(Self { cluster, _permit: permit })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let active = &self.cluster.counts.pending_active;
        active.set(active.get().saturating_sub(1));
    }
}

/// A place in the queue.
struct Wait<'a> {
    cluster: &'a Rc<ClusterState>,
    host: &'a Key,
    turn: oneshot::Receiver<Turn>,
}

impl<'a> Wait<'a> {
    fn new(cluster: &'a Rc<ClusterState>, host: &'a Key, wants: Wants) -> Self {
        let (turn, receiver) = oneshot::channel();
        cluster.waiting.hosts.borrow_mut().entry(host.clone()).or_default().queue(wants).push_back(turn);
        cluster.waiting.count.set(cluster.waiting.count.get() + 1);
        Self { cluster, host, turn: receiver }
    }

    async fn turn(mut self) -> Turn {
        // The queue is the cluster's, which the caller holds.
        (&mut self.turn).await.unwrap_or(Turn::Failed(Failure::Overflow))
    }
}

impl Drop for Wait<'_> {
    // A request that ends while it waits passes on what it got at the last moment. Connections and places do so when
    // they are dropped.
    fn drop(&mut self) {
        self.turn.close();
        if let Ok(Turn::Stream) = self.turn.try_recv() {
            self.cluster.waiting.offer_streams(self.host, 1);
        }
    }
}

/// An HTTP/1.1 connection for one request.
pub async fn http1(aim: Aim<'_>) -> Result<Box<Http1>, Failure> {
    let Aim { cluster, host, .. } = aim;
    let bounds = cluster.bounds.get();
    let idle =
        std::future::poll_fn(|cx| Poll::Ready(cluster.pool.borrow_mut().take(host, &bounds, Instant::now(), cx)));
    match idle.await {
        Some(connection) => Ok(connection),
        // Boxed, as what is rare: it would make the future of every request larger, and those are moved.
        None => Box::pin(new_http1(aim)).await,
    }
}

async fn new_http1(aim: Aim<'_>) -> Result<Box<Http1>, Failure> {
    let Aim { cluster, host, .. } = aim;
    let _pending = Pending::take(cluster, aim.plan)?;
    let place = match Place::take(aim).or_else(|| again(aim)) {
        Some(place) => place,
        None => match Wait::new(cluster, host, Wants::Http1).turn().await {
            Turn::Connection(connection) => return Ok(connection),
            Turn::Place(place) => place,
            Turn::Failed(failure) => return Err(failure),
            Turn::Stream => return Err(Failure::Ended),
        },
    };
    let (io, there) = dial(aim, Load::Requests { host: aim.host.name.as_deref(), is_http2: false }).await?;
    bump(&cluster.counts.http1_connections);
    let made = Http1::new(io, host.clone(), Instant::now(), Box::new(place)).await;
    let mut made = made.map_err(|_| Failure::Ended)?;
    made.peer = there.number();
    Ok(made)
}

/// A stream of an HTTP/2 connection for one request.
pub async fn http2(aim: Aim<'_>) -> Result<(Http2, Stream), Failure> {
    let bounds = aim.cluster.bounds.get();
    let shared = aim.cluster.pool.borrow_mut().shared(aim.host, &bounds, Instant::now());
    match shared {
        Some(shared) => Ok(shared),
        None => Box::pin(new_http2(aim)).await,
    }
}

async fn new_http2(aim: Aim<'_>) -> Result<(Http2, Stream), Failure> {
    let Aim { cluster, host, .. } = aim;
    let bounds = cluster.bounds.get();
    let mut pending = None;
    loop {
        let shared = cluster.pool.borrow_mut().shared(host, &bounds, Instant::now());
        if let Some(shared) = shared {
            return Ok(shared);
        }
        if pending.is_none() {
            pending = Some(Pending::take(cluster, aim.plan)?);
        }
        let place = match cluster.waiting.suffices(host, bounds.streams_max) {
            true => None,
            false => Place::take(aim).or_else(|| again(aim)),
        };
        let place = match place {
            Some(place) => place,
            None => match Wait::new(cluster, host, Wants::Http2).turn().await {
                Turn::Place(place) => place,
                Turn::Failed(failure) => return Err(failure),
                Turn::Stream | Turn::Connection(_) => continue,
            },
        };
        let made = make(aim, place).await.inspect_err(|failure| cluster.waiting.fail_streams(host, failure))?;
        cluster.pool.borrow_mut().share(host.clone(), made);
        let shared = cluster.pool.borrow_mut().shared(host, &bounds, Instant::now());
        cluster.waiting.offer_streams(host, bounds.streams_max.saturating_sub(1));
        return shared.ok_or(Failure::Ended);
    }
}

async fn make(aim: Aim<'_>, place: Place) -> Result<Http2, Failure> {
    let _making = Making::begin(aim.cluster, aim.host);
    let (io, there) = dial(aim, Load::Requests { host: aim.host.name.as_deref(), is_http2: true }).await?;
    bump(&aim.cluster.counts.http2_connections);
    let keepalive = aim.plan.config.http2.keepalive.map(|one| (one.interval, one.timeout));
    let made = Http2::new(io, Instant::now(), keepalive, Box::new(place)).await;
    let mut made = made.map_err(|_| Failure::Ended)?;
    made.peer = there.number();
    Ok(made)
}

/// Those who wait for this connection go on when it is there, and when it is given up.
struct Making<'a>(&'a ClusterState, &'a Key);

impl<'a> Making<'a> {
    fn begin(cluster: &'a ClusterState, host: &'a Key) -> Self {
        cluster.waiting.hosts.borrow_mut().entry(host.clone()).or_default().making += 1;
        Self(cluster, host)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let Self(cluster, host) = self;
        if let Some(one) = cluster.waiting.hosts.borrow_mut().get_mut(host) {
            one.making = one.making.saturating_sub(1);
        }
        cluster.waiting.offer_streams(host, 1);
    }
}

// Idle connections that the other side has closed hold places until somebody looks.
fn again(aim: Aim<'_>) -> Option<Place> {
    bump(&aim.cluster.counts.connection_overflows);
    aim.cluster.sweep(Instant::now());
    Place::take(aim)
}

/// A new connection, within the cluster's timeout, and which workload is at its other end.
pub async fn dial(aim: Aim<'_>, load: Load<'_>) -> Result<(Io, Principal), Failure> {
    bump(&aim.counters.connections_total);
    connect(aim.cluster, aim.plan, aim.host.host, load).await.inspect_err(|_| bump(&aim.counters.connect_failures))
}

/// A place for a connection that is used by one request or one client only, when there is one now.
pub fn own_place(aim: Aim<'_>) -> Result<Place, Failure> {
    let permit = aim.plan.limits.connections.take().ok_or_else(|| {
        bump(&aim.cluster.counts.connection_overflows);
        Failure::Overflow
    })?;
    Ok(Place::with(aim.cluster, aim.host.clone(), aim.counters.clone(), Some(permit)))
}
