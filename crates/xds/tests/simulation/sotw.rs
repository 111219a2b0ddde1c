//! A state-of-the-world client in lockstep with its server; virtual hosts do not exist there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;
use xds::{Mode, Request, Session, StreamStatus, Target, TypeUrl};

use crate::mesh::{World, read};
use crate::wire::Held;

const KINDS: [TypeUrl; 4] = [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Listener, TypeUrl::Route];

pub(crate) struct Wire {
    server: Session,
    target: Target,
    /// By type: name to version and reference, both read from the body; this wire has no versions of single resources.
    held: BTreeMap<TypeUrl, BTreeMap<String, (String, String)>>,
    nonces: BTreeMap<TypeUrl, String>,
    asked: BTreeMap<TypeUrl, BTreeSet<String>>,
    now: Instant,
}

impl Wire {
    pub(crate) fn new(world: &World) -> Self {
        let server = Session::new(Mode::Sotw, StreamStatus::default());
        let (held, nonces, asked) = Default::default();
        let mut wire = Self { server, target: Target::default(), held, nonces, asked, now: Instant::now() };
        wire.target(world);
        wire.ask(TypeUrl::Cluster);
        wire.ask(TypeUrl::Listener);
        wire
    }

    pub(crate) fn target(&mut self, world: &World) {
        self.target = world.target();
        self.server.set_target(self.target.clone());
    }

    fn wanted(&self, kind: TypeUrl) -> BTreeSet<String> {
        match kind {
            TypeUrl::Endpoints => {
                self.held.get(&TypeUrl::Cluster).into_iter().flatten().map(|(name, _)| name.clone()).collect()
            }
            TypeUrl::Route => {
                self.held.get(&TypeUrl::Listener).into_iter().flatten().map(|(_, (_, table))| table.clone()).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    fn ask(&mut self, kind: TypeUrl) {
        let names = self.wanted(kind);
        let request = Request {
            type_url: kind.url().into(),
            names: names.iter().cloned().collect(),
            nonce: self.nonces.get(&kind).cloned().unwrap_or_default(),
            ..Request::default()
        };
        self.server.on_request(&request, self.now);
        self.asked.insert(kind, names);
    }

    /// Until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000 {
            if let Some(response) = self.server.poll(self.now) {
                self.hear(&DiscoveryResponse::decode(response.encode()).expect("well-formed"));
                continue;
            }
            let is_changed = |kind: &TypeUrl| self.asked.get(kind).cloned().unwrap_or_default() != self.wanted(*kind);
            let changed: Vec<TypeUrl> = KINDS.into_iter().filter(is_changed).collect();
            if changed.is_empty() {
                if self.server.is_settled() {
                    return;
                }
                self.now += Duration::from_secs(1);
            }
            changed.into_iter().for_each(|kind| self.ask(kind));
        }
        panic!("does not settle: {:?}", self.server);
    }

    fn hear(&mut self, response: &DiscoveryResponse) {
        let kind = TypeUrl::parse(&response.type_url).expect("a type");
        let held = self.held.entry(kind).or_default();
        if kind.is_wildcard_by_default() {
            held.clear();
        }
        for any in &response.resources {
            let (name, version, refers_to) = read(&any.value);
            held.insert(name, (version, refers_to));
        }
        self.nonces.insert(kind, response.nonce.clone());
        self.ask(kind);
    }

    /// What it holds, without what it no longer wants.
    pub(crate) fn held(&self) -> Held {
        let mut all = Held::new();
        for (kind, held) in &self.held {
            let wanted = self.wanted(*kind);
            let held = held.iter().filter(|(name, _)| kind.is_wildcard_by_default() || wanted.contains(*name));
            all.extend(held.map(|(name, (version, _))| ((*kind, name.clone()), version.clone())));
        }
        all
    }
}
