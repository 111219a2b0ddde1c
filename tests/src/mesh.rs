//! A control plane and proxies as real processes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use testkit::process::{Process, free_address, program};
use testkit::wait;
use tokio::net::TcpStream;

/// How long a process may take to come up.
pub const START: Duration = Duration::from_secs(20);

/// A running `sluiced`.
pub struct ControlPlane {
    /// The process.
    pub process: Process,
    /// Where xDS is served.
    pub xds: SocketAddr,
    /// Where debug pages are served.
    pub http: SocketAddr,
}

impl ControlPlane {
    /// Starts one; `source` are the arguments that say where manifests come from.
    pub async fn start(source: &[&str]) -> Result<Self> {
        let (xds, http) = (free_address("127.0.0.1")?, free_address("127.0.0.1")?);
        let (xds_text, http_text) = (xds.to_string(), http.to_string());
        let mut args = vec!["--xds-address", &xds_text, "--http-address", &http_text];
        args.extend(source);
        let process = Process::start(&program("sluiced")?, args)?;
        let plane = Self { process, xds, http };
        let ready = wait::until("sluiced is ready", START, || get(http, "/healthz/ready")).await;
        ready.with_context(|| plane.process.tail())?;
        Ok(plane)
    }

    /// `/debug/syncz`.
    pub async fn syncz(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&get(self.http, "/debug/syncz").await?)?)
    }

    /// Every finding, `CODE Kind namespace/name`.
    pub async fn findings(&self) -> Result<Vec<String>> {
        let all: Vec<Value> = serde_json::from_slice(&get(self.http, "/debug/diagnostics").await?)?;
        let line = |found: &Value| {
            let object = &found["object"];
            let text = |key: &str| object[key].as_str().unwrap_or_default();
            format!(
                "{} {} {}/{}",
                found["code"].as_str().unwrap_or_default(),
                text("kind"),
                text("namespace"),
                text("name")
            )
        };
        Ok(all.iter().map(line).collect())
    }

    /// Waits until every connected proxy, and at least `count`, has acknowledged all it was sent.
    pub async fn synced(&self, count: usize) -> Result<()> {
        self.synced_in(count, &["CDS", "LDS"]).await
    }

    /// Waits until so many proxies have acknowledged all they were sent, and have asked for these types.
    pub async fn synced_in(&self, count: usize, needed: &[&str]) -> Result<()> {
        wait::until("every proxy is synced", START, || async {
            let all = self.syncz().await?;
            let proxies = all.as_array().map(Vec::as_slice).unwrap_or_default();
            if proxies.len() < count {
                bail!("{} of {count} proxies are connected", proxies.len());
            }
            for proxy in proxies {
                let resources = proxy["resources"].as_object().context("no resources")?;
                if let Some(kind) = needed.iter().find(|kind| !resources.contains_key(**kind)) {
                    bail!("{} has not asked for {kind}", proxy["proxy"]);
                }
                if let Some((kind, one)) = resources.iter().find(|(_, one)| one["synced"] != true) {
                    bail!("{} {kind}: {one}", proxy["proxy"]);
                }
            }
            Ok(())
        })
        .await
    }
}

/// Who a proxy is and where it listens.
#[derive(Clone, Debug)]
pub struct Proxied {
    /// `sidecar` or `router`.
    pub role: &'static str,
    /// The pod's name.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Where applications reach it, for sidecars.
    pub outbound: Option<SocketAddr>,
    /// Where a gateway binds.
    pub bind_ip: Option<IpAddr>,
    /// The application's address, for sidecars that take inbound traffic.
    pub app_ip: Option<IpAddr>,
    /// Traffic reaches it by iptables.
    pub captured: bool,
    /// Who is asked for names; the system's when absent.
    pub resolver: Option<SocketAddr>,
    /// Where the application's DNS questions are answered.
    pub dns: Option<SocketAddr>,
    /// What it has of its own.
    pub identity: Option<Arc<Shown>>,
}

/// A proxy's certificate, key and roots in PEM, also as the files of a directory.
#[derive(Debug)]
pub struct Shown {
    /// The certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
    /// The roots.
    pub roots: String,
    /// `cert-chain.pem`, `key.pem` and `root-cert.pem`.
    pub folder: tempfile::TempDir,
}

impl Shown {
    /// An identity of `pki` with the root of its authority.
    pub fn of(spec: &str) -> Result<Self> {
        let identity = testkit::pki::identity(spec)?;
        let roots = testkit::pki::root(testkit::pki::authority_of(spec))?;
        let folder = tempfile::tempdir()?;
        for (name, text) in
            [("cert-chain.pem", &identity.certificate), ("key.pem", &identity.key), ("root-cert.pem", &roots)]
        {
            write(folder.path(), name, text)?;
        }
        Ok(Self { chain: identity.certificate.clone(), key: identity.key.clone(), roots, folder })
    }
}

impl Proxied {
    fn interception(&self) -> &'static str {
        if self.captured { "REDIRECT" } else { "NONE" }
    }
}

impl Proxied {
    /// The arguments of `sluice-proxy` that say who it is.
    pub fn arguments(&self) -> Vec<String> {
        let labels = self.labels.iter().map(|(key, value)| ("--label", Some(format!("{key}={value}"))));
        let flags = [
            ("--node", Some(self.node())),
            ("--interception", Some(self.interception().to_lowercase())),
            ("--outbound-address", self.outbound.map(|address| address.to_string())),
            ("--bind-ip", self.bind_ip.map(|ip| ip.to_string())),
            ("--app-ip", self.app_ip.map(|ip| ip.to_string())),
            ("--resolver", self.resolver.map(|address| address.to_string())),
            ("--dns-address", self.dns.map(|address| address.to_string())),
            ("--identity-dir", self.identity.as_ref().map(|shown| shown.folder.path().to_string_lossy().into_owned())),
        ];
        let local = ["--allow-local-jwks".to_owned()];
        let given = flags.into_iter().chain(labels).filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
        local.into_iter().chain(given.flatten()).collect()
    }

    /// The node id.
    pub fn node(&self) -> String {
        let Self { role, pod, namespace, ip, .. } = self;
        format!("{role}~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// The node metadata, as the proxy's flags would give it.
    pub fn metadata(&self) -> Value {
        let labels: serde_json::Map<String, Value> =
            self.labels.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
        let mut metadata = serde_json::json!({
            "NAMESPACE": self.namespace, "LABELS": labels, "CLUSTER_ID": "Kubernetes", "INTERCEPTION_MODE": self.interception(),
            "INSTANCE_IPS": self.ip.to_string(), "ISTIO_VERSION": "test"
        });
        if let Some(outbound) = self.outbound {
            metadata["SLUICE_OUTBOUND_ADDRESS"] = Value::String(outbound.to_string());
        }
        if self.identity.is_some() {
            metadata["SLUICE_IDENTITY"] = Value::Bool(true);
        }
        if self.dns.is_some() {
            metadata["DNS_CAPTURE"] = Value::String("true".into());
        }
        if let Some(ip) = self.bind_ip {
            metadata["SLUICE_BIND_IP"] = Value::String(ip.to_string());
        }
        if let Some(ip) = self.app_ip {
            metadata["SLUICE_APP_IP"] = Value::String(ip.to_string());
        }
        metadata
    }
}

/// A running `sluice-proxy`.
pub struct Proxy {
    /// The process.
    pub process: Process,
    /// Its admin address.
    pub admin: SocketAddr,
}

impl Proxy {
    /// Starts one and waits until it is ready.
    pub async fn start(who: &Proxied, control: SocketAddr) -> Result<Self> {
        Self::start_with(who, control, &[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(who: &Proxied, control: SocketAddr, more: &[&str]) -> Result<Self> {
        let (admin, status) = (free_address("127.0.0.1")?, free_address("127.0.0.1")?);
        let mut args = who.arguments();
        args.extend(["--control-plane".into(), format!("http://{control}")]);
        args.extend(["--concurrency".into(), "1".into(), "--access-log".into(), "/dev/stdout".into()]);
        args.extend(["--admin-address".into(), admin.to_string(), "--status-address".into(), status.to_string()]);
        args.extend(more.iter().map(|one| (*one).to_owned()));
        let process = Process::start(&program("sluice-proxy")?, args)?;
        let proxy = Self { process, admin };
        let ready = wait::until("sluice-proxy is ready", START, || get(admin, "/ready")).await;
        ready.with_context(|| proxy.process.tail())?;
        Ok(proxy)
    }
}

/// GETs a page; an answer other than 200 is an error.
pub async fn get(address: SocketAddr, path: &str) -> Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "test").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    if status != 200 {
        bail!("{path} answered {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

/// Writes manifests into a folder.
pub fn write(folder: &Path, file: &str, text: &str) -> Result<()> {
    std::fs::write(folder.join(file), text).with_context(|| format!("write {file}"))
}
