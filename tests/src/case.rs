//! One case through real processes: its world in a folder, `sluiced` on it, a proxy, and the calls.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use testkit::call::Way;
use testkit::case::{Call, Case, Client, Expect, Lookup};
use testkit::dns::{NameServer, Names};
use testkit::expect::{Outcome, differences};
use testkit::process::free_address;
use testkit::serve::Servers;
use testkit::wait;
use testkit::world::{World, lay_out, to_yaml};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinSet;

use crate::mesh::{ControlPlane, Proxied, get, write};

/// A case laid out and its control plane running.
pub struct Stage {
    /// Addresses and objects.
    pub world: World,
    /// Pods that answer.
    pub servers: Servers,
    /// The control plane.
    pub plane: ControlPlane,
    /// The caller's proxy.
    pub who: Proxied,
    /// Where calls go.
    pub target: SocketAddr,
    /// What the client was given to keep.
    pub jar: Jar,
    /// Who calls.
    client: Client,
    /// Connections that calls hold until the case is over.
    held: RefCell<Vec<Arc<TcpStream>>>,
    _names: Option<NameServer>,
    _sockets: JoinSet<()>,
    /// Certificates in files.
    _files: tempfile::TempDir,
}

impl Stage {
    /// Where a call goes: to what a captured client dials, to the port of a gateway for bytes, else to the proxy.
    pub fn way(&self, call: &Call) -> Result<Way> {
        // A port of the proxy's own.
        if let Some(port) = call.port {
            return Ok(Way { target: SocketAddr::new(self.world.client_ip, port), captured: false });
        }
        let authority = testkit::call::authority(call)?;
        let is_http = !["TCP ", "TLS "].iter().any(|kind| call.request.starts_with(kind));
        let port = authority.port_u16().unwrap_or(80);
        if self.client.captured {
            let dialled = self.world.dial(authority.host(), &self.client.namespace);
            let ip = dialled.with_context(|| format!("{authority} is no Service of the case"))?;
            return Ok(Way { target: SocketAddr::new(ip, port), captured: true });
        }
        let target = match is_http {
            true if testkit::call::is_https(call) => {
                SocketAddr::new(self.target.ip(), authority.port_u16().unwrap_or(GATEWAY_TLS_PORT))
            }
            true => self.target,
            false => SocketAddr::new(self.target.ip(), port),
        };
        Ok(Way { target, captured: false })
    }
}

fn names(case: &Case, world: &World) -> Result<Names> {
    let read = |(name, list): (&String, &Vec<String>)| {
        let addresses: Result<Vec<IpAddr>, _> = list.iter().map(|text| fill_in(text, world).parse()).collect();
        Ok((name.clone(), addresses.with_context(|| format!("addresses of {name}"))?))
    };
    case.names.iter().map(read).collect()
}

/// Writes a case's world, starts its pods and a control plane. `block` keeps addresses of cases that run at the same
/// time apart.
pub async fn set(case: &Case, block: u8, folder: &Path) -> Result<Stage> {
    let world = lay_out(case, block);
    write(folder, "world.yaml", &to_yaml(&world.objects))?;
    let files = tempfile::tempdir()?;
    let manifests = testkit::pki::fill_in(&fill_in(&case.manifests, &world), files.path())?;
    write(folder, "case.yaml", &manifests)?;
    let servers = testkit::serve::start(&world).await?;
    let folder_text = folder.to_string_lossy();
    let mut source = vec!["--config-dir", &folder_text, "--serve-secrets"];
    if let Some(policy) = &case.mesh.outbound_traffic_policy {
        source.extend(["--outbound-traffic-policy", policy]);
    }
    if case.mesh.locality_lb == Some(false) {
        source.extend(["--locality-lb", "false"]);
    }
    source.extend(case.mesh.arguments.iter().map(String::as_str));
    let sockets = sockets(case, &world)?;
    let plane = ControlPlane::start(&source).await?;
    let (mut who, target) = caller(case, &world)?;
    let names = match case.names.is_empty() && case.lookups.is_empty() {
        true => None,
        false => {
            let address = free_address(&world.client_ip.to_string())?;
            who.resolver = Some(address);
            Some(testkit::dns::serve(address, names(case, &world)?).await?)
        }
    };
    Ok(Stage {
        world,
        servers,
        plane,
        who,
        target,
        client: case.client.clone(),
        held: RefCell::default(),
        jar: Jar::default(),
        _names: names,
        _sockets: sockets,
        _files: files,
    })
}

/// Manifests with the addresses of this run: `POD_IP_<n>` is the first pod of the n-th service, `POD_IP_<n>_<m>` its m-th;
/// `POD_SOCKET_<n>` a Unix socket that leads to the first one; `PROXY_IP` is the calling proxy's own address.
pub fn fill_in(manifests: &str, world: &World) -> String {
    let IpAddr::V4(base) = world.client_ip else { return manifests.to_owned() };
    let block = base.octets()[1];
    let each = (1..=9).flat_map(|n| (1..=9).map(move |m| (n, m)));
    let filled = each.fold(manifests.to_owned(), |text, (n, m)| {
        text.replace(&format!("POD_IP_{n}_{m}"), &format!("127.{block}.{n}.{m}"))
    });
    let filled = (1..=9).fold(filled, |text, n| text.replace(&format!("POD_IP_{n}"), &format!("127.{block}.{n}.1")));
    let filled = (1..=9).fold(filled, |text, n| text.replace(&format!("POD_SOCKET_{n}"), &socket_path(world, n)));
    filled.replace("CLIENT_IP", "127.0.0.1").replace("PROXY_IP", &world.client_ip.to_string())
}

fn socket_path(world: &World, n: usize) -> String {
    let name = format!("sluice-{}-{}-{n}.sock", std::process::id(), world.client_ip);
    std::env::temp_dir().join(name).to_string_lossy().into_owned()
}

// The Unix sockets that a case's manifests name, each leading to the first pod of its service.
fn sockets(case: &Case, world: &World) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for (index, service) in case.services.iter().enumerate() {
        let n = index + 1;
        let pod = world.pods.iter().find(|pod| pod.name.starts_with(&format!("{}-", service.name)));
        let Some(pod) = pod.filter(|_| case.manifests.contains(&format!("POD_SOCKET_{n}"))) else { continue };
        let port = pod.ports.first().map_or(0, |(port, _)| *port);
        let (path, address) = (socket_path(world, n), SocketAddr::new(pod.ip, port));
        // Of an earlier case at the same place.
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(&path).with_context(|| format!("pod {} at {path}", pod.name))?;
        tasks.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Ok(mut pod) = TcpStream::connect(address).await else { continue };
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut pod).await });
            }
        });
    }
    Ok(tasks)
}

/// Why a case with a captured client is skipped.
pub const NO_NETWORK: &str = "a network namespace with iptables cannot be made (needs root, ip and iptables)";

/// The port that gateway cases use.
pub const GATEWAY_PORT: u16 = 8080;
/// The port of `https` calls that name none.
pub const GATEWAY_TLS_PORT: u16 = 8443;

fn caller(case: &Case, world: &World) -> Result<(Proxied, SocketAddr)> {
    let ip = world.client_ip;
    let labels = case.client.labels.clone().into_iter().collect();
    let namespace = case.client.namespace.clone();
    if case.client.gateway {
        let who = Proxied {
            role: "router",
            pod: "client".into(),
            namespace,
            ip,
            labels,
            outbound: None,
            bind_ip: Some(ip),
            app_ip: None,
            captured: false,
            resolver: None,
            dns: None,
        };
        return Ok((who, SocketAddr::new(ip, GATEWAY_PORT)));
    }
    if case.client.captured {
        // Nothing is dialled but what the calls name.
        let who = Proxied {
            role: "sidecar",
            pod: "client".into(),
            namespace,
            ip,
            labels,
            outbound: None,
            bind_ip: None,
            app_ip: None,
            resolver: None,
            dns: None,
            captured: true,
        };
        return Ok((who, SocketAddr::new(ip, 0)));
    }
    let outbound = free_address(&ip.to_string())?;
    let named = |name: &String| {
        let pod = world.pods.iter().find(|pod| pod.name == *name);
        pod.with_context(|| format!("the client's application {name} is no pod"))
    };
    let app = case.client.app.as_ref().map(named).transpose()?;
    let who = Proxied {
        role: "sidecar",
        pod: "client".into(),
        namespace,
        ip,
        labels,
        outbound: Some(outbound),
        bind_ip: None,
        app_ip: app.map(|pod| pod.ip),
        resolver: None,
        dns: (!case.lookups.is_empty()).then(|| free_address(&ip.to_string())).transpose()?,
        captured: false,
    };
    Ok((who, outbound))
}

/// Which proxy runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Ours.
    Sluice,
    /// Stock Envoy.
    Envoy,
}

/// Makes the calls of a case at `target`; the differences in words.
pub async fn call_all(
    case: &Case,
    stage: &Stage,
    by: By,
    admin: SocketAddr,
    log: &dyn Fn() -> Vec<String>,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut begun = Vec::new();
    if let (By::Sluice, Some(server)) = (by, stage.who.dns) {
        for lookup in &case.lookups {
            found.extend(ask(lookup, server, &stage.world).await.with_context(|| lookup.name.clone())?);
        }
    }
    for call in &case.calls {
        let expect = match (&call.envoy, by) {
            (Some(expect), By::Envoy) => expect,
            _ => &call.expect,
        };
        let expect = settle(call, expect, stage)?;
        if call.background {
            begun.push((call, expect, Background::begin(call, stage).await?));
            found.extend(read_admin(call, stage, admin).await);
            continue;
        }
        let before = counts(stage);
        let outcomes = settled(call, &expect, stage, log).await.with_context(|| call.request.clone())?;
        found.extend(said(call, differences(&expect, &outcomes)));
        found.extend(said(call, copies(&expect, call.times, stage, &before).await));
        found.extend(read_admin(call, stage, admin).await);
    }
    for (call, expect, background) in begun {
        let outcome = background.finish(log).await.with_context(|| call.request.clone())?;
        found.extend(said(call, differences(&expect, &[outcome])));
    }
    Ok(found)
}

fn said(call: &Call, differences: Vec<String>) -> impl Iterator<Item = String> {
    differences.into_iter().map(|difference| format!("{} {:?}: {difference}", call.request, call.headers))
}

// The outcomes of a call; of one that may take some tries, the last ones.
async fn settled(call: &Call, expect: &Expect, stage: &Stage, log: &dyn Fn() -> Vec<String>) -> Result<Vec<Outcome>> {
    let deadline = std::time::Instant::now() + EVENTUALLY;
    loop {
        let outcomes = match call.connections {
            0 => call_many(call, stage, log).await?,
            _ => {
                let answers = testkit::call::send_many(stage.way(call)?, call).await?;
                answers.into_iter().map(Outcome::of).collect()
            }
        };
        let is_over = !call.eventually || std::time::Instant::now() > deadline;
        if is_over || differences(expect, &outcomes).is_empty() {
            return Ok(outcomes);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

// The lines that a call expects of admin pages; what is missing in words.
async fn read_admin(call: &Call, stage: &Stage, admin: SocketAddr) -> Vec<String> {
    let mut found = Vec::new();
    for one in &call.admin {
        let line = one.line.as_ref().map(|line| fill_in(line, &stage.world));
        let is_there = wait::until("an admin page as expected", EVENTUALLY, || async {
            let page = get(admin, &one.path).await?;
            let page = String::from_utf8_lossy(&page);
            if let Some(line) = line.as_ref().filter(|line| !page.lines().any(|have| have.trim() == line.as_str())) {
                // What the line is about, and what is said of it instead.
                let subject = line.rsplit_once(':').map_or(line.as_str(), |(subject, _)| subject);
                let instead: Vec<&str> = page.lines().filter(|have| have.contains(subject)).take(5).collect();
                bail!("no line {line:?} in {}; instead {instead:?}", one.path);
            }
            if let Some(text) = one.without.as_ref().filter(|text| page.contains(text.as_str())) {
                bail!("{text:?} is in {}", one.path);
            }
            Ok(())
        })
        .await;
        found.extend(is_there.err().map(|error| format!("after {}: {error:#}", call.request)));
    }
    found
}

/// A call that is under way.
struct Background {
    answer: tokio::task::JoinHandle<Result<testkit::call::Answered>>,
    id: Option<String>,
}

impl Background {
    /// Makes it; without admin lines to wait for, until it has reached a pod.
    async fn begin(call: &Call, stage: &Stage) -> Result<Self> {
        let mut call = call.clone();
        let id = (call.expect.flags.is_some() && HAS_LOG.get()).then(next_id);
        call.headers.extend(id.clone().map(|id| ("x-request-id".to_owned(), id)));
        let asked = || stage.servers.backends.iter().map(|backend| backend.count()).sum::<u32>();
        let before = asked();
        let (way, waits) = (stage.way(&call)?, call.admin.is_empty());
        let answer = tokio::spawn(async move { testkit::call::send(way, &call).await });
        if waits {
            wait::until("a pod is asked", EVENTUALLY, || async {
                if asked() > before { Ok(()) } else { Err("not yet") }
            })
            .await?;
        }
        Ok(Self { answer, id })
    }

    async fn finish(self, log: &dyn Fn() -> Vec<String>) -> Result<Outcome> {
        let mut outcome = Outcome::of(self.answer.await??);
        if let Some(id) = self.id {
            read_log(&mut outcome, &id, log).await?;
        }
        Ok(outcome)
    }
}

/// How long what must come sooner or later may take.
const EVENTUALLY: std::time::Duration = std::time::Duration::from_secs(10);

/// What a configuration holds against a case, in words.
pub fn holds(case: &Case, dump: &str) -> Vec<String> {
    let missing = case.config.has.iter().filter(|text| !dump.contains(text.as_str()));
    let missing = missing.map(|text| format!("config_dump has no {text:?}"));
    let hidden = case.config.lacks.iter().filter(|text| dump.contains(text.as_str()));
    missing.chain(hidden.map(|text| format!("config_dump has {text:?}, which must not be there"))).collect()
}

async fn ask(lookup: &Lookup, server: SocketAddr, world: &World) -> Result<Vec<String>> {
    let Lookup { name, record, tcp, code, addresses, alias_of, ttl } = lookup;
    let got = testkit::dns::ask(server, name, record, *tcp).await?;
    let mut found = Vec::new();
    if got.code != *code {
        found.push(format!("lookup {name} {record}: expected {code}, got {got:?}"));
    }
    let begins = |want: &str, got: &str| want == got || (want.ends_with(['.', ':']) && got.starts_with(want));
    let wanted: Vec<String> = addresses.iter().map(|text| fill_in(text, world)).collect();
    let given: Vec<String> = got.addresses.iter().map(ToString::to_string).collect();
    let fits = wanted.len() == given.len()
        && wanted.iter().all(|want| given.iter().any(|got| begins(want, got)))
        && given.iter().all(|got| wanted.iter().any(|want| begins(want, got)));
    if !fits {
        found.push(format!("lookup {name} {record}: expected {wanted:?}, got {given:?}"));
    }
    if alias_of.is_some() && got.alias_of != *alias_of {
        found.push(format!("lookup {name} {record}: expected another name of {alias_of:?}, got {:?}", got.alias_of));
    }
    if ttl.is_some() && got.ttl != *ttl {
        found.push(format!("lookup {name} {record}: expected a TTL of {ttl:?}, got {:?}", got.ttl));
    }
    Ok(found)
}

// Addresses in expectations, as in manifests.
fn settle(call: &Call, expect: &Expect, stage: &Stage) -> Result<Expect> {
    let mut expect = expect.clone();
    if let Some(placement) = &expect.placement {
        expect.each = placement.pods(&stage.world, call.times)?;
    }
    for value in expect.seen.values_mut().chain(expect.headers.values_mut()).flatten() {
        *value = fill_in(value, &stage.world);
    }
    for value in expect.seen_parts.values_mut() {
        *value = testkit::pki::fill_in(value, Path::new("/nonexistent")).unwrap_or_default();
    }
    Ok(expect)
}

// One of the calls: its number where `{n}` stands.
fn numbered(call: &Call, number: u32) -> Call {
    let fill = |text: &str| text.replace("{n}", &number.to_string());
    Call {
        request: fill(&call.request),
        headers: call.headers.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
        from: call.from.as_deref().map(fill),
        ..call.clone()
    }
}

/// What a client was given to keep, over the calls of a case.
type Jar = std::cell::RefCell<std::collections::BTreeMap<String, String>>;

// Puts the pairs of `set-cookie` into the jar.
fn keep(jar: &Jar, headers: &http::HeaderMap) {
    for value in headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()) {
        let pair = value.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            jar.borrow_mut().insert(name.to_owned(), value.to_owned());
        }
    }
}

async fn call_many(call: &Call, stage: &Stage, log: &dyn Fn() -> Vec<String>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let is_logged = call.expect.flags.is_some() || call.expect.route.is_some() || call.expect.origin.is_some();
    for number in 1..=call.times {
        let mut call = numbered(call, number);
        call.request = fill_in(&call.request, &stage.world);
        if call.cookies {
            let pairs: Vec<String> = stage.jar.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
            call.headers.extend((!pairs.is_empty()).then(|| ("cookie".to_owned(), pairs.join("; "))));
        }
        let id = (is_logged && HAS_LOG.get()).then(next_id);
        call.headers.extend(id.clone().map(|id| ("x-request-id".to_owned(), id)));
        let asked = || {
            let all = stage.servers.backends.iter();
            all.filter(|one| !call.expect.mirrored.contains_key(&one.name)).map(|one| one.count()).sum::<u32>()
        };
        let (before, started) = (asked(), std::time::Instant::now());
        let answer = testkit::call::send(stage.way(&call)?, &call).await?;
        keep(&stage.jar, &answer.headers);
        stage.held.borrow_mut().extend(answer.connection.held.clone());
        let mut outcome = Outcome::of(answer);
        outcome.elapsed = started.elapsed();
        outcome.attempts = Some(asked() - before);
        // A connection has no id; its client's address is in the log.
        let id = match outcome.connection.from {
            Some(from) => id.map(|_| format!(" {from} ")),
            None => id,
        };
        if let Some(id) = id {
            read_log(&mut outcome, &id, log).await?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn counts(stage: &Stage) -> Vec<u32> {
    stage.servers.backends.iter().map(|backend| backend.count()).collect()
}

// Copies come when they come: what is wrong with them is said only when it stays wrong.
async fn copies(expect: &Expect, calls: u32, stage: &Stage, before: &[u32]) -> Vec<String> {
    let mut found = Vec::new();
    for (pod, expect) in &expect.mirrored {
        let Some(place) = stage.servers.backends.iter().position(|backend| backend.name == *pod) else {
            found.push(format!("there is no pod {pod}"));
            continue;
        };
        let backend = &stage.servers.backends[place];
        let compared = wait::until("copies of the requests", EVENTUALLY, || async {
            let count = backend.count() - before[place];
            testkit::expect::compare_mirrored(pod, expect, calls, count, backend.last().as_ref())
        });
        found.extend(compared.await.err().map(|error| error.to_string()));
    }
    found
}

// An id that no other call of this process has, to find its line in the access log.
fn next_id() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    format!("00000000-0000-4000-8000-{:012}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

// The access log's line of this call; written a moment after the answer.
async fn read_log(outcome: &mut Outcome, id: &str, log: &dyn Fn() -> Vec<String>) -> Result<()> {
    let what = "a line in the access log";
    let line = testkit::wait::until(what, std::time::Duration::from_secs(5), || async {
        log().into_iter().find(|line| line.contains(id)).ok_or("none yet")
    })
    .await?;
    let Some((flags, route, origin)) = parse_line(&line) else { bail!("not an access log line: {line}") };
    (outcome.flags, outcome.route, outcome.origin) = (Some(flags), Some(route), Some(origin));
    Ok(())
}

/// Runs a case that is made by `run`, on a thread with a network of its own when its client is captured; `None` when
/// the machine cannot make one.
pub fn in_its_network<F: Future<Output = Result<()>>>(case: &Case, run: impl Fn() -> F + Send) -> Result<Option<()>> {
    let run = move || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run());
    match case.client.captured {
        true => testkit::netns::run(run),
        false => run().map(Some),
    }
}

thread_local! {
    /// True while the log given to `call_all` is a real one.
    pub static HAS_LOG: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Flags, route name and origin of an access log line in the default form.
pub fn parse_line(line: &str) -> Option<(String, String, String)> {
    // [time] "GET /x HTTP/1.1" 200 - details …: the flags are the second word after the request's quotes.
    let rest = line.splitn(3, '"').nth(2)?;
    let flags = rest.split_whitespace().nth(1)?.to_owned();
    let tail: Vec<&str> = line.rsplit('"').next()?.split_whitespace().collect();
    // … cluster local downstream-local downstream-remote sni route [origin words]
    let route = tail.get(5)?.to_string();
    let origin = tail.get(6..).map(|words| words.join(" ")).unwrap_or_default();
    Some((flags, route, origin))
}
