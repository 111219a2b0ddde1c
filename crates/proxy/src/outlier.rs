//! Outlier detection on a worker: tells the detector how tries ended, and the balancer which hosts are out.
//!
//! The detector is shared by the workers (`balance::outlier`). Here are the sweeps that bring hosts back:
//! they run on the worker that saw the first ejection, and only while there is something to forgive.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use balance::{Detector, HostId, Report};
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::cluster::{ClusterState, uptime};
use crate::headers_grpc_status;
use crate::worker::Worker;

/// Sweeps are not nearer to each other than this.
const SWEEP_MIN: Duration = Duration::from_millis(10);

/// Has the balancer look at the hosts again when some went out or came back.
pub fn follow(worker: &Worker, cluster: &ClusterState, detector: &Detector) {
    let generation = detector.generation();
    if cluster.ejections.replace(generation) != generation {
        cluster.balancer.borrow_mut().update(detector.hosts(), worker.millis(Instant::now()));
    }
}

/// Tells how a try at a host ended.
pub fn note(cluster: &Rc<ClusterState>, detector: &Arc<Detector>, id: HostId, report: Option<Report>) {
    let Some(report) = report else { return };
    if detector.report(id.0, report, uptime()) {
        tracing::info!(cluster = %cluster.plan.borrow().config.name, "an endpoint is left alone for a while");
        spawn_local(sweep(Rc::downgrade(cluster)));
    }
}

// Until nothing is left to do, or the cluster or its outlier detection is gone.
async fn sweep(cluster: std::rc::Weak<ClusterState>) {
    loop {
        let interval = match cluster.upgrade().and_then(|cluster| cluster.plan.borrow().outlier.clone()) {
            Some(detector) => detector.interval(),
            None => return,
        };
        tokio::time::sleep(interval.max(SWEEP_MIN)).await;
        let Some(detector) = cluster.upgrade().and_then(|cluster| cluster.plan.borrow().outlier.clone()) else {
            return;
        };
        if !detector.sweep(uptime()) {
            return;
        }
    }
}

/// What an answer says of its host. A gRPC status in its head stands for an HTTP status, as Envoy has it.
pub fn of_answer<B>(response: &http::Response<B>) -> Report {
    let status = match headers_grpc_status(response.headers()) {
        Some(grpc) if response.status().is_success() => http_status(grpc),
        _ => response.status().as_u16(),
    };
    Report::Status(status)
}

fn http_status(grpc: u16) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
