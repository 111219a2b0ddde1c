//! Encoding a snapshot, each value once.
//!
//! In: a snapshot of shared values. Out: named bytes, shared too. A value that is the same `Arc` as before is not
//! encoded again: the memo keeps the `Arc`, so its address cannot be reused while the entry lives.

use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use config::{NAME_TABLE, Name, RouteTable, Snapshot, VirtualHost};
use prost::Message;
use rustc_hash::FxHashMap;
use words::Fingerprint;

use crate::{Options, ResourceKind, cluster, endpoint, listener, name_table, route, secret};

/// A resource as bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Kind.
    pub kind: ResourceKind,
    /// Name.
    pub name: Name,
    /// The fingerprint of the value. Not of the bytes: protobuf maps have no order, and equal values must have equal
    /// versions in every replica of one build.
    pub version: String,
    /// The encoded message.
    pub body: Bytes,
}

/// Encodes snapshots and remembers what it has encoded.
#[derive(Default)]
pub struct Encoder {
    memo: FxHashMap<(ResourceKind, usize, Options), Entry>,
    hosts: FxHashMap<usize, HostEntry>,
    round: u64,
}

struct Entry {
    // Held so that the address stays taken.
    _value: Arc<dyn std::any::Any + Send + Sync>,
    encoded: Arc<Encoded>,
    round: u64,
}

struct HostEntry {
    _value: Arc<VirtualHost>,
    body: Bytes,
    round: u64,
}

impl Encoder {
    /// Encodes a snapshot.
    pub fn snapshot(&mut self, snapshot: &Snapshot, options: Options) -> Vec<Arc<Encoded>> {
        let Snapshot { listeners, routes, clusters, endpoints, names, secrets } = snapshot;
        let mut out = Vec::with_capacity(listeners.len() + routes.len() + clusters.len() + endpoints.len());
        let plain = Options::default();
        for (name, value) in clusters {
            let encode = || cluster::encode(value).encode_to_vec().into();
            out.push(self.once(ResourceKind::Cluster, name.clone(), value, plain, encode));
        }
        for (name, value) in endpoints {
            out.push(self.once(ResourceKind::Endpoints, name.clone(), value, plain, || {
                endpoint::encode(value).encode_to_vec().into()
            }));
        }
        for (name, value) in listeners {
            out.push(self.once(ResourceKind::Listener, name.clone(), value, plain, || {
                listener::encode(value).encode_to_vec().into()
            }));
        }
        for (name, value) in secrets {
            let encode = || secret::encode(value).encode_to_vec().into();
            out.push(self.once(ResourceKind::Secret, name.clone(), value, plain, encode));
        }
        for (name, table) in routes {
            self.table(name, table, options, &mut out);
        }
        if let Some(table) = names {
            let encode = || name_table::encode(table).encode_to_vec().into();
            out.push(self.once(ResourceKind::NameTable, NAME_TABLE.into(), table, plain, encode));
        }
        out
    }

    fn table(&mut self, name: &Name, table: &Arc<RouteTable>, options: Options, out: &mut Vec<Arc<Encoded>>) {
        if !options.vhds {
            if let Some(known) = self.known(ResourceKind::Route, table, options) {
                return out.push(known);
            }
            let hosts: Vec<Bytes> = table.virtual_hosts.iter().map(|host| self.host(host)).collect();
            return out.push(
                self.once(ResourceKind::Route, name.clone(), table, options, || route::encode_table(table, &hosts)),
            );
        }
        // Without its hosts this is all that a table says.
        let frame = Encoded {
            kind: ResourceKind::Route,
            name: name.clone(),
            version: Fingerprint::of(&(name, table.ignore_port)).to_string(),
            body: route::encode_table_vhds(table),
        };
        out.push(Arc::new(frame));
        for host in &table.virtual_hosts {
            let full: Name = format!("{name}/{}", host.name).into();
            let encode = || route::encode_host(host).encode_to_vec().into();
            out.push(self.once(ResourceKind::VirtualHost, full, host, options, encode));
        }
    }

    fn host(&mut self, host: &Arc<VirtualHost>) -> Bytes {
        let round = self.round;
        let make = || HostEntry { _value: host.clone(), body: route::encode_host(host).encode_to_vec().into(), round };
        let entry = self.hosts.entry(Arc::as_ptr(host) as usize).or_insert_with(make);
        entry.round = round;
        entry.body.clone()
    }

    fn known<T: Send + Sync + 'static>(
        &mut self,
        kind: ResourceKind,
        value: &Arc<T>,
        options: Options,
    ) -> Option<Arc<Encoded>> {
        let round = self.round;
        let entry = self.memo.get_mut(&(kind, Arc::as_ptr(value) as usize, options))?;
        entry.round = round;
        Some(entry.encoded.clone())
    }

    fn once<T: Hash + Send + Sync + 'static>(
        &mut self,
        kind: ResourceKind,
        name: Name,
        value: &Arc<T>,
        options: Options,
        encode: impl FnOnce() -> Bytes,
    ) -> Arc<Encoded> {
        // One value may stand under two names (a virtual host in two tables): the name is part of what is shared.
        if let Some(known) = self.known(kind, value, options)
            && known.name == name
        {
            return known;
        }
        let version = Fingerprint::of(value.as_ref()).to_string();
        let encoded = Arc::new(Encoded { kind, name, version, body: encode() });
        let entry = Entry { _value: value.clone(), encoded: encoded.clone(), round: self.round };
        self.memo.insert((kind, Arc::as_ptr(value) as usize, options), entry);
        encoded
    }

    /// Forgets what no snapshot has asked for since the last call. Call it after each round of snapshots.
    pub fn sweep(&mut self) {
        let round = self.round;
        self.memo.retain(|_, entry| entry.round == round);
        // Hosts inside a table that was known are not asked for; they stay as long as their value is used elsewhere.
        self.hosts.retain(|_, entry| entry.round == round || Arc::strong_count(&entry._value) > 1);
        self.round += 1;
    }

    /// How many values are remembered.
    pub fn len(&self) -> usize {
        self.memo.len() + self.hosts.len()
    }

    /// True when nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
