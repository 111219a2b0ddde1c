//! Large pushes wait for their turn.
//!
//! In: how many bytes a stream is about to be sent. Out: a permit, in order of arrival; nobody is refused. When a control
//! plane comes back, hundreds of clients do so at once: served a few at a time each is soon complete, served all at once
//! all are late. Small pushes never wait. A permit ends after a while, so one stuck client does not hold the others up.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{ADMISSION_BYTES_MAX, ADMISSION_BYTES_MIN};

/// The bytes that may be under way, counted in KiB.
#[derive(Clone, Debug)]
pub(super) struct Admission(Arc<Semaphore>);

impl Default for Admission {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ADMISSION_BYTES_MAX >> 10)))
    }
}

impl Admission {
    /// True if a push must ask.
    pub(super) fn is_large(bytes: usize) -> bool {
        bytes >= ADMISSION_BYTES_MIN
    }

    /// The turn of a push; one larger than the whole bound takes all of it. None if the semaphore were closed, which
    /// nobody does; then the push goes as if admitted.
    pub(super) async fn admit(self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.min(ADMISSION_BYTES_MAX) >> 10).unwrap_or(u32::MAX);
        self.0.acquire_many_owned(kib).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn who_comes_first_goes_first_and_nobody_is_refused() {
        let admission = Admission::default();
        let whole = admission.clone().admit(usize::MAX).await;
        let (second, third) = (admission.clone().admit(1 << 20), admission.clone().admit(2 << 20));
        tokio::pin!(second, third);
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(whole);
        let permit = second.await;
        assert!(permit.is_some() && third.await.is_some());
    }
}
