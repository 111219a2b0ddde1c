//! Where the control plane is: at an address, or in a cluster, whose API server forwards the ports of its pods.
//!
//! In: the command line. Out: answers of one replica or of all. Every replica knows only the proxies that are
//! connected to it.

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use futures::future::join_all;
use kube::Client;
use serde_json::Value;
use watch::kubernetes::{Access, AccessError};

use crate::args::{Args, Cluster};
use crate::{fetch, forward};

/// Where a control plane without a cluster listens.
const HERE: &str = "http://127.0.0.1:15014";
/// What the chart labels the control plane's pods with.
const SELECTOR: &str = "app%3Dsluiced";
/// Most replicas that are asked.
const REPLICAS_MAX: usize = 32;

/// A control plane.
pub enum Plane {
    /// One process at an address.
    At(String),
    /// The replicas in a cluster: their namespace and their pods.
    In(Client, String, Vec<String>),
}

/// A client of the cluster that the command line names, or that kubectl would use.
pub async fn client(cluster: &Cluster) -> Result<Client, AccessError> {
    let Cluster { kubeconfig, context, .. } = cluster;
    watch::kubernetes::connect(Access { kubeconfig: kubeconfig.clone(), context: context.clone() }).await
}

impl Plane {
    /// What the command line names; else the one in the cluster; without a cluster the one on this machine.
    pub async fn find(args: &Args) -> Result<Self> {
        if let Some(address) = &args.control_plane {
            return Ok(Self::At(address.clone()));
        }
        match client(&args.cluster).await {
            Ok(client) => Self::of_cluster(client, &args.cluster.istio_namespace).await,
            Err(AccessError::Nowhere(_)) => Ok(Self::At(HERE.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// The replicas that run in a namespace.
    pub async fn of_cluster(client: Client, namespace: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={SELECTOR}&limit={REPLICAS_MAX}");
        let list: Value =
            serde_json::from_slice(&ask(&client, &path).await?).context("the list of pods is not JSON")?;
        let pods = list["items"].as_array().into_iter().flatten().filter(|pod| runs(pod));
        let pods: Vec<String> = pods.filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect();
        if pods.is_empty() {
            bail!(
                "no pod of the control plane runs in namespace {namespace} (label app=sluiced); name another with \
                 --istio-namespace, or an address with --control-plane"
            );
        }
        Ok(Self::In(client, namespace.to_owned(), pods))
    }

    /// The answer of every replica that answers; an error when none does. Which did not is said on standard error: what it
    /// alone knows is missing.
    pub async fn ask_all(&self, path: &str) -> Result<Vec<Bytes>> {
        let (client, namespace, pods) = match self {
            Self::At(address) => return Ok(vec![fetch::get(address, path).await?]),
            Self::In(client, namespace, pods) => (client, namespace, pods),
        };
        let asked = pods.iter().map(|pod| forward::get(client.clone(), namespace, pod, path));
        let (answers, failed): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().partition(Result::is_ok);
        let mut failed = failed.into_iter().filter_map(Result::err);
        if answers.is_empty() {
            return Err(failed.next().unwrap_or_else(|| anyhow!("no replica was asked")));
        }
        failed.for_each(|error| eprintln!("sluicectl: a replica is missing from this: {error:#}"));
        Ok(answers.into_iter().flatten().collect())
    }

    /// The answer of the first replica that has one.
    pub async fn ask_any(&self, path: &str) -> Result<Bytes> {
        let Self::In(client, namespace, pods) = self else {
            return self.ask_all(path).await?.into_iter().next().context("no answer");
        };
        let mut last = anyhow!("no replica was asked");
        for pod in pods {
            match forward::get(client.clone(), namespace, pod, path).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The proxies of all replicas, from `/debug/syncz`.
    pub async fn proxies(&self) -> Result<Value> {
        let mut all = Vec::new();
        for answer in self.ask_all("/debug/syncz").await? {
            let listed: Vec<Value> = serde_json::from_slice(&answer).context("/debug/syncz is no list in JSON")?;
            all.extend(listed);
        }
        Ok(Value::Array(all))
    }
}

// A replica that is leaving answers no more.
fn runs(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
}

async fn ask(client: &Client, path: &str) -> Result<Bytes> {
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(Bytes::from(client.request_text(request).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_pods_that_run_and_stay_are_asked() {
        assert!(runs(&json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}})));
        assert!(!runs(&json!({"metadata": {"name": "a"}, "status": {"phase": "Pending"}})));
        let leaving =
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}});
        assert!(!runs(&leaving));
    }
}
