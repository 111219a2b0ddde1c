//! A case without sockets and without real time: pods, proxy and client on one thread, joined by pipes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use config::{AccessLog, AccessLogFormat, RouteTable, Snapshot};
use futures::future::{BoxFuture, LocalBoxFuture};
use proxy::admin::{Pages, respond};
use proxy::dns_server::{Over, Server};
use proxy::identity::Identity;
use proxy::own::{OwnSecrets, secrets};
use proxy::resolvers::Resolvers;
use proxy::run::{App, Follower, Means, node};
use proxy::worker::{self, COMMANDS_MAX, Worker};
use serde_json::Value;
use suite::calls::{Around, By, call_all, holds};
use suite::mesh::{Proxied, Shown};
use suite::scene::{Scene, caller, fill_in, names, sockets};
use testkit::case::Case;
use testkit::serve::{Place, places, serve};
use testkit::stream::{Dial, Stream};
use testkit::wait;
use testkit::world::{World, lay_out};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use transport::memory::{Net, Pipe};
use transport::network::Network;
use words::Diagnostic;
use xds::TypeUrl;

use crate::compiled::{Plane, Told};
use crate::wire;

/// Every case has the same addresses: each has a network of its own.
const BLOCK: u8 = 10;
/// Where iptables would lead captured connections (DP01).
const CAPTURED_BY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15001);
/// The first port of the proxy's own that is chosen, not given.
const FIRST_PORT: u16 = 15080;
/// How long a configuration may take to be taken, of the clock that is not real.
const START: std::time::Duration = std::time::Duration::from_secs(20);

/// Call it before the first case: the clock that all workers of the process share must not begin on one that stands
/// still.
pub fn begin() {
    proxy::cluster::uptime();
}

/// A case with its addresses, the same in every run.
pub struct Laid {
    /// Objects and pods.
    pub world: World,
    /// The case's manifests, filled in.
    pub manifests: String,
    /// The caller's proxy and where calls go.
    pub caller: (Proxied, SocketAddr),
    /// Who the proxy says it is.
    pub identity: Arc<Identity>,
}

impl Laid {
    /// Lays a case out; files go into `folder`.
    pub fn out(case: &Case, folder: &Path) -> Result<Self> {
        let world = lay_out(case, BLOCK);
        let manifests = testkit::pki::fill_in(&fill_in(&case.manifests, &world), folder)?;
        let ports = std::cell::Cell::new(FIRST_PORT);
        let caller = caller(case, &world, &|| Ok(SocketAddr::new(world.client_ip, ports.replace(ports.get() + 1))))?;
        let mut arguments = vec!["sluice-proxy".to_owned(), "--control-plane".into(), "none".into()];
        arguments.extend(caller.0.arguments());
        let identity = Arc::new(proxy::args::Args::try_parse_from(arguments)?.identity()?);
        Ok(Self { world, manifests, caller, identity })
    }
}

/// How a case is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// The proxy runs without the case's objects first; then they come one after the other.
    pub late: bool,
    /// While the calls are made, a service that is none of theirs comes and goes.
    pub restless: bool,
    /// So many bytes wait in a pipe, instead of what is usual.
    pub pipe_bytes: Option<usize>,
    /// Chooses the random numbers; each case has its own besides.
    pub seed: u64,
}

/// How long connecting takes, of that clock: some cases are about what comes meanwhile.
const CONNECTING: std::time::Duration = std::time::Duration::from_millis(1);

/// How long what pods are slow with may take after the last call, of that clock.
const OVER: std::time::Duration = std::time::Duration::from_secs(60);

/// The service of a restless world.
const BYSTANDER: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bystander, namespace: bystanders}
spec:
  hosts: [bystander.example]
  ports: [{number: 9080, name: http, protocol: HTTP}, {number: 80, name: http-80, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.250.0.1}]
";

/// Plays a case on a `LocalSet`; what was not as expected, in words.
pub async fn play(case: &Case, manner: Manner) -> Result<Vec<String>> {
    let files = tempfile::tempdir()?;
    let net = Net::default();
    net.set_connecting(CONNECTING);
    manner.pipe_bytes.into_iter().for_each(|bytes| net.set_pipes(bytes));
    let laid = Laid::out(case, files.path())?;
    let (all, backends) = places(&laid.world);
    open_places(&net, case, &laid.world, all)?;
    let mut inside = Inside::start(case, &laid, &net, manner.seed, files.path())?;
    let (objects, manifests) = (laid.world.objects.clone(), laid.manifests);
    if manner.late {
        inside.publish(&objects, "", false).await?;
    }
    let diagnostics = inside.publish(&objects, &manifests, manner.late).await?;
    let restless = match manner.restless {
        true => Some(spawn_local(inside.disturbed(&objects, &manifests))),
        false => None,
    };
    let mut scene = Scene::new(case, laid.world, backends, laid.caller);
    scene.by = Some(Arc::new(Client(net)));
    let mut found = call_all(case, &scene, By::Sluice, &inside).await?;
    drop(scene);
    restless.inspect(|task| task.abort());
    if case.config.says_something() {
        found.extend(holds(case, &inside.page("/config_dump").await?));
    }
    let said: Vec<String> = diagnostics.iter().map(line).collect();
    let missing = case.diagnostics.iter().filter(|wanted| !said.contains(wanted));
    found.extend(missing.map(|wanted| format!("diagnostic {wanted} is missing; said: {said:?}")));
    found.extend(inside.finished().await.err().map(|error| format!("{error:#}")));
    if manner.late {
        inside.publish(&objects, "", true).await.context("without the case's objects again")?;
    }
    Ok(found)
}

/// The control plane and the proxy, asked directly.
struct Inside {
    plane: Plane,
    server: Rc<wire::Server>,
    app: Rc<App>,
    dns: Option<Rc<Server>>,
    log: PathBuf,
}

impl Inside {
    fn start(case: &Case, laid: &Laid, net: &Net, more: u64, folder: &Path) -> Result<Self> {
        let Laid { world, caller, identity, .. } = laid;
        let known = names(case, world)?;
        let resolvers = Resolvers::known(known.clone());
        let answer = move |question: &[u8]| testkit::dns::answer(question, &known);
        let dns = caller.0.dns.map(|_| Server::alone(Box::new(answer)));
        let network = Network::Memory(net.clone());
        let worker = Worker::new(identity.clone(), resolvers.clone(), network.clone(), seed(&case.name, more));
        worker.keys.allows_local.set(true);
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        spawn_local(worker::run(worker, commands));
        let app = Rc::new(App::new(identity.clone(), vec![sender], Box::new(|_| Ok(()))));
        let log = folder.join("access.log");
        let path = log.to_string_lossy().into_owned();
        let extra_log = Some(AccessLog { path, format: AccessLogFormat::Default, filter: None });
        let (client, server) = wire::connect(node(identity));
        let own = caller.0.identity.as_ref().map(|shown| own(shown)).transpose()?;
        let means = Means { network, resolvers, dns: dns.clone(), extra_log, own };
        spawn_local(Follower::new(app.clone(), means).follow(client));
        Ok(Self { plane: Plane::new(case, &node(identity))?, server: Rc::new(server), app, dns, log })
    }

    // Has the proxy obey what the files say now, all at once or object by object; what is said about the objects.
    async fn publish(&mut self, objects: &[Value], manifests: &str, one_by_one: bool) -> Result<Vec<Diagnostic>> {
        for change in self.plane.read(objects, manifests) {
            self.plane.apply(change);
            if one_by_one {
                self.server.publish(&self.plane.layers()).await;
            }
        }
        let Told { layers, snapshot, diagnostics } = self.plane.compile()?;
        self.server.publish(&layers).await;
        self.taken(&snapshot).await?;
        Ok(diagnostics)
    }

    // Brings and takes a service again and again, often at first.
    fn disturbed(&mut self, objects: &[Value], manifests: &str) -> impl Future<Output = ()> + use<> {
        let before = self.plane.layers();
        for change in self.plane.read(objects, &format!("{manifests}\n---\n{BYSTANDER}")) {
            self.plane.apply(change);
        }
        let after = self.plane.layers();
        let server = self.server.clone();
        async move {
            for count in 0_u64.. {
                tokio::time::sleep(std::time::Duration::from_millis(1 + count / 3)).await;
                server.publish(if count % 2 == 0 { &after } else { &before }).await;
            }
        }
    }

    // Waits until everything is acknowledged, the names too where they are wanted, and is what was compiled.
    async fn taken(&self, told: &Snapshot) -> Result<()> {
        wait::until("the proxy has taken its configuration", START, || async {
            let all = self.server.status.read();
            let refused: Vec<&str> =
                all.iter().map(|one| one.last_error.as_str()).filter(|said| !said.is_empty()).collect();
            if !refused.is_empty() {
                bail!("refused: {}", refused.join("; "));
            }
            let has_names = self.dns.is_none() || all[TypeUrl::NameTable.index()].subscribed;
            if !self.app.is_ready() || !has_names || !all.iter().all(xds::TypeStatus::is_synced) {
                bail!("not yet: {all:?}");
            }
            let obeyed = self.app.snapshot.borrow().clone();
            match different(told, &obeyed, self.dns.is_some()) {
                names if names.is_empty() => Ok(()),
                names => bail!("obeyed otherwise than it was compiled: {}", names.join(", ")),
            }
        })
        .await
    }

    // When the clients have gone, nothing is left of what they asked for.
    async fn finished(&self) -> Result<()> {
        wait::until("everything is over", OVER, || async {
            let all = self.page("/stats/prometheus").await?;
            let gauges = ["envoy_http_downstream_cx_active", "upstream_rq_active", "upstream_rq_pending_active"];
            let open = |line: &&str| !line.ends_with(" 0") && gauges.iter().any(|gauge| line.contains(gauge));
            match all.lines().filter(|line| !line.starts_with('#')).find(open) {
                None => Ok(()),
                Some(line) => bail!("{line}"),
            }
        })
        .await
    }
}

// The resources of a compiled snapshot that the proxy has otherwise or not at all, and those that it has besides. What no
// listener and no cluster names is not asked for.
fn different(told: &Snapshot, obeyed: &Snapshot, wants_names: bool) -> Vec<String> {
    fn of<T: PartialEq>(kind: &str, told: &Named<T>, obeyed: &Named<T>) -> Vec<String> {
        let wanted = told.keys().filter(|_| matches!(kind, "listener" | "cluster"));
        let names: BTreeSet<_> = wanted.chain(obeyed.keys()).collect();
        let others = names.into_iter().filter(|name| told.get(*name) != obeyed.get(*name));
        others.map(|name| format!("{kind} {name}")).collect()
    }
    let names = (wants_names && told.names != obeyed.names).then(|| vec!["the names".to_owned()]);
    let all = [
        of("listener", &told.listeners, &obeyed.listeners),
        of("table", &sorted(told), &sorted(obeyed)),
        of("cluster", &told.clusters, &obeyed.clusters),
        of("endpoints", &told.endpoints, &obeyed.endpoints),
        of("secret", &told.secrets, &sent(&obeyed.secrets)),
        names.unwrap_or_default(),
    ];
    all.concat()
}

// Those that came from the control plane.
fn sent(secrets: &Named<config::Secret>) -> Named<config::Secret> {
    let all = secrets.iter().filter(|(name, _)| !config::is_own_secret(name));
    all.map(|(name, secret)| (name.clone(), secret.clone())).collect()
}

// Hosts that travel on their own come in the order of their names; none matches what another one does.
fn sorted(snapshot: &Snapshot) -> Named<RouteTable> {
    let sort = |table: &RouteTable| {
        let mut table = table.clone();
        table.virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Arc::new(table)
    };
    snapshot.routes.iter().map(|(name, table)| (name.clone(), sort(table))).collect()
}

type Named<T> = BTreeMap<config::Name, Arc<T>>;

// What the proxy has of its own; it never changes.
fn own(shown: &Shown) -> Result<watch::Receiver<OwnSecrets>> {
    let secrets = secrets(shown.chain.as_bytes(), shown.key.as_bytes(), shown.roots.as_bytes());
    Ok(watch::channel(secrets.map_err(anyhow::Error::msg)?).1)
}

// The same numbers in every run of a case, others in other cases.
fn seed(name: &str, more: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ more.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn line(found: &Diagnostic) -> String {
    let object = found.object.as_ref();
    let (kind, namespace, name) = object.map_or(("", "", ""), |one| (&*one.kind, &*one.namespace, &*one.name));
    format!("{} {kind} {namespace}/{name}", found.code)
}

fn open_places(net: &Net, case: &Case, world: &World, all: Vec<Place>) -> io::Result<()> {
    for (path, pod, port) in sockets(case, world) {
        let there = all.iter().find(|place| place.address == SocketAddr::new(pod.ip, port));
        if let Some(place) = there {
            open(net, Place { address: transport::pipe::stand_in(&path), ..place.clone() })?;
        }
    }
    all.into_iter().try_for_each(|place| open(net, place))
}

fn open(net: &Net, place: Place) -> io::Result<()> {
    let Place { address, backend, tls } = place;
    if backend.behaviour.unreachable {
        net.silence(address);
        return Ok(());
    }
    let mut listener = net.listen(address)?;
    tokio::spawn(async move {
        while let Ok(pipe) = listener.accept().await {
            tokio::spawn(serve(stream(pipe), backend.clone(), tls.clone()));
        }
    });
    Ok(())
}

fn stream(pipe: Pipe) -> Stream {
    let local = pipe.ends().local;
    Stream::new(pipe, Some(local))
}

/// The test client.
struct Client(Net);

impl Dial for Client {
    fn dial(&self, target: SocketAddr, captured: bool, from: Option<IpAddr>) -> BoxFuture<'static, io::Result<Stream>> {
        let (net, from) = (self.0.clone(), from.unwrap_or(Ipv4Addr::LOCALHOST.into()));
        Box::pin(async move {
            let pipe = match captured {
                true => net.capture(from, target, CAPTURED_BY).await?,
                false => net.connect(from, target).await?,
            };
            Ok(stream(pipe))
        })
    }
}

impl Around for Inside {
    fn page<'a>(&'a self, path: &'a str) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let request = http::Request::get(path).body(())?;
            let response = respond(&self.app, Pages::All, &request).await;
            let status = response.status();
            let body = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            if status != 200 {
                bail!("{path} answered {status}: {text}");
            }
            Ok(text)
        })
    }

    fn log(&self) -> Option<Vec<String>> {
        // There is none before the first line.
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        Some(text.lines().map(str::to_owned).collect())
    }

    fn resolve(&self, question: Vec<u8>, tcp: bool) -> LocalBoxFuture<'_, Result<Vec<u8>>> {
        Box::pin(async move {
            let server = self.dns.as_ref().context("no name server")?;
            server.answer(&question, if tcp { Over::Tcp } else { Over::Udp }).await.context("no answer")
        })
    }
}
