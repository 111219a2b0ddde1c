//! Connections that are open while what let them in changes, or while the worker ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::{
    Action, Authorization, AuthorizationAction, AuthorizationRule, ChainMatch, ClientCertHeader, ClusterChoice,
    Condition, Direction, Filter, FilterChain, Forward, HttpCodec, HttpManager, Listener, ListenerFilters, PathMatch,
    Route, RouteMatch, RouteSource, RouteTable, ServerHeader, Snapshot, TcpProxy, TransportMatch, VirtualHost,
};
use proxy::chain::Facts;
use proxy::connection::Client;
use proxy::identity::Identity;
use proxy::leaving::{Carries, fits};
use proxy::plan::{Plan, Planner};
use proxy::principals::Parties;
use proxy::resolvers::Resolvers;
use proxy::worker::{self, COMMANDS_MAX, Command, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;
use transport::memory::{Net, Pipe};
use transport::network::Network;
use transport::sniff::Sniffed;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const AT: SocketAddr = SocketAddr::new(HERE, 15006);
const BEHIND: SocketAddr = SocketAddr::new(HERE, 9080);
const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

// Every request is answered 404: there are no routes.
fn http() -> Filter {
    http_to(Vec::new())
}

fn http_to(virtual_hosts: Vec<Arc<VirtualHost>>) -> Filter {
    let table = RouteTable { name: "t".into(), ignore_port: true, virtual_hosts };
    Filter::Http(HttpManager {
        stat_prefix: "t".into(),
        routes: RouteSource::Inline(Arc::new(table)),
        codec: HttpCodec::Auto,
        use_remote_address: false,
        xff_trusted_hops: 0,
        internal_addresses: Vec::new(),
        server_header: ServerHeader::PassThrough,
        websocket: true,
        normalize_path: true,
        generate_request_id: false,
        stream_idle_timeout: None,
        dynamic_hosts: None,
        access_log: Vec::new(),
        client_cert_header: ClientCertHeader::Remove,
        tracing: None,
        metrics: Vec::new(),
        announces: false,
        authentication: None,
        authorization: Vec::new(),
    })
}

// Whatever is asked goes to the one cluster.
fn everywhere() -> Vec<Arc<VirtualHost>> {
    let forward = Forward {
        cluster: ClusterChoice::One("c".into()),
        timeout: None,
        retry: None,
        hash: Vec::new(),
        rewrite: None,
        fault: None,
        mirrors: Vec::new(),
    };
    let matches = RouteMatch {
        path: PathMatch::Prefix("/".into()),
        ignore_case: false,
        headers: Vec::new(),
        query: Vec::new(),
        claims: Vec::new(),
    };
    let route = Route {
        name: String::new(),
        matches,
        action: Action::Forward(forward),
        origin: None,
        operation: String::new(),
        headers: None,
        cors: None,
        stat_prefix: String::new(),
        limits: Vec::new(),
    };
    vec![Arc::new(VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: vec![route],
        include_attempt_count: false,
        require_tls: false,
        limits: Vec::new(),
    })]
}

fn tcp(authorization: Vec<Authorization>) -> Filter {
    Filter::Tcp(TcpProxy {
        stat_prefix: "t".into(),
        cluster: ClusterChoice::One("c".into()),
        hash_source_ip: false,
        idle_timeout: None,
        dynamic_host: None,
        max_connection_duration: None,
        access_log: Vec::new(),
        authorization,
    })
}

fn plan(planner: &mut Planner, direction: Direction, transport: TransportMatch, filter: Filter) -> Arc<Plan> {
    let matches = ChainMatch { transport, ..ChainMatch::default() };
    let listener = Listener {
        name: "l".into(),
        address: AT,
        also: None,
        bind_to_port: true,
        use_original_dst: false,
        direction,
        filters: ListenerFilters::default(),
        chains: vec![FilterChain { name: "c".into(), matches, tls: None, filter, origin: None }],
        default_chain: None,
        origin: None,
    };
    let listeners = [("l".into(), Arc::new(listener))].into();
    let clusters = [("c".into(), Arc::new(support::cluster(BEHIND)))].into();
    planner.plan(Arc::new(Snapshot { listeners, clusters, ..Snapshot::default() })).unwrap()
}

struct Stage {
    net: Net,
    planner: Planner,
    commands: mpsc::Sender<Command>,
    direction: Direction,
}

impl Stage {
    async fn begin(node: &str, direction: Direction) -> Self {
        Self::with(node, direction, http()).await
    }

    async fn with(node: &str, direction: Direction, filter: Filter) -> Self {
        let net = Net::default();
        let identity = Identity { node_id: node.into(), ..Identity::default() };
        let network = Network::Memory(net.clone());
        let worker = Worker::new(Arc::new(identity), Resolvers::known(Default::default()), network.clone(), 1);
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        spawn_local(worker::run(worker, queue));
        let mut planner = Planner::new(None);
        let first = plan(&mut planner, direction, TransportMatch::Any, filter);
        commands.send(Command::Install(first, vec![(0, AT, network.bind(AT).unwrap())])).await.unwrap();
        Self { net, planner, commands, direction }
    }

    /// From now on plaintext is taken no more.
    async fn only_tls(&mut self) {
        let strict = plan(&mut self.planner, self.direction, TransportMatch::Tls, http());
        self.commands.send(Command::Install(strict, Vec::new())).await.unwrap();
        // Commands are taken one after the other: once this one is answered, the plan acts.
        self.open().await;
    }

    /// Connections that the worker waits for before it ends.
    async fn open(&self) -> usize {
        let (answer, busy) = tokio::sync::oneshot::channel();
        self.commands.send(Command::Busy(answer)).await.unwrap();
        busy.await.unwrap().open
    }

    async fn connect(&self) -> Pipe {
        self.net.connect(HERE, AT).await.unwrap()
    }
}

async fn ask(pipe: &mut Pipe) -> String {
    pipe.write_all(ASK).await.unwrap();
    heard(pipe).await
}

// The head of an answer; empty when there is none.
async fn heard(pipe: &mut Pipe) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        match pipe.read_u8().await {
            Ok(byte) => got.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(got).unwrap()
}

fn play(scene: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, scene);
}

#[test]
fn pa01_plaintext_that_was_let_in_before_strict_goes_with_its_next_answer() {
    play(async {
        let mut stage = Stage::begin("sidecar~a", Direction::Inbound).await;
        let mut pipe = stage.connect().await;
        assert!(!ask(&mut pipe).await.contains("connection: close"));
        stage.only_tls().await;
        assert!(ask(&mut pipe).await.contains("connection: close"));
        assert!(pipe.read_u8().await.is_err(), "it is closed");
    });
}

#[test]
fn pa01_a_client_that_says_nothing_is_cut_after_a_while() {
    play(async {
        let mut stage = Stage::begin("sidecar~a", Direction::Inbound).await;
        let mut pipe = stage.connect().await;
        ask(&mut pipe).await;
        stage.only_tls().await;
        let told = Instant::now();
        assert!(pipe.read_u8().await.is_err());
        assert_eq!(told.elapsed().as_secs(), 45);
    });
}

#[test]
fn pa01_a_client_of_http2_is_told_at_once() {
    play(async {
        let mut stage = Stage::begin("sidecar~a", Direction::Inbound).await;
        let mut pipe = stage.connect().await;
        pipe.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut kind = frame(&mut pipe).await;
        assert_eq!(kind, 4, "its settings");
        stage.only_tls().await;
        let told = Instant::now();
        while kind != 7 {
            kind = frame(&mut pipe).await;
        }
        assert!(told.elapsed() < Duration::from_secs(1));
    });
}

// The kind of the next frame of HTTP/2; 7 is GOAWAY.
async fn frame(pipe: &mut Pipe) -> u8 {
    let mut head = [0; 9];
    pipe.read_exact(&mut head).await.unwrap();
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    pipe.read_exact(&mut vec![0; length]).await.unwrap();
    head[3]
}

#[test]
fn bytes_fit_while_their_chain_and_its_policies_take_them() {
    let client = Rc::new(Client {
        peer: Some(AT),
        direct: Some(AT),
        local: Some(AT),
        dialled: None,
        listener: 0,
        facts: Facts { destination: Some(AT), sniffed: Sniffed::More },
        tls: None,
        parties: Parties::default(),
    });
    let all =
        AuthorizationRule { name: "r".into(), operations: vec![Condition::Always], callers: vec![Condition::Always] };
    let of = |action| vec![Authorization { action, rules: Some(vec![all.clone()]), shadow: None }];
    let mut planner = Planner::new(None);
    let mut after = |transport, filter| {
        let plan = plan(&mut planner, Direction::Inbound, transport, filter);
        fits(&plan, &client, Carries::Bytes)
    };
    assert!(after(TransportMatch::Any, tcp(Vec::new())));
    assert!(after(TransportMatch::Any, tcp(of(AuthorizationAction::Allow))));
    assert!(!after(TransportMatch::Any, tcp(of(AuthorizationAction::Deny))), "a policy refuses it now");
    assert!(!after(TransportMatch::Tls, tcp(Vec::new())), "TLS is demanded now");
    assert!(!after(TransportMatch::Any, http()), "requests are read now");
    assert!(!fits(&Plan::default(), &client, Carries::Bytes), "the listener is gone");
}

#[test]
fn a_request_that_has_come_is_answered_though_the_worker_closes() {
    // The order in which two things that are ready are looked at was a matter of luck.
    for _ in 0..20 {
        play(async {
            let stage = Stage::begin("router~a", Direction::Outbound).await;
            let mut pipe = stage.connect().await;
            ask(&mut pipe).await;
            stage.commands.try_send(Command::Close { inbound_only: false }).unwrap();
            assert!(ask(&mut pipe).await.starts_with("HTTP/1.1 404"));
        });
    }
}

#[test]
fn what_the_application_of_a_sidecar_has_open_is_not_ended() {
    play(async {
        let stage = Stage::begin("sidecar~a", Direction::Outbound).await;
        let mut pipe = stage.connect().await;
        ask(&mut pipe).await;
        stage.commands.send(Command::Close { inbound_only: false }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(ask(&mut pipe).await.contains("connection: close"));
    });
}

#[test]
fn a_websocket_is_waited_for_and_goes_when_nothing_takes_it_any_more() {
    play(async {
        let mut stage = Stage::with("sidecar~a", Direction::Inbound, http_to(everywhere())).await;
        let mut behind = stage.net.listen(BEHIND).unwrap();
        let mut pipe = stage.connect().await;
        let asks = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        pipe.write_all(asks).await.unwrap();
        let mut far = behind.accept().await.unwrap();
        heard(&mut far).await;
        let agrees = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n!";
        far.write_all(agrees).await.unwrap();
        assert!(heard(&mut pipe).await.starts_with("HTTP/1.1 101"));
        assert_eq!(pipe.read_u8().await.unwrap(), b'!');
        assert_eq!(stage.open().await, 1);
        stage.only_tls().await;
        let told = Instant::now();
        assert!(pipe.read_u8().await.is_err());
        assert_eq!((told.elapsed().as_secs(), stage.open().await), (45, 0));
    });
}
