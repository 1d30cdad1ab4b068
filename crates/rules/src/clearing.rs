//! What is left of subscriptions and groups that were removed. Its removal is noted with theirs, in one commit, and done in
//! bounded steps: by the call that removed them as far as it gets, then by later ones.

use tollgate_store::commit::{Commit, Item, MAX_STEPS, Mutation, StoreError};
use tollgate_store::ports::Store;

/// Notes that one call looks at.
const MAX_CLEARED: u32 = 16;
/// Commits that one call makes for them; the next one goes on.
const MAX_PURGES: usize = 100;

/// What a note says is to be cleared.
pub(crate) struct Remains {
    /// The partition of the note.
    pub(crate) noted_in: String,
    /// The partition that is cleared.
    pub(crate) partition: String,
    /// Begins the keys that go.
    pub(crate) prefix: String,
    /// The key that goes with each commit, the first one too.
    pub(crate) first: Option<String>,
}

/// Clears what the notes whose keys begin with `notes` say, and then the notes.
///
/// # Errors
/// Those of the store; what was done stays done.
pub(crate) async fn clear_removed<S: Store>(
    store: &S,
    notes: &str,
    of: impl Fn(&Item) -> Remains,
) -> Result<(), StoreError> {
    let mut left = MAX_PURGES;
    for note in store.scan(notes, None, MAX_CLEARED).await? {
        let remains = of(&note);
        if !clear(store, &remains, &mut left).await? {
            return Ok(());
        }
        let forget = Commit {
            partition: remains.noted_in,
            mutations: vec![Mutation::Delete { key: note.key }],
            ..Commit::default()
        };
        store.commit(forget).await?;
    }
    Ok(())
}

/// `false` if there is more than `left` commits clear.
async fn clear<S: Store>(store: &S, remains: &Remains, left: &mut usize) -> Result<bool, StoreError> {
    let Remains { prefix, first, .. } = remains;
    while *left > 0 {
        *left -= 1;
        let limit = u32::try_from(MAX_STEPS - 1).unwrap_or(1);
        let page = store.scan(prefix, None, limit).await?;
        if page.is_empty() {
            return Ok(true);
        }
        let others = page
            .into_iter()
            .map(|item| item.key)
            .filter(|key| first.as_ref() != Some(key));
        let keys = first.iter().cloned().chain(others);
        let mutations = keys.map(|key| Mutation::Delete { key }).collect();
        store
            .commit(Commit {
                partition: remains.partition.clone(),
                mutations,
                ..Commit::default()
            })
            .await?;
    }
    Ok(false)
}
