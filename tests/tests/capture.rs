//! Traffic capture end to end: applications without any proxy settings in network namespaces, the rules that
//! `sluice-proxy iptables` makes, `sluice-proxy` beside them (DP02 to DP05). `scripts/netns.sh` makes the namespaces; nothing leaves them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use suite::mesh::{START, get, write};
use suite::skip::skip;
use testkit::call::{Answered, send};
use testkit::case::Call;
use testkit::process::{Process, program, workspace};
use testkit::wait;

/// The proxies' user, whose own connections are not captured.
const UID: &str = "1337";
/// Pods in the order of their addresses, 10.77.0.10 and up.
const PODS: [&str; 4] = ["client", "server", "outside", "control"];
const SERVER: &str = "10.77.0.11";
const SERVER_V6: &str = "fd00::11";
const OUTSIDE: &str = "10.77.0.12";
const CONTROL: &str = "10.77.0.13";
const SOON: Duration = Duration::from_secs(10);

/// The namespaces; they go when it is dropped.
struct Net(String);

impl Net {
    /// `None` when this machine cannot make one.
    fn up(name: &str) -> Result<Option<Self>> {
        let net = Self(format!("{name}-{}", std::process::id()));
        let output = net.script(&[&["up", &net.0][..], &PODS].concat())?;
        match output.status.code() {
            Some(0) => Ok(Some(net)),
            // Nothing was made.
            Some(77) => {
                std::mem::forget(net);
                Ok(None)
            }
            _ => bail!("netns.sh up: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Gives pods addresses of IPv6 too, fd00::10 and up; false when this machine has none.
    fn add_v6(&self) -> Result<bool> {
        for (number, pod) in PODS.iter().enumerate() {
            let address = format!("fd00::{}/64", 10 + number);
            let add = ["run", &self.0, pod, "ip", "address", "add", &address, "dev", "eth0", "nodad"];
            if !self.script(&add)?.status.success() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn script(&self, args: &[&str]) -> Result<std::process::Output> {
        Command::new(script()).args(args).output().context("scripts/netns.sh")
    }

    /// Captures a pod as its init container does.
    fn capture(&self, pod: &str, more: &[&str]) -> Result<()> {
        let flags = ["-p", "15001", "-z", "15006", "-u", UID, "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*"];
        let excluded = ["-d", "15090,15021,15020"];
        let program = program("sluice-proxy")?.to_string_lossy().into_owned();
        let run = ["run", &self.0, pod, &program, "iptables"];
        let output = self.script(&[&run[..], &flags, &excluded, more].concat())?;
        match output.status.success() {
            true => Ok(()),
            false => bail!("sluice-proxy iptables in {pod}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// The rules of a pod, as a program lists them, without comments and counters of packets.
    fn rules(&self, pod: &str, program: &[&str]) -> Result<String> {
        let output = self.script(&[&["run", &self.0, pod], program].concat())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter(|line| !line.starts_with(['#', ':'])).map(|line| format!("{line}\n")).collect())
    }

    /// Starts a program of ours in a pod, as the proxies' user.
    fn start(&self, pod: &str, name: &str, args: &[String]) -> Result<Process> {
        let program = program(name)?.to_string_lossy().into_owned();
        let user = ["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups"].map(str::to_owned);
        let run = ["run", &self.0, pod].map(str::to_owned);
        Process::start(&script(), [&run[..], &user, &[program], args].concat())
    }

    /// Runs something in a pod, on a thread that goes with it.
    fn inside<T: Send, F: Future<Output = Result<T>>>(&self, pod: &str, work: impl FnOnce() -> F + Send) -> Result<T> {
        let place = self.place(pod);
        let run = || {
            testkit::netns::join(&File::open(&place)?)?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
        };
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| bail!("it panicked"))
    }

    fn place(&self, pod: &str) -> PathBuf {
        Path::new("/run/netns").join(format!("sluice.{}.{pod}", self.0))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What cannot be removed is removed by the next run with this name.
        let _ = self.script(&["down", &self.0]);
    }
}

/// Asks for nft instead of iptables.
const NFT: &[&str] = &["--native-nftables"];

fn has_nft() -> bool {
    ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].iter().any(|file| Path::new(file).exists())
}

fn script() -> PathBuf {
    workspace().join("scripts/netns.sh")
}

/// Applications in a pod; they end when it is dropped.
struct Apps(Option<tokio::sync::oneshot::Sender<()>>, Option<std::thread::JoinHandle<()>>);

impl Apps {
    fn start(net: &Net, pod: &str, strangers: &str) -> Result<Self> {
        let strangers: Vec<testkit::case::Stranger> = serde_saphyr::from_str(strangers)?;
        let place = net.place(pod);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let serve = || -> Result<()> {
                testkit::netns::join(&File::open(&place)?)?;
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                    let _servers = testkit::serve::start(&testkit::world::World::of_strangers(strangers)).await?;
                    let _ = ready.send(());
                    // Ends when the sender does.
                    let _ = stopped.await;
                    Ok(())
                })
            };
            serve().unwrap();
        });
        is_ready.recv().context("the applications did not start")?;
        Ok(Self(Some(stop), Some(thread)))
    }
}

impl Drop for Apps {
    fn drop(&mut self) {
        drop(self.0.take());
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

const WORLD: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, selector: {app: server}, ports: [{name: http, port: 80, targetPort: 9080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.96.0.2, selector: {app: server}, ports: [{name: tcp, port: 3306, targetPort: 3306}]}
---
apiVersion: v1
kind: Service
metadata: {name: any}
spec: {clusterIP: 10.96.0.3, selector: {app: server}, ports: [{name: something, port: 7000, targetPort: 7000}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - match: [{uri: {exact: /fixed}}]
    directResponse: {status: 418}
  - route: [{destination: {host: web}}]
"#;

fn objects() -> String {
    let slice = |service: &str, name: &str, port: u16| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}\n\
             endpoints: [{{addresses: [{SERVER}], targetRef: {{kind: Pod, name: server}}}}]\n\
             ports: [{{name: {name}, port: {port}}}]\n"
        )
    };
    let pod = |name: &str, ip: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\n\
             status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}]}}\n"
        )
    };
    let slices = slice("web", "http", 9080) + &slice("db", "tcp", 3306) + &slice("any", "something", 7000);
    format!("{WORLD}{slices}{}{}", pod("client", "10.77.0.10"), pod("server", SERVER))
}

const REGISTRY_ONLY: &str = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default}\nspec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n";

/// Everything that runs; ends in this order.
struct Mesh {
    proxies: Vec<Process>,
    _plane: Process,
    _apps: Vec<Apps>,
    folder: tempfile::TempDir,
    net: Net,
}

impl Mesh {
    /// `dual`: pods have addresses of both families.
    fn start(net: Net, dual: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests)?;
        write(&manifests, "world.yaml", &objects())?;
        let v6 = match dual {
            true => format!(
                ", {{name: web6, address: '[{SERVER_V6}]:9080'}}, {{name: unlisted6, address: '[{SERVER_V6}]:9999'}}"
            ),
            false => String::new(),
        };
        let apps = vec![
            Apps::start(
                &net,
                "server",
                &format!(
                    "[{{name: web, address: '{SERVER}:9080'}}, {{name: db, address: '{SERVER}:3306', behaviour: {{greets: welcome}}}}, \
                     {{name: any, address: '{SERVER}:7000'}}, {{name: unlisted, address: '{SERVER}:9999'}}{v6}]"
                ),
            )?,
            Apps::start(&net, "outside", &format!("[{{name: stranger, address: '{OUTSIDE}:7777'}}]"))?,
        ];
        let text = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let (xds, http) = (format!("{CONTROL}:15010"), format!("{CONTROL}:15014"));
        let source = manifests.to_string_lossy();
        let args = text(&["--xds-address", &xds, "--http-address", &http, "--config-dir", &source]);
        let plane = net.start("control", "sluiced", &args)?;
        ready(&net, "sluiced", &http, "/healthz/ready").with_context(|| plane.tail())?;
        let mut mesh = Self { proxies: Vec::new(), _plane: plane, _apps: apps, folder, net };
        for (index, pod) in ["client", "server"].into_iter().enumerate() {
            // The server by nft, where there is one: the same rules in the other language.
            mesh.net.capture(pod, if pod == "server" && has_nft() { NFT } else { &[] })?;
            let node = format!("sidecar~10.77.0.{}~{pod}.default~default.svc.cluster.local", 10 + index);
            let log = mesh.log_of(pod).to_string_lossy().into_owned();
            let plane = format!("http://{xds}");
            let ips = format!("10.77.0.{0},fd00::{0}", 10 + index);
            let more = if dual { vec!["--instance-ips", &ips] } else { Vec::new() };
            let args = text(&[
                "--node",
                &node,
                "--control-plane",
                &plane,
                "--interception",
                "redirect",
                "--concurrency",
                "1",
                "--access-log",
                &log,
            ]);
            let proxy = mesh.net.start(pod, "sluice-proxy", &[args, text(&more)].concat())?;
            let status = format!("10.77.0.{}:15021", 10 + index);
            ready(&mesh.net, pod, &status, "/healthz/ready").with_context(|| proxy.tail())?;
            mesh.proxies.push(proxy);
        }
        Ok(mesh)
    }

    fn log_of(&self, pod: &str) -> PathBuf {
        self.folder.path().join(format!("{pod}.log"))
    }

    /// What an application in a pod gets when it dials `to` and says so.
    fn call(&self, pod: &str, to: &str, call: &str) -> Result<Answered> {
        let call: Call = serde_saphyr::from_str(call)?;
        let target: std::net::SocketAddr = to.parse()?;
        self.net.inside(pod, || async move { send(target, &call).await })
    }

    /// Waits for a line in a proxy's access log that has all of `parts`.
    fn logged(&self, pod: &str, parts: &[&str]) -> Result<()> {
        let log = self.log_of(pod);
        eventually("a line in the access log", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            match text.lines().any(|line| parts.iter().all(|part| line.contains(part))) {
                true => Ok(()),
                false => bail!("no line with {parts:?} in {pod}'s:\n{text}"),
            }
        })
    }
}

fn eventually(what: &str, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(wait::until(what, SOON, || std::future::ready(ask())))
}

fn ready(net: &Net, what: &str, address: &str, path: &str) -> Result<()> {
    let address: std::net::SocketAddr = address.parse()?;
    net.inside("control", || async move {
        wait::until(&format!("{what} is ready"), START, || get(address, path)).await.map(|_| ())
    })
}

fn to(answer: &Answered) -> String {
    let seen: Option<testkit::backend::Seen> = serde_json::from_slice(&answer.body).ok();
    seen.map_or_else(|| format!("nobody ({})", answer.status), |seen| seen.pod)
}

fn http(mesh: &Mesh, pod: &str, target: &str, url: &str) -> Result<Answered> {
    mesh.call(pod, target, &format!("{{request: GET {url}, expect: {{}}}}"))
}

fn bytes(mesh: &Mesh, pod: &str, target: &str, more: &str) -> Result<Answered> {
    mesh.call(pod, target, &format!("{{request: 'TCP {target}', expect: {{}}{more}}}"))
}

#[test]
fn dp05_applications_are_captured_both_ways() {
    // Output of the processes is read by tasks of this runtime, on a thread of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let Some(net) = Net::up("capture").unwrap() else {
        return skip("capture", "network namespaces cannot be made (needs root, ip netns and iptables)");
    };
    let mesh = Mesh::start(net, false).unwrap();
    requests_and_bytes(&mesh).unwrap();
    unknown_destinations(&mesh).unwrap();
    inbound(&mesh).unwrap();
    loops(&mesh).unwrap();
}

/// A pod with addresses of both families is in the mesh with both.
#[test]
fn dp05_capture_in_both_families() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let Some(net) = Net::up("dual").unwrap() else {
        return skip("capture", "network namespaces cannot be made (needs root, ip netns and iptables)");
    };
    if !net.add_v6().unwrap() {
        return skip("capture", "this machine has no IPv6");
    }
    let mesh = Mesh::start(net, true).unwrap();
    // IPv4 as before.
    assert_eq!(to(&http(&mesh, "client", "10.96.0.1:80", "http://web/").unwrap()), "web");
    // Out: an address of IPv6, a port that has rules.
    assert_eq!(http(&mesh, "client", "[fd00::99]:80", "http://web/fixed").unwrap().status, 418);
    // Out and in: a port of no Service, and one of a Service, which the application takes over IPv6 itself.
    let unlisted = format!("[{SERVER_V6}]:9999");
    assert_eq!(to(&bytes(&mesh, "client", &unlisted, "").unwrap()), "unlisted6");
    mesh.logged("client", &["PassthroughCluster", &unlisted]).unwrap();
    mesh.logged("server", &["InboundPassthroughCluster", &unlisted]).unwrap();
    let answer = http(&mesh, "outside", &format!("[{SERVER_V6}]:9080"), "http://web/").unwrap();
    assert_eq!((answer.status, to(&answer).as_str()), (200, "web6"));
    mesh.logged("server", &["GET / HTTP/1.1", "inbound|9080||", "[::6]"]).unwrap();
    // The proxy's own ports.
    ready(&mesh.net, "server", &format!("[{SERVER_V6}]:15021"), "/healthz/ready").unwrap();
}

/// What init containers are for: a second run, after a restart, changes nothing; and nothing else is touched.
#[test]
fn dp05_capture_is_made_once_however_often_it_is_asked_for() {
    let Some(net) = Net::up("rules").unwrap() else {
        return skip("capture", "network namespaces cannot be made (needs root, ip netns and iptables)");
    };
    let foreign = ["run", &net.0, "client", "iptables", "-t", "nat", "-A", "OUTPUT", "-d", "10.9.9.9", "-j", "ACCEPT"];
    assert!(net.script(&foreign).unwrap().status.success());
    for (pod, address) in [("client", "fd00::10/64"), ("server", "fd00::11/64")] {
        let add = ["run", &net.0, pod, "ip", "address", "add", address, "dev", "eth0", "nodad"];
        assert!(net.script(&add).unwrap().status.success());
    }
    for program in [&["iptables-save"], &["ip6tables-save"]] {
        net.capture("client", &[]).unwrap();
        let first = net.rules("client", program).unwrap();
        for jump in ["-A PREROUTING -p tcp -j ISTIO_INBOUND\n", "-A OUTPUT -p tcp -j ISTIO_OUTPUT\n"] {
            assert_eq!(first.matches(jump).count(), 1, "{program:?} {first}");
        }
        net.capture("client", &[]).unwrap();
        assert_eq!(net.rules("client", program).unwrap(), first, "{program:?}");
    }
    if has_nft() {
        net.capture("server", NFT).unwrap();
        let first = net.rules("server", &["nft", "list", "ruleset"]).unwrap();
        assert!(first.contains("table ip sluice_capture") && first.contains("table ip6 sluice_capture"), "{first}");
        net.capture("server", NFT).unwrap();
        assert_eq!(net.rules("server", &["nft", "list", "ruleset"]).unwrap(), first);
    }
    assert!(net.rules("client", &["iptables-save"]).unwrap().contains("-A OUTPUT -d 10.9.9.9/32 -j ACCEPT\n"));
}

fn requests_and_bytes(mesh: &Mesh) -> Result<()> {
    // HTTP: rules act, and the far side's proxy hands the request to the application.
    assert_eq!(http(mesh, "client", "10.96.0.1:80", "http://web/fixed")?.status, 418);
    let answer = http(mesh, "client", "10.96.0.1:80", "http://web/")?;
    assert_eq!((answer.status, to(&answer).as_str()), (200, "web"));
    mesh.logged("client", &["GET / HTTP/1.1", "outbound|80||web.default.svc.cluster.local"])?;
    mesh.logged("server", &["GET / HTTP/1.1", "inbound|9080||", "127.0.0.6"])?;
    // A server that speaks first, on a declared port.
    let answer = bytes(mesh, "client", "10.96.0.2:3306", ", listens: true")?;
    assert_eq!((to(&answer).as_str(), answer.connection.greeting.as_deref()), ("db", Some("welcome")));
    mesh.logged("client", &["outbound|3306||db.default.svc.cluster.local", "10.96.0.2:3306"])?;
    mesh.logged("server", &["inbound|3306||"])?;
    // A port that declares nothing: requests, bytes and TLS are told apart on both sides.
    let answer = http(mesh, "client", "10.96.0.3:7000", "http://any:7000/")?;
    assert_eq!((answer.status, to(&answer).as_str()), (200, "any"));
    assert_eq!(to(&bytes(mesh, "client", "10.96.0.3:7000", "")?), "any");
    let answer =
        mesh.call("client", "10.96.0.3:7000", "{request: 'TLS any:7000', sni: any.example.com, expect: {}}")?;
    assert_eq!(to(&answer), "any");
    mesh.logged("server", &["inbound|7000||", "any.example.com"])
}

fn unknown_destinations(mesh: &Mesh) -> Result<()> {
    let stranger = format!("{OUTSIDE}:7777");
    assert_eq!(to(&bytes(mesh, "client", &stranger, "")?), "stranger");
    assert_eq!(to(&http(mesh, "client", &stranger, &format!("http://{stranger}/"))?), "stranger");
    mesh.logged("client", &["PassthroughCluster", &stranger])?;
    write(&mesh.folder.path().join("manifests"), "policy.yaml", REGISTRY_ONLY)?;
    eventually("unknown destinations are refused", || match bytes(mesh, "client", &stranger, "")?.connection.closed {
        true => Ok(()),
        false => bail!("answered by the stranger"),
    })?;
    mesh.logged("client", &["BlackHoleCluster", "UH"])?;
    // What is known goes on.
    assert_eq!(to(&http(mesh, "client", "10.96.0.1:80", "http://web/")?), "web");
    std::fs::remove_file(mesh.folder.path().join("manifests/policy.yaml"))?;
    Ok(())
}

fn inbound(mesh: &Mesh) -> Result<()> {
    // From a pod without a proxy, to a port of a Service and to one of none.
    let answer = http(mesh, "outside", &format!("{SERVER}:9080"), "http://web/")?;
    assert_eq!((answer.status, to(&answer).as_str()), (200, "web"));
    assert_eq!(to(&bytes(mesh, "outside", &format!("{SERVER}:9999"), "")?), "unlisted");
    mesh.logged("server", &["InboundPassthroughCluster", "9999"])
}

fn loops(mesh: &Mesh) -> Result<()> {
    // Who dials the capturing ports themselves is refused instead of going round in circles.
    for target in ["10.77.0.10:15001", "127.0.0.1:15001"] {
        assert!(bytes(mesh, "client", target, "")?.connection.closed, "{target}");
    }
    assert!(bytes(mesh, "outside", &format!("{SERVER}:15006"), "")?.connection.closed);
    Ok(())
}
