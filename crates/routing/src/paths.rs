//! The index of one virtual host's rules by path, so that 10,000 rules cost about what one does.
//!
//! First match wins, so a lookup collects the candidates whose path holds, in the order of the rules, and the caller
//! takes the first whose other conditions hold. Exact paths stand in a hash table, case-sensitive prefixes in a sorted
//! table per length; what is neither (regexes, prefixes without case) is walked.

use rustc_hash::FxHashMap;

use crate::matcher::{Matcher, Path};

/// Below this many rules a walk is as fast as any index.
const WALK_RULES_MAX: usize = 8;

/// Rule numbers by path.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    exact: FxHashMap<Box<str>, Vec<u32>>,
    /// By length, longest first.
    prefixes: Vec<(usize, FxHashMap<Box<str>, Vec<u32>>)>,
    rest: Vec<u32>,
    is_walk: bool,
    count: u32,
}

impl Paths {
    pub(crate) fn new(matchers: &[Matcher]) -> Self {
        let mut paths =
            Self { is_walk: matchers.len() <= WALK_RULES_MAX, count: matchers.len() as u32, ..Self::default() };
        if paths.is_walk {
            return paths;
        }
        let mut by_length: std::collections::BTreeMap<usize, FxHashMap<Box<str>, Vec<u32>>> = Default::default();
        for (number, matcher) in (0..).zip(matchers) {
            match &matcher.path {
                Path::Exact(path) => paths.exact.entry(path.as_str().into()).or_default().push(number),
                Path::Prefix(prefix) => {
                    let same_length = by_length.entry(prefix.len()).or_default();
                    same_length.entry(prefix.as_str().into()).or_default().push(number);
                }
                _ => paths.rest.push(number),
            }
        }
        paths.prefixes = by_length.into_iter().rev().collect();
        paths
    }

    /// The first rule, in order, that `accepts`. A rule from the tables has a path that holds; one from the rest may
    /// not, which `accepts` is told by `path_known`.
    pub(crate) fn first(&self, path: &str, mut accepts: impl FnMut(u32, bool) -> bool) -> Option<u32> {
        if self.is_walk {
            return (0..self.count).find(|number| accepts(*number, false));
        }
        let mut best = u32::MAX;
        let mut consider = |numbers: &[u32], path_known: bool, best: &mut u32| {
            // Numbers ascend: the first accepted below the best so far is the best of this list.
            for number in numbers.iter().take_while(|number| **number < *best) {
                if accepts(*number, path_known) {
                    *best = *number;
                    break;
                }
            }
        };
        if let Some(numbers) = self.exact.get(path) {
            consider(numbers, true, &mut best);
        }
        for (length, table) in &self.prefixes {
            // Not at a character's boundary: no prefix of this length can be a prefix of the path.
            if let Some(numbers) = path.get(..*length).and_then(|start| table.get(start)) {
                consider(numbers, true, &mut best);
            }
        }
        consider(&self.rest, false, &mut best);
        (best != u32::MAX).then_some(best)
    }
}
