//! A real cluster with Sluice in it, as the end-to-end suite sees it: kubectl, and the gateway's ports.
//!
//! In: `scripts/e2e.sh` sets `KUBECONFIG`, `SLUICE_E2E_GATEWAY` and `SLUICE_E2E_GATEWAY_TLS` (addresses of ports 80 and
//! 443), and `SLUICE_E2E_NODE` when the node is ours. Out: answers as a browser gets them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testkit::case::Call;
use testkit::process::workspace;

use crate::kube::run_kubectl;

/// The cluster of `KUBECONFIG`.
pub struct Cluster {
    kubeconfig: PathBuf,
    /// Port 80 of the ingress gateway.
    pub gateway: SocketAddr,
    /// Its port 443.
    pub gateway_tls: SocketAddr,
    /// The node is ours: its programs can be ended and started.
    pub node_is_ours: bool,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Page {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body.
    pub text: String,
    /// From the request to the end of the body.
    pub took: Duration,
}

impl Page {
    /// Which version of reviews answered, as the page says it.
    pub fn reviews(&self) -> &str {
        let by = self.text.split("Reviews served by").nth(1).unwrap_or_default();
        ["v1", "v2", "v3"].into_iter().find(|version| by.contains(&format!("reviews-{version}"))).unwrap_or("none")
    }

    /// Which version of an echoing service answered.
    pub fn version(&self) -> String {
        let said: serde_json::Value = serde_json::from_str(&self.text).unwrap_or_default();
        said["version"].as_str().map_or_else(|| self.status.to_string(), str::to_owned)
    }
}

impl Cluster {
    /// Nothing when no cluster is given.
    pub fn given() -> Result<Option<Self>> {
        let Ok(gateway) = std::env::var("SLUICE_E2E_GATEWAY") else { return Ok(None) };
        let gateway_tls = std::env::var("SLUICE_E2E_GATEWAY_TLS").context("SLUICE_E2E_GATEWAY_TLS")?;
        Ok(Some(Self {
            kubeconfig: std::env::var_os("KUBECONFIG").context("KUBECONFIG")?.into(),
            gateway: gateway.parse().context("SLUICE_E2E_GATEWAY")?,
            gateway_tls: gateway_tls.parse().context("SLUICE_E2E_GATEWAY_TLS")?,
            node_is_ours: std::env::var_os("SLUICE_E2E_NODE").is_some(),
        }))
    }

    /// Runs kubectl; what it says on standard output.
    pub fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        run_kubectl(&self.kubeconfig, args, input)
    }

    /// Applies YAML in a namespace.
    pub fn apply(&self, namespace: &str, text: &str) -> Result<String> {
        self.kubectl(&["apply", "--namespace", namespace, "-f", "-"], text)
    }

    /// Applies a tutorial's object as it stands; `prefix` is the number of its file.
    pub fn seed(&self, namespace: &str, prefix: &str) -> Result<String> {
        self.apply(namespace, &seed(prefix)?).with_context(|| format!("seed {prefix}"))
    }

    /// Removes every traffic rule of a namespace.
    pub fn forget_rules(&self, namespace: &str) -> Result<()> {
        let kinds =
            "virtualservices.networking.istio.io,destinationrules.networking.istio.io,gateways.networking.istio.io";
        self.kubectl(&["delete", "--namespace", namespace, kinds, "--all", "--ignore-not-found"], "").map(drop)
    }

    /// Waits until every Deployment of a namespace is as its last version says.
    pub fn wait_for_rollout(&self, namespace: &str) -> Result<()> {
        let names = self.kubectl(&["get", "deployments", "--namespace", namespace, "--output", "name"], "")?;
        for name in names.lines() {
            self.kubectl(&["rollout", "status", "--namespace", namespace, name, "--timeout=180s"], "")?;
        }
        Ok(())
    }

    /// Something that `scripts/cluster-do.sh` does to our node.
    pub fn node(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(workspace().join("scripts/cluster-do.sh")).args(args).output()?;
        if !output.status.success() {
            bail!("cluster-do {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Asks the gateway as a browser does; `headers` are names and values.
    pub async fn get(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Page> {
        let mut yaml = format!("request: GET http://{host}{path}\nexpect: {{}}\n");
        if !headers.is_empty() {
            yaml += "headers:\n";
            for (name, value) in headers {
                yaml += &format!("  {name}: {value:?}\n");
            }
        }
        let call: Call = serde_saphyr::from_str(&yaml)?;
        let began = Instant::now();
        let answer = testkit::call::send(self.gateway, &call).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(Page { status: answer.status, headers: answer.headers, text, took: began.elapsed() })
    }

    /// Runs a program in a container; what it says on standard output.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        let head = ["exec", "--namespace", namespace, pod, "--container", "app", "--"];
        self.kubectl(&[&head, command].concat(), "")
    }
}

/// A tutorial's object.
pub fn seed(prefix: &str) -> Result<String> {
    for entry in std::fs::read_dir(workspace().join("tests/seeds"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&format!("{prefix}-")) {
            return std::fs::read_to_string(entry.path()).context("read a seed");
        }
    }
    bail!("no seed {prefix}")
}
