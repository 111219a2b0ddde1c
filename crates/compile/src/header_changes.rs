//! Header changes of rules and destinations (VS54).
//!
//! In: `headers` as written. Out: changes in Envoy's order (removals, then set, then add, each sorted by name), and the
//! authority that a changed `Host` stands for. What Envoy would refuse is left out by itself, with a finding.

use api::http_actions::{HeaderOperations, Headers};
use config::template::{self, Operator, Part};
use config::{HeaderChanges, HeaderEdits, HeaderPut, PutHow};

use crate::notes::{NOT_OBEYED, Notes};
use crate::text;

/// What `headers` comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Lowered {
    /// The changes.
    pub(crate) changes: HeaderChanges,
    /// `Host` or `:authority` of the request, which is no header to Envoy but a rewrite.
    pub(crate) authority: Option<String>,
}

/// Lowers `headers`; `field` is its path.
pub(crate) fn lower(headers: Option<&Headers>, field: &str, notes: &mut Notes) -> Lowered {
    let Some(Headers { request, response }) = headers else { return Lowered::default() };
    let mut lowered = Lowered::default();
    if let Some(operations) = request {
        let field = format!("{field}.request");
        lowered.changes.request = edits(operations, &field, notes);
        lowered.authority = authority(operations, &field, notes);
    }
    if let Some(operations) = response {
        lowered.changes.response = edits(operations, &format!("{field}.response"), notes);
    }
    lowered
}

fn edits(operations: &HeaderOperations, field: &str, notes: &mut Notes) -> HeaderEdits {
    let HeaderOperations { set, add, remove } = operations;
    let mut edits = HeaderEdits::default();
    for (index, name) in remove.iter().enumerate() {
        if is_changeable(name, || format!("{field}.remove[{index}]"), notes) {
            edits.remove.push(name.to_ascii_lowercase());
        }
    }
    for (leaf, map, how) in [("set", set, PutHow::Overwrite), ("add", add, PutHow::Append)] {
        for (name, value) in map {
            let at = || format!("{field}.{leaf}[{name}]");
            if is_changeable(name, at, notes) && is_good_value(value, at, notes) {
                edits.put.push(HeaderPut { name: name.to_ascii_lowercase(), value: value.clone(), how });
            }
        }
    }
    edits
}

// Pseudo headers and Host are dropped in silence, as istiod does: they are no headers to Envoy.
fn is_changeable(name: &str, at: impl Fn() -> String, notes: &mut Notes) -> bool {
    if is_authority(name) || name.starts_with(':') {
        return false;
    }
    let is_name = text::is_token(name);
    if !is_name {
        notes.ignored(at(), format!("{name:?} is not a header's name; the change is left out"));
    }
    is_name
}

// One bad value makes Envoy refuse the whole table.
fn is_good_value(value: &str, at: impl Fn() -> String, notes: &mut Notes) -> bool {
    if !text::is_line(value) {
        notes.ignored(at(), format!("{value:?} is not a header's value; the change is left out"));
        return false;
    }
    match template::parse(value) {
        Err(reason) => {
            notes.ignored(at(), format!("{reason}; the change is left out"));
            false
        }
        Ok(parts) => {
            for part in parts {
                if let Part::Operator(Operator::Foreign(name)) = part {
                    let message = format!("%{name}% is filled in by Envoy, and comes out empty in sluice-proxy");
                    notes.add(NOT_OBEYED, words::Severity::Warning, at(), message);
                }
            }
            true
        }
    }
}

// `set` beats `add`; in each the last name in order wins.
fn authority(operations: &HeaderOperations, field: &str, notes: &mut Notes) -> Option<String> {
    let HeaderOperations { set, add, remove: _ } = operations;
    let (name, value) = [set, add].into_iter().find_map(|map| map.iter().rfind(|(name, _)| is_authority(name)))?;
    let is_good = text::is_line(value) && !value.is_empty();
    if !is_good {
        notes.ignored(format!("{field}.set[{name}]"), format!("{value:?} is not an authority"));
    }
    is_good.then(|| value.clone())
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// The changes of a rule with those of its only destination behind them (istiod's order for a single destination).
pub(crate) fn joined(rule: &HeaderChanges, destination: &HeaderChanges) -> HeaderChanges {
    let mut all = rule.clone();
    for (into, from) in [(&mut all.request, &destination.request), (&mut all.response, &destination.response)] {
        into.remove.extend(from.remove.iter().cloned());
        into.put.extend(from.put.iter().cloned());
    }
    all
}
