//! The `caBundle` of our own webhooks, and the failurePolicy of the validator.
//!
//! In: the roots that our certificate is under, whether we lead, and what the configurations say, followed. Out: writes,
//! only where something is not as it shall be. The validator's policy becomes Fail once the endpoint answers; until then
//! objects go in unseen, and are isolated when they are wrong.

use std::sync::Arc;
use std::time::Duration;

use ::watch::kubernetes::{Said, WebhookConfiguration, WriteError};
use tokio::net::TcpStream;

use crate::leader::{Leadership, share};
use crate::secure::Secure;

/// How often it is looked at although nothing has happened.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often it is asked whether the endpoint answers, until it does.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// The first pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Keeps one configuration for as long as the program runs, while this replica leads.
pub(crate) async fn keep(
    what: WebhookConfiguration,
    secure: Secure,
    leadership: Leadership,
    policy: Option<&'static str>,
) {
    let (mut roots, mut leads) = (secure.changes(), leadership.changes());
    let mut pause = RETRY_FIRST;
    loop {
        let now = roots.borrow_and_update().as_ref().map_or_else(|| Arc::from(""), |serving| serving.roots.clone());
        leads.borrow_and_update();
        let is_due = !now.is_empty() && leadership.leads();
        // What is followed ends with a change of anything, or with a failure.
        let failure = tokio::select! {
            outcome = follow(&what, &now, policy), if is_due => outcome.err(),
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
async fn follow(what: &WebhookConfiguration, roots: &str, policy: Option<&str>) -> Result<(), WriteError> {
    loop {
        let there = match what.read().await {
            Ok(there) => there,
            // Not installed, or removed: it is waited for.
            Err(WriteError::Missing(_)) => Said::default(),
            Err(error) => return Err(error),
        };
        let turns = policy.is_some_and(|policy| !there.fails_as(policy));
        let answers = turns && answers(&there).await;
        if what.write(&there, roots, policy.filter(|_| answers)).await? {
            tracing::info!(
                "{what}: {} is written",
                if answers { "its caBundle and failurePolicy" } else { "its caBundle" }
            );
        }
        match turns && !answers {
            true => _ = tokio::time::timeout(ASK_EVERY, what.changed(&there.version)).await,
            false => what.changed(&there.version).await?,
        }
    }
}

// Whether somebody is there, the way that the API server goes: a Service without a ready pod refuses connections.
async fn answers(there: &Said) -> bool {
    let Some((host, port)) = &there.endpoint else { return false };
    let dialled = tokio::time::timeout(ASK_EVERY, TcpStream::connect((host.as_str(), *port))).await;
    matches!(dialled, Ok(Ok(_)))
}
