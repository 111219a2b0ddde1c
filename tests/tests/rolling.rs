//! Under constant load: pods are replaced, control planes roll and are killed. No request fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use suite::load::Load;
use suite::mesh::{ControlPlane, Proxied, Proxy, get, write};
use testkit::case::Case;
use testkit::process::{Process, free_address, program};
use testkit::wait;
use testkit::world::{Pod, World, lay_out, to_yaml};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

const SOON: Duration = Duration::from_secs(20);

/// A Service of control planes: each connection goes to the next replica that takes it.
async fn service(replicas: Rc<RefCell<Vec<SocketAddr>>>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    spawn_local(async move {
        let mut next = 0;
        while let Ok((mut client, _)) = listener.accept().await {
            let all = replicas.borrow().clone();
            next += 1;
            for index in 0..all.len() {
                let Ok(mut replica) = TcpStream::connect(all[(next + index) % all.len()]).await else { continue };
                spawn_local(async move { tokio::io::copy_bidirectional(&mut client, &mut replica).await });
                break;
            }
        }
    });
    Ok(address)
}

struct Mesh {
    world: World,
    folder: tempfile::TempDir,
    planes: Vec<ControlPlane>,
    xds: SocketAddr,
    proxies: Vec<Option<Proxy>>,
    load: Option<Rc<Load>>,
    client: Option<Proxy>,
    _servers: testkit::serve::Servers,
}

fn proxied(pod: &str, ip: IpAddr, labels: &[(&str, &str)], app_ip: Option<IpAddr>) -> Result<Proxied> {
    Ok(Proxied {
        role: "sidecar",
        pod: pod.into(),
        namespace: "default".into(),
        ip,
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        outbound: Some(free_address(&ip.to_string())?),
        bind_ip: None,
        app_ip,
        captured: false,
        resolver: None,
        dns: None,
        identity: None,
    })
}

// The application behind a pod's proxy.
fn app_ip(pod: &Pod) -> IpAddr {
    let IpAddr::V4(ip) = pod.ip else { return pod.ip };
    let [a, b, c, d] = ip.octets();
    IpAddr::from([a, b, c + 100, d])
}

async fn plane(folder: &Path) -> Result<ControlPlane> {
    ControlPlane::start(&["--config-dir", &folder.to_string_lossy()]).await
}

impl Mesh {
    async fn start(block: u8) -> Result<Self> {
        let case = "rule: x\nservices: [{name: reviews, versions: [v1, v2, v3]}]\n";
        let case: Case = serde_saphyr::from_str(case)?;
        let world = lay_out(&case, block);
        let folder = tempfile::tempdir()?;
        write(folder.path(), "world.yaml", &to_yaml(&world.objects))?;
        let mut apps = world.clone();
        apps.pods.iter_mut().for_each(|pod| pod.ip = app_ip(pod));
        let servers = testkit::serve::start(&apps).await?;
        let planes = vec![plane(folder.path()).await?, plane(folder.path()).await?];
        let xds = service(Rc::new(RefCell::new(planes.iter().map(|plane| plane.xds).collect()))).await?;
        let who = proxied("client", world.client_ip, &[("app", "client")], None)?;
        let client = Proxy::start(&who, xds).await?;
        let mut mesh = Self {
            world,
            folder,
            planes,
            xds,
            proxies: Vec::new(),
            load: None,
            client: Some(client),
            _servers: servers,
        };
        for index in 0..mesh.world.pods.len() {
            let proxy = mesh.pod(index).await?;
            mesh.proxies.push(Some(proxy));
        }
        mesh.load = Some(Load::start(who.outbound.context("a sidecar")?));
        mesh.load()?.goes_on(200).await?;
        Ok(mesh)
    }

    fn load(&self) -> Result<&Load> {
        self.load.as_deref().context("there is load")
    }

    async fn pod(&self, index: usize) -> Result<Proxy> {
        let pod = &self.world.pods[index];
        let version = pod.name.rsplit('-').next().unwrap_or_default();
        let who = proxied(&pod.name, pod.ip, &[("app", "reviews"), ("version", version)], Some(app_ip(pod)))?;
        let proxy = Proxy::start(&who, self.xds).await?;
        // It is ready when its port is open.
        wait::until("its port is open", SOON, || async { TcpStream::connect((pod.ip, 9080)).await }).await?;
        Ok(proxy)
    }

    fn without(&self, gone: Option<usize>) -> Result<()> {
        let mut objects = self.world.objects.clone();
        let name = gone.map(|index| self.world.pods[index].name.clone()).unwrap_or_default();
        for endpoints in objects.iter_mut().filter_map(|object| object["endpoints"].as_array_mut()) {
            endpoints.retain(|one| one["targetRef"]["name"] != name.as_str());
        }
        write(self.folder.path(), "world.yaml", &to_yaml(&objects))
    }
}

fn run(test: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test).unwrap();
}

/// REL72: readiness off, clients are asked to go elsewhere, those who do not know yet are served, then it ends.
#[test]
fn rel72_pods_are_replaced_one_after_the_other_and_no_request_fails() {
    run(async {
        let mut mesh = Mesh::start(231).await?;
        for index in 0..mesh.world.pods.len() {
            let old = mesh.proxies[index].take().context("it runs")?;
            terminate(&old)?;
            is_draining(&old).await?;
            // Peers learn of it later: until then it serves them.
            mesh.load()?.goes_on(300).await?;
            mesh.without(Some(index))?;
            let code = old.process.terminate(SOON).await?;
            assert_eq!(code, 0);
            mesh.load()?.goes_on(100).await?;
            mesh.proxies[index] = Some(mesh.pod(index).await?);
            mesh.without(None)?;
            mesh.load()?.goes_on(300).await?;
        }
        println!("pods replaced: {} requests, 0 failed", mesh.load()?.verdict());
        Ok(())
    });
}

fn terminate(proxy: &Proxy) -> Result<()> {
    let pid = proxy.process.pid().context("it runs")?;
    std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
    Ok(())
}

async fn is_draining(proxy: &Proxy) -> Result<()> {
    wait::until("it is not ready", SOON, || async {
        match get(proxy.admin, "/ready").await {
            Err(error) if error.to_string().contains("DRAINING") => Ok(()),
            other => bail!("{other:?}"),
        }
    })
    .await
}

/// An application that ends has its last calls while its own sidecar drains, which takes five seconds, and when it has closed
/// its inbound side: both are told at the same moment, and the sidecar waits for what is under way.
#[test]
fn rel72_an_application_calls_while_its_own_sidecar_ends_and_no_request_fails() {
    run(async {
        let mut mesh = Mesh::start(234).await?;
        let client = mesh.client.take().context("it runs")?;
        terminate(&client)?;
        is_draining(&client).await?;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(7) {
            mesh.load()?.goes_on(100).await?;
        }
        mesh.load()?.leave().await?;
        assert_eq!(client.process.terminate(SOON).await?, 0);
        println!("a sidecar ended: {} requests, 0 failed", mesh.load()?.verdict());
        Ok(())
    });
}

/// Control planes roll and die; proxies go to the other replica, and what is edited meanwhile arrives.
#[test]
fn control_planes_roll_and_are_killed_and_no_request_fails() {
    run(async {
        let mut mesh = Mesh::start(232).await?;
        let proxies = mesh.world.pods.len() + 1;
        for (round, kills) in [(0, false), (1, false), (0, true)] {
            let ControlPlane { process, xds, http } = mesh.planes.remove(round.min(mesh.planes.len() - 1));
            match kills {
                true => process.kill().await?,
                false => assert_eq!(process.terminate(SOON).await?, 0),
            }
            // All are with the other one, and learn from it.
            mesh.planes[0].synced(proxies).await?;
            mesh.without(Some(round))?;
            mesh.load()?.goes_on(200).await?;
            mesh.planes[0].synced(proxies).await?;
            let dir = mesh.folder.path().to_string_lossy().into_owned();
            let args = ["--config-dir", &dir, "--xds-address", &xds.to_string(), "--http-address", &http.to_string()];
            let process = Process::start(&program("sluiced")?, args)?;
            let again = ControlPlane { process, xds, http };
            wait::until("sluiced is ready", SOON, || get(http, "/healthz/ready")).await?;
            mesh.planes.push(again);
            mesh.without(None)?;
            mesh.load()?.goes_on(200).await?;
        }
        println!("control planes rolled: {} requests, 0 failed", mesh.load()?.verdict());
        Ok(())
    });
}

/// Streams have an age, so that a new replica gets its share.
#[test]
fn proxies_spread_over_replicas_by_the_age_of_their_streams() {
    run(async {
        let folder = tempfile::tempdir()?;
        let case: Case = serde_saphyr::from_str("rule: x\nservices: [{name: reviews}]\n")?;
        let world = lay_out(&case, 233);
        write(folder.path(), "world.yaml", &to_yaml(&world.objects))?;
        let dir = folder.path().to_string_lossy().into_owned();
        let first = ControlPlane::start(&["--config-dir", &dir, "--max-connection-age", "1s"]).await?;
        let replicas = Rc::new(RefCell::new(vec![first.xds]));
        let xds = service(replicas.clone()).await?;
        let mut proxies = Vec::new();
        for index in 0..3_u8 {
            let who = proxied(&format!("p{index}"), IpAddr::from([127, 233, 9, index + 1]), &[], None)?;
            proxies.push(Proxy::start(&who, xds).await?);
        }
        let second = ControlPlane::start(&["--config-dir", &dir]).await?;
        replicas.borrow_mut().push(second.xds);
        wait::until("the new replica has proxies", SOON, || async {
            match second.syncz().await?.as_array().map_or(0, Vec::len) {
                0 => bail!("none"),
                _ => Ok(()),
            }
        })
        .await
    });
}
