//! The first admin key: configured by the operator, or minted once in the life of a store.

use super::{
    CONFIGURED_ID, ENTRY_PREFIX, PARTITION, Record, Scope, TOKEN_PREFIX, digest, entry_key, id_of, mint,
    plausible, set,
};
use tollgate_store::commit::{Commit, Condition, Idempotence, Mutation, Outcome, StoreError, literal};
use tollgate_store::ports::Store;

/// The entry that says that this store has had an admin key. Every way to the first admin key writes it.
const MARKER: &str = "key-bootstrap";
/// How often a commit whose outcome is not known is repeated.
const ATTEMPTS: usize = 3;
/// How long a repetition of the first commit is recognised, milliseconds.
const REPEAT_TTL_MS: u64 = 3_600_000;

/// Why an admin key could not be installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminKeyError {
    /// It is too short, too long, or has characters that a Bearer token cannot have.
    #[error("an admin key is 16 to 256 visible ASCII characters; tg_… only if Tollgate made it")]
    Malformed,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The commit that makes `key` the configured admin key, in place of the one before. Repeating it changes
/// nothing but the time of creation. `now` is Unix milliseconds.
pub fn admin_commit(key: &str, now: u64) -> Result<Commit, AdminKeyError> {
    if !plausible(key) || (key.starts_with(TOKEN_PREFIX) && id_of(key).is_none()) {
        return Err(AdminKeyError::Malformed);
    }
    let record = Record {
        name: "configured admin key".to_owned(),
        scopes: vec![Scope::Admin],
        sha256: digest(key),
        created_at: now,
        expires_at: None,
        previous: None,
    };
    Ok(Commit {
        partition: PARTITION.to_owned(),
        mutations: vec![set(CONFIGURED_ID, &record), marker()],
        ..Commit::default()
    })
}

/// Makes `key` the configured admin key; writes only when it is not that already.
pub async fn install_admin<S: Store>(store: &S, key: &str, now: u64) -> Result<(), AdminKeyError> {
    let commit = admin_commit(key, now)?;
    let entries = store.get(PARTITION, &[entry_key(CONFIGURED_ID)]).await?;
    let known = entries.into_iter().flatten().next();
    // One that is damaged is written anew: so an operator mends it.
    let known = known.and_then(|entry| serde_json::from_slice::<Record>(&entry.value).ok());
    if known.is_some_and(|record| record.sha256 == digest(key)) {
        return Ok(());
    }
    store.commit(commit).await?;
    Ok(())
}

/// Whether the store ever had an admin key.
///
/// # Errors
/// The store could not be read.
pub async fn has_admin<S: Store>(store: &S) -> Result<bool, StoreError> {
    let marked = store.get(PARTITION, &[MARKER.to_owned()]).await?;
    Ok(marked.iter().any(Option::is_some))
}

/// The first admin key of a store, which is not installed yet.
pub struct FirstKey {
    text: String,
    commit: Commit,
}

impl FirstKey {
    /// Mints one for a store that never had an admin key; `None`: there was one before.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn mint<S: Store>(
        store: &S,
        now: u64,
        fresh: &dyn Fn() -> [u8; 16],
    ) -> Result<Option<Self>, StoreError> {
        if has_admin(store).await? {
            return Ok(None);
        }
        let (text, mut commit) = mint("first admin key", &[Scope::Admin], None, now, fresh);
        commit.conditions.insert(0, Condition::Absent(MARKER.to_owned()));
        commit.mutations.push(marker());
        // The marker makes this the only chance to learn the key: when the answer is lost, ask again under the
        // same id.
        let id = commit
            .mutations
            .first()
            .map(|m| m.key().replace(ENTRY_PREFIX, "bootstrap/"))
            .unwrap_or_default();
        commit.idempotence = Some(Idempotence {
            id,
            fingerprint: digest(&text).into_bytes(),
            answer: Vec::new(),
            ttl: REPEAT_TTL_MS,
        });
        Ok(Some(Self { text, commit }))
    }

    /// Its text: to be kept before it is installed, since only its hash is stored.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Makes it known to the store. `false`: another gateway was first, and this key opens nothing.
    ///
    /// # Errors
    /// The store did not take it; with [`StoreError::Unknown`], it may have.
    pub async fn install<S: Store>(&self, store: &S) -> Result<bool, StoreError> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match store.commit(self.commit.clone()).await {
                Ok(Outcome::Committed(_) | Outcome::Replayed(_)) => return Ok(true),
                Ok(Outcome::Refused(_) | Outcome::Conflict) => return Ok(false),
                Err(StoreError::Unknown(_)) if attempts > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn marker() -> Mutation {
    Mutation::Set {
        key: MARKER.to_owned(),
        value: literal("1"),
        expires: None,
    }
}
