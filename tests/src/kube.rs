//! An API server of a suite's own: the real one, without nodes and controllers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use testkit::process::workspace;

/// An API server, ended with this value.
pub struct ApiServer(PathBuf);

impl ApiServer {
    /// Starts one; `name` is a folder of its own.
    pub fn start(name: &str) -> Result<Self> {
        let folder = workspace().join(".cache/kube/run").join(name);
        script("build-kube.sh", &[])?;
        script("kube-up.sh", &[&folder.to_string_lossy()])?;
        Ok(Self(folder))
    }

    /// Where its kubeconfig, logs and process ids are.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The kubeconfig, as an argument.
    pub fn kubeconfig(&self) -> String {
        self.0.join("kubeconfig").to_string_lossy().into_owned()
    }

    /// Runs kubectl; what it says on standard output.
    pub fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        run_kubectl(&self.0.join("kubeconfig"), args, input)
    }

    /// Runs kubectl, whatever comes of it.
    pub fn try_kubectl(&self, args: &[&str], input: &str) -> Result<std::process::Output> {
        try_kubectl(&self.0.join("kubeconfig"), args, input)
    }

    /// Applies our CustomResourceDefinitions.
    pub fn define(&self) -> Result<()> {
        self.kubectl(&["apply", "-f", &workspace().join("crds").to_string_lossy()], "")?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"], "").map(drop)
    }

    /// Applies a file.
    pub fn apply(&self, file: &Path) -> Result<String> {
        self.kubectl(&["apply", "-f", &file.to_string_lossy()], "")
    }
}

/// Runs kubectl on the cluster of a kubeconfig; what it says on standard output.
pub fn run_kubectl(kubeconfig: &Path, args: &[&str], input: &str) -> Result<String> {
    let output = try_kubectl(kubeconfig, args, input)?;
    if !output.status.success() {
        bail!("kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn try_kubectl(kubeconfig: &Path, args: &[&str], input: &str) -> Result<std::process::Output> {
    use std::io::Write;
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("kubectl")?;
    child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Err(error) = script("kube-down.sh", &[&self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

fn script(name: &str, args: &[&str]) -> Result<()> {
    let output =
        Command::new(workspace().join("scripts").join(name)).args(args).output().with_context(|| name.to_owned())?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
