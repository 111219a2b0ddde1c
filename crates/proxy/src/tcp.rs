//! The TCP proxy: a cluster, a host, and bytes both ways.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use balance::{Ask, HostId, Report};
use config::{Direction, Discovery, TcpProxy};
use tokio::time::Instant;
use transport::io::Io;
use transport::pool::Key;
use transport::relay::{Bounds, Carried, Ended, relay};
use transport::sniff::Sniffed;

use crate::access_log::Line;
use crate::cluster::{ClusterState, bump, socket};
use crate::connection::Client;
use crate::failure::{Failure, Flags};
use crate::leaving::Leaving;
use crate::metrics::{Ends, end_labels};
use crate::plan::{ClusterPlan, TcpPlan};
use crate::principals::{Parties, Principal};
use crate::record::Head;
use crate::tls::Load;
use crate::upstream::{self, Aim, Pending};
use crate::worker::Worker;
use crate::{forward, guard, hash, outlier};

/// Istio's default: a connection on which nothing moved for an hour is closed (DR34).
const IDLE_DEFAULT: Duration = Duration::from_secs(3600);

/// What became of a connection, for its line in the log.
#[derive(Default)]
struct Told {
    flags: Flags,
    head: Head,
    carried: Carried,
    parties: Parties,
}

/// Carries a connection until it ends. Without a host it is closed at once.
pub async fn serve(worker: Rc<Worker>, plan: Arc<TcpPlan>, stream: Io, client: Rc<Client>, leaving: Leaving) {
    let started = Instant::now();
    let mut told = Told { parties: client.parties, ..Told::default() };
    match guard::check_connection(&plan.config.authorization, &client) {
        None => carry(&worker, &plan, stream, (&client, leaving), &mut told).await,
        Some(reason) => {
            drop(stream);
            told.flags = Flags::UNAUTHORIZED;
            told.head.details = Some(reason);
        }
    }
    if plan.logs.is_empty() {
        return;
    }
    let Told { flags, mut head, carried, parties } = told;
    head.local = client.dialled.or(client.local);
    head.peer = client.peer;
    head.origin.clone_from(&plan.origin);
    head.server_name = client.server_name().map(str::to_owned);
    let (received, sent, elapsed) = (carried.up, carried.down, started.elapsed());
    for format in &plan.logs {
        let details = head.details.as_deref().unwrap_or_default();
        let line = Line { status: 0, flags, details, received, sent, head: &head, elapsed, parties };
        worker.log(format, &line);
    }
}

async fn carry(
    worker: &Rc<Worker>,
    plan: &TcpPlan,
    stream: Io,
    (client, leaving): (&Client, Leaving),
    told: &mut Told,
) {
    let Some(cluster) = draw(worker, plan).and_then(|slot| worker.cluster(slot)) else {
        told.flags = Flags::NO_CLUSTER;
        return;
    };
    let ready = cluster.plan.borrow().clone();
    told.head.cluster = Some(ready.config.name.clone());
    let Some((id, address)) = host(worker, &cluster, plan, client).await else {
        bump(&cluster.counts.none_healthy);
        told.flags = Flags::NO_HEALTHY_UPSTREAM;
        return;
    };
    let active = cluster.balancer.borrow().begin(id);
    let counters = active.counters().clone();
    let key = Key { host: address, name: None, era: ready.era(address) };
    let aim = Aim { cluster: &cluster, plan: &ready, host: &key, counters: &counters };
    let Ok(_place) = upstream::own_place(aim) else {
        told.flags = Flags::UPSTREAM_OVERFLOW;
        return;
    };
    told.head.upstream = Some(address);
    let made = match Pending::take(&cluster, &ready) {
        Ok(_pending) => upstream::dial(aim, Load::Bytes).await,
        Err(failure) => Err(failure),
    };
    if let Some(detector) = &ready.outlier {
        let report = made.as_ref().map_or_else(Failure::report, |_| Some(Report::Connected));
        outlier::note(&cluster, detector, id, report);
    }
    let upstream = match made {
        Ok((upstream, there)) => {
            told.parties.upstream = there;
            told.parties.upstream_local = match there.is_somebody() {
                true => Principal::of_any(ready.tls.as_ref().and_then(|tls| tls.own()).map(|own| &**own)),
                false => Principal::default(),
            };
            upstream
        }
        Err(failure) => {
            // There is one try, so a connection that fails has none left.
            let retried = matches!(failure, Failure::Connect(_) | Failure::ConnectTimeout);
            let more = if retried { Flags::RETRIES_EXHAUSTED } else { Flags::default() };
            told.flags = failure.tell(false).flags.with(more);
            if let Failure::Connect(reason) = failure {
                told.head.transport_failure = format!("delayed connect error: {reason}");
            }
            return;
        }
    };
    told.head.upstream_local = upstream.local_address();
    let series = {
        let host = (id != HostId::OUTSIDE).then_some(id);
        let is_inbound = plan.direction == Direction::Inbound;
        let parties = told.parties;
        let ends = Ends { us: &worker.identity, is_inbound, cluster: Some(&cluster), host, parties };
        worker.metrics.tcp(format!("{},request_protocol=\"tcp\",response_flags=\"-\"", end_labels(&ends)))
    };
    bump(&series.opened);
    let TcpProxy { idle_timeout, max_connection_duration, .. } = &plan.config;
    let bounds = Bounds { idle: Some(idle_timeout.unwrap_or(IDLE_DEFAULT)), age: *max_connection_duration };
    told.carried = relay(stream, upstream, bounds, leaving.cut()).await;
    if told.carried.ended == Ended::Aged {
        told.flags = Flags::DURATION;
    }
    series.received.set(series.received.get() + told.carried.up);
    series.sent.set(series.sent.get() + told.carried.down);
    bump(&series.closed);
}

fn draw(worker: &Worker, plan: &TcpPlan) -> Option<u32> {
    let total = plan.shares.last()?.0;
    let point = ((u64::from(worker.draw()) * u64::from(total)) >> 32) as u32;
    plan.shares.iter().find(|(sum, _)| *sum > point).map(|(_, slot)| *slot)
}

// The host that a ClientHello names (SE09), else one of the cluster's.
async fn host(
    worker: &Worker,
    cluster: &ClusterState,
    plan: &TcpPlan,
    client: &Client,
) -> Option<(HostId, std::net::SocketAddr)> {
    let ready = cluster.plan.borrow().clone();
    let (Discovery::Dynamic(cache), Some(dynamic)) = (&ready.config.discovery, &plan.config.dynamic_host) else {
        return pick(worker, (cluster, &ready), plan, client);
    };
    let Sniffed::Tls { sni: Some(name), .. } = &client.facts.sniffed else { return None };
    let found = worker.hosts.find(name, dynamic.port, cache.hosts_max).await;
    found.map_err(|failure| tracing::debug!(name, "no address: {failure:?}")).ok().map(|at| (HostId::OUTSIDE, at))
}

fn pick(
    worker: &Worker,
    (cluster, ready): (&ClusterState, &ClusterPlan),
    plan: &TcpPlan,
    client: &Client,
) -> Option<(HostId, std::net::SocketAddr)> {
    if matches!(ready.config.discovery, Discovery::OriginalDst) {
        return Some((HostId::OUTSIDE, forward::at_port(ready, client.dialled?)));
    }
    if let Some(detector) = &ready.outlier {
        outlier::follow(worker, cluster, detector);
    }
    let peer = client.peer.filter(|_| plan.config.hash_source_ip);
    let hash = peer.map(|peer| hash::of_ip(peer.ip()));
    let ask = Ask { hash, now: worker.millis_for(ready), ..Ask::default() };
    let mut balancer = cluster.balancer.borrow_mut();
    let id = balancer.pick(&ask, || worker.draw())?;
    let address = socket(&balancer.host(id).address)?;
    Some((id, address))
}
