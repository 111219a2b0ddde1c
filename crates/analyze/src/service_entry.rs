//! ServiceEntries beside each other (IST0177).

use std::collections::{BTreeMap, BTreeSet};

use api::ServiceEntrySpec;

use crate::found::Found;
use crate::visibility::Export;
use crate::world::{Of, World};

type Entry<'a> = Of<'a, ServiceEntrySpec>;

/// A port of an entry, by its place, with its protocol.
type Declared<'w, 'a> = (&'w Entry<'a>, usize, String);

/// One port of one host with two protocols: only one of them acts (IST0177).
pub(crate) fn protocols(world: &World<'_>, found: &mut Found) {
    let mut by_port: BTreeMap<(String, u32), Vec<Declared<'_, '_>>> = BTreeMap::new();
    for entry in &world.entries {
        for host in entry.spec.hosts.iter().map(|host| host.to_ascii_lowercase()).collect::<BTreeSet<_>>() {
            for (index, port) in entry.spec.ports.iter().enumerate() {
                let protocol = port.protocol.as_deref().unwrap_or_default().to_ascii_uppercase();
                by_port.entry((host.clone(), port.number)).or_default().push((entry, index, protocol));
            }
        }
    }
    let export = |entry: &Entry<'_>| Export::of(entry.spec.export_to.iter().map(String::as_str), entry.namespace());
    for ((host, number), declared) in by_port.iter().filter(|(_, declared)| declared.len() > 1) {
        for (entry, index, protocol) in declared {
            let contradicts = |(other, _, theirs): &&Declared<'_, '_>| {
                other.origin != entry.origin && theirs != protocol && export(other).meets(&export(entry))
            };
            let others: Vec<String> = declared
                .iter()
                .filter(contradicts)
                .map(|(other, _, theirs)| format!("{}/{} ({})", other.namespace(), other.meta.name, named(theirs)))
                .collect();
            if !others.is_empty() {
                let message = format!(
                    "port {number} of {host} is {} here, and otherwise in ServiceEntry {}",
                    named(protocol),
                    others.join(", ")
                );
                let field = format!("spec.ports[{index}].protocol");
                found.add("IST0177", &entry.origin, field, message, "declare the same protocol, or narrow exportTo");
            }
        }
    }
}

fn named(protocol: &str) -> &str {
    if protocol.is_empty() { "not declared" } else { protocol }
}
