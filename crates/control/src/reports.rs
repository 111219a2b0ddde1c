//! Whose status is to be written, and when.
//!
//! In: marks ("this object may have another status"), the time. Out: the objects that are due. Pure. An object waits
//! [`DEBOUNCE`] after its first mark; marks in between cost nothing. What somebody has just changed goes before what was
//! there when we began, so a mesh of ten thousand objects that is told for the first time delays nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use api::ObjectKey;

/// Between a change and its status, and between two statuses of one object.
pub(crate) const DEBOUNCE: Duration = Duration::from_secs(1);
/// How soon a generation that proxies are still taking is looked at again.
pub(crate) const AGAIN: Duration = Duration::from_millis(500);
/// How long that goes on before the object says that it is pending.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Marks that wait; at most one per object.
#[derive(Default)]
pub(crate) struct Reports {
    marks: BTreeMap<ObjectKey, Mark>,
    /// Those that somebody has just changed, and the others, each by its due time.
    order: [BTreeSet<(Instant, ObjectKey)>; 2],
}

/// A mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Since when.
    pub(crate) since: Instant,
    due: Instant,
    is_old: bool,
}

impl Reports {
    /// An object may have another status. `is_old` if nobody has just changed it.
    pub(crate) fn mark(&mut self, key: ObjectKey, is_old: bool, now: Instant) {
        let mark = Mark { since: now, due: now + DEBOUNCE, is_old };
        match self.marks.get(&key) {
            None => self.insert(key, mark),
            // It has come to somebody's attention.
            Some(before) if before.is_old && !is_old => self.insert(key, mark),
            Some(_) => {}
        }
    }

    /// It must be looked at again, after a pause.
    pub(crate) fn again(&mut self, key: ObjectKey, mark: Mark, due: Instant) {
        if !self.marks.contains_key(&key) {
            self.insert(key, Mark { due, ..mark });
        }
    }

    fn insert(&mut self, key: ObjectKey, mark: Mark) {
        self.forget(&key);
        self.order[usize::from(mark.is_old)].insert((mark.due, key.clone()));
        self.marks.insert(key, mark);
    }

    /// An object is gone.
    pub(crate) fn forget(&mut self, key: &ObjectKey) {
        if let Some(mark) = self.marks.remove(key) {
            self.order[usize::from(mark.is_old)].remove(&(mark.due, key.clone()));
        }
    }

    /// We do not lead any more.
    pub(crate) fn clear(&mut self) {
        self.marks.clear();
        self.order.iter_mut().for_each(BTreeSet::clear);
    }

    /// The next object that is due, with its mark.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(ObjectKey, Mark)> {
        let mut firsts = self.order.iter().filter_map(BTreeSet::first);
        let (_, key) = firsts.find(|(due, _)| *due <= now).cloned()?;
        let mark = self.marks.get(&key).copied()?;
        self.forget(&key);
        Some((key, mark))
    }
}

#[cfg(test)]
mod tests {
    use api::Kind;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::VirtualService, "default", name)
    }

    fn taken(reports: &mut Reports, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| reports.take(now)).map(|(key, _)| key.name.to_string()).collect()
    }

    #[test]
    fn a_burst_of_marks_is_one_report_a_second_later() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        for step in 0..10 {
            reports.mark(key("a"), false, now + Duration::from_millis(step * 50));
        }
        assert_eq!(taken(&mut reports, now + Duration::from_millis(999)), Vec::<String>::new());
        assert_eq!(taken(&mut reports, now + DEBOUNCE), ["a"]);
        assert_eq!(taken(&mut reports, now + DEBOUNCE * 9), Vec::<String>::new());
    }

    #[test]
    fn what_has_just_changed_goes_before_ten_thousand_old_ones() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        for number in 0..10_000 {
            reports.mark(key(&format!("old{number:05}")), true, now);
        }
        let later = now + DEBOUNCE;
        reports.mark(key("old07000"), false, later);
        reports.mark(key("new"), false, later + Duration::from_millis(1));
        assert_eq!(reports.take(later).unwrap().0, key("old00000"), "nothing new is due");
        let after = later + DEBOUNCE + Duration::from_millis(1);
        let first: Vec<_> = (0..3).map(|_| reports.take(after).unwrap().0).collect();
        assert_eq!(first, [key("old07000"), key("new"), key("old00001")]);
    }

    #[test]
    fn one_that_waits_for_proxies_keeps_its_age_and_a_newer_mark_wins() {
        let (mut reports, now) = (Reports::default(), Instant::now());
        reports.mark(key("a"), false, now);
        let (_, mark) = reports.take(now + DEBOUNCE).unwrap();
        reports.again(key("a"), mark, now + DEBOUNCE + AGAIN);
        assert_eq!(reports.take(now + DEBOUNCE), None);
        assert_eq!(reports.take(now + DEBOUNCE + AGAIN).unwrap().1.since, now);
    }
}
