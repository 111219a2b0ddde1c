//! One stream on the server: reads requests, follows its wish, sends what the session says.
//!
//! In: requests, wishes, the time. Out: responses, one at a time, and events. The session is asked only when the socket can
//! take a response, so a slow client always gets the newest state. Requests are read even while nothing can be sent.

use std::time::Instant;

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::sleep_until;
use tonic::Status;

use super::admission::Admission;
use super::serve::Incoming;
use super::{Events, StreamEvent, StreamId, Wish};
use crate::limits::ADMISSION_HOLD_MAX;
use crate::server::{Outcome, Session};
use crate::{Mode, Response, StreamStatus};

/// What a stream's task needs.
pub(super) struct Task {
    pub(super) id: StreamId,
    pub(super) mode: Mode,
    pub(super) events: Events,
    pub(super) admission: Admission,
    pub(super) out: mpsc::Sender<Result<Response, Status>>,
}

/// Whether the session may be asked for its next response.
enum Turn {
    /// Nothing has happened since it had nothing to say.
    Idle,
    /// It may have something to say.
    Due,
    /// It has much to say and waits for admission.
    Waiting(BoxFuture<'static, Option<OwnedSemaphorePermit>>),
}

struct Exchange {
    session: Session,
    turn: Turn,
    /// Admitted until then, or until nothing large is left to send.
    admitted: Option<(Option<OwnedSemaphorePermit>, Instant)>,
}

impl Task {
    /// Runs until the client goes, is refused, or the owner drops the wish.
    pub(super) async fn run(
        self,
        head: Box<http::request::Parts>,
        mut requests: impl Stream<Item = Result<Incoming, Status>> + Unpin,
    ) {
        let outcome = tokio::select! {
            outcome = self.exchange(head, &mut requests) => outcome,
            () = self.out.closed() => Err(Status::cancelled("the client is gone")),
        };
        if let Err(refusal) = outcome {
            tracing::debug!(stream = self.id, %refusal, "stream ended");
            // The client may be gone already.
            let _ = self.out.send(Err(refusal)).await;
        }
        // The owner is gone only when the program ends.
        let _ = self.events.send(StreamEvent::Disconnected { id: self.id }).await;
    }

    async fn exchange(
        &self,
        head: Box<http::request::Parts>,
        requests: &mut (impl Stream<Item = Result<Incoming, Status>> + Unpin),
    ) -> Result<(), Status> {
        let Some(first) = requests.next().await else { return Ok(()) };
        let (first, node) = first?;
        let node = node.ok_or_else(|| Status::invalid_argument("the first request of a stream must carry the node"))?;
        let (wish, mut wishes) = watch::channel(Wish::Unknown);
        let status = StreamStatus::default();
        let (id, mode, node) = (self.id, self.mode, Box::new(node));
        self.tell(StreamEvent::Connected { id, node, mode, wish, status: status.clone(), head }).await?;
        let mut exchange = Exchange { session: Session::new(mode, status), turn: Turn::Idle, admitted: None };
        self.take(&mut exchange, (first, None)).await?;
        loop {
            let deadline = exchange.deadline();
            tokio::select! {
                request = requests.next() => match request {
                    None => return Ok(()),
                    Some(request) => self.take(&mut exchange, request?).await?,
                },
                changed = wishes.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane lets this stream go"))?;
                    let wish = wishes.borrow_and_update().clone();
                    exchange.follow(wish)?;
                }
                permit = exchange.turn.admitted() => {
                    exchange.admitted = Some((permit, Instant::now() + ADMISSION_HOLD_MAX));
                    exchange.turn = Turn::Due;
                }
                slot = self.out.reserve(), if matches!(exchange.turn, Turn::Due) => {
                    let slot = slot.map_err(|_| Status::cancelled("the client is gone"))?;
                    if let Some(response) = exchange.next(&self.admission) {
                        let sent = response.kind.map(|kind| StreamEvent::Sent { id, kind, bytes: response.encoded_len() });
                        slot.send(Ok(response));
                        if let Some(sent) = sent {
                            self.tell(sent).await?;
                        }
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    exchange.on_deadline();
                }
            }
            if let Some(version) = exchange.session.newly_settled() {
                self.tell(StreamEvent::Settled { id, version }).await?;
            }
        }
    }

    async fn take(&self, exchange: &mut Exchange, (request, _): Incoming) -> Result<(), Status> {
        let id = self.id;
        let outcome = exchange.session.on_request(&request, Instant::now());
        exchange.turn.is_due();
        match outcome {
            Outcome::Subscribed => Ok(()),
            Outcome::Acked { kind, latency_us } => self.tell(StreamEvent::Acked { id, kind, latency_us }).await,
            Outcome::Nacked { kind, names, error } => self.tell(StreamEvent::Nacked { id, kind, names, error }).await,
            Outcome::Unknown => {
                tracing::info!(stream = id, url = request.type_url, "a type that is not served; answered with nothing");
                Ok(())
            }
        }
    }

    async fn tell(&self, event: StreamEvent) -> Result<(), Status> {
        self.events.send(event).await.map_err(|_| Status::unavailable("the control plane is stopping"))
    }
}

impl Turn {
    fn is_due(&mut self) {
        if matches!(self, Self::Idle) {
            *self = Self::Due;
        }
    }

    async fn admitted(&mut self) -> Option<OwnedSemaphorePermit> {
        match self {
            Self::Waiting(permit) => permit.await,
            _ => std::future::pending().await,
        }
    }
}

impl Exchange {
    fn follow(&mut self, wish: Wish) -> Result<(), Status> {
        match wish {
            Wish::Unknown => {}
            Wish::Hold(target) => {
                self.session.set_target(target);
                self.turn.is_due();
            }
            Wish::Refuse(reason) => return Err(Status::permission_denied(reason.as_ref())),
        }
        Ok(())
    }

    /// The next response, unless it must wait for admission first.
    fn next(&mut self, admission: &Admission) -> Option<Response> {
        if self.admitted.is_none() {
            let backlog = self.session.backlog();
            if Admission::is_large(backlog) {
                self.turn = Turn::Waiting(admission.clone().admit(backlog).boxed());
                return None;
            }
        }
        let response = self.session.poll(Instant::now());
        if response.is_none() {
            self.turn = Turn::Idle;
        }
        // What is under way now is one response, and bounded.
        if self.admitted.is_some() && self.session.backlog() == 0 {
            self.admitted = None;
        }
        response
    }

    fn deadline(&self) -> Option<Instant> {
        let held = self.admitted.iter().filter(|(permit, _)| permit.is_some()).map(|(_, until)| *until);
        held.chain(self.session.deadline()).min()
    }

    fn on_deadline(&mut self) {
        let now = Instant::now();
        // Gives the permit back but stays admitted for what it has begun.
        if let Some((permit, until)) = &mut self.admitted
            && *until <= now
        {
            *permit = None;
        }
        self.turn.is_due();
    }
}
