//! The TCP proxy: a cluster, a host, and bytes both ways.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use balance::{Ask, HostId};
use config::{Direction, Discovery};
use tokio::net::TcpStream;
use transport::relay::relay;

use crate::cluster::{ClusterState, bump, socket};
use crate::connection::Client;
use crate::metrics::{Ends, end_labels};
use crate::plan::TcpPlan;
use crate::worker::Worker;
use crate::{forward, hash};

/// Istio's default: a connection on which nothing moved for an hour is closed (DR34).
const IDLE_DEFAULT: Duration = Duration::from_secs(3600);

/// Carries a connection until it ends. Without a host it is closed at once.
pub async fn serve(worker: Rc<Worker>, plan: Arc<TcpPlan>, stream: TcpStream, client: Client) {
    let Some(cluster) = draw(&worker, &plan).and_then(|slot| worker.cluster(slot)) else { return };
    let Some((id, address)) = pick(&worker, &plan, &cluster, &client) else {
        bump(&cluster.counts.none_healthy);
        return;
    };
    let ready = cluster.plan.borrow().clone();
    let Some(_place) = ready.limits.connections.take() else {
        bump(&cluster.counts.overflows);
        return;
    };
    let series = {
        let host = (id.0 != u32::MAX).then_some(id);
        let is_inbound = plan.direction == Direction::Inbound;
        let ends = Ends { us: &worker.identity, is_inbound, cluster: Some(&cluster), host };
        worker.metrics.tcp(format!("{},request_protocol=\"tcp\",response_flags=\"-\"", end_labels(&ends)))
    };
    let upstream = match forward::connect(&cluster, &ready, address).await {
        Ok(upstream) => upstream,
        Err(failure) => {
            tracing::debug!(cluster = %ready.config.name, %address, "no connection: {failure:?}");
            return;
        }
    };
    bump(&series.opened);
    let _active = (id.0 != u32::MAX).then(|| cluster.balancer.borrow().begin(id));
    let idle = plan.config.idle_timeout.unwrap_or(IDLE_DEFAULT);
    // Bytes cannot be asked to finish; when the worker drains, the bound of the drain ends them.
    let carried = relay(stream, upstream, Some(idle)).await;
    series.received.set(series.received.get() + carried.up);
    series.sent.set(series.sent.get() + carried.down);
    bump(&series.closed);
}

fn draw(worker: &Worker, plan: &TcpPlan) -> Option<u32> {
    let total = plan.shares.last()?.0;
    let point = ((u64::from(worker.draw()) * u64::from(total)) >> 32) as u32;
    plan.shares.iter().find(|(sum, _)| *sum > point).map(|(_, slot)| *slot)
}

fn pick(
    worker: &Worker,
    plan: &TcpPlan,
    cluster: &ClusterState,
    client: &Client,
) -> Option<(HostId, std::net::SocketAddr)> {
    if matches!(cluster.plan.borrow().config.discovery, Discovery::OriginalDst) {
        return Some((HostId(u32::MAX), client.dialled?));
    }
    let peer = client.peer.filter(|_| plan.config.hash_source_ip);
    let hash = peer.map(|peer| hash::of_ip(peer.ip()));
    let ask = Ask { hash, now: worker.millis_for(&cluster.plan.borrow()), ..Ask::default() };
    let mut balancer = cluster.balancer.borrow_mut();
    let id = balancer.pick(&ask, || worker.draw())?;
    let address = socket(&balancer.host(id).address)?;
    Some((id, address))
}
