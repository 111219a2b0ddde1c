//! Workloads of the mesh by small numbers, so that a request carries and compares a number and not three names.
//!
//! A number is given at a handshake and kept for as long as the process lives. Only when labels or a line of a log are
//! made is its name looked up.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use words::SpiffeId;

/// Workloads that have numbers; what comes after them is counted together, as unknown.
pub const PRINCIPALS_MAX: usize = 16_384;

/// A workload; 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Principal(u32);

/// Who takes part in a request, as far as they have shown it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parties {
    /// The client.
    pub client: Principal,
    /// We, to the client.
    pub local: Principal,
    /// The host that it was sent to.
    pub upstream: Principal,
    /// We, to the host.
    pub upstream_local: Principal,
}

impl Parties {
    /// Tells those apart that labels tell apart: who we are does not change.
    pub fn key(self) -> u64 {
        u64::from(self.client.0) << 32 | u64::from(self.upstream.0)
    }
}

#[derive(Default)]
struct Known {
    numbers: HashMap<Arc<SpiffeId>, u32>,
    ids: Vec<Arc<SpiffeId>>,
}

static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

impl Principal {
    /// The number of a workload.
    pub fn of(id: &SpiffeId) -> Self {
        if let Some(number) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).numbers.get(id) {
            return Self(*number);
        }
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster.
        if let Some(number) = known.numbers.get(id) {
            return Self(*number);
        }
        if known.ids.len() >= PRINCIPALS_MAX {
            return Self(u32::MAX);
        }
        let id = Arc::new(id.clone());
        known.ids.push(id.clone());
        let number = known.ids.len() as u32;
        known.numbers.insert(id, number);
        Self(number)
    }

    /// The number of a workload, if there is one.
    pub fn of_any(id: Option<&SpiffeId>) -> Self {
        id.map(Self::of).unwrap_or_default()
    }

    /// True when somebody has shown who it is.
    pub fn is_somebody(self) -> bool {
        self != Self::default()
    }

    /// As a number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// What was a number.
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The workload; `None` for nobody, and for those that came too late.
    pub fn id(self) -> Option<Arc<SpiffeId>> {
        let index = (self.0 as usize).checked_sub(1)?;
        KNOWN.read().unwrap_or_else(PoisonError::into_inner).ids.get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, OtherNameValue, SanType};

    use super::*;

    /// A certificate with these URIs and other names.
    fn certificate(uris: &[&str], others: &[SanType]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.subject_alt_names.extend(others.iter().cloned());
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn read_by_both(der: &[u8]) -> (Option<SpiffeId>, Option<SpiffeId>) {
        let by_agent = identity::Certificate::read(der).and_then(|read| read.id()).ok();
        (by_agent, transport::tls::principal(der))
    }

    // The agent and the control plane read ids with one reader, handshakes with another, which is faster and knows less.
    #[test]
    fn both_readers_of_certificates_find_the_same_id() {
        let good = "spiffe://cluster.local/ns/default/sa/reviews";
        let dns = [SanType::DnsName("a.example".try_into().unwrap())];
        let other = [SanType::OtherName((vec![1, 3, 6, 1], OtherNameValue::Utf8String(good.to_owned())))];
        for (uris, others) in [
            (&[good][..], &[][..]),
            (&[good], &dns),
            (&[good], &other),
            (&[], &[]),
            (&[], &dns),
            (&[], &other),
            (&[good, good], &[]),
            (&[good, "https://a.example"], &[]),
            (&["https://a.example"], &[]),
            (&["spiffe://cluster.local/ns/default/sa/reviews/"], &[]),
            (&["spiffe://cluster.local/ns/default/sa/"], &[]),
            (&["spiffe://cluster.local/ns/../sa/reviews"], &[]),
            (&["SPIFFE://cluster.local/ns/default/sa/reviews"], &[]),
            (&["spiffe://cluster.local/ns/default/sa/reviews?x#y"], &[]),
            (&["spiffe://cluster.local/ns/default/sa/%72eviews"], &[]),
        ] {
            let (by_agent, by_handshake) = read_by_both(&certificate(uris, others));
            assert_eq!(by_agent, by_handshake, "{uris:?} {others:?}");
            assert_eq!(by_agent.is_some(), uris == [good], "{uris:?} {others:?}");
        }
        // Whatever is broken in one: they may refuse it each on its own, but never find two ids.
        let whole = certificate(&[good], &dns);
        for at in 0..whole.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut broken = whole.clone();
                broken[at] ^= flip;
                if let (Some(by_agent), Some(by_handshake)) = read_by_both(&broken) {
                    assert_eq!(by_agent, by_handshake, "byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_workload_keeps_its_number() {
        let id = |name: &str| SpiffeId::parse(&format!("spiffe://cluster.local/ns/n/sa/{name}")).unwrap();
        let (first, second) = (Principal::of(&id("a")), Principal::of(&id("b")));
        assert_ne!(first, second);
        assert_eq!(Principal::of(&id("a")), first);
        assert_eq!(second.id().as_deref(), Some(&id("b")));
        assert_eq!((Principal::default().id(), Principal::of_any(None).is_somebody()), (None, false));
    }
}
