//! Faults: a wait, and an answer of our own, before anything is sent (VS100 to VS106, Envoy's HTTP fault filter).
//!
//! In: a route's fault. Out: how long to wait, and whether the request is over then. It happens before the router, so it
//! counts into no timeout, is never retried, and nothing is mirrored (TR48).

use config::{Abort, AbortStatus, Delay, Fault};
use http::Response;

use crate::cluster::bump;
use crate::failure::Flags;
use crate::local_reply::{ReplyBody, reply, reply_grpc};
use crate::record::Record;
use crate::worker::Worker;

/// Envoy's body of an aborted request.
const BODY: &str = "fault filter abort";

/// Waits if it is this request's turn, then says whether the request is aborted. Delay and abort are drawn
/// independently (VS104).
pub async fn inject(fault: &Fault, worker: &Worker, record: &mut Record) -> Option<AbortStatus> {
    let Fault { delay, abort } = fault;
    if let Some(Delay { fixed, .. }) = delay.as_ref().filter(|delay| delay.share.takes(worker.draw())) {
        bump(&worker.metrics.delays_injected);
        record.flags = record.flags.with(Flags::DELAY_INJECTED);
        tokio::time::sleep(*fixed).await;
    }
    let Abort { status, .. } = abort.as_ref().filter(|abort| abort.share.takes(worker.draw()))?;
    bump(&worker.metrics.aborts_injected);
    record.flags = record.flags.with(Flags::FAULT_INJECTED);
    record.details = "fault_filter_abort";
    Some(*status)
}

/// The answer to an aborted request.
pub fn answer(status: AbortStatus, record: Box<Record>) -> Response<ReplyBody> {
    match status {
        AbortStatus::Http(status) => reply(status, BODY, record),
        AbortStatus::Grpc(code) if record.is_grpc => reply_grpc(code, BODY, record),
        // A gRPC code says nothing to another client: 200, as Envoy answers it.
        AbortStatus::Grpc(_) => reply(200, BODY, record),
    }
}
