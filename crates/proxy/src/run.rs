//! Wiring: worker threads, the config thread's loop, sockets, the end.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use config::{AccessLog, AccessLogFormat, Name, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::Instant;
use transport::listen;
use transport::network::{Bound, Network};
use xds::TypeUrl;
use xds::client::Update;
use xds::grpc::{Client, ClientOptions, Command as Say};

use crate::access_log::Format;
use crate::admin;
use crate::agent::{self, Agent, Expected};
use crate::application;
use crate::args::Args;
use crate::dial::Plane;
use crate::dns::{self, Found};
use crate::dns_server;
use crate::drain::{close_later, finish};
use crate::follow::Holdings;
use crate::identity::Identity;
use crate::metrics::Scrape;
use crate::names::Book;
use crate::own::{self, OwnSecrets};
use crate::plan::{Plan, Planner};
use crate::resolvers::{Resolver, Resolvers};
use crate::worker::{self, Busy, COMMANDS_MAX, Command, Worker};

/// Answers of resolvers that wait for the loop.
const FOUND_MAX: usize = 64;

/// Connections to a port of our own that wait to be accepted.
const CONNECTIONS_WAITING_MAX: i32 = 1024;

/// How often files with keys and certificates are looked at.
const FILES_EVERY: Duration = Duration::from_secs(2);

/// Changes what is logged; an error says why the level is none.
pub type SetLogLevel = Box<dyn Fn(&str) -> Result<(), String>>;

/// What the config thread knows; the admin pages read it.
pub struct App {
    /// Who this proxy is.
    pub identity: Arc<Identity>,
    workers: Vec<mpsc::Sender<Command>>,
    /// What is obeyed now.
    pub snapshot: RefCell<Arc<Snapshot>>,
    /// Versions of what is held.
    pub versions: RefCell<BTreeMap<(TypeUrl, Name), String>>,
    /// A whole configuration has been installed.
    pub ready: Cell<bool>,
    /// Somebody said that we are not healthy (`/healthcheck/fail`).
    pub failed: Cell<bool>,
    /// Since when we are going away.
    draining_since: Cell<Option<Instant>>,
    /// When the program began.
    pub started: Instant,
    /// Asked to end over HTTP.
    pub quit: tokio::sync::Notify,
    /// Asked to close after a drain's time; true: only what comes from outside.
    pub closes_later: mpsc::Sender<bool>,
    closing_later: RefCell<Option<mpsc::Receiver<bool>>>,
    /// Changes what is logged.
    pub set_log_level: SetLogLevel,
}

impl App {
    /// One that obeys nothing yet.
    pub fn new(identity: Arc<Identity>, workers: Vec<mpsc::Sender<Command>>, set_log_level: SetLogLevel) -> Self {
        let (closes_later, closing_later) = mpsc::channel(1);
        Self {
            identity,
            workers,
            snapshot: RefCell::default(),
            versions: RefCell::default(),
            ready: Cell::new(false),
            failed: Cell::new(false),
            draining_since: Cell::new(None),
            started: Instant::now(),
            quit: tokio::sync::Notify::new(),
            closes_later,
            closing_later: RefCell::new(Some(closing_later)),
            set_log_level,
        }
    }

    /// What all workers counted.
    pub async fn scrape(&self) -> Scrape {
        let mut all = Scrape::default();
        for worker in &self.workers {
            let (answer, counted) = oneshot::channel();
            if worker.send(Command::Scrape(answer)).await.is_ok()
                && let Ok(counted) = counted.await
            {
                all.add(counted);
            }
        }
        all
    }

    async fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker ends only with the program.
            let _ = worker.send(command()).await;
        }
    }

    /// Is not ready from now on, and asks clients to go elsewhere; whoever comes is still served.
    pub async fn drain(&self) {
        if !self.is_draining() {
            self.draining_since.set(Some(Instant::now()));
            self.tell(|| Command::Drain).await;
        }
    }

    /// We are going away.
    pub fn is_draining(&self) -> bool {
        self.draining_since().is_some()
    }

    pub(crate) fn draining_since(&self) -> Option<Instant> {
        self.draining_since.get()
    }

    // For the one who closes.
    pub(crate) fn take_closing_later(&self) -> Option<mpsc::Receiver<bool>> {
        self.closing_later.take()
    }

    /// Takes no new connections from now on.
    pub async fn close(&self, inbound_only: bool) {
        self.drain().await;
        self.tell(|| Command::Close { inbound_only }).await;
    }

    /// Is not healthy, or is again: clients of HTTP/1 are asked to go elsewhere (Envoy's drain manager does so too).
    pub async fn fail(&self, failed: bool) {
        self.failed.set(failed);
        self.tell(|| Command::Discourage(failed)).await;
    }

    pub(crate) async fn busy(&self) -> Busy {
        let mut all = Busy::default();
        for worker in &self.workers {
            let (answer, busy) = oneshot::channel();
            if worker.send(Command::Busy(answer)).await.is_ok()
                && let Ok(busy) = busy.await
            {
                all.open += busy.open;
                all.total += busy.total;
            }
        }
        all
    }

    /// True when requests may be sent here.
    pub fn is_ready(&self) -> bool {
        self.ready.get() && !self.is_draining() && !self.failed.get()
    }
}

/// Runs the proxy until SIGTERM, Ctrl-C, or `/quitquitquit`.
pub fn run(args: Args, set_log_level: SetLogLevel) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let identity = Arc::new(args.identity()?);
        let admin = bind(args.admin_address, "--admin-address")?;
        let status = bind(args.status_address, "--status-address")?;
        let resolvers = Resolvers::new(&args.resolvers);
        let dns = match args.dns_address {
            None => None,
            Some(address) => {
                let server = dns_server::Server::new(address, &resolvers.addresses());
                server.listen(address).await.context("--dns-address")?;
                Some(server)
            }
        };
        let start = |number| start_worker(number, identity.clone(), resolvers.clone(), args.allow_local_jwks);
        let workers = (0..args.workers()).map(start).collect::<Result<Vec<_>>>()?;
        let app = Rc::new(App::new(identity.clone(), workers, set_log_level));
        spawn_local(admin::serve(admin, app.clone(), admin::Pages::All));
        spawn_local(admin::serve(status, app.clone(), admin::Pages::Readiness));
        serve_outside(&args, &app)?;
        tracing::info!(admin = %args.admin_address, control_plane = args.control_plane, node = identity.node_id, "started");
        let extra = args.access_log.clone().map(|path| {
            let format = match args.access_log_json {
                true => AccessLogFormat::Json(BTreeMap::new()),
                false => AccessLogFormat::Default,
            };
            AccessLog { path, format, filter: None }
        });
        let (own, client) = reach(&args, &identity)?;
        let means = Means { network: Network::Sockets, resolvers, dns, extra_log: extra, own };
        let follower = Follower::new(app.clone(), means);
        spawn_local(close_later(app.clone(), args.drain()));
        let end = async {
            tokio::select! {
                () = app.quit.notified() => tracing::info!("asked to end"),
                () = interrupted() => tracing::info!("stopping: clients are asked to go elsewhere"),
            }
            finish(&app, args.drain(), args.finish()).await;
        };
        tokio::select! {
            // It obeys to the end: hosts go while we do.
            () = follower.follow(client) => finish(&app, args.drain(), args.finish()).await,
            () = end => {}
        }
        Ok(())
    })
}

// The ports for those who are not in the mesh.
fn serve_outside(args: &Args, app: &Rc<App>) -> Result<()> {
    if let Some(address) = args.metrics_address {
        let listener = bind(address, "--metrics-address")?;
        spawn_local(admin::serve(listener, app.clone(), admin::Pages::Metrics));
    }
    if let Some(address) = args.application_address {
        let application = Rc::new(args.application().map_err(anyhow::Error::msg)?);
        let listener = bind(address, "--application-address")?;
        spawn_local(application::serve(listener, app.clone(), application));
    }
    Ok(())
}

fn bind(address: SocketAddr, flag: &str) -> Result<tokio::net::TcpListener> {
    listen::bind_own(address, CONNECTIONS_WAITING_MAX).with_context(|| format!("cannot listen on {address} ({flag})"))
}

fn start_worker(
    number: usize,
    identity: Arc<Identity>,
    resolvers: Resolvers,
    local_jwks: bool,
) -> Result<mpsc::Sender<Command>> {
    let (commands, queue) = mpsc::channel(COMMANDS_MAX);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = (time.as_nanos() as u64)
        ^ (u64::from(std::process::id()) << 32)
        ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let body = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("worker {number} cannot start: {error}"),
        };
        let worker = Worker::new(identity, resolvers, Network::Sockets, seed);
        worker.keys.allows_local.set(local_jwks);
        LocalSet::new().block_on(&runtime, worker::run(worker, queue));
    };
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(body).context("start a worker thread")?;
    Ok(commands)
}

/// What the config thread works with.
#[derive(Default)]
pub struct Means {
    /// Where listeners are.
    pub network: Network,
    /// Where names are resolved.
    pub resolvers: Resolvers,
    /// Answers the application's DNS questions.
    pub dns: Option<Rc<dns_server::Server>>,
    /// Written by every chain that has no log of its own.
    pub extra_log: Option<AccessLog>,
    /// What we have of our own, when we have an identity.
    pub own: Option<watch::Receiver<OwnSecrets>>,
}

/// The config thread's loop.
pub struct Follower {
    app: Rc<App>,
    holdings: Holdings,
    planner: Planner,
    bound: BTreeSet<(usize, SocketAddr)>,
    network: Network,
    resolvers: Resolvers,
    resolver: Option<Arc<Resolver>>,
    dns: Option<Rc<dns_server::Server>>,
    resolving: BTreeMap<Name, (Arc<config::Cluster>, AbortHandle)>,
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    own: Option<watch::Receiver<OwnSecrets>>,
}

impl Follower {
    /// One that has heard nothing yet.
    pub fn new(app: Rc<App>, means: Means) -> Self {
        let Means { network, resolvers, dns, extra_log, mut own } = means;
        let mut holdings = Holdings::new(dns.is_some());
        if let Some(own) = &mut own {
            holdings.take_own(own.borrow_and_update().clone());
        }
        Self {
            app,
            holdings,
            planner: Planner::new(extra_log.map(|log| Arc::new(Format::new(&log)))),
            bound: BTreeSet::new(),
            network,
            resolver: resolvers.resolver().map(Arc::new),
            resolvers,
            dns,
            resolving: BTreeMap::new(),
            found: mpsc::channel(FOUND_MAX),
            own,
        }
    }

    /// Obeys what a client brings, for as long as it lives. Reconnecting, with pauses that grow, is its business; what is
    /// obeyed stays meanwhile.
    pub async fn follow(mut self, mut client: Client) {
        let mut files = tokio::time::interval(FILES_EVERY);
        loop {
            tokio::select! {
                update = client.updates.recv() => {
                    let Some(update) = update else { return tracing::error!("the xDS client stopped") };
                    self.take(update, &client).await;
                }
                Some(found) = self.found.1.recv() => self.take_found(found).await,
                _ = files.tick(), if self.planner.has_files() => {
                    if self.planner.has_stale_files() {
                        tracing::info!("files with keys or certificates have changed");
                        self.install_and_say().await;
                    }
                }
                newer = renewed(&mut self.own) => {
                    self.holdings.take_own(newer);
                    self.install_and_say().await;
                }
                () = until(self.holdings.gives_up_at()) => {
                    self.holdings.give_up(Instant::now());
                    self.install_and_say().await;
                }
            }
        }
    }

    // Decodes, installs, asks for what is needed now, and answers.
    async fn take(&mut self, update: Update, client: &Client) {
        let mut refused = self.holdings.take(&update);
        refused.extend(self.install().await);
        for kind in [TypeUrl::NameTable, TypeUrl::Secret, TypeUrl::Endpoints, TypeUrl::Route, TypeUrl::VirtualHost] {
            // The client's task ends only with us.
            let _ = client.commands.send(Say::Want(kind, self.holdings.wanted(kind))).await;
        }
        let refusal = (!refused.is_empty()).then(|| refused.join("; "));
        if let Some(reasons) = &refusal {
            tracing::error!("refused, the last good configuration stays: {reasons}");
        }
        let _ = client.commands.send(Say::Answer(update.kind, update.nonce, refusal)).await;
    }

    async fn take_found(&mut self, (cluster, hosts): Found) {
        self.planner.resolved(cluster, hosts);
        self.install_and_say().await;
    }

    // For what no response brought about: there is nobody to refuse to.
    async fn install_and_say(&mut self) {
        for reason in self.install().await {
            tracing::error!("{reason}");
        }
    }

    // Makes a plan of what is held and hands it to the workers; what cannot be obeyed, in words.
    async fn install(&mut self) -> Vec<String> {
        let before = self.app.snapshot.borrow().clone();
        let (mut snapshot, whole) = self.holdings.snapshot(&before, Instant::now());
        let problems = config::check(&snapshot);
        if !problems.is_empty() {
            return problems.iter().map(ToString::to_string).collect();
        }
        let taken = self.remove_unbindable(&mut snapshot);
        let snapshot = Arc::new(snapshot);
        let plan = match self.planner.plan(snapshot.clone()) {
            Ok(plan) => plan,
            Err(reason) => return vec![reason],
        };
        let mut sockets = self.sockets(&plan);
        for worker in &self.app.workers {
            let own = sockets.pop().unwrap_or_default();
            // A worker ends only with the program.
            let _ = worker.send(Command::Install(plan.clone(), own)).await;
        }
        self.resolve(&snapshot);
        self.learn_names(&snapshot);
        *self.app.snapshot.borrow_mut() = snapshot;
        self.app.versions.borrow_mut().clone_from(&self.holdings.versions);
        let has_identity = self.own.as_ref().is_none_or(|own| agent::has_identity(&own.borrow()));
        if whole && !self.app.ready.get() && self.holdings.knows_listeners && has_identity {
            self.app.ready.set(true);
            tracing::info!(after_ms = self.app.started.elapsed().as_millis() as u64, "ready");
        }
        taken
    }

    // A listener whose address another program has is left out, and named; everything else goes on.
    fn remove_unbindable(&self, snapshot: &mut Snapshot) -> Vec<String> {
        let ours: BTreeSet<SocketAddr> = self.bound.iter().map(|(_, address)| *address).collect();
        let mut reasons = Vec::new();
        snapshot.listeners.retain(|name, listener| {
            if !listener.bind_to_port || ours.contains(&listener.address) {
                return true;
            }
            match self.network.probe(listener.address) {
                Ok(()) => true,
                Err(error) => {
                    reasons.push(format!("listener {name:?}: cannot listen on {}: {error}", listener.address));
                    false
                }
            }
        });
        reasons
    }

    // A socket per worker for each listener that is new or has moved.
    fn sockets(&mut self, plan: &Plan) -> Vec<Vec<(usize, SocketAddr, Bound)>> {
        let mut all: Vec<Vec<_>> = self.app.workers.iter().map(|_| Vec::new()).collect();
        self.bound.retain(|(slot, address)| worker::is_bound(plan, *slot, *address));
        for slot in 0..plan.listeners.len() {
            let Some(listener) = worker::bound(plan, slot) else { continue };
            let name = &listener.config.name;
            for address in listener.config.addresses() {
                if !self.bound.insert((slot, address)) {
                    continue;
                }
                for own in &mut all {
                    match self.network.bind(address) {
                        Ok(socket) => own.push((slot, address, socket)),
                        Err(error) => tracing::error!("listener {name:?}: cannot listen on {address}: {error}"),
                    }
                }
                tracing::info!(listener = %name, %address, "listening");
            }
        }
        all
    }

    // What DNS questions are answered with, when it is different from before.
    fn learn_names(&self, snapshot: &Snapshot) {
        let (Some(server), Some(names)) = (&self.dns, &snapshot.names) else { return };
        let before = self.app.snapshot.borrow().names.clone();
        if !before.is_some_and(|before| Arc::ptr_eq(&before, names)) {
            let book = Book::new(names, &self.app.identity.namespace, self.resolvers.search());
            *server.book.borrow_mut() = Arc::new(book);
        }
    }

    fn resolve(&mut self, snapshot: &Snapshot) {
        self.resolving.retain(|name, (cluster, task)| {
            let stays = snapshot.clusters.get(name).is_some_and(|newer| Arc::ptr_eq(newer, cluster));
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, cluster) in &snapshot.clusters {
            if dns::endpoints(cluster).is_some() && !self.resolving.contains_key(name) {
                let task = spawn_local(dns::follow(cluster.clone(), self.resolver.clone(), self.found.0.clone()));
                self.resolving.insert(name.clone(), (cluster.clone(), task.abort_handle()));
            }
        }
    }
}

// Where our own secrets come from, and the client of the control plane, which may be shown them.
fn reach(args: &Args, identity: &Identity) -> Result<(Option<watch::Receiver<OwnSecrets>>, Client)> {
    let (sender, issued) = watch::channel(OwnSecrets::default());
    let own = args.identity_dir.clone().map(own::follow_directory);
    let shown = own.clone().unwrap_or_else(|| issued.clone());
    let url = &args.control_plane;
    let dial = match Plane::new(url, shown).map_err(anyhow::Error::msg)? {
        None if args.has_agent() => anyhow::bail!("--control-plane {url}: certificates are given over https only"),
        None => xds::grpc::plaintext(url),
        Some(mut plane) => {
            plane.token.clone_from(&args.token_file);
            plane.roots.clone_from(&args.root_cert_file);
            plane.bootstrap.clone_from(&args.bootstrap_identity_dir);
            let plane = Arc::new(plane);
            if args.has_agent() {
                let service_account = args.service_account.clone();
                let expected = Expected { namespace: identity.namespace.clone(), service_account };
                spawn_local(Agent::new(plane.again(), expected, sender).run());
            }
            plane.dial()
        }
    };
    let options = ClientOptions { dial, address: url.clone(), node: node(identity), jitter: Box::new(jitter) };
    Ok((own.or(args.has_agent().then_some(issued)), xds::grpc::connect(options)))
}

/// Who we are, as the control plane is told.
pub fn node(identity: &Identity) -> xds::Node {
    codec::node::encode(&identity.node_id, &identity.workload, &identity.metadata)
}

// The secrets of our own, when they are others than before.
async fn renewed(own: &mut Option<watch::Receiver<OwnSecrets>>) -> OwnSecrets {
    if let Some(own) = own
        && own.changed().await.is_ok()
    {
        return own.borrow_and_update().clone();
    }
    // Whoever brought them has gone, or there is nobody: what is there stays.
    std::future::pending().await
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

// Spreads reconnects; any noise will do.
fn jitter() -> u32 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (time.as_nanos() as u32).wrapping_mul(0x9e37_79b9) ^ std::process::id()
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(error) => {
            tracing::warn!("SIGTERM cannot be caught: {error}");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
