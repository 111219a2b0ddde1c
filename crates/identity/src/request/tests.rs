//! One test per refusal, and that nothing panics.

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};

use super::*;
use crate::Enrolment;

fn caller() -> SpiffeId {
    SpiffeId::parse("spiffe://cluster.local/ns/default/sa/reviews").unwrap()
}

fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn der_of(pem: &str) -> Vec<u8> {
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn pem_of(der: &[u8]) -> String {
    crate::text::certificate(der).replace("CERTIFICATE", "CERTIFICATE REQUEST")
}

#[test]
fn a_request_for_the_caller_or_for_nobody_is_taken() {
    for id in [None, Some(caller())] {
        let made = Enrolment::new(id.as_ref()).unwrap();
        Request::read(&made.request).unwrap().check(&caller()).unwrap();
    }
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    Request::read(&request(&p384, |_| {})).unwrap().check(&caller()).unwrap();
}

#[test]
fn r43_a_request_for_another_identity_is_refused() {
    let key = KeyPair::generate().unwrap();
    let ask = |names: Vec<SanType>| {
        Request::read(&request(&key, |params| params.subject_alt_names = names)).unwrap().check(&caller())
    };
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let other = "spiffe://cluster.local/ns/default/sa/ratings";
    let refused = ask(vec![uri(other)]).unwrap_err();
    assert_eq!(refused.to_string(), format!("the request asks for {other}; the caller is {}", caller()));
    assert!(ask(vec![uri(&caller().to_string()), uri(other)]).is_err());
    assert!(ask(vec![SanType::DnsName("istiod.istio-system.svc".try_into().unwrap())]).is_err());
    assert!(ask(vec![SanType::IpAddress("10.0.0.1".parse().unwrap())]).is_err());
    assert!(ask(vec![SanType::Rfc822Name("a@b.c".try_into().unwrap())]).is_err());
}

#[test]
fn r43_a_request_for_an_authority_is_refused() {
    let key = KeyPair::generate().unwrap();
    let text = request(&key, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(Request::read(&text).unwrap_err(), Refusal::Authority);
    let text = request(&key, |params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]);
    assert_eq!(Request::read(&text).unwrap_err(), Refusal::Authority);
}

#[test]
fn r43_ten_megabytes_are_refused_unread() {
    assert_eq!(Request::read(&"a".repeat(10 << 20)).unwrap_err(), Refusal::Bytes(10 << 20));
}

#[test]
fn r43_a_wrong_signature_is_refused() {
    let made = Enrolment::new(None).unwrap();
    let mut der = der_of(&made.request);
    let last = der.len() - 1;
    der[last] ^= 1;
    assert_eq!(Request::read(&pem_of(&der)).unwrap_err(), Refusal::Signature);
}

#[test]
fn r43_keys_of_other_kinds_are_refused() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert!(matches!(Request::read(&request(&key, |_| {})), Err(Refusal::Algorithm(_))));
    let rsa = |bits: usize| {
        let modulus = vec![0xff; bits / 8];
        let key = PublicKey::RSA(x509_parser::public_key::RSAPublicKey { modulus: &modulus, exponent: &[1, 0, 1] });
        check_key(Ok::<_, ()>(key))
    };
    assert_eq!(rsa(1024), Err(Refusal::Key("RSA with 1024 bits".into())));
    assert_eq!(rsa(8192), Err(Refusal::Key("RSA with 8192 bits".into())));
    assert_eq!((rsa(2048), rsa(4096)), (Ok(()), Ok(())));
}

#[test]
fn what_is_not_one_request_is_refused() {
    let made = Enrolment::new(None).unwrap();
    let mut longer = der_of(&made.request);
    longer.push(0);
    let two = format!("{0}{0}", made.request);
    for text in ["", "hello", &made.key, &two, &pem_of(b"hello"), &pem_of(&longer)] {
        assert!(matches!(Request::read(text), Err(Refusal::Unreadable(_))), "{text}");
    }
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::read(&pem_of(&bytes));
        let _ = Request::read(&String::from_utf8_lossy(&bytes));
    }

    // Flags around the signed part may be lost without harm; what was signed is never read as something else.
    #[test]
    fn a_broken_request_is_refused_or_says_what_was_signed(at in 0usize..10_000, bit in 0u8..8) {
        let made = Enrolment::new(Some(&caller())).unwrap();
        let (mut der, good) = (der_of(&made.request), Request::read(&made.request).unwrap());
        let at = at % der.len();
        der[at] ^= 1 << bit;
        if let Ok(read) = Request::read(&pem_of(&der)) {
            prop_assert_eq!((read.key, read.names), (good.key, good.names));
        }
    }
}
