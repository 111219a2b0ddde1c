//! Copies of requests (VS51, VS52, TR08, TR10).
//!
//! In: a rule's `mirror` and `mirrors`. Out: who gets a copy of how many requests. A mirror that cannot be used is
//! reported and left out; the rule goes on without it.

use api::HttpRoute;
use config::Share;
use words::host;

use crate::fault::{read_share, whole};
use crate::intent::{Destination, MirrorRule};
use crate::notes::Notes;
use crate::weight;

/// Lowers both lists; `field` is the rule's path, `spec.http[0]`.
pub(crate) fn lower(rule: &HttpRoute, field: &str, place: (&str, &str), notes: &mut Notes) -> Vec<MirrorRule> {
    let mut mirrors = Vec::new();
    if let Some(mirror) = &rule.mirror {
        // Nothing said is every request (TR08).
        let share = match (&rule.mirror_percentage, rule.mirror_percent) {
            (Some(percentage), _) => read_share(percentage, || format!("{field}.mirrorPercentage"), notes),
            (None, Some(percent)) => whole(f64::from(percent), || format!("{field}.mirrorPercent"), notes),
            (None, None) => Some(Share::ALL),
        };
        mirrors.extend(one(mirror, share, format!("{field}.mirror"), place, notes));
    }
    for (index, mirror) in rule.mirrors.iter().enumerate() {
        let field = format!("{field}.mirrors[{index}]");
        let share = match &mirror.percentage {
            Some(percentage) => read_share(percentage, || format!("{field}.percentage"), notes),
            None => Some(Share::ALL),
        };
        let field = format!("{field}.destination");
        match &mirror.destination {
            Some(destination) => mirrors.extend(one(destination, share, field, place, notes)),
            None => notes.ignored(field, "a destination is missing"),
        }
    }
    mirrors
}

fn one(
    written: &api::Destination,
    share: Option<Share>,
    field: String,
    (namespace, domain): (&str, &str),
    notes: &mut Notes,
) -> Option<MirrorRule> {
    let share = share.filter(|share| *share != Share::NONE)?;
    if written.host.is_empty() {
        notes.ignored(format!("{field}.host"), "a host is missing");
        return None;
    }
    let port = match weight::port(written, &field) {
        Ok(port) => port,
        Err(reason) => {
            notes.ignored(reason.field, reason.message);
            return None;
        }
    };
    let destination = Destination {
        headers: Default::default(),
        host: host::resolve_short(&written.host, namespace, domain).into(),
        subset: written.subset.clone().unwrap_or_default(),
        port,
        weight: 0,
        index: 0,
    };
    Some(MirrorRule { destination, share, field })
}
