//! The `caBundle` of our own webhooks, and the failurePolicy of the validator.
//!
//! In: the roots that our certificate is under, whether we lead, and what the configurations say, followed. Out: writes,
//! only where something is not as it shall be. The validator's policy becomes Fail once it was seen to answer the API
//! server, which may not reach what we reach (firewalls of private clusters); until then objects go in unseen, and are
//! isolated when they are wrong.

use std::sync::Arc;
use std::time::Duration;

use ::watch::kubernetes::{Said, WebhookConfiguration, WriteError};
use serde_json::{Value, json};

use crate::leader::{Leadership, share};
use crate::secure::Secure;

/// The policy of a validator that answers.
const FAIL: &str = "Fail";
/// How often it is looked at although nothing has happened.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often it is asked whether the validator answers, until it does.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// The first pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// How the validator proves that it answers.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// Where a wrong object is proposed: our own namespace.
    pub(crate) namespace: String,
    /// The revision that it names.
    pub(crate) revision: String,
}

impl Proof {
    // Every schema takes it, and no mesh can obey it: its host is no name.
    fn wrong(&self) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "sluice-proof", "namespace": self.namespace, "labels": {"istio.io/rev": self.revision}},
            "spec": {"hosts": ["no name"], "http": [{"route": [{"destination": {"host": "no name"}}]}]}
        })
    }

    async fn holds(&self, what: &WebhookConfiguration, there: &Said) -> bool {
        let path = format!("/apis/networking.istio.io/v1/namespaces/{}/virtualservices", self.namespace);
        what.denies(there, &path, &self.wrong()).await
    }
}

/// Keeps one configuration for as long as the program runs, while this replica leads.
pub(crate) async fn keep(what: WebhookConfiguration, secure: Secure, leadership: Leadership, proof: Option<Proof>) {
    let (mut roots, mut leads) = (secure.changes(), leadership.changes());
    let mut pause = RETRY_FIRST;
    loop {
        let now = roots.borrow_and_update().as_ref().map_or_else(|| Arc::from(""), |serving| serving.roots.clone());
        leads.borrow_and_update();
        let is_due = !now.is_empty() && leadership.leads();
        // What is followed ends with a change of anything, or with a failure.
        let failure = tokio::select! {
            outcome = follow(&what, &now, proof.as_ref()), if is_due => outcome.err(),
            () = tokio::time::sleep(LOOK_EVERY), if !is_due => None,
            Ok(()) = roots.changed() => None,
            Ok(()) = leads.changed() => None,
        };
        match failure {
            None => pause = RETRY_FIRST,
            Some(error) => {
                tracing::warn!("{what}: its caBundle is not kept: {error}");
                tokio::time::sleep(pause.mul_f64(0.5 + share() / 2.0)).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

// Looks, writes what is missing, then waits for the next change of the object.
async fn follow(what: &WebhookConfiguration, roots: &str, proof: Option<&Proof>) -> Result<(), WriteError> {
    loop {
        let there = match what.read().await {
            Ok(there) => there,
            // Not installed, or removed: it is waited for.
            Err(WriteError::Missing(_)) => Said::default(),
            Err(error) => return Err(error),
        };
        let unproven = proof.filter(|_| !there.fails_as(FAIL));
        let answers = match unproven {
            Some(proof) => proof.holds(what, &there).await,
            None => false,
        };
        if what.write(&there, roots, answers.then_some(FAIL)).await? {
            tracing::info!(
                "{what}: {} is written",
                if answers { "its caBundle and failurePolicy" } else { "its caBundle" }
            );
        }
        match unproven.is_some() && !answers {
            true => _ = tokio::time::timeout(ASK_EVERY, what.changed(&there.version)).await,
            false => what.changed(&there.version).await?,
        }
    }
}
