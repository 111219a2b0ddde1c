//! One stream on the server: reads requests, follows its wish, sends what the session says.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tonic::Status;

use super::codec::Incoming;
use super::{Events, StreamEvent, StreamId, Wish};
use crate::limits::COLD_KIB_MAX;
use crate::server::{Outcome, Session};
use crate::{Frame, Mode, StreamStatus, Target};

/// What a stream's task needs.
pub(crate) struct Task {
    pub(crate) id: StreamId,
    pub(crate) mode: Mode,
    pub(crate) events: Events,
    /// Admission: a stream's first configuration takes as many permits as it has KiB.
    pub(crate) cold: Arc<Semaphore>,
    pub(crate) out: mpsc::Sender<Result<Frame, Status>>,
}

impl Task {
    /// Runs until the client goes, is refused, or the owner drops the wish.
    pub(crate) async fn run(self, requests: impl Stream<Item = Result<Incoming, Status>>) {
        let id = self.id;
        let events = self.events.clone();
        let mut requests = pin!(requests);
        if let Err(refusal) = self.exchange(&mut requests).await {
            tracing::debug!(stream = id, %refusal, "stream ended");
            // The client may be gone already.
            let _ = self.out.send(Err(refusal)).await;
        }
        // The owner is gone only when the program ends.
        let _ = events.send(StreamEvent::Disconnected { id }).await;
    }

    async fn exchange(&self, requests: &mut (impl Stream<Item = Result<Incoming, Status>> + Unpin)) -> Result<(), Status> {
        let status = StreamStatus::default();
        let mut session = Session::new(self.mode, status.clone());
        let Some(first) = requests.next().await else { return Ok(()) };
        let first = first?;
        let node = first.node.ok_or_else(|| Status::invalid_argument("the first request of a stream must carry the node"))?;
        let (wish, mut wishes) = watch::channel(Wish::Unknown);
        let connected = StreamEvent::Connected { id: self.id, node: Box::new(node), mode: self.mode, wish, status };
        self.tell(connected).await?;
        self.take(&mut session, &first.request).await?;
        let target = first_target(&mut wishes).await?;
        let permit = self.admit(&target).await;
        session.set_target(target);
        self.follow(session, requests, wishes, permit).await
    }

    async fn follow(
        &self,
        mut session: Session,
        requests: &mut (impl Stream<Item = Result<Incoming, Status>> + Unpin),
        mut wishes: watch::Receiver<Wish>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Status> {
        let mut permit = Some(permit);
        loop {
            while let Some(frame) = session.poll(Instant::now()) {
                self.send(frame).await?;
            }
            if permit.is_some() && session.is_settled() {
                permit = None;
            }
            tokio::select! {
                request = requests.next() => match request {
                    None => return Ok(()),
                    Some(request) => self.take(&mut session, &request?.request).await?,
                },
                changed = wishes.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane is stopping"))?;
                    let wish = wishes.borrow_and_update().clone();
                    match wish {
                        Wish::Hold(target) => session.set_target(target),
                        Wish::Refuse(reason) => return Err(Status::permission_denied(reason.as_ref())),
                        Wish::Unknown => {}
                    }
                }
            }
        }
    }

    // Streams wait in order of arrival; a configuration larger than the whole bound takes all of it.
    async fn admit(&self, target: &Target) -> OwnedSemaphorePermit {
        let kib = u32::try_from(target.bytes() >> 10).unwrap_or(u32::MAX).clamp(1, COLD_KIB_MAX);
        match self.cold.clone().acquire_many_owned(kib).await {
            Ok(permit) => permit,
            // Nobody closes the semaphore.
            Err(_) => unreachable!("the admission semaphore is never closed"),
        }
    }

    async fn take(&self, session: &mut Session, request: &crate::Request) -> Result<(), Status> {
        let id = self.id;
        match session.on_request(request, Instant::now()) {
            Outcome::Subscribed => Ok(()),
            Outcome::Acked { kind, latency_us } => self.tell(StreamEvent::Acked { id, kind, latency_us }).await,
            Outcome::Nacked { kind, error } => self.tell(StreamEvent::Nacked { id, kind, error }).await,
            Outcome::Unknown => {
                tracing::debug!(stream = id, url = request.type_url, "a type that is not served");
                Ok(())
            }
        }
    }

    async fn send(&self, frame: Frame) -> Result<(), Status> {
        let event = StreamEvent::Sent { id: self.id, kind: frame.kind, bytes: frame.size() };
        self.out.send(Ok(frame)).await.map_err(|_| Status::cancelled("the client is gone"))?;
        self.tell(event).await
    }

    async fn tell(&self, event: StreamEvent) -> Result<(), Status> {
        self.events.send(event).await.map_err(|_| Status::unavailable("the control plane is stopping"))
    }
}

async fn first_target(wishes: &mut watch::Receiver<Wish>) -> Result<Target, Status> {
    loop {
        let wish = wishes.borrow_and_update().clone();
        match wish {
            Wish::Hold(target) => return Ok(target),
            Wish::Refuse(reason) => return Err(Status::invalid_argument(reason.as_ref())),
            Wish::Unknown => wishes.changed().await.map_err(|_| Status::unavailable("the control plane is stopping"))?,
        }
    }
}
