//! A client of the API server, from a kubeconfig file, from inside a cluster, or from wherever kubectl would find one.
//!
//! In: what the user named. Out: a client; it has not spoken to the server yet.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Where the API server is, and who we are to it.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// A kubeconfig file; without one, kubectl's own, else the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// A context in it, other than its current one.
    pub context: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read, or has no such context, or names files that cannot be read.
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: kube::config::KubeconfigError,
    },
    /// Neither a kubeconfig nor a pod's service account.
    #[error("no Kubernetes API server is configured: {0}")]
    Nowhere(String),
    /// The credentials or certificates in it cannot be used.
    #[error("the credentials for the Kubernetes API server cannot be used: {0}")]
    Credentials(kube::Error),
}

/// Makes a client.
pub async fn connect(access: Access) -> Result<Client, AccessError> {
    let Access { kubeconfig, context } = access;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let mut config = match kubeconfig {
        Some(path) => {
            let refused = |source| AccessError::Kubeconfig { path: path.clone(), source };
            let file = Kubeconfig::read_from(&path).map_err(refused)?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(refused)?
        }
        None if options.context.is_some() => {
            Config::from_kubeconfig(&options).await.map_err(|error| AccessError::Nowhere(error.to_string()))?
        }
        None => Config::infer().await.map_err(|error| AccessError::Nowhere(error.to_string()))?,
    };
    // Watches pace their own attempts; retries inside the client would hide from them that the server is starting.
    config.default_retry = false;
    Client::try_from(config).map_err(AccessError::Credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let access = Access { kubeconfig: Some("/nowhere/config".into()), context: None };
        let error = connect(access).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("kubeconfig /nowhere/config: "), "{error}");
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n").unwrap();
        let access = Access { kubeconfig: Some(path), context: Some("prod".into()) };
        let error = connect(access).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("prod"), "{error}");
    }
}
