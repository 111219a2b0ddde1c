//! Outlier detection: a host that fails too often in a row is left alone for a while (DR50 to DR56, TR04).
//!
//! In: how each try ended, and the time. Out: the hosts without those that are out. Shared by all workers: the counts of
//! a host are atomics, so a report that changes nothing costs a load; only an ejection and a sweep take a lock. Knows no
//! clock: `now` is the time since any fixed moment.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::{EndpointAddress, Outlier};
use rustc_hash::FxHashMap;

use crate::HostSet;

/// The longest that a host is out, unless the base time alone is longer (Envoy `max_ejection_time`).
const EJECTION_MAX: Duration = Duration::from_secs(300);

/// How a try ended, as far as its host is concerned. What one of our own bounds refused is not reported (DR43).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It answered with this status; a gRPC status counts as the HTTP status that stands for it.
    Status(u16),
    /// No connection, or one that broke before an answer.
    Broken,
    /// No answer in time.
    Timeout,
    /// A connection was made; all that is known of connections that are not HTTP.
    Connected,
}

/// Why a host was found to be an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Errors,
    Gateway,
    Local,
}

/// Events since the cluster is known, under Envoy's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// `ejections_active`: hosts that are out now.
    pub active: u64,
    /// `ejections_enforced_total`.
    pub ejected: u64,
    /// `ejections_overflow`: outliers that stayed because enough others were out.
    pub overflow: u64,
    /// `ejections_detected_consecutive_5xx`.
    pub errors: u64,
    /// `ejections_detected_consecutive_gateway_failure`.
    pub gateway: u64,
    /// `ejections_detected_consecutive_local_origin_failure`.
    pub local: u64,
}

/// The outlier detection of one cluster.
#[derive(Debug)]
pub struct Detector {
    config: Outlier,
    // As discovered; places are the same as in the set without ejected hosts.
    all: Arc<HostSet>,
    hosts: Vec<Arc<Standing>>,
    shared: Arc<Shared>,
}

/// What outlives changes of the configuration and of the hosts.
#[derive(Debug, Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    // Changes when hosts go out or come back.
    generation: AtomicU64,
    // Somebody sweeps.
    swept: AtomicBool,
}

#[derive(Debug, Default)]
struct Ledger {
    // The hosts without those that are out; `None` until one is.
    without: Option<Arc<HostSet>>,
    events: Events,
}

/// What is known of one host.
#[derive(Debug, Default)]
struct Standing {
    errors: InARow,
    gateway: InARow,
    local: InARow,
    is_out: AtomicBool,
    sentence: Mutex<Sentence>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sentence {
    // When it went out.
    since: Duration,
    // Recent ejections: one more with each, one less with each sweep that finds it in service.
    times: u32,
}

/// Events in a row.
#[derive(Debug, Default)]
struct InARow(AtomicU32);

impl InARow {
    // True for the event that makes it `most`, once, whoever counts; 0 is never.
    fn reaches(&self, most: u32) -> bool {
        most > 0 && self.0.fetch_add(1, Relaxed) + 1 == most
    }

    fn clear(&self) {
        // Most answers are good: do not take the line from the other workers for nothing.
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Detector {
    /// Watches these hosts. What `before` knows of hosts that stay, by address, is kept.
    pub fn new(config: Outlier, all: Arc<HostSet>, before: Option<&Detector>) -> Self {
        let known: FxHashMap<&EndpointAddress, &Arc<Standing>> = before
            .into_iter()
            .flat_map(|before| before.all.hosts().iter().map(|host| &host.address).zip(&before.hosts))
            .collect();
        let hosts =
            all.hosts().iter().map(|host| known.get(&host.address).map(|one| Arc::clone(one)).unwrap_or_default());
        let hosts = hosts.collect();
        let shared = before.map(|before| before.shared.clone()).unwrap_or_default();
        let made = Self { config, all, hosts, shared };
        made.publish(&mut lock(&made.shared.ledger));
        made
    }

    /// Changes whenever [`Self::hosts`] does.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Relaxed)
    }

    /// The hosts, of which those that are out are not usable.
    pub fn hosts(&self) -> Arc<HostSet> {
        lock(&self.shared.ledger).without.clone().unwrap_or_else(|| self.all.clone())
    }

    /// True when this host has this place, also after a change.
    pub fn is_at(&self, place: u32, address: &EndpointAddress) -> bool {
        self.all.hosts().get(place as usize).is_some_and(|host| host.address == *address)
    }

    /// True while a host, by its place in the set, is out.
    pub fn is_out(&self, place: u32) -> bool {
        self.hosts.get(place as usize).is_some_and(|host| host.is_out.load(Relaxed))
    }

    /// Takes note of how a try at a host ended. True when hosts went out and nobody sweeps yet: the caller has to call
    /// [`Self::sweep`] every [`Self::interval`] then, until it says that nothing is left to do.
    pub fn report(&self, place: u32, report: Report, now: Duration) -> bool {
        let Some(host) = self.hosts.get(place as usize) else { return false };
        if host.is_out.load(Relaxed) {
            // Of a request that was under way.
            return false;
        }
        let Outlier { consecutive_5xx, consecutive_gateway, consecutive_local, error_codes, .. } = &self.config;
        let (status, is_error) = match (report, consecutive_local) {
            (Report::Broken | Report::Timeout, Some(most)) => {
                return host.local.reaches(*most) && self.eject(host, Reason::Local, now);
            }
            (Report::Broken, None) => (503, true),
            (Report::Timeout, None) => (504, true),
            (Report::Connected, Some(_)) => {
                host.local.clear();
                return false;
            }
            (Report::Connected, None) => (200, false),
            (Report::Status(status), split) => {
                if split.is_some() {
                    host.local.clear();
                }
                let is_error = match error_codes.is_empty() {
                    true => (500..600).contains(&status),
                    false => error_codes.contains(&status),
                };
                (status, is_error)
            }
        };
        if !is_error {
            host.errors.clear();
            host.gateway.clear();
            return false;
        }
        let mut begins = false;
        match status {
            502..=504 if host.gateway.reaches(*consecutive_gateway) => begins |= self.eject(host, Reason::Gateway, now),
            502..=504 => {}
            _ => host.gateway.clear(),
        }
        if host.errors.reaches(*consecutive_5xx) {
            begins |= self.eject(host, Reason::Errors, now);
        }
        begins
    }

    /// Time between sweeps.
    pub fn interval(&self) -> Duration {
        self.config.interval
    }

    /// Brings hosts back whose time is over, and forgives those that behaved. False when nothing is left to do: the
    /// caller may stop, and will be asked again.
    pub fn sweep(&self, now: Duration) -> bool {
        let mut ledger = lock(&self.shared.ledger);
        let (mut changed, mut left) = (false, false);
        for host in &self.hosts {
            let mut sentence = lock(&host.sentence);
            if !host.is_out.load(Relaxed) {
                sentence.times = sentence.times.saturating_sub(1);
            } else if now.saturating_sub(sentence.since) >= self.length(sentence.times) {
                host.clear();
                host.is_out.store(false, Relaxed);
                changed = true;
            }
            left |= sentence.times > 0;
        }
        if changed {
            self.publish(&mut ledger);
        }
        if !left {
            self.shared.swept.store(false, Relaxed);
        }
        left
    }

    /// Events so far.
    pub fn events(&self) -> Events {
        let active = self.hosts.iter().filter(|host| host.is_out.load(Relaxed)).count() as u64;
        Events { active, ..lock(&self.shared.ledger).events }
    }

    // How long a host is out for the so-manieth time.
    fn length(&self, times: u32) -> Duration {
        let base = self.config.base_ejection_time;
        base.saturating_mul(times).min(base.max(EJECTION_MAX))
    }

    fn eject(&self, host: &Standing, reason: Reason, now: Duration) -> bool {
        let mut ledger = lock(&self.shared.ledger);
        // Another worker may have been faster.
        if host.is_out.load(Relaxed) {
            return false;
        }
        let Events { errors, gateway, local, .. } = &mut ledger.events;
        match reason {
            Reason::Errors => *errors += 1,
            Reason::Gateway => *gateway += 1,
            Reason::Local => *local += 1,
        }
        match reason {
            Reason::Errors => host.errors.clear(),
            Reason::Gateway => host.gateway.clear(),
            Reason::Local => host.local.clear(),
        }
        let out = self.hosts.iter().filter(|host| host.is_out.load(Relaxed)).count();
        if !self.may_go_out(out) {
            ledger.events.overflow += 1;
            return false;
        }
        ledger.events.ejected += 1;
        let mut sentence = lock(&host.sentence);
        sentence.since = now;
        // Once the time has reached its longest, further ejections need not be forgiven one by one.
        if self.config.base_ejection_time.saturating_mul(sentence.times) < EJECTION_MAX {
            sentence.times += 1;
        }
        sentence.times = sentence.times.max(1);
        host.is_out.store(true, Relaxed);
        drop(sentence);
        self.publish(&mut ledger);
        !self.shared.swept.swap(true, Relaxed)
    }

    // True when one more may go out while `out` are. Not even the first may, when it would be a larger share.
    fn may_go_out(&self, out: usize) -> bool {
        (out + 1) * 100 <= self.config.max_ejection_percent as usize * self.hosts.len()
    }

    fn publish(&self, ledger: &mut Ledger) {
        let is_any_out = self.hosts.iter().any(|host| host.is_out.load(Relaxed));
        ledger.without = is_any_out.then(|| {
            let is_out = |place: u32| self.is_out(place);
            Arc::new(self.all.without(is_out))
        });
        self.shared.generation.fetch_add(1, Relaxed);
    }
}

impl Standing {
    fn clear(&self) {
        self.errors.clear();
        self.gateway.clear();
        self.local.clear();
    }
}
