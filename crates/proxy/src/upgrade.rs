//! WebSocket: the handshake is forwarded on a connection of its own; after 101 the bytes go both ways.

use balance::Ask;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use transport::body::RequestBody;
use transport::relay::{Bounds, Ended, relay};
use transport::upstream::{ResponseBody, send_upgrade};

use crate::cluster::{bump, socket};
use crate::failure::{Failure, Flags};
use crate::forward::{self, Mission};
use crate::headers;
use crate::local_reply::{Guards, ReplyBody, reply};
use crate::record::Record;

/// Serves an upgrade request. It is never sent twice: the application may have acted on it.
pub async fn serve(
    mission: Mission<'_>,
    request: Request<Incoming>,
    client: OnUpgrade,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    record.cluster = Some(mission.cluster.slot);
    match exchange(&mission, request, &mut record).await {
        Err(failure) => {
            let told = failure.tell(false);
            record.flags = record.flags.with(told.flags);
            record.details = told.details;
            reply(told.status, told.body, record)
        }
        Ok((mut response, guards)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            change(&mission, response.headers_mut(), 101, &record);
            switch(response, guards, client, record)
        }
        // The upstream would not upgrade: its answer is an ordinary one.
        Ok((response, guards)) => {
            let (mut parts, body) = response.into_parts();
            record.status = parts.status.as_u16();
            headers::strip_hop_by_hop(&mut parts.headers);
            change(&mission, &mut parts.headers, record.status, &record);
            Response::from_parts(parts, ReplyBody::upstream(ResponseBody::new(body, None), record, None, guards))
        }
    }
}

fn change(mission: &Mission<'_>, headers: &mut HeaderMap, status: u16, record: &Record) {
    if let Some(back) = mission.back {
        back.change(headers, status, record, record.host.map(|(_, address)| address));
    }
}

async fn exchange(
    mission: &Mission<'_>,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<(Response<Incoming>, Guards), Failure> {
    let cluster = mission.worker.cluster(mission.cluster.slot).ok_or(Failure::NoCluster)?;
    let plan = cluster.plan.borrow().clone();
    let (parts, body) = request.into_parts();
    let hashed = mission.hashed(&cluster, &parts, record);
    let ask = Ask { hash: hashed.key, now: mission.worker.millis_for(&plan), ..Ask::default() };
    let picked = cluster.balancer.borrow_mut().pick(&ask, || mission.worker.draw());
    let (host, id) = match picked {
        Some(id) => (socket(&cluster.balancer.borrow().host(id).address).ok_or(Failure::NoHost)?, id),
        None => return Err(Failure::NoHost),
    };
    record.host = Some((id, host));
    let request_permit = plan.limits.requests.take().ok_or(Failure::Overflow)?;
    bump(&cluster.counts.requests);
    bump(&cluster.counts.active);
    let guards =
        Guards { active: cluster.balancer.borrow().begin(id), request: request_permit, cluster: cluster.clone() };
    let io = forward::connect(&cluster, &plan, host).await?;
    let mut upward = Request::from_parts(parts, RequestBody::Stream(body));
    upward.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    upward.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    forward::address(&mut upward, mission.authority, false).ok_or(Failure::ClientBody)?;
    let mut response = send_upgrade(io, upward).await.map_err(|_| Failure::Ended)?;
    hashed.tell(response.headers_mut());
    Ok((response, guards))
}

fn switch(
    mut response: Response<Incoming>,
    guards: Guards,
    client: OnUpgrade,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let headers = std::mem::take(response.headers_mut());
    record.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
    let idle = record.plan.manager.stream_idle_timeout;
    spawn_local(async move {
        let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else {
            record.flags = record.flags.with(Flags::DOWNSTREAM_ENDED);
            return record.finish(std::time::Instant::now());
        };
        let carried = relay(TokioIo::new(client), TokioIo::new(upstream), Bounds { idle, age: None }).await;
        (record.received, record.sent) = (carried.up, carried.down);
        if carried.ended == Ended::Idle {
            record.flags = record.flags.with(Flags::STREAM_IDLE);
        }
        record.finish(std::time::Instant::now());
        drop(guards);
    });
    let mut answer = Response::new(ReplyBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    answer
}
