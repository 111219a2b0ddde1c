//! hyper's executor on a worker: tasks stay on the thread that made them.

use std::future::Future;

/// Spawns on the current `LocalSet`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        // hyper gives its HTTP/2 tasks away; they end with their connection.
        tokio::task::spawn_local(async move {
            let _ = future.await;
        });
    }
}
