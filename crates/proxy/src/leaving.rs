//! When a connection has to go: the worker ends, or whatever let it in would not let it in any more.
//!
//! A connection stays with the chain that it was let in by, and obeys what that chain says now. Where no chain takes it
//! any more (a port that is STRICT now, a listener that is gone, a policy that refuses the connection), its client is told
//! to go, and after [`UNFIT_SECONDS_MAX`] it is cut, as Envoy does with connections of a filter chain that has gone.
//! Connections are woken only when listeners have changed.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use config::Direction;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::Client;
use crate::plan::{ChainPlan, Plan};
use crate::worker::{Phase, Worker};
use crate::{chain, guard};

/// How long a connection may go on that nothing takes any more (Istio's `drainDuration`).
const UNFIT_SECONDS_MAX: u64 = 45;

/// What concerns connections that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// How far the worker is on its way out.
    pub phase: Phase,
    /// How often listeners have changed.
    pub listeners: u64,
}

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Requests, one after the other.
    Http1,
    /// Requests.
    Http2,
    /// Bytes.
    Bytes,
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its client is told to go, as far as the protocol has a word for it.
    Tell,
    /// It is cut.
    Cut,
}

/// Watches over a connection.
pub struct Leaving {
    worker: Rc<Worker>,
    client: Rc<Client>,
    carries: Carries,
    signs: watch::Receiver<Signs>,
    /// Changes of listeners that have been looked at.
    seen: u64,
    /// From here on it is told to go; `None`: it goes when it wants.
    tells_at: Option<Phase>,
    is_told: bool,
    /// When it is cut, where nothing takes it any more.
    cut_at: Option<Instant>,
}

impl Leaving {
    /// Watches over a connection that was let in when the signs were these.
    pub fn new(
        worker: Rc<Worker>,
        client: Rc<Client>,
        carries: Carries,
        signs: watch::Receiver<Signs>,
        seen: u64,
    ) -> Self {
        let tells_at = match carries {
            Carries::Http2 => Some(Phase::Draining),
            // One that has nothing under way is told with its next answer; to end it now could cross a request. What the
            // application of a sidecar has open it ends itself.
            Carries::Http1 if worker.is_of_application(client.listener) => None,
            Carries::Http1 => Some(Phase::Closing),
            // Bytes cannot be asked to finish; when the worker drains, the bound of the drain ends them.
            Carries::Bytes => None,
        };
        Self { worker, client, carries, signs, seen, tells_at, is_told: false, cut_at: None }
    }

    /// What is to be done next, when it is.
    pub async fn next(&mut self) -> Step {
        loop {
            let Signs { phase, listeners } = *self.signs.borrow_and_update();
            if listeners != self.seen {
                self.seen = listeners;
                let cut_at = Instant::now() + Duration::from_secs(UNFIT_SECONDS_MAX);
                let is_fit = fits(&self.worker.plan(), &self.client, self.carries);
                self.cut_at = (!is_fit).then(|| self.cut_at.unwrap_or(cut_at));
            }
            let is_asked = self.tells_at.is_some_and(|from| phase >= from);
            if !self.is_told && (is_asked || (self.carries == Carries::Http2 && self.cut_at.is_some())) {
                self.is_told = true;
                return Step::Tell;
            }
            let cut = async {
                match self.cut_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as the worker.
                _ = self.signs.changed() => {}
                () = cut => return Step::Cut,
            }
        }
    }

    /// Waits until it is to be cut.
    pub async fn cut(mut self) {
        while self.next().await != Step::Cut {}
    }

    /// Lets a connection of HTTP go on until it is over; `None`: it was cut. The connection comes first, so that what it
    /// has been sent already is under way when it is told to go.
    pub async fn attend<C: Future>(
        &mut self,
        mut connection: Pin<&mut C>,
        tell: impl Fn(Pin<&mut C>),
    ) -> Option<C::Output> {
        loop {
            let step = {
                let next = pin!(self.next());
                tokio::select! {
                    biased;
                    outcome = connection.as_mut() => return Some(outcome),
                    step = next => step,
                }
            };
            match step {
                Step::Tell => tell(connection.as_mut()),
                Step::Cut => return None,
            }
        }
    }
}

/// True when a connection would be let in now as it is.
pub fn fits(plan: &Plan, client: &Client, carries: Carries) -> bool {
    match chain::still(plan, client) {
        None => false,
        Some(ChainPlan::Http(_)) => carries != Carries::Bytes,
        Some(ChainPlan::Tcp(tcp)) => {
            carries == Carries::Bytes && guard::check_connection(&tcp.config.authorization, client).is_none()
        }
    }
}

/// True where our own application speaks: the outbound side of a sidecar.
pub fn is_of_application(node_id: &str, direction: Direction) -> bool {
    direction == Direction::Outbound && node_id.starts_with("sidecar~")
}
