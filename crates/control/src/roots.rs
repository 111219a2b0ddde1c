//! A ConfigMap in every namespace, `istio-ca-root-cert` as a rule: the roots that a pod's proxy must believe before it has a
//! certificate.
//!
//! In: the namespaces, the roots, whether we lead. Out: writes, only where what is there is not what shall be there. We remove
//! none; with the release the API server does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::watch::kubernetes::{ConfigMaps, WriteError};
use tokio::sync::watch;

use crate::leader::{Leadership, share};
use crate::secure::Secure;

/// The ConfigMap's key.
pub(crate) const KEY: &str = "root-cert.pem";
/// Namespaces of Kubernetes itself, where no proxy is injected (Istio, `inject.IgnoredNamespaces`).
const SKIPPED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// How often all are looked at although nothing has happened: somebody may have changed one.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The first pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Writes for as long as the program runs, while this replica leads.
pub(crate) async fn keep(
    maps: ConfigMaps,
    secure: Secure,
    mut namespaces: watch::Receiver<BTreeSet<Arc<str>>>,
    leadership: Leadership,
) {
    let (mut roots, mut leads) = (secure.changes(), leadership.changes());
    let mut pause = RETRY_FIRST;
    loop {
        let all = namespaces.borrow_and_update().clone();
        let now = roots.borrow_and_update().as_ref().map(|serving| serving.roots.clone());
        leads.borrow_and_update();
        let wait = match now {
            Some(now) if leadership.leads() => match write(&maps, &now, &all, &leadership).await {
                Ok(()) => {
                    pause = RETRY_FIRST;
                    LOOK_EVERY
                }
                Err(error) => {
                    tracing::warn!("the roots are not everywhere yet (ConfigMap {}): {error}", maps.name());
                    pause = (pause * 2).min(RETRY_MAX);
                    pause.mul_f64(0.5 + share() / 2.0)
                }
            },
            _ => LOOK_EVERY,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Ok(()) = namespaces.changed() => {}
            Ok(()) = roots.changed() => {}
            Ok(()) = leads.changed() => {}
        }
    }
}

async fn write(
    maps: &ConfigMaps,
    roots: &str,
    namespaces: &BTreeSet<Arc<str>>,
    leadership: &Leadership,
) -> Result<(), WriteError> {
    let (there, wanted) = (maps.read().await?, maps.entry(roots).await?);
    let (mut written, mut failed) = (0, None);
    for namespace in namespaces.iter().filter(|name| !SKIPPED.contains(&&***name)) {
        if there.says(namespace, KEY, &wanted) {
            continue;
        }
        if !leadership.leads() {
            return Ok(());
        }
        match maps.write(namespace, &wanted).await {
            Ok(()) => written += 1,
            // It is being deleted.
            Err(WriteError::Missing(_)) => {}
            Err(WriteError::Forbidden(words)) if words.contains("being terminated") => {}
            // The others first.
            Err(error) => failed = Some(error),
        }
    }
    if written > 0 {
        tracing::info!(written, "the roots are written (ConfigMap {})", maps.name());
    }
    failed.map_or(Ok(()), Err)
}
