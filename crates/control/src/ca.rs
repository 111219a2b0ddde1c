//! Keeps the certificate authority: where its files are, a new one where there is none, and whatever replaces it.
//!
//! In: a directory (Istio's `cacerts`, mounted), else the Secret `istio-ca-secret`, which is made once and shared by all
//! replicas. Out: [`Serving`], published whenever the authority is another one or our own certificate is due. Files that do
//! not fit are said once, and what was good stays; a directory that was served from is never left for the Secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::watch::kubernetes::{SecretStore, WriteError};
use anyhow::{Result, bail};
use identity::{Authority, AuthorityError, Files, LEAF_LIFE};
use tokio::sync::watch;

use crate::leader::share;
use crate::metrics::Metrics;
use crate::secure::{self, Secure, Serving};

/// The Secret with an authority of our own.
pub(crate) const SECRET: &str = "istio-ca-secret";
/// Its type, as Istio's.
const SECRET_TYPE: &str = "istio.io/ca-root";
/// How often the directory is looked at; small files, read as a whole.
const FILES_EVERY: Duration = Duration::from_secs(2);
/// How often the Secret is read again.
const SECRET_EVERY: Duration = Duration::from_secs(10);
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Names of the files: certificate, key, chain, roots. Istio's, and those of Secrets of the type kubernetes.io/tls.
const NAMES: [[&str; 4]; 2] =
    [["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"], ["tls.crt", "tls.key", "tls.crt", "ca.crt"]];

/// Where an authority may be.
pub(crate) struct Place {
    /// Looked at first.
    pub(crate) directory: PathBuf,
    /// Looked at when the directory has none.
    pub(crate) secret: Option<SecretStore>,
    /// The Secret may be made.
    pub(crate) may_create: bool,
    /// Whose root it is, when one is made.
    pub(crate) trust_domain: String,
    /// DNS names and addresses of this server.
    pub(crate) names: Vec<String>,
}

/// The texts of an authority.
type Texts = BTreeMap<String, Vec<u8>>;

struct Keeper {
    place: Place,
    metrics: Arc<Metrics>,
    /// What was looked at last and need not be judged again, with what is wrong with it.
    known: Option<(Texts, Option<String>)>,
    /// When the Secret was read.
    asked: Option<Instant>,
    /// What is wrong with the place, as it was found last.
    trouble: Option<String>,
    said: Option<String>,
    /// What is served with has come from the directory.
    of_directory: bool,
    now: watch::Sender<Option<Arc<Serving>>>,
}

/// Keeps the authority from now on. With a directory alone it must be good at once; an API server may be late.
pub(crate) async fn keep(place: Place, metrics: Arc<Metrics>) -> Result<Secure> {
    let (now, receiver) = watch::channel(None);
    let mut keeper = Keeper::new(place, metrics, now);
    keeper.round().await;
    if let (None, Some(reason)) = (&keeper.place.secret, &keeper.said) {
        bail!("no certificate authority (--ca-dir {}): {reason}", keeper.place.directory.display());
    }
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FILES_EVERY).await;
            keeper.round().await;
        }
    });
    Ok(Secure { now: receiver })
}

impl Keeper {
    fn new(place: Place, metrics: Arc<Metrics>, now: watch::Sender<Option<Arc<Serving>>>) -> Self {
        Self { place, metrics, known: None, asked: None, trouble: None, said: None, of_directory: false, now }
    }

    async fn round(&mut self) {
        match self.look().await {
            Ok(Some((texts, in_directory))) => {
                self.trouble = self.load(texts).err();
                self.of_directory |= in_directory && self.trouble.is_none();
            }
            // Not asked: what was found last holds still.
            Ok(None) => {}
            Err(reason) => self.trouble = Some(reason),
        }
        // Whatever the place is like: what is served with must not expire for it.
        let renewed = self.renew().err();
        let troubles: Vec<&str> = [&self.trouble, &renewed].into_iter().flatten().map(String::as_str).collect();
        let said = Some(troubles.join("; ")).filter(|said| !said.is_empty());
        // One line per reason, not one per look.
        if let Some(reason) = said.as_ref().filter(|_| said != self.said) {
            tracing::error!("certificate authority: {reason}{}", self.consequence());
        }
        self.said = said;
    }

    fn consequence(&self) -> &'static str {
        match self.now.borrow().is_some() {
            true => "; the one from before stays",
            false => "; nobody gets a certificate, and the secure ports wait",
        }
    }

    // With whether they are the directory's. `None`: not asked.
    async fn look(&mut self) -> Result<Option<(Texts, bool)>, String> {
        let found = directory(&self.place.directory)?;
        if !found.is_empty() {
            return Ok(Some((found, true)));
        }
        // Another authority would be another mesh: nobody wants that of a directory that is unmounted or emptied.
        if self.of_directory {
            return Err(format!(
                "{} has neither {} nor {} any more; put them back, or restart this program to use another authority",
                self.place.directory.display(),
                NAMES[0][0],
                NAMES[1][0]
            ));
        }
        match self.place.secret.clone() {
            Some(secret) => Ok(self.look_at(&secret).await?.map(|texts| (texts, false))),
            None => Err(format!("there is neither {} nor {}", NAMES[0][0], NAMES[1][0])),
        }
    }

    async fn look_at(&mut self, secret: &SecretStore) -> Result<Option<Texts>, String> {
        let is_early = self.asked.is_some_and(|asked| asked.elapsed() < SECRET_EVERY);
        if is_early && self.now.borrow().is_some() {
            return Ok(None);
        }
        self.asked = Some(Instant::now());
        let place = secret.place();
        let failed = |error: WriteError| format!("Secret {place}: {error}");
        if let Some(texts) = secret.read().await.map_err(failed)? {
            return Ok(Some(texts));
        }
        if self.now.borrow().is_some() {
            return Err(format!(
                "Secret {place} is gone; put it back, or restart this program to have a new root made"
            ));
        }
        if !self.place.may_create {
            return Err(format!("Secret {place} is not there, and nothing is to be written (--read-only)"));
        }
        let made = Authority::create(&self.place.trust_domain, SystemTime::now());
        let (certificate, key) = made.map_err(|error| error.to_string())?;
        let texts = Texts::from([(NAMES[0][0].into(), certificate.into()), (NAMES[0][1].into(), key.into())]);
        match secret.create(SECRET_TYPE, &texts).await {
            Ok(()) => tracing::info!("a root is made, in the Secret {place}; keep it safe"),
            // Another replica was faster: its root is everybody's.
            Err(WriteError::Conflict(_)) => {}
            Err(error) => return Err(failed(error)),
        }
        secret.read().await.map_err(failed)
    }

    fn load(&mut self, texts: Texts) -> Result<(), String> {
        if let Some((_, wrong)) = self.known.as_ref().filter(|(known, _)| *known == texts) {
            return wrong.clone().map_or(Ok(()), Err);
        }
        let authority = match authority(&texts, SystemTime::now()) {
            Ok(authority) => Arc::new(authority),
            // Time goes on, and clocks are put right.
            Err(Unfit { reason, passes: true }) => return Err(reason),
            Err(Unfit { reason, passes: false }) => {
                self.known = Some((texts, Some(reason.clone())));
                return Err(reason);
            }
        };
        self.say_what_is_lost(&authority);
        self.publish(authority)?;
        self.known = Some((texts, None));
        Ok(())
    }

    fn say_what_is_lost(&self, new: &Authority) {
        let before = self.now.borrow().clone();
        let lost = before.map_or(0, |before| new.roots().lacks(before.authority.roots()));
        if lost > 0 {
            tracing::warn!(
                "{lost} of the roots trusted so far are not among the new ones: who still shows a certificate under \
                 them is refused from now on; put old and new roots into root-cert.pem for a day first"
            );
        }
    }

    fn renew(&mut self) -> Result<(), String> {
        let due = self.now.borrow().clone().filter(|serving| serving.renew_at <= SystemTime::now());
        due.map_or(Ok(()), |serving| self.publish(serving.authority.clone()))
    }

    fn publish(&mut self, authority: Arc<Authority>) -> Result<(), String> {
        let seconds = |at: Option<SystemTime>| {
            let since = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        self.metrics.root_expiry.set(seconds(authority.roots().expires()));
        self.metrics.authority_expiry.set(seconds(Some(authority.not_after())));
        let made = secure::serving(authority, &self.place.names, LEAF_LIFE, SystemTime::now(), share())?;
        tracing::info!(
            authority = made.authority.serial(),
            roots = made.authority.roots().len(),
            "serving with a new certificate"
        );
        self.now.send_replace(Some(Arc::new(made)));
        Ok(())
    }
}

// Which names the texts go by.
fn names(has: impl Fn(&str) -> bool) -> Option<[&'static str; 4]> {
    NAMES.into_iter().find(|[certificate, key, ..]| has(certificate) || has(key))
}

fn directory(folder: &Path) -> Result<Texts, String> {
    let failed = |path: PathBuf, error: std::io::Error| format!("{}: {error}", path.display());
    let mut there = Vec::new();
    for name in NAMES.iter().flat_map(|[certificate, key, ..]| [*certificate, *key]) {
        // What cannot be looked at is not missing: another authority must not take its place.
        if folder.join(name).try_exists().map_err(|error| failed(folder.join(name), error))? {
            there.push(name);
        }
    }
    let Some(names) = names(|name| there.contains(&name)) else { return Ok(Texts::new()) };
    let mut texts = Texts::new();
    for name in names {
        match read(&folder.join(name)) {
            Ok(text) => _ = texts.insert(name.to_owned(), text),
            // The last two may be missing; the first two are missed by name below.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(folder.join(name), error)),
        }
    }
    Ok(texts)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}

// Why texts are no authority.
#[derive(Debug)]
struct Unfit {
    reason: String,
    /// It may be over without the texts being changed.
    passes: bool,
}

fn authority(texts: &Texts, now: SystemTime) -> Result<Authority, Unfit> {
    let Some(names) = names(|name| texts.get(name).is_some_and(|text| !text.is_empty())) else {
        return Err(Unfit { reason: format!("there is neither {} nor {}", NAMES[0][0], NAMES[1][0]), passes: false });
    };
    let [certificate, key, chain, roots] = names.map(|name| texts.get(name).map(Vec::as_slice).unwrap_or_default());
    Authority::load(Files { certificate, key, chain, roots }, now).map_err(|error| Unfit {
        // A chain may be not valid yet, too.
        passes: matches!(error, AuthorityError::Time { .. } | AuthorityError::Path(_) | AuthorityError::Signing(_)),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        let (certificate, key) = Authority::create("cluster.local", SystemTime::now()).unwrap();
        Texts::from([("ca-cert.pem".into(), certificate.into()), ("ca-key.pem".into(), key.into())])
    }

    fn write(folder: &Path, texts: &Texts) {
        texts.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
    }

    fn keeper(folder: &Path) -> Keeper {
        let place = Place {
            directory: folder.to_owned(),
            secret: None,
            may_create: false,
            trust_domain: "cluster.local".into(),
            names: vec!["localhost".into()],
        };
        Keeper::new(place, Arc::new(Metrics::new()), watch::channel(None).0)
    }

    #[tokio::test]
    async fn a_replaced_authority_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(folder.path());
        keeper.round().await;
        assert_eq!(keeper.said.as_deref(), Some("there is neither ca-cert.pem nor tls.crt"));
        write(folder.path(), &texts());
        keeper.round().await;
        let first = keeper.now.borrow().clone().unwrap();
        keeper.round().await;
        assert!(Arc::ptr_eq(&first, keeper.now.borrow().as_ref().unwrap()) && keeper.said.is_none());
        // Another's key: refused as long as it stays, and what was good stays.
        std::fs::write(folder.path().join("ca-key.pem"), &texts()["ca-key.pem"]).unwrap();
        for _ in 0..2 {
            keeper.round().await;
            assert_eq!(keeper.said.as_deref(), Some("ca-key.pem is not the key of the certificate in ca-cert.pem"));
            assert!(Arc::ptr_eq(&first, keeper.now.borrow().as_ref().unwrap()));
        }
        write(folder.path(), &texts());
        keeper.round().await;
        assert_ne!(first.authority.serial(), keeper.now.borrow().as_ref().unwrap().authority.serial());
        assert!(keeper.said.is_none());
    }

    // An API server that refuses connections.
    fn nowhere() -> SecretStore {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        SecretStore::new(kube::Client::try_from(config).unwrap(), "istio-system", SECRET)
    }

    #[tokio::test]
    async fn a_directory_that_was_served_from_is_never_left_for_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(folder.path());
        write(folder.path(), &texts());
        keeper.round().await;
        let first = keeper.now.borrow().clone().unwrap();
        keeper.place.secret = Some(nowhere());
        ["ca-cert.pem", "ca-key.pem"].iter().for_each(|name| std::fs::remove_file(folder.path().join(name)).unwrap());
        keeper.round().await;
        assert!(
            keeper.said.as_ref().unwrap().contains("neither ca-cert.pem nor tls.crt any more"),
            "{:?}",
            keeper.said
        );
        assert!(keeper.asked.is_none(), "the Secret is not even read");
        assert!(Arc::ptr_eq(&first, keeper.now.borrow().as_ref().unwrap()));
        // What cannot be looked at is not gone either.
        keeper.of_directory = false;
        keeper.place.directory = folder.path().join("a".repeat(300));
        keeper.round().await;
        assert!(keeper.asked.is_none() && keeper.said.is_some());
    }

    #[tokio::test]
    async fn our_own_certificate_is_renewed_whatever_the_place_is_like() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(folder.path());
        write(folder.path(), &texts());
        keeper.round().await;
        let due = |keeper: &Keeper| {
            let now = keeper.now.borrow().clone().unwrap();
            let (authority, names) = (now.authority.clone(), &keeper.place.names);
            // Made half a life ago.
            let past = SystemTime::now() - LEAF_LIFE / 2;
            let made = Arc::new(secure::serving(authority, names, LEAF_LIFE, past, 0.0).unwrap());
            keeper.now.send_replace(Some(made.clone()));
            made
        };
        // Another's key; looked at for the first time, and then again.
        std::fs::write(folder.path().join("ca-key.pem"), &texts()["ca-key.pem"]).unwrap();
        for _ in 0..2 {
            let old = due(&keeper);
            keeper.round().await;
            let new = keeper.now.borrow().clone().unwrap();
            assert!(new.renew_at > old.renew_at && keeper.said.is_some());
            assert_eq!(new.authority.serial(), old.authority.serial());
        }
    }

    #[tokio::test]
    async fn a_reason_is_said_once_while_the_api_server_is_away_and_forgotten_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(folder.path());
        let good = texts();
        keeper.load(good.clone()).unwrap();
        keeper.place.secret = Some(nowhere());
        keeper.round().await;
        let said = keeper.said.clone();
        assert!(said.as_ref().unwrap().starts_with("Secret istio-system/istio-ca-secret"), "{said:?}");
        // Not asked again so soon: nothing is different, and nothing is to be said anew.
        keeper.round().await;
        assert_eq!(keeper.said, said);
        assert_eq!(keeper.load(good), Ok(()), "what failed was the asking, not the authority");
    }

    #[tokio::test]
    async fn an_authority_whose_time_has_not_come_is_tried_again() {
        let early = Authority::create("cluster.local", SystemTime::now() + LEAF_LIFE * 3).unwrap();
        let early = Texts::from([("ca-cert.pem".into(), early.0.into()), ("ca-key.pem".into(), early.1.into())]);
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(folder.path());
        write(folder.path(), &early);
        keeper.round().await;
        assert!(keeper.said.as_ref().unwrap().contains("not valid now"));
        assert!(keeper.known.is_none(), "clocks are put right");
        assert!(authority(&early, SystemTime::now() + LEAF_LIFE * 3).is_ok());
    }

    #[test]
    fn secrets_of_the_type_tls_are_read_too() {
        let own = texts();
        let renamed = Texts::from([
            ("tls.crt".into(), own["ca-cert.pem"].clone()),
            ("tls.key".into(), own["ca-key.pem"].clone()),
            ("ca.crt".into(), own["ca-cert.pem"].clone()),
        ]);
        assert!(authority(&renamed, SystemTime::now()).is_ok());
        assert!(authority(&Texts::new(), SystemTime::now()).is_err());
    }
}
