//! WebSocket: the handshake is forwarded on a connection of its own; after 101 the bytes go both ways.

use std::rc::Rc;

use balance::retry::wants_retry;
use config::EndpointAddress;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::Instant;
use transport::body::RequestBody;
use transport::io::Io;
use transport::relay::{Bounds, Ended, relay};
use transport::source::Source;
use transport::upstream::{ResponseBody, send_upgrade};

use crate::cluster::{ClusterState, bump};
use crate::connection::Busy;
use crate::failure::{Failure, Flags};
use crate::forward::{self, Mission, Tries};
use crate::leaving::{Carries, Leaving};
use crate::local_reply::{Guards, ReplyBody};
use crate::record::Record;
use crate::tls::Load;
use crate::upstream::{self, Aim, Pending, Place};
use crate::{headers, outlier};

/// Serves an upgrade request. It is never sent twice: the application may have acted on it. No bound in time counts, as
/// the request never ends.
pub async fn serve(
    mission: Mission<'_>,
    request: Request<Incoming>,
    client: OnUpgrade,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    record.cluster = Some(mission.cluster.slot);
    match exchange(&mission, request, &mut record).await {
        Err(failure) => forward::failed(&failure, false, mission.back, record),
        Ok((mut response, guards)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            change(&mission, response.headers_mut(), 101, &record);
            switch(&mission, response, guards, client, record)
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
    let (parts, body) = request.into_parts();
    let hashed = mission.hashed(&cluster, &parts, record);
    let tries = Tries::unbounded(mission, &cluster, parts, mission.forward.retry.as_ref(), hashed.key);
    let Opened { io, place, guards, number } = open(mission, &cluster, &tries, record).await?;
    let mut upward = Request::from_parts(tries.parts, RequestBody::Stream(Source::new(body)));
    upward.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    upward.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if mission.counts_attempts {
        upward.headers_mut().insert(headers::ATTEMPT_COUNT, headers::number(number.into()));
    }
    forward::address(&mut upward, mission.authority, false).ok_or(Failure::ClientBody)?;
    let mut response = send_upgrade(io, upward, Box::new(place)).await.map_err(|_| Failure::Ended)?;
    hashed.tell(response.headers_mut());
    Ok((response, guards))
}

/// A connection of the request's own.
struct Opened {
    io: Io,
    place: Place,
    guards: Guards,
    /// Which try it is.
    number: u32,
}

// Where nobody listens nothing was sent, so it is tried elsewhere as the policy says.
async fn open(
    mission: &Mission<'_>,
    cluster: &Rc<ClusterState>,
    tries: &Tries<'_>,
    record: &mut Record,
) -> Result<Opened, Failure> {
    let policy = mission.forward.retry.as_ref();
    let mut tried: Vec<EndpointAddress> = Vec::new();
    let mut number = 1;
    loop {
        let plan = cluster.plan.borrow().clone();
        let (id, host) = tries.host(&plan, &tried).await?;
        record.host = Some((id, host));
        let active = cluster.balancer.borrow().begin(id);
        let counters = active.counters().clone();
        let key = forward::key(&plan, host, mission.authority);
        let aim = Aim { cluster, plan: &plan, host: &key, counters: &counters };
        // Not one of the pool's connections: it is of no use to others afterwards.
        let place = upstream::own_place(aim)?;
        let guards = forward::attach(aim, active, None)?;
        let dialled = {
            let _pending = Pending::take(cluster, &plan)?;
            upstream::dial(aim, Load::Requests { host: key.name.as_deref(), is_http2: false }).await
        };
        let failure = match dialled {
            Ok((io, there)) => {
                record.parties.upstream = there;
                return Ok(Opened { io, place, guards, number });
            }
            Err(failure) => failure,
        };
        if let Some(detector) = &plan.outlier {
            outlier::note(cluster, detector, id, failure.report());
        }
        let again = policy.zip(failure.outcome()).filter(|(policy, outcome)| wants_retry(policy, *outcome));
        let Some((policy, _)) = again else { return Err(failure) };
        if number > policy.num_retries {
            record.flags = record.flags.with(Flags::RETRIES_EXHAUSTED);
            return Err(failure);
        }
        bump(&cluster.counts.retries);
        tried.push(EndpointAddress::Socket(host));
        drop(guards);
        tokio::time::sleep(balance::backoff::wait(policy.backoff_base, number, mission.worker.draw())).await;
        number += 1;
    }
}

fn switch(
    mission: &Mission<'_>,
    mut response: Response<Incoming>,
    guards: Guards,
    client: OnUpgrade,
    mut record: Box<Record>,
) -> Response<ReplyBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let headers = std::mem::take(response.headers_mut());
    record.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
    let idle = record.plan.manager.stream_idle_timeout;
    let worker = mission.worker;
    // The connection's own task is over with the answer's head; what it leaves behind is waited for all the same.
    let busy = Busy::new(worker);
    let signs = worker.signs();
    // It is looked at anew: listeners may have changed before it came to this.
    let seen = signs.borrow().listeners.wrapping_sub(1);
    let leaving = Leaving::new(worker.clone(), mission.client.clone(), Carries::Http1, signs, seen);
    spawn_local(async move {
        let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else {
            record.flags = record.flags.with(Flags::DOWNSTREAM_ENDED);
            return record.finish(Instant::now());
        };
        let carried =
            relay(TokioIo::new(client), TokioIo::new(upstream), Bounds { idle, age: None }, leaving.cut()).await;
        (record.received, record.sent) = (carried.up, carried.down);
        if carried.ended == Ended::Idle {
            record.flags = record.flags.with(Flags::STREAM_IDLE);
        }
        record.finish(Instant::now());
        drop((guards, busy));
    });
    let mut answer = Response::new(ReplyBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    answer
}
