//! All prefixes of a path among many: a sorted list in which each prefix knows the next shorter one.
//!
//! The prefix before a path in the sorted list either is a prefix of the path, or one of its own prefixes is the longest
//! that is: whatever sorts between a string and a longer one that begins with it begins with it too. So a lookup is one
//! binary search and a walk upwards, whatever the number of prefixes or of their lengths.

use crate::paths::{Candidate, Search};

const NONE: u32 = u32::MAX;

/// Rules by prefix.
#[derive(Debug, Default)]
pub(crate) struct PrefixTree {
    // Ascending by text.
    nodes: Box<[Node]>,
}

#[derive(Debug)]
struct Node {
    text: Box<[u8]>,
    /// The longest other prefix that this one begins with, or [`NONE`].
    parent: u32,
    /// The lowest rule here and in all parents: nothing better is found further up.
    lowest: u32,
    /// Ascending.
    candidates: Vec<Candidate>,
}

impl PrefixTree {
    /// Of prefixes with their rules, in the rules' order.
    pub(crate) fn new(mut prefixes: Vec<(Vec<u8>, Candidate)>) -> Self {
        // Stable: the rules of one prefix stay in order.
        prefixes.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut nodes: Vec<Node> = Vec::new();
        for (text, candidate) in prefixes {
            match nodes.last_mut() {
                Some(last) if *last.text == *text => last.candidates.push(candidate),
                _ => {
                    let parent = longest_prefix(&nodes, &text);
                    let above = nodes.get(parent as usize).map_or(NONE, |parent| parent.lowest);
                    let lowest = above.min(candidate.rule);
                    nodes.push(Node { text: text.into(), parent, lowest, candidates: vec![candidate] });
                }
            }
        }
        Self { nodes: nodes.into() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Shows the search the candidates of every prefix of the path that may have a better one.
    pub(crate) fn search<F: FnMut(Candidate) -> bool>(&self, path: &[u8], search: &mut Search<F>) {
        let before = self.nodes.partition_point(|node| *node.text <= *path);
        let mut place = longest_prefix(&self.nodes[..before], path);
        while let Some(node) = self.nodes.get(place as usize) {
            if node.lowest >= search.best {
                return;
            }
            search.look_at(&node.candidates);
            place = node.parent;
        }
    }
}

// The place of the longest text that `of` begins with, among nodes that all sort before it.
fn longest_prefix(nodes: &[Node], of: &[u8]) -> u32 {
    let mut place = (nodes.len() as u32).checked_sub(1).unwrap_or(NONE);
    while let Some(node) = nodes.get(place as usize) {
        if of.starts_with(&node.text) {
            return place;
        }
        place = node.parent;
    }
    NONE
}
