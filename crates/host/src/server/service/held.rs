//! What quotas that count by outcome have counted a request for until its answer is known. It ends before the answer is sent: so a client that was
//! answered is counted, and one that asks again finds what it has left.

use super::Answer;
use crate::server::Shared;
use std::sync::Arc;
use tollgate_rules::heads;
use tollgate_rules::quotas;

/// A reservation. Where it is dropped, there is no answer, and everything is given back.
pub(super) struct Reserved {
    shared: Arc<Shared>,
    /// `None` once it has ended.
    key: Option<String>,
}

impl Reserved {
    /// The one among packed headers, if there is one.
    pub(super) fn among(shared: &Arc<Shared>, packed: &[u8]) -> Option<Self> {
        let found = heads::pairs(packed).find(|(name, _)| *name == quotas::HELD.as_bytes());
        Self::of(shared, found.map(|(_, value)| value)?)
    }

    fn of(shared: &Arc<Shared>, key: &[u8]) -> Option<Self> {
        let key = String::from_utf8(key.to_vec()).ok()?;
        Some(Self::new(shared, key))
    }

    pub(super) fn new(shared: &Arc<Shared>, key: String) -> Self {
        Self {
            shared: Arc::clone(shared),
            key: Some(key),
        }
    }

    /// Takes its header out of an answer, and ends it with the answer's status. Where its caller goes meanwhile, it ends all the same.
    pub(super) async fn end(shared: &Arc<Shared>, reserved: Option<Self>, answer: &mut Answer) {
        let named = answer.headers_mut().remove(quotas::HELD);
        let named = || Self::of(shared, named.as_ref()?.as_bytes());
        if let Some(mut reserved) = reserved.or_else(named) {
            let status = answer.status().as_u16();
            if let Some(ending) = reserved.begin_to_end(Some(status)) {
                let _ = ending.await;
            }
        }
    }

    /// On the thread's own runtime, if it still has one.
    fn begin_to_end(&mut self, status: Option<u16>) -> Option<tokio::task::JoinHandle<()>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let (key, shared) = (self.key.take()?, Arc::clone(&self.shared));
        Some(runtime.spawn(async move {
            if let Err(error) = quotas::settle(&shared.engines.store, &key, status).await {
                tracing::debug!(%error, "what a quota has reserved ends by itself");
            }
        }))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        drop(self.begin_to_end(None));
    }
}
