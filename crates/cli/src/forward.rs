//! A page of a pod, asked on the pod's own loopback through the API server, as `kubectl port-forward` does.
//!
//! In: a client, a pod, a path. Out: the page. The control plane tells its debug pages to nobody else, and the API server asks
//! whether we may.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use crate::fetch;

/// The port of the control plane's pages.
pub const PORT: u16 = 15014;
/// How long it may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// GETs a page; what does not answer 200 is an error that says what was asked, and what to do.
pub async fn get(client: Client, namespace: &str, pod: &str, path: &str) -> Result<Bytes> {
    let asked = format!("{path} of pod {pod}.{namespace}");
    let (status, body) = tokio::time::timeout(ANSWER_MAX, exchange(client, namespace, pod, path))
        .await
        .with_context(|| format!("{asked}: no answer within {ANSWER_MAX:?}"))?
        .with_context(|| format!("cannot ask for {asked}"))?;
    if status != 200 {
        bail!("{asked}: it answers {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

async fn exchange(client: Client, namespace: &str, pod: &str, path: &str) -> Result<(u16, Bytes)> {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut forwarded =
        pods.portforward(pod, &[PORT]).await.map_err(|error| anyhow::anyhow!(explain(&error, namespace)))?;
    let stream = forwarded.take_stream(PORT).context("no stream to the pod")?;
    let failed = forwarded.take_error(PORT).context("no stream to the pod")?;
    let host = format!("127.0.0.1:{PORT}");
    tokio::select! {
        // It says more than a connection that ends.
        biased;
        Some(words) = failed => bail!("the pod's port {PORT} cannot be reached: {}", words.trim()),
        answer = fetch::over(stream, &host, path) => answer,
    }
}

/// Why a port could not be forwarded, and what to do about it.
pub fn explain(error: &kube::Error, namespace: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!(
                "{}; pages of the control plane are asked by port-forward, which needs the rights create and get on \
                 pods/portforward in namespace {namespace}",
                status.message
            )
        }
        kube::Error::Api(status) => format!("the API server answers {}: {}", status.code, status.message),
        kube::Error::UpgradeConnection(error) => {
            format!("the API server forwards no port over a WebSocket ({error}); is there a proxy between?")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_forward_is_told_which_right_it_is() {
        let status = kube::core::Status::failure("pods \"a\" is forbidden", "Forbidden").with_code(403);
        let words = explain(&kube::Error::Api(Box::new(status)), "mesh");
        for word in ["pods \"a\" is forbidden", "pods/portforward", "create", "namespace mesh"] {
            assert!(words.contains(word), "{words}");
        }
    }
}
