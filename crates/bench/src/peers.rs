//! The proxies that are compared, each as it would be run for this job: one worker, keep-alive both ways, access log
//! off, pinned to processor 0.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use testkit::process::{program, workspace};
use tokio::process::{Child, Command};

/// A proxy under test.
pub struct Peer {
    /// Its name in the table.
    pub name: String,
    /// Where requests go.
    pub target: SocketAddr,
    child: Child,
}

impl Peer {
    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("it has ended")
    }

    /// Ends it.
    pub async fn stop(mut self) {
        let _ = self.child.kill().await;
    }
}

/// A program on PATH, or a sentence that says how to get it.
pub fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed; scripts/bench-peers.sh gets it"))
}

fn start(name: &str, target: SocketAddr, program: &Path, args: &[String]) -> Result<Peer> {
    let child = Command::new("taskset")
        .arg("-c")
        .arg("0")
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    Ok(Peer { name: name.into(), target, child })
}

/// Our proxy, as a sidecar of `control`.
pub fn sluice(target: SocketAddr, control: SocketAddr, admin: SocketAddr, status: SocketAddr) -> Result<Peer> {
    start("sluice-proxy", target, &program("sluice-proxy")?, &sluice_args(target, control, admin, status))
}

/// The arguments of [`sluice`].
pub fn sluice_args(target: SocketAddr, control: SocketAddr, admin: SocketAddr, status: SocketAddr) -> Vec<String> {
    [
        "--node",
        "sidecar~127.0.0.1~client.default~default.svc.cluster.local",
        "--control-plane",
        &format!("http://{control}"),
        "--label",
        "app=client",
        "--interception",
        "none",
        "--concurrency",
        "1",
        "--outbound-address",
        &target.to_string(),
        "--admin-address",
        &admin.to_string(),
        "--status-address",
        &status.to_string(),
        "--log-level",
        "warn",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Envoy, fed by the same control plane with the same routes.
pub fn envoy(folder: &Path, target: SocketAddr, control: SocketAddr, admin: SocketAddr) -> Result<Peer> {
    let binary = std::env::var_os("ENVOY").map_or_else(|| workspace().join(".cache/envoy/envoy"), PathBuf::from);
    if !binary.is_file() {
        bail!("no Envoy; scripts/fetch-envoy.sh gets it");
    }
    let socket = |address: SocketAddr| serde_json::json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let ads = serde_json::json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let bootstrap = serde_json::json!({
        "node": {"id": "sidecar~127.0.0.1~envoy.default~default.svc.cluster.local", "cluster": "envoy", "metadata": {
            "NAMESPACE": "default", "LABELS": {"app": "client"}, "INTERCEPTION_MODE": "NONE", "INSTANCE_IPS": "127.0.0.1",
            "SLUICE_OUTBOUND_ADDRESS": target.to_string()}},
        "admin": {"address": socket(admin)},
        "dynamic_resources": {"ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}, "cds_config": ads, "lds_config": ads},
        "static_resources": {"clusters": [{"name": "xds", "type": "STATIC",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}}},
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(control)}}]}]}}]}
    });
    let file = folder.join("envoy.json");
    std::fs::write(&file, bootstrap.to_string())?;
    let args = [
        "--config-path",
        &file.to_string_lossy(),
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--disable-hot-restart",
    ];
    start("Envoy 1.40", target, &binary, &args.map(str::to_owned))
}

/// HAProxy with one thread and one route.
pub fn haproxy(folder: &Path, target: SocketAddr, backends: &[SocketAddr]) -> Result<Peer> {
    let servers: String = backends.iter().enumerate().map(|(i, one)| format!("  server s{i} {one}\n")).collect();
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
         option http-keep-alive\n  http-reuse always\nfrontend f\n  bind {target}\n  default_backend b\nbackend b\n  \
         balance leastconn\n{servers}"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text)?;
    start("HAProxy", target, &find("haproxy")?, &["-db".into(), "-f".into(), file.to_string_lossy().into_owned()])
}

/// nginx with one worker and upstream keep-alive.
pub fn nginx(folder: &Path, target: SocketAddr, backends: &[SocketAddr]) -> Result<Peer> {
    let servers: String = backends.iter().map(|one| format!("    server {one};\n")).collect();
    let at = folder.display();
    let text = format!(
        "daemon off;\nworker_processes 1;\npid {at}/nginx.pid;\nerror_log {at}/nginx.log;\nevents {{ worker_connections 4096; }}\nhttp {{\n  \
         access_log off;\n  client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n  \
         upstream u {{\n    least_conn;\n{servers}    keepalive 256;\n    keepalive_requests 100000000;\n  }}\n  \
         server {{\n    listen {target};\n    keepalive_requests 100000000;\n    location / {{\n      proxy_pass http://u;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_set_header Host $host;\n    }}\n  }}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    start("nginx", target, &find("nginx")?, &["-c".into(), file.to_string_lossy().into_owned()])
}
