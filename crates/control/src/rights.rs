//! Which callers may hold Secrets: those whose service account may list the Secrets of its namespace, as in Istio. Else
//! anybody who can start a pod there could call itself a gateway and be given the keys of all of them.
//!
//! In: who calls; the API server's word on it. Out: the right of each service account as it was last, asked again every
//! minute while the program runs. No answer changes nothing: what was said before holds.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::watch::kubernetes::{WriteError, may_list_secrets};
use tokio::sync::mpsc;
use words::SpiffeId;

use crate::event::Event;

/// An answer is believed for so long.
const BELIEVED: Duration = Duration::from_secs(60);
/// A new stream asks again about who may not when that is older: somebody may just have bound the Role.
const DENIAL_BELIEVED: Duration = Duration::from_secs(2);
/// How often it is looked which answers are older.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a stream waits for the first answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Service accounts remembered.
const ACCOUNTS_MAX: usize = 4096;

/// Namespace and name of a service account.
type Account = (String, String);

/// What is known of service accounts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rights(Arc<Inner>);

struct Inner {
    /// Asked; without one whoever is known may.
    client: Option<kube::Client>,
    /// Where Secrets are read; everywhere when this is empty. Nobody needs a right elsewhere.
    namespaces: BTreeSet<String>,
    answers: Mutex<HashMap<Account, Answer>>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    may: bool,
    asked: Instant,
}

impl Rights {
    pub(crate) fn new(client: Option<kube::Client>, namespaces: BTreeSet<String>) -> Self {
        Self(Arc::new(Inner { client, namespaces, answers: Mutex::default() }))
    }

    /// Whether a caller may hold Secrets, as far as that is known.
    pub(crate) fn of(&self, id: &SpiffeId) -> Option<bool> {
        match self.client_for(id) {
            None => Some(true),
            Some(_) => self.answers().get(&account(id)).map(|answer| answer.may),
        }
    }

    /// Asks for what is not known or old. Then [`Rights::of`] has an answer, or there is none to be had now: who holds Secrets
    /// already would lose them by a guess.
    pub(crate) async fn learn(&self, id: &SpiffeId) -> Result<(), String> {
        let Some(client) = self.client_for(id) else { return Ok(()) };
        let known = self.answers().get(&account(id)).copied();
        let is_fresh = |answer: Answer| answer.asked.elapsed() < if answer.may { BELIEVED } else { DENIAL_BELIEVED };
        if known.is_some_and(is_fresh) {
            return Ok(());
        }
        let asked = tokio::time::timeout(ANSWER_MAX, self.ask(client, account(id))).await;
        match asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Err(reason) if known.is_none() => Err(reason),
            _ => Ok(()),
        }
    }

    /// Asks again and again, and tells the loop when anything is different.
    pub(crate) async fn keep(self, events: mpsc::Sender<Event>) {
        let Some(client) = &self.0.client else { return };
        let mut is_away = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let old: Vec<Account> = {
                let answers = self.answers();
                answers.iter().filter(|(_, one)| one.asked.elapsed() >= BELIEVED).map(|(key, _)| key.clone()).collect()
            };
            let mut changed = false;
            for account in old {
                match self.ask(client, account).await {
                    Ok(differs) => (changed, is_away) = (changed | differs, false),
                    // Nobody answers for the others either.
                    Err(reason) => {
                        if !std::mem::replace(&mut is_away, true) {
                            tracing::warn!("who may hold Secrets cannot be asked, what was said last holds: {reason}");
                        }
                        break;
                    }
                }
            }
            if changed && events.send(Event::Rights).await.is_err() {
                return;
            }
        }
    }

    // True when the answer is another one than before.
    async fn ask(&self, client: &kube::Client, account: Account) -> Result<bool, String> {
        let asked = Instant::now();
        let (namespace, name) = (&account.0, &account.1);
        let (may, why) = match may_list_secrets(client, namespace, name).await {
            Ok(true) => (true, String::new()),
            Ok(false) => (false, "it may not list them in its namespace".to_owned()),
            // Nobody will answer as long as our own rights are like that.
            Err(error @ (WriteError::Forbidden(_) | WriteError::Missing(_))) => {
                (false, format!("sluiced itself may not ask (create subjectaccessreviews): {error}"))
            }
            Err(error) => return Err(error.to_string()),
        };
        let before = self.remember(account.clone(), Answer { may, asked });
        if before != Some(may) {
            tracing::info!(namespace = account.0, service_account = account.1, may, why, "whether it may hold Secrets");
        }
        Ok(before != Some(may))
    }

    fn remember(&self, account: Account, answer: Answer) -> Option<bool> {
        let mut answers = self.answers();
        if answers.len() >= ACCOUNTS_MAX && !answers.contains_key(&account) {
            let oldest = answers.iter().min_by_key(|(_, one)| one.asked).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| answers.remove(&oldest));
        }
        answers.insert(account, answer).map(|before| before.may)
    }

    fn client_for(&self, id: &SpiffeId) -> Option<&kube::Client> {
        let is_read = self.0.namespaces.is_empty() || self.0.namespaces.contains(&id.namespace);
        self.0.client.as_ref().filter(|_| is_read)
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Account, Answer>> {
        self.0.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn account(id: &SpiffeId) -> Account {
    (id.namespace.clone(), id.service_account.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(account: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://cluster.local/ns/edge/sa/{account}")).unwrap()
    }

    // An API server that refuses connections.
    fn unreachable() -> Rights {
        let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        Rights::new(Some(client), BTreeSet::from(["edge".to_owned()]))
    }

    #[tokio::test]
    async fn without_an_api_server_whoever_is_known_may() {
        let rights = Rights::new(None, BTreeSet::new());
        assert_eq!(rights.learn(&id("gateway")).await, Ok(()));
        assert_eq!(rights.of(&id("gateway")), Some(true));
    }

    #[tokio::test]
    async fn no_answer_gives_nothing_and_takes_nothing() {
        let rights = unreachable();
        assert!(rights.learn(&id("gateway")).await.is_err());
        assert_eq!(rights.of(&id("gateway")), None);
        // One from long ago holds on.
        let asked = Instant::now().checked_sub(BELIEVED * 2).unwrap();
        for may in [true, false] {
            rights.remember(account(&id("gateway")), Answer { may, asked });
            assert_eq!(rights.learn(&id("gateway")).await, Ok(()));
            assert_eq!(rights.of(&id("gateway")), Some(may));
        }
        // Where no Secrets are read there is nothing to be asked.
        let elsewhere = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/a").unwrap();
        assert_eq!(rights.learn(&elsewhere).await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let rights = unreachable();
        for number in 0..ACCOUNTS_MAX + 10 {
            rights.remember(account(&id(&format!("a{number}"))), Answer { may: true, asked: Instant::now() });
        }
        assert_eq!(rights.answers().len(), ACCOUNTS_MAX);
        assert_eq!(rights.of(&id("a0")), None, "the oldest went");
    }
}
