//! The memo: what was computed from which inputs, so that equal inputs give the same `Arc` and nothing is computed
//! twice.
//!
//! Two tables. `by_input` finds a result by the fingerprint of its inputs. `interned` finds a result by the fingerprint
//! of its content, so that inputs that differ without effect still give the `Arc` from before (equality cut-off).
//! Bounded: an entry that nobody used for [`ROUNDS_KEPT`] rounds and that nobody else holds is dropped.

use std::hash::Hash;
use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;
use words::Fingerprint;

/// An entry that was not used in this many rounds may go; a round is one state of the world.
pub(crate) const ROUNDS_KEPT: u64 = 2;

/// A shared value with the fingerprint of its content.
#[derive(Debug)]
pub(crate) struct Unit<T> {
    /// The value.
    pub(crate) value: Arc<T>,
    /// The fingerprint of its content.
    pub(crate) print: Fingerprint,
}

impl<T> Clone for Unit<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), print: self.print }
    }
}

/// Results of one kind.
#[derive(Debug)]
pub(crate) struct Memo<T> {
    by_input: FxHashMap<Fingerprint, Entry<T>>,
    interned: FxHashMap<Fingerprint, Interned<T>>,
    kept_last: usize,
}

#[derive(Debug)]
struct Entry<T> {
    unit: Unit<T>,
    used: u64,
}

#[derive(Debug)]
struct Interned<T> {
    value: Weak<T>,
    latest_input: Fingerprint,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { by_input: FxHashMap::default(), interned: FxHashMap::default(), kept_last: 0 }
    }
}

impl<T> Memo<T> {
    /// The result for these inputs, computed when it is not there; its content is fingerprinted whole.
    pub(crate) fn get(&mut self, round: u64, input: Fingerprint, compute: impl FnOnce() -> T) -> Unit<T>
    where
        T: Hash,
    {
        self.get_with(round, input, || {
            let value = compute();
            let print = Fingerprint::of(&value);
            (value, print)
        })
    }

    /// The same for results that know a cheaper fingerprint of their content: that of their parts.
    pub(crate) fn get_with(
        &mut self,
        round: u64,
        input: Fingerprint,
        compute: impl FnOnce() -> (T, Fingerprint),
    ) -> Unit<T> {
        if let Some(entry) = self.by_input.get_mut(&input) {
            entry.used = round;
            return entry.unit.clone();
        }
        let (value, print) = compute();
        let known = self.interned.get(&print).and_then(|known| known.value.upgrade());
        let unit = Unit { value: known.unwrap_or_else(|| Arc::new(value)), print };
        self.interned.insert(print, Interned { value: Arc::downgrade(&unit.value), latest_input: input });
        self.by_input.insert(input, Entry { unit: unit.clone(), used: round });
        unit
    }

    /// Drops what nobody needs any more. Called once a round; works only when the table has doubled since it last did,
    /// so its cost per insertion is constant.
    pub(crate) fn prune(&mut self, round: u64) {
        if self.by_input.len() <= 2 * self.kept_last.max(PRUNE_FLOOR) {
            return;
        }
        let interned = &self.interned;
        self.by_input.retain(|input, Entry { unit, used }| {
            if *used + ROUNDS_KEPT > round {
                return true;
            }
            // Held inside a larger unit that is itself in use: it will be asked for when that one changes.
            let latest = interned.get(&unit.print).is_some_and(|known| known.latest_input == *input);
            latest && Arc::strong_count(&unit.value) > 1
        });
        self.interned.retain(|_, known| known.value.strong_count() > 0);
        self.kept_last = self.by_input.len();
    }

    /// How many results are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_input.len()
    }
}

/// Tables this small are never pruned.
const PRUNE_FLOOR: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Fingerprint {
        Fingerprint::of(&n)
    }

    #[test]
    fn equal_inputs_are_computed_once() {
        let mut memo = Memo::default();
        let first = memo.get(1, key(1), || "a".to_owned());
        let again = memo.get(1, key(1), || unreachable!("computed twice"));
        assert!(Arc::ptr_eq(&first.value, &again.value));
    }

    #[test]
    fn equal_content_keeps_the_old_arc() {
        let mut memo = Memo::default();
        let first = memo.get(1, key(1), || "a".to_owned());
        let other = memo.get(2, key(2), || "a".to_owned());
        assert!(Arc::ptr_eq(&first.value, &other.value));
    }

    #[test]
    fn unused_entries_are_dropped_after_two_rounds() {
        let mut memo = Memo::default();
        let held = memo.get(1, key(0), || 0u32);
        for round in 1..2000u32 {
            memo.get(u64::from(round), key(round), || round);
            memo.prune(u64::from(round));
        }
        assert!(memo.len() <= 2 * PRUNE_FLOOR + 2, "{}", memo.len());
        let again = memo.get(2000, key(0), || unreachable!("a held unit was dropped"));
        assert!(Arc::ptr_eq(&held.value, &again.value));
    }
}
