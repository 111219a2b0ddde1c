//! Gets us a certificate and keeps it fresh: a new key and a request, signed by the control plane for who it knows that we are.
//!
//! In: the control plane, the time. Out: secrets on the channel that the planner reads ([`OwnSecrets`]), whole and checked. At
//! half of a certificate's life the next one is asked for, with a fresh key; while that fails the old one goes on being used,
//! and it is asked for again and again until it is there. Roots come with the certificate and from the file of roots, which
//! may get new ones at any time: both count, but what the file no longer has is trusted no longer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use config::{OWN_CERTIFICATE, Secret};
use identity::wire::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse};
use identity::{BUNDLE_BYTES_MAX, Bundle, Certificate, Enrolment, rotation};
use tokio::sync::watch;
use tonic::Status;
use tonic_prost::ProstCodec;

use crate::dial::{self, Plane};
use crate::own::{self, OwnSecrets};

/// How often the time and the file of roots are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A certificate that new roots do not believe is replaced within this time; not at once by all proxies.
const HURRY_MAX: Duration = Duration::from_secs(5);
/// How long the control plane may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Who we must be, by our own words: a certificate for anybody else would be a mistake that nobody sees.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Our namespace.
    pub namespace: String,
    /// Our service account, if it was said.
    pub service_account: Option<String>,
}

/// Keeps our certificate fresh.
pub struct Agent {
    plane: Arc<Plane>,
    roots: Option<PathBuf>,
    expected: Expected,
    own: watch::Sender<OwnSecrets>,
    held: Option<Held>,
    /// When to ask.
    due: SystemTime,
    failures: u32,
    said: Option<String>,
    /// The file of roots as it was last.
    file: Option<Vec<u8>>,
    /// Its roots, when it last had any that could be read.
    of_file: Option<Bundle>,
    /// Certificates in a row that the file's roots do not believe.
    unbelieved: u32,
}

/// A certificate that is used.
struct Held {
    chain: String,
    key: String,
    roots: Bundle,
    not_after: SystemTime,
}

impl Agent {
    /// One that has nothing yet and asks at once.
    pub fn new(plane: Arc<Plane>, expected: Expected, own: watch::Sender<OwnSecrets>) -> Self {
        let roots = plane.roots.clone();
        let due = SystemTime::UNIX_EPOCH;
        Self {
            plane,
            roots,
            expected,
            own,
            held: None,
            due,
            failures: 0,
            said: None,
            file: None,
            of_file: None,
            unbelieved: 0,
        }
    }

    /// Runs for as long as somebody reads the secrets.
    pub async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.own.is_closed() {
            look.tick().await;
            self.look_at_roots();
            if SystemTime::now() >= self.due {
                self.renew().await;
            }
        }
    }

    async fn renew(&mut self) {
        match self.ask().await {
            Ok(held) => self.renewed(held),
            Err(reason) => self.failed(reason),
        }
    }

    fn renewed(&mut self, held: Held) {
        let now = SystemTime::now();
        self.due = rotation::renew_at(now, held.not_after, draw());
        (self.failures, self.said) = (0, None);
        let valid_s = held.not_after.duration_since(now).unwrap_or_default().as_secs();
        self.held = Some(held);
        self.hurry();
        let next_s = self.due.duration_since(now).unwrap_or_default().as_secs();
        tracing::info!(valid_s, next_s, "a new certificate");
        self.publish();
    }

    fn failed(&mut self, reason: String) {
        let now = SystemTime::now();
        let left = self.held.as_ref().map(|held| held.not_after.duration_since(now).unwrap_or_default());
        self.failures = self.failures.saturating_add(1);
        // Without a certificate nothing works: ask as often as it is bearable.
        let pause = rotation::pause(self.failures, left.unwrap_or(Duration::from_secs(50)), draw());
        self.due = now + pause;
        let still = match left {
            None => "there is none yet".to_owned(),
            Some(left) if left.is_zero() => "the last one has EXPIRED, peers refuse us".to_owned(),
            Some(left) => format!("the last one is good for {} s more", left.as_secs()),
        };
        // Once per reason; but the end of the last one is said anew.
        let words = format!("{reason}{}", if left == Some(Duration::ZERO) { " (expired)" } else { "" });
        if self.said.as_ref() != Some(&words) {
            tracing::error!("no new certificate: {reason}; {still}, asking again");
        }
        self.said = Some(words);
    }

    async fn ask(&self) -> Result<Held, String> {
        let Enrolment { key, request } = Enrolment::new(None)?;
        let answer = tokio::time::timeout(ANSWER_MAX, self.create(request));
        let answer = answer.await.map_err(|_| format!("no answer within {} s", ANSWER_MAX.as_secs()))??;
        let (chain, roots) = answer.parts().ok_or("the answer has no certificate and roots")?;
        let roots = Bundle::read(roots.as_bytes()).map_err(|error| error.to_string())?;
        let leaf = Certificate::read_all(chain.as_bytes()).map_err(|error| error.to_string())?;
        let leaf = leaf.into_iter().next().ok_or("the answer has no certificate")?;
        self.check(&leaf, &chain, &roots)?;
        Ok(Held { chain, key, roots, not_after: leaf.not_after })
    }

    async fn create(&self, csr: String) -> Result<IstioCertificateResponse, String> {
        let opened = self.plane.open().await?;
        let mut client = tonic::client::Grpc::new(opened.channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        client.ready().await.map_err(|error| error.to_string())?;
        // As long as the control plane finds good.
        let mut request = tonic::Request::new(IstioCertificateRequest { csr, validity_duration: 0, metadata: None });
        if let Some(authorization) = opened.authorization {
            request.metadata_mut().insert("authorization", authorization);
        }
        let codec = ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
        let path = http::uri::PathAndQuery::from_static(CREATE_CERTIFICATE);
        let said = |status: Status| format!("the control plane answers {:?}: {}", status.code(), status.message());
        let answer = client.unary(request, path, codec).await.map_err(said)?;
        opened.taken.store(true, Ordering::Relaxed);
        Ok(answer.into_inner())
    }

    // What is not ours, or what nobody would believe, is not used: the one from before is better.
    fn check(&self, leaf: &Certificate, chain: &str, roots: &Bundle) -> Result<(), String> {
        let id = leaf.id().map_err(|error| error.to_string())?;
        let Expected { namespace, service_account } = &self.expected;
        if id.namespace != *namespace || service_account.as_ref().is_some_and(|own| *own != id.service_account) {
            return Err(format!("the certificate is for {id}, not for us"));
        }
        roots.believes_pem(chain, SystemTime::now()).map_err(|reason| format!("the certificate is no good: {reason}"))
    }

    fn look_at_roots(&mut self) {
        let Some(path) = self.roots.clone() else { return };
        let Ok(text) = dial::read(&path, BUNDLE_BYTES_MAX as u64) else { return };
        if self.file.as_ref() != Some(&text) {
            let read = Bundle::read(&text);
            let is_first = self.file.replace(text).is_none();
            match read {
                Ok(roots) => self.replace_roots(roots),
                Err(error) => tracing::error!("the file of roots cannot be used, its roots of before stay: {error}"),
            }
            if !is_first {
                tracing::info!(file = %path.display(), "the file of roots has changed");
                self.unbelieved = 0;
                self.hurry();
            }
            self.publish();
        }
    }

    // Taking a root out of the file means it, though it came with our certificate, too.
    fn replace_roots(&mut self, now: Bundle) {
        let before = self.of_file.replace(now.clone());
        if let (Some(before), Some(held)) = (before, &mut self.held) {
            held.roots = std::mem::take(&mut held.roots).without(&before.without(&now));
        }
    }

    // A certificate that the file's roots do not believe is no good to anybody who has only those: the next one is due now,
    // not in half a day. The control plane may not have its new authority yet: again and again, each time later, because the
    // file may be that of another authority for good.
    fn hurry(&mut self) {
        let (Some(roots), Some(held)) = (&self.of_file, &self.held) else { return };
        let now = SystemTime::now();
        if roots.believes_pem(&held.chain, now).is_ok() {
            self.unbelieved = 0;
            return;
        }
        tracing::warn!("the roots of the file do not believe our certificate; asking for another");
        let pause = HURRY_MAX.saturating_mul(1 << self.unbelieved.min(16)).mul_f64(draw());
        self.unbelieved = self.unbelieved.saturating_add(1);
        self.due = self.due.min(now + pause);
    }

    fn publish(&self) {
        let Some(Held { chain, key, roots, .. }) = &self.held else { return };
        let all = self.of_file.iter().fold(roots.clone(), Bundle::with);
        match own::secrets(chain.as_bytes(), key.as_bytes(), all.pem().as_bytes()) {
            Ok(made) => {
                self.own.send_if_modified(|before| {
                    let newer = kept(before, made);
                    let differs = *before != newer;
                    *before = newer;
                    differs
                });
            }
            Err(reason) => tracing::error!("the certificate cannot be used: {reason}"),
        }
    }
}

// A secret that did not change stays the same value: whatever was made of it goes on.
fn kept(before: &OwnSecrets, made: OwnSecrets) -> OwnSecrets {
    let keep = |(name, secret): (&config::Name, &Arc<Secret>)| {
        let same = before.get(name).filter(|old| *old == secret);
        (name.clone(), same.unwrap_or(secret).clone())
    };
    Arc::new(made.iter().map(keep).collect())
}

/// True once there is a certificate of our own.
pub fn has_identity(own: &OwnSecrets) -> bool {
    own.contains_key(OWN_CERTIFICATE)
}

// Between 0 and 1; spreads what proxies do at the same time.
fn draw() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) >> 32) as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{SecretContent, Source};
    use identity::{Authority, Files, LEAF_LIFE};
    use words::SpiffeId;

    fn authority() -> Authority {
        let (certificate, key) = Authority::create("cluster.local", SystemTime::now()).unwrap();
        let files = Files { certificate: certificate.as_bytes(), key: key.as_bytes(), ..Files::default() };
        Authority::load(files, SystemTime::now()).unwrap()
    }

    fn agent(roots: Option<PathBuf>) -> (Agent, watch::Receiver<OwnSecrets>) {
        let (own, receiver) = watch::channel(OwnSecrets::default());
        let mut plane = Plane::new("https://localhost:1", receiver.clone()).unwrap().unwrap();
        plane.roots = roots;
        let expected = Expected { namespace: "default".into(), service_account: Some("reviews".into()) };
        (Agent::new(Arc::new(plane), expected, own), receiver)
    }

    fn held(authority: &Authority) -> Held {
        let made = Enrolment::new(None).unwrap();
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/reviews").unwrap();
        let issued = authority.sign(&made.request, &id, LEAF_LIFE, SystemTime::now()).unwrap();
        let roots = Bundle::read(issued.roots.as_bytes()).unwrap();
        Held { chain: issued.chain.concat(), key: made.key, roots, not_after: issued.not_after }
    }

    #[test]
    fn r39_new_roots_of_the_file_are_trusted_beside_those_of_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root-cert.pem");
        let (old, new) = (authority(), authority());
        std::fs::write(&path, old.roots().pem()).unwrap();
        let (mut agent, receiver) = agent(Some(path.clone()));
        agent.held = Some(held(&old));
        agent.look_at_roots();
        let first = receiver.borrow().clone();
        assert!(has_identity(&first));
        std::fs::write(&path, format!("{}{}", old.roots().pem(), new.roots().pem())).unwrap();
        agent.look_at_roots();
        let second = receiver.borrow().clone();
        assert!(Arc::ptr_eq(&first[OWN_CERTIFICATE], &second[OWN_CERTIFICATE]), "the certificate goes on");
        assert_ne!(first[config::OWN_ROOTS], second[config::OWN_ROOTS]);
        // The old root goes while our certificate is still under it: another one is due.
        agent.due = SystemTime::now() + LEAF_LIFE;
        std::fs::write(&path, new.roots().pem()).unwrap();
        agent.look_at_roots();
        assert!(agent.due <= SystemTime::now() + HURRY_MAX);
        // And it is trusted no longer, though it came with our certificate.
        let trusted = |receiver: &watch::Receiver<OwnSecrets>| match &receiver.borrow()[config::OWN_ROOTS].content {
            SecretContent::Roots { roots: Source::Inline(pem), .. } => String::from_utf8_lossy(pem).into_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(trusted(&receiver), new.roots().pem());
        // A file that is broken changes nothing.
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        agent.look_at_roots();
        assert_eq!(trusted(&receiver), new.roots().pem());
    }

    #[test]
    fn r39_a_certificate_that_is_still_not_believed_after_a_renewal_is_renewed_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root-cert.pem");
        let (old, new) = (authority(), authority());
        std::fs::write(&path, new.roots().pem()).unwrap();
        let (mut agent, _receiver) = agent(Some(path));
        agent.look_at_roots();
        // The control plane signs with the old one for some time.
        for times in 0..5 {
            agent.renewed(held(&old));
            assert!(agent.due <= SystemTime::now() + HURRY_MAX * (1 << times));
        }
        agent.unbelieved = 100;
        agent.renewed(held(&old));
        assert!(agent.due <= SystemTime::now() + LEAF_LIFE, "as any other");
        agent.renewed(held(&new));
        assert!(agent.due > SystemTime::now() + LEAF_LIFE / 3);
    }

    #[test]
    fn a_certificate_for_somebody_else_or_under_another_root_is_not_used() {
        let (mut agent, _receiver) = agent(None);
        let (own, other) = (authority(), authority());
        let check = |agent: &Agent, held: &Held, roots: &Bundle| {
            let leaf = Certificate::read_all(held.chain.as_bytes()).unwrap().remove(0);
            agent.check(&leaf, &held.chain, roots)
        };
        let made = held(&own);
        assert_eq!(check(&agent, &made, own.roots()), Ok(()));
        assert!(check(&agent, &made, other.roots()).unwrap_err().contains("no good"));
        agent.expected.service_account = Some("ratings".into());
        assert!(check(&agent, &made, own.roots()).unwrap_err().contains("not for us"));
        agent.expected = Expected { namespace: "prod".into(), service_account: None };
        assert!(check(&agent, &made, own.roots()).unwrap_err().contains("not for us"));
    }

    #[test]
    fn r40_failures_are_paced_and_the_certificate_stays() {
        let (mut agent, receiver) = agent(None);
        agent.held = Some(held(&authority()));
        agent.publish();
        let before = receiver.borrow().clone();
        for _ in 0..20 {
            agent.failed("away".into());
        }
        assert!(agent.due <= SystemTime::now() + rotation::PAUSE_MAX);
        assert!(Arc::ptr_eq(&before, &receiver.borrow()));
    }
}
