//! Rules and matches that never act, because an earlier one has taken their requests (V-41, V-42).
//!
//! Istio compares a little more loosely (headers by their number, a missing method as GET) and so reports matches that
//! some requests do reach; this reports only what is certain.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use words::Severity;

use super::{Findings, INEFFECTIVE, UNREACHABLE};
use crate::{HttpMatchRequest, HttpRoute};

/// A match, as far as it is compared.
pub(super) struct Block {
    // All that it says, without its name.
    whole: String,
    // Its prefix, and all else that it says, once for each way in which an earlier match may say less.
    prefix: Option<(String, Vec<String>)>,
}

impl Block {
    /// A match that is compared as a whole.
    pub(super) fn whole(block: &impl Serialize) -> Self {
        Self { whole: text(block), prefix: None }
    }

    fn http(block: &HttpMatchRequest) -> Self {
        let mut block = HttpMatchRequest { name: None, ..block.clone() };
        let whole = text(&block);
        let prefix = block.uri.take().and_then(|uri| uri.prefix);
        let prefix = prefix.map(|prefix| (prefix, weaker(block)));
        Self { whole, prefix }
    }
}

// What the match says beside its path, then the same without method, authority and both.
fn weaker(block: HttpMatchRequest) -> Vec<String> {
    let without = |method: bool, authority: bool| HttpMatchRequest {
        method: block.method.clone().filter(|_| !method),
        authority: block.authority.clone().filter(|_| !authority),
        ..block.clone()
    };
    let all = [(false, false), (true, false), (false, true), (true, true)];
    all.into_iter().map(|(method, authority)| text(&without(method, authority))).collect()
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// HTTP rules.
pub(super) fn check_http(rules: &[HttpRoute], found: &mut Findings) {
    // Most have one rule, which nothing precedes.
    if rules.len() < 2 {
        return;
    }
    check("spec.http", rules.iter().map(|rule| rule.r#match.iter().map(Block::http).collect()), found);
}

/// The rules of the list at `path`, each as its matches.
pub(super) fn check(path: &str, rules: impl Iterator<Item = Vec<Block>>, found: &mut Findings) {
    let mut seen = Seen::default();
    let mut catch_all: Option<usize> = None;
    for (index, blocks) in rules.enumerate() {
        let rule = format!("{path}[{index}]");
        if let Some(first) = catch_all {
            let message = format!("no request reaches this rule: {path}[{first}] has no match and takes them all");
            found.add(UNREACHABLE, Severity::Warning, &rule, message, "move the rule without match to the end");
            continue;
        }
        if blocks.is_empty() {
            catch_all = Some(index);
            continue;
        }
        seen.compare(&rule, index, &blocks, found);
    }
}

#[derive(Default)]
struct Seen {
    // The rule that first had the match.
    whole: HashMap<String, usize>,
    // Prefixes by what else the match says.
    prefixes: HashMap<String, HashMap<String, usize>>,
}

impl Seen {
    fn compare(&mut self, rule: &str, index: usize, blocks: &[Block], found: &mut Findings) {
        let earlier: Vec<Option<usize>> = blocks.iter().map(|block| self.note(index, block)).collect();
        if earlier.iter().all(Option::is_some) {
            let rules: BTreeSet<usize> = earlier.into_iter().flatten().collect();
            let rules: Vec<String> = rules.into_iter().map(|rule| rule.to_string()).collect();
            let message =
                format!("no request reaches this rule: all its matches are in rule {} before it", rules.join(", "));
            return found.add(UNREACHABLE, Severity::Warning, rule, message, "remove it, or change its matches");
        }
        for (place, block) in blocks.iter().enumerate() {
            let field = format!("{rule}.match[{place}]");
            if let Some(first) = earlier[place] {
                let message = format!("the same match is in rule {first}, which acts first");
                found.add(INEFFECTIVE, Severity::Info, field, message, "remove it");
            } else if let Some((prefix, first)) = self.covered(index, block) {
                let message = format!("rule {first} takes these requests with the shorter prefix {prefix:?}");
                found.add(INEFFECTIVE, Severity::Info, field, message, "move the longer prefix before the shorter one");
            }
        }
        for block in blocks {
            self.note_prefix(index, block);
        }
    }

    // The rule that had this match before.
    fn note(&mut self, index: usize, block: &Block) -> Option<usize> {
        let first = *self.whole.entry(block.whole.clone()).or_insert(index);
        (first != index).then_some(first)
    }

    fn note_prefix(&mut self, index: usize, block: &Block) {
        if let Some((prefix, others)) = &block.prefix {
            let exactly = others.first().cloned().unwrap_or_default();
            self.prefixes.entry(exactly).or_default().entry(prefix.clone()).or_insert(index);
        }
    }

    // A shorter prefix of an earlier rule that says no more beside it.
    fn covered<'a>(&self, index: usize, block: &'a Block) -> Option<(&'a str, usize)> {
        let (prefix, others) = block.prefix.as_ref()?;
        let ends = (0..prefix.len()).filter(|end| prefix.is_char_boundary(*end));
        let mut shorter = ends.map(|end| &prefix[..end]);
        shorter.find_map(|shorter| {
            let mut rules = others.iter().filter_map(|other| self.prefixes.get(other)?.get(shorter));
            rules.find(|rule| **rule < index).map(|rule| (shorter, *rule))
        })
    }
}
