//! What an authority signs, and what makes none.

use std::time::UNIX_EPOCH;

use super::*;
use crate::Enrolment;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn caller() -> SpiffeId {
    SpiffeId::parse("spiffe://cluster.local/ns/default/sa/reviews").unwrap()
}

struct Set {
    certificate: String,
    key: String,
    chain: String,
    roots: String,
}

impl Set {
    fn root() -> Self {
        let (certificate, key) = Authority::create("cluster.local", now()).unwrap();
        Self { certificate, key, chain: String::new(), roots: String::new() }
    }

    fn root_until(end: SystemTime) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "short");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = (now() - Duration::from_secs(3600)).into();
        params.not_after = end.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, key: key.serialize_pem(), chain: String::new(), roots: String::new() }
    }

    /// An intermediate under it, with Istio's chain: the intermediate, then the root.
    fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Istio");
        params.distinguished_name.push(DnType::CommonName, "Intermediate CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = (now() - Duration::from_secs(3600)).into();
        params.not_after = (now() + Duration::from_secs(100 * 24 * 3600)).into();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let chain = format!("{certificate}{}", self.certificate);
        Self { chain, key: key.serialize_pem(), certificate, roots: self.certificate.clone() }
    }

    fn load(&self) -> Result<Authority, AuthorityError> {
        let Self { certificate, key, chain, roots } = self;
        let files = Files {
            certificate: certificate.as_bytes(),
            key: key.as_bytes(),
            chain: chain.as_bytes(),
            roots: roots.as_bytes(),
        };
        Authority::load(files, now())
    }
}

fn signed(authority: &Authority, life: Duration) -> (Issued, Certificate) {
    let made = Enrolment::new(None).unwrap();
    let issued = authority.sign(&made.request, &caller(), life, now()).unwrap();
    let read = Certificate::read_all(issued.chain[0].as_bytes()).unwrap().remove(0);
    (issued, read)
}

#[test]
fn a_leaf_is_for_the_caller_only_and_for_a_day() {
    let authority = Set::root().load().unwrap();
    let (issued, leaf) = signed(&authority, LEAF_LIFE);
    assert_eq!(leaf.id().unwrap(), caller());
    assert!(!leaf.is_authority && leaf.dns.is_empty() && leaf.ips.is_empty());
    assert_eq!(leaf.not_before, now() - BACKDATED);
    assert_eq!((leaf.not_after, issued.not_after), (now() + LEAF_LIFE, now() + LEAF_LIFE));
    assert_eq!(issued.chain.len(), 1, "a root is not sent");
    assert_eq!(issued.roots, authority.roots().pem());
    assert_ne!(signed(&authority, LEAF_LIFE).1.serial, leaf.serial);
}

#[test]
fn r41_a_leaf_is_valid_for_who_is_two_minutes_behind() {
    let (_, leaf) = signed(&Set::root().load().unwrap(), LEAF_LIFE);
    assert!(leaf.is_valid_at(now() - Duration::from_secs(119)) && leaf.is_valid_at(now()));
    assert!(!leaf.is_valid_at(now() - Duration::from_secs(121)));
}

#[test]
fn a_life_is_never_longer_than_the_authoritys() {
    let authority = Set::root().load().unwrap();
    let (_, leaf) = signed(&authority, ROOT_LIFE * 3);
    assert_eq!(leaf.not_after, authority.not_after());
    let made = Enrolment::new(None).unwrap();
    let later = authority.not_after() + Duration::from_secs(1);
    assert_eq!(authority.sign(&made.request, &caller(), LEAF_LIFE, later).unwrap_err(), Refusal::Expired);
}

#[test]
fn a_leaf_outlives_nothing_that_it_leads_through() {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let ask = |set: &Set| signed(&set.load().unwrap(), days(90)).1.not_after;
    let until = |end: SystemTime| move |params: &mut CertificateParams| params.not_after = end.into();
    let root = Set::root();
    assert_eq!(ask(&root.intermediate(until(now() + days(30)))), now() + days(30));
    // The one above ends first.
    let above = root.intermediate(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.not_after = (now() + days(20)).into();
    });
    let below = above.intermediate(|params| params.distinguished_name.push(DnType::CommonName, "below"));
    let chain = format!("{}{}", below.certificate, above.certificate);
    let below = Set { chain, roots: root.certificate.clone(), ..below };
    assert_eq!(ask(&below), now() + days(20));
    // The root does.
    let short = Set::root_until(now() + days(10));
    assert_eq!(ask(&short.intermediate(|_| {})), now() + days(10));
}

#[test]
fn a_plugged_in_intermediate_sends_itself_and_not_the_root() {
    let set = Set::root().intermediate(|_| {});
    let (issued, _) = signed(&set.load().unwrap(), LEAF_LIFE);
    assert_eq!((issued.chain[1].as_str(), issued.chain.len()), (set.certificate.as_str(), 2));
    assert_eq!(issued.roots, set.roots);
    let without_chain = Set { chain: String::new(), ..set };
    assert_eq!(signed(&without_chain.load().unwrap(), LEAF_LIFE).0.chain.len(), 2);
}

#[test]
fn r39_roots_overlap() {
    let (old, new) = (Set::root(), Set::root());
    let both = format!("{}{}", old.certificate, new.certificate);
    let first = Set { roots: both.clone(), ..old.intermediate(|_| {}) }.load().unwrap();
    let second = Set { roots: both, ..new.intermediate(|_| {}) }.load().unwrap();
    assert_eq!((first.roots().len(), first.roots().lacks(second.roots())), (2, 0));
    assert_eq!(signed(&second, LEAF_LIFE).0.roots, first.roots().pem());
}

#[test]
fn keys_in_openssls_older_forms_are_read() {
    // SEC1, as `openssl ecparam -genkey` writes it; RSA in PKCS#1 is what `openssl genrsa` of Istio's scripts writes.
    let set = Set::root();
    assert!(Key::read(set.key.as_bytes()).is_ok());
    assert_eq!(
        Key::read(b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n").unwrap_err(),
        KeyError::Kind
    );
    assert_eq!(Key::read(b"sesame").unwrap_err(), KeyError::Unreadable);
}

#[test]
fn files_that_do_not_fit_are_named() {
    let (set, other) = (Set::root(), Set::root());
    let error = |set: Set| set.load().unwrap_err().to_string();
    let with_key = |key: &str| error(Set { key: key.into(), ..set.intermediate(|_| {}) });
    assert_eq!(with_key(&other.key), "ca-key.pem is not the key of the certificate in ca-cert.pem");
    assert!(with_key("sesame").starts_with("ca-key.pem: there is no private key"));
    assert!(!with_key("sesame").contains("sesame"));
    assert_eq!(error(Set { certificate: String::new(), ..Set::root() }), "ca-cert.pem has no certificate");
    let wrong_root = error(Set { roots: other.certificate.clone(), ..set.intermediate(|_| {}) });
    assert!(wrong_root.starts_with("what ca-cert.pem signs does not lead to root-cert.pem"), "{wrong_root}");
    assert!(error(set.intermediate(|params| params.is_ca = IsCa::ExplicitNoCa)).contains("no certificate authority"));
    let old = set.intermediate(|params| params.not_after = (now() - Duration::from_secs(1)).into());
    assert!(error(old).contains("not valid now"));
    let huge = "a".repeat(FILE_BYTES_MAX + 1);
    assert!(error(Set { chain: huge, ..set.intermediate(|_| {}) }).contains("cert-chain.pem has more than"));
}

#[test]
fn a_server_has_its_names() {
    let served =
        Set::root().load().unwrap().serve(&["istiod.istio-system.svc".into(), "127.0.0.1".into()], LEAF_LIFE, now());
    let read = Certificate::read(&served.unwrap().chain[0]).unwrap();
    assert_eq!((read.dns, read.ips.len(), read.uris.len()), (vec!["istiod.istio-system.svc".to_owned()], 1, 0));
}
