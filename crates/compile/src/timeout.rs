//! Durations of rules (VS48, TR02): absent or zero is "no bound".

use std::time::Duration;

use crate::notes::Notes;

/// Reads a duration; what cannot be read is reported and counts as absent.
pub(crate) fn lower(
    written: Option<&api::Duration>,
    field: impl FnOnce() -> String,
    notes: &mut Notes,
) -> Option<Duration> {
    let written = written?;
    match written.get() {
        Some(duration) => (!duration.is_zero()).then_some(duration),
        None => {
            notes.ignored(field(), format!("{:?} is not a duration such as 1s or 100ms", written.0));
            None
        }
    }
}
