//! The index of one virtual host's rules by path, so that 10,000 rules cost about what one does.
//!
//! First match wins, so a lookup looks only at rules whose path holds or may hold, and among them for the lowest number
//! whose other conditions hold. Exact paths stand in a hash table, prefixes in a [`PrefixTree`]; a regex stands there by
//! the literal text that it begins with. Rules that ignore case stand in a second pair of tables, in lower case.

use rustc_hash::FxHashMap;

use crate::matcher::{Matcher, Path};
use crate::prefix_tree::PrefixTree;
use crate::value::required_prefix;

/// Up to this many rules a walk is as fast as any index.
const WALK_RULES_MAX: u32 = 8;
/// Paths up to this many bytes are put in lower case on the stack, longer ones on the heap.
const FOLDED_BYTES_MAX: usize = 256;

/// A rule that a lookup came upon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) rule: u32,
    /// True: that it was found means that its path holds.
    pub(crate) path_known: bool,
}

/// Rule numbers by path.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    count: u32,
    as_sent: Tables,
    // `None`: no rule ignores case.
    folded: Option<Box<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    exact: FxHashMap<Box<[u8]>, Vec<Candidate>>,
    exact_bytes_max: usize,
    prefixes: PrefixTree,
}

/// The search for the lowest rule that accepts.
pub(crate) struct Search<F> {
    accepts: F,
    pub(crate) best: u32,
}

impl<F: FnMut(Candidate) -> bool> Search<F> {
    /// Looks at candidates in ascending order, as long as they would be better than what was found.
    pub(crate) fn look_at(&mut self, candidates: &[Candidate]) {
        for candidate in candidates {
            if candidate.rule >= self.best {
                return;
            }
            if (self.accepts)(*candidate) {
                self.best = candidate.rule;
                return;
            }
        }
    }
}

impl Tables {
    fn add_exact(&mut self, path: &[u8], candidate: Candidate) {
        self.exact_bytes_max = self.exact_bytes_max.max(path.len());
        self.exact.entry(path.into()).or_default().push(candidate);
    }

    fn search<F: FnMut(Candidate) -> bool>(&self, path: &[u8], search: &mut Search<F>) {
        // What is longer than every exact path need not be hashed.
        if path.len() <= self.exact_bytes_max
            && let Some(candidates) = self.exact.get(path)
        {
            search.look_at(candidates);
        }
        self.prefixes.search(path, search);
    }
}

impl Paths {
    pub(crate) fn new(matchers: &[Matcher]) -> Self {
        let count = u32::try_from(matchers.len()).unwrap_or(u32::MAX);
        let mut paths = Self { count, ..Self::default() };
        if count <= WALK_RULES_MAX {
            return paths;
        }
        let (mut prefixes, mut folded_prefixes, mut folded) = (Vec::new(), Vec::new(), Tables::default());
        for (rule, matcher) in (0..).zip(matchers) {
            let known = Candidate { rule, path_known: true };
            let lower = |text: &str| text.to_ascii_lowercase().into_bytes();
            match &matcher.path {
                Path::Exact(text) => paths.as_sent.add_exact(text.as_bytes(), known),
                Path::Prefix(text) => prefixes.push((text.as_bytes().to_vec(), known)),
                Path::ExactIgnoringCase(text) => folded.add_exact(&lower(text), known),
                Path::PrefixIgnoringCase(text) => folded_prefixes.push((lower(text), known)),
                Path::Regex(_, text) => {
                    prefixes.push((required_prefix(text).into_bytes(), Candidate { rule, path_known: false }));
                }
            }
        }
        paths.as_sent.prefixes = PrefixTree::new(prefixes);
        folded.prefixes = PrefixTree::new(folded_prefixes);
        let ignores_case = !folded.exact.is_empty() || !folded.prefixes.is_empty();
        paths.folded = ignores_case.then(|| Box::new(folded));
        paths
    }

    /// The first rule, in order, that `accepts`.
    pub(crate) fn first(&self, path: &str, mut accepts: impl FnMut(Candidate) -> bool) -> Option<u32> {
        if self.count <= WALK_RULES_MAX {
            return (0..self.count).find(|rule| accepts(Candidate { rule: *rule, path_known: false }));
        }
        let mut search = Search { accepts, best: u32::MAX };
        self.as_sent.search(path.as_bytes(), &mut search);
        if let Some(folded) = &self.folded {
            in_lower_case(path.as_bytes(), |path| folded.search(path, &mut search));
        }
        (search.best != u32::MAX).then_some(search.best)
    }
}

fn in_lower_case(path: &[u8], then: impl FnOnce(&[u8])) {
    let mut stack = [0; FOLDED_BYTES_MAX];
    match stack.get_mut(..path.len()) {
        Some(lower) => {
            lower.copy_from_slice(path);
            lower.make_ascii_lowercase();
            then(lower);
        }
        None => then(&path.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use config::{PathMatch, RouteMatch};

    use super::*;

    fn matcher(path: PathMatch, ignore_case: bool) -> Matcher {
        Matcher::new(&RouteMatch { path, ignore_case, ..RouteMatch::any() }).unwrap()
    }

    // How many rules a lookup looks at when none accepts.
    fn looked_at(paths: &Paths, path: &str) -> usize {
        let mut count = 0;
        let found = paths.first(path, |_| {
            count += 1;
            false
        });
        assert_eq!(found, None);
        count
    }

    #[test]
    fn ten_thousand_rules_cost_what_one_does() {
        for ignore_case in [false, true] {
            let exact = (0..4000).map(|n| PathMatch::Exact(format!("/e/{n}")));
            let prefix = (0..4000).map(|n| PathMatch::Prefix(format!("/p/{n}/")));
            let regex = (0..2000).map(|n| PathMatch::Regex(format!("/r/{n}/.*")));
            let matchers: Vec<_> = exact.chain(prefix).chain(regex).map(|path| matcher(path, ignore_case)).collect();
            let paths = Paths::new(&matchers);
            for path in ["/e/17", "/p/3999/x", "/r/5/x"] {
                assert_eq!(looked_at(&paths, path), 1, "{path}");
            }
            assert_eq!(looked_at(&paths, "/x"), 0);
        }
    }

    #[test]
    fn a_better_rule_ends_the_search() {
        let mut matchers = vec![matcher(PathMatch::Prefix("/a/b/c".into()), false)];
        matchers.extend((0..1000).map(|_| matcher(PathMatch::Prefix("/a".into()), false)));
        let mut count = 0;
        let found = Paths::new(&matchers).first("/a/b/c/d", |_| {
            count += 1;
            true
        });
        assert_eq!((found, count), (Some(0), 1));
    }

    #[test]
    fn a_long_path_is_still_compared_without_case() {
        let long = "/x".repeat(FOLDED_BYTES_MAX);
        let matchers: Vec<_> = (0..20).map(|_| matcher(PathMatch::Exact(long.to_uppercase()), true)).collect();
        assert_eq!(Paths::new(&matchers).first(&long, |_| true), Some(0));
    }
}
