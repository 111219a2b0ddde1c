//! One case through real processes: its world in a folder, `sluiced` on it, a proxy, and the calls.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use futures::future::LocalBoxFuture;
use testkit::case::Case;
use testkit::dns::NameServer;
use testkit::process::free_address;
use testkit::serve::Servers;
use testkit::world::{World, lay_out, to_yaml};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinSet;

use crate::calls::Around;
use crate::mesh::{ControlPlane, get, write};
use crate::scene::{Scene, caller, fill_in, mesh_arguments, names, sockets};

/// A case laid out and its control plane running.
pub struct Stage {
    /// Pods, the caller's proxy, what calls need.
    pub scene: Scene,
    /// The control plane.
    pub plane: ControlPlane,
    _servers: Servers,
    _names: Option<NameServer>,
    _sockets: JoinSet<()>,
    /// Certificates in files.
    _files: tempfile::TempDir,
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
    let arguments = mesh_arguments(case);
    let mut source = vec!["--config-dir", &folder_text];
    source.extend(arguments.iter().map(String::as_str));
    let sockets = open_sockets(case, &world)?;
    let plane = ControlPlane::start(&source).await?;
    let ip = world.client_ip.to_string();
    let (mut who, target) = caller(case, &world, &|| free_address(&ip))?;
    let names = match case.names.is_empty() && case.lookups.is_empty() {
        true => None,
        false => {
            let address = free_address(&ip)?;
            who.resolver = Some(address);
            Some(testkit::dns::serve(address, names(case, &world)?).await?)
        }
    };
    let scene = Scene::new(case, world, servers.backends.clone(), (who, target));
    Ok(Stage { scene, plane, _servers: servers, _names: names, _sockets: sockets, _files: files })
}

// The Unix sockets that a case's manifests name.
fn open_sockets(case: &Case, world: &World) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for (path, pod, port) in sockets(case, world) {
        let address = SocketAddr::new(pod.ip, port);
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

/// The pages, the log and the name server of a proxy that is a process.
pub struct Outside<'a> {
    /// Its admin address.
    pub admin: SocketAddr,
    /// Where it answers DNS questions.
    pub dns: Option<SocketAddr>,
    /// Its access log.
    pub log: Option<&'a dyn Fn() -> Vec<String>>,
}

impl Around for Outside<'_> {
    fn page<'a>(&'a self, path: &'a str) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async move { Ok(String::from_utf8_lossy(&get(self.admin, path).await?).into_owned()) })
    }

    fn log(&self) -> Option<Vec<String>> {
        self.log.map(|log| log())
    }

    fn resolve(&self, question: Vec<u8>, tcp: bool) -> LocalBoxFuture<'_, Result<Vec<u8>>> {
        Box::pin(async move { testkit::dns::ask(self.dns.context("no name server")?, &question, tcp).await })
    }
}

/// Why a case with a captured client is skipped.
pub const NO_NETWORK: &str = "a network namespace with iptables cannot be made (needs root, ip and iptables)";

/// Runs a case that is made by `run`, on a thread with a network of its own when its client is captured; `None` when
/// the machine cannot make one.
pub fn in_its_network<F: Future<Output = Result<()>>>(case: &Case, run: impl Fn() -> F + Send) -> Result<Option<()>> {
    let run = move || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run());
    match case.client.captured {
        true => testkit::netns::run(run),
        false => run().map(Some),
    }
}
