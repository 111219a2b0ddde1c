//! Keys of token issuers that proxies fetch: who waits for them, and who does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::{Cluster, Discovery, Endpoint, EndpointAddress, Endpoints, Health, Locality, LocalityEndpoints, Snapshot};
use proxy::jwks::Source;
use proxy::plan::Planner;
use proxy::resolvers::Resolvers;
use proxy::worker::Worker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;
use transport::memory::Net;
use transport::network::Network;

const AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);
const TIMEOUT: Duration = Duration::from_secs(5);

fn worker(net: &Net) -> Rc<Worker> {
    let worker = Worker::new(Arc::default(), Resolvers::known(Default::default()), Network::Memory(net.clone()), 1);
    worker.keys.allows_local.set(true);
    worker
}

fn obey(planner: &mut Planner, worker: &Worker, cluster: Cluster) {
    let clusters = [("c".into(), Arc::new(cluster))].into();
    worker.install(planner.plan(Arc::new(Snapshot { clusters, ..Snapshot::default() })).unwrap());
}

fn source() -> Source {
    Source::new("http://keys.example:9080/keys", 0, TIMEOUT)
}

// Gives the keys so often, and is silent then.
fn serve(net: &Net, times: usize) {
    let mut listener = net.listen(AT).unwrap();
    spawn_local(async move {
        let keys = testkit::jwt::jwks("rsa").unwrap();
        let mut open = Vec::new();
        for count in 0.. {
            let mut pipe = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(pipe.read_u8().await.unwrap());
            }
            if count < times {
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.len());
                pipe.write_all(answer.as_bytes()).await.unwrap();
            }
            open.push(pipe);
        }
    });
}

fn play(scene: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, scene);
}

#[test]
fn ra01_nobody_waits_while_old_keys_are_fetched_again() {
    play(async {
        let net = Net::default();
        let worker = worker(&net);
        obey(&mut Planner::new(None), &worker, support::cluster(AT));
        serve(&net, 1);
        assert!(worker.keys.known(&worker, &source()).is_none());
        assert!(worker.keys.get(&worker, &source()).await.is_ok());
        for minutes in [6, 20, 32] {
            tokio::time::advance(Duration::from_secs(minutes * 60)).await;
            let asked = Instant::now();
            assert_eq!(worker.keys.known(&worker, &source()).map(|keys| keys.is_ok()), Some(true), "{minutes}");
            assert_eq!(asked.elapsed(), Duration::ZERO);
            // The server is silent now: fetching takes as long as it may.
            tokio::time::sleep(TIMEOUT * 2).await;
        }
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(worker.keys.known(&worker, &source()).is_none_or(|keys| keys.is_err()), "too old to be used");
    });
}

#[test]
fn ra01_old_keys_are_new_after_the_next_request() {
    play(async {
        let net = Net::default();
        let worker = worker(&net);
        obey(&mut Planner::new(None), &worker, support::cluster(AT));
        serve(&net, 2);
        worker.keys.get(&worker, &source()).await.unwrap();
        tokio::time::advance(Duration::from_secs(50 * 60)).await;
        assert!(worker.keys.known(&worker, &source()).is_some_and(|keys| keys.is_ok()));
        tokio::time::sleep(TIMEOUT).await;
        tokio::time::advance(Duration::from_secs(50 * 60)).await;
        assert!(worker.keys.known(&worker, &source()).is_some_and(|keys| keys.is_ok()), "an hour is over");
    });
}

#[test]
fn ra01_a_host_that_is_not_resolved_yet_is_waited_for() {
    play(async {
        let net = Net::default();
        let worker = worker(&net);
        let mut planner = Planner::new(None);
        let unresolved = |name: &str| {
            let address = EndpointAddress::Dns(name.into(), 9080);
            let endpoint = Endpoint { address, weight: 1, health: Health::Healthy, workload: None, mtls: false };
            let locality = LocalityEndpoints {
                locality: Locality::default(),
                priority: 0,
                weight: None,
                endpoints: vec![endpoint],
            };
            let discovery = Discovery::StrictDns(Endpoints { cluster: "c".into(), localities: vec![locality] });
            Cluster { discovery, ..support::cluster(AT) }
        };
        obey(&mut planner, &worker, unresolved("keys.example"));
        serve(&net, 1);
        let (asking, named) = (worker.clone(), source());
        let asked = spawn_local(async move { asking.keys.get(&asking, &named).await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        obey(&mut planner, &worker, support::cluster(AT));
        assert!(asked.await.unwrap().is_ok());
        // Where nothing ever comes the bound holds, and is waited for once.
        let other = Source::new("http://other.example:9080/keys", 0, TIMEOUT);
        obey(&mut planner, &worker, unresolved("other.example"));
        for seconds in [5, 0] {
            let began = Instant::now();
            assert!(worker.keys.get(&worker, &other).await.is_err());
            assert_eq!(began.elapsed().as_secs(), seconds);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
}
