//! Tasks that stay on the thread that began them.

use std::future::Future;

/// Runs what hyper spawns (HTTP/2) on this thread, within its `LocalSet`.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}
