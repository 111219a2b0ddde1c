//! The two sessions and what is on its way between them; checks what must hold at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use xds::client::{ClientSession, Heard, Update};
use xds::{Mode, Node, Request, Response, Session, StreamStatus, Target, TypeUrl};

use crate::mesh::{World, read};

/// By type and name: version.
pub(crate) type Held = BTreeMap<(TypeUrl, String), String>;

pub(crate) struct Wire {
    server: Session,
    /// The same, but compares every name instead of layers.
    shadow: Session,
    client: ClientSession,
    target: Target,
    now: Instant,
    to_client: VecDeque<Response>,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    updates: VecDeque<Update>,
    open: BTreeSet<TypeUrl>,
    /// What each resource that the client holds refers to.
    refers: BTreeMap<(TypeUrl, String), String>,
    /// When this stream began, and the types asked for on it.
    began: Instant,
    asked: BTreeSet<TypeUrl>,
    /// Names once refused: order is not promised for them.
    refused: BTreeSet<String>,
    pub(crate) resources_sent: usize,
}

fn session() -> Session {
    Session::new(Mode::Delta, StreamStatus::default())
}

impl Wire {
    pub(crate) fn new(world: &World) -> Self {
        let mut wire = Self {
            server: session(),
            shadow: session(),
            client: ClientSession::new(Node::default()),
            target: world.target(),
            now: Instant::now(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            updates: VecDeque::new(),
            open: BTreeSet::new(),
            refers: BTreeMap::new(),
            began: Instant::now(),
            asked: BTreeSet::new(),
            refused: BTreeSet::new(),
            resources_sent: 0,
        };
        wire.reconnect();
        wire
    }

    pub(crate) fn target(&mut self, world: &World) {
        self.target = world.target();
        self.server.set_target(self.target.clone());
        self.shadow.set_target_from_scratch(self.target.clone());
    }

    pub(crate) fn pause(&mut self) {
        self.now += Duration::from_secs(1);
    }

    pub(crate) fn reconnect(&mut self) {
        self.to_client.clear();
        while self.answer(false) {}
        self.to_server = self.client.reconnect().into();
        (self.server, self.shadow) = (session(), session());
        self.server.set_target(self.target.clone());
        self.shadow.set_target_from_scratch(self.target.clone());
        self.open.clear();
        self.asked.clear();
        self.began = self.now;
    }

    pub(crate) fn send(&mut self) -> bool {
        let (response, shadow) = (self.server.poll(self.now), self.shadow.poll(self.now));
        let without_version = |response: &Response| Response { version: String::new(), ..response.clone() }.encode();
        assert_eq!(
            response.as_ref().map(without_version),
            shadow.as_ref().map(without_version),
            "layers against names"
        );
        let Some(response) = response else { return false };
        let kind = response.kind.expect("a type we asked for");
        assert!(self.open.insert(kind), "a second {kind} response is open");
        self.resources_sent += response.resources.len();
        self.check_order(&response);
        self.to_client.push_back(response);
        true
    }

    /// Routes only after their clusters were acknowledged; clusters removed only after routes let them go.
    fn check_order(&self, response: &Response) {
        let is_held = |name: &str| self.client.held(TypeUrl::Cluster).contains_key(name) || self.refused.contains(name);
        if matches!(response.kind, Some(TypeUrl::Route | TypeUrl::VirtualHost)) {
            for resource in &response.resources {
                let (.., cluster) = read(&resource.body());
                assert!(is_held(&cluster), "{resource:?} before its cluster {cluster}");
            }
        }
        if response.kind == Some(TypeUrl::Cluster) {
            // Of a type that a client comes back with and asks for late, the server knows nothing.
            let is_known = |kind: &TypeUrl| self.asked.contains(kind) || self.now == self.began;
            let refers = self.refers.iter().filter(|((kind, name), _)| is_known(kind) && !self.refused.contains(name));
            for ((kind, name), cluster) in refers {
                let is_removed = response.removed.iter().any(|removed| **removed == **cluster);
                assert!(!is_removed, "{cluster} is removed while {kind} {name} names it");
            }
        }
    }

    pub(crate) fn hear(&mut self) -> bool {
        let Some(response) = self.to_client.pop_front() else { return false };
        let response = DeltaDiscoveryResponse::decode(response.encode()).expect("well-formed");
        match self.client.on_response(response) {
            Heard::Update(update) => self.updates.push_back(update),
            other => panic!("{other:?}"),
        }
        true
    }

    pub(crate) fn answer(&mut self, refuse: bool) -> bool {
        let Some(update) = self.updates.pop_front() else { return false };
        let Update { kind, nonce, upserts, removed } = update;
        let refers_matter = matches!(kind, TypeUrl::Listener | TypeUrl::Route | TypeUrl::VirtualHost);
        for upsert in upserts {
            if refuse {
                self.refused.insert(upsert.name);
            } else if refers_matter {
                let (.., refers_to) = read(&upsert.body);
                self.refers.insert((kind, upsert.name), refers_to);
            }
        }
        if refuse {
            self.refused.extend(removed);
        } else {
            removed.into_iter().for_each(|name| _ = self.refers.remove(&(kind, name)));
        }
        // A proxy tells first what it wants now; that the server copes with the other order is the harder case.
        let answer = self.client.answer(kind, &nonce, refuse.then(|| "no".to_owned()));
        self.to_server.extend(answer);
        self.want();
        true
    }

    fn want(&mut self) {
        let clusters = self.client.held(TypeUrl::Cluster).keys().cloned().collect();
        let of_listeners = self.refers.iter().filter(|((kind, _), _)| *kind == TypeUrl::Listener);
        let tables: BTreeSet<String> = of_listeners.map(|(_, table)| table.clone()).collect();
        for (kind, names) in
            [(TypeUrl::Endpoints, clusters), (TypeUrl::Route, tables.clone()), (TypeUrl::VirtualHost, tables.clone())]
        {
            self.to_server.extend(self.client.want(kind, names));
        }
        self.refers.retain(|(kind, name), _| match kind {
            TypeUrl::Route => tables.contains(name),
            TypeUrl::VirtualHost => name.split_once('/').is_some_and(|(table, _)| tables.contains(table)),
            _ => true,
        });
    }

    pub(crate) fn listen(&mut self) -> bool {
        let Some(request) = self.to_server.pop_front() else { return false };
        let (request, _) = Request::delta(request);
        self.asked.extend(TypeUrl::parse(&request.type_url));
        if !request.nonce.is_empty() {
            self.open.remove(&TypeUrl::parse(&request.type_url).expect("a type"));
        }
        let (outcome, shadow) =
            (self.server.on_request(&request, self.now), self.shadow.on_request(&request, self.now));
        assert_eq!(outcome, shadow);
        true
    }

    /// Everything happens until nothing does.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let happened = [self.listen(), self.send(), self.hear(), self.answer(false)];
            if happened == [false; 4] {
                if self.server.is_settled() {
                    return;
                }
                assert!(self.server.deadline().is_some(), "stuck: {:?}", self.server);
                self.pause();
            }
        }
        panic!("does not settle: {:?}", self.server);
    }

    pub(crate) fn held(&self) -> Held {
        let of_type =
            |kind| self.client.held(kind).iter().map(move |(name, version)| ((kind, name.clone()), version.clone()));
        TypeUrl::ALL.into_iter().flat_map(of_type).collect()
    }

    /// In these worlds every resource is reached from a listener or a cluster.
    pub(crate) fn assert_holds_the_target(&self) {
        let all = TypeUrl::ALL.into_iter().flat_map(|kind| self.target.of(kind));
        let target: Held = all.map(|one| ((one.kind, one.name.to_string()), one.version.to_string())).collect();
        assert_eq!(self.held(), target);
    }
}
