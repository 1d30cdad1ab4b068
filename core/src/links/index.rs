//! Which links an owner has. The index lives in the partition `owner/<owner>`, the links in partitions of their own, so
//! one commit cannot change both. The order makes that harmless: entries are written BEFORE their link and removed
//! after it, so that no link is ever missing from the index; an entry whose link is not there, or is another one, is
//! skipped by every reader.
//!
//! `owner/<owner>/t/<inverted time><code>` lists links newest first. `owner/<owner>/u/<hash of the url>` holds the code
//! of the link with that URL, for `ifExists: "return"`; it is also a reservation: whoever asks for the same URL at the
//! same time reads the same code, and the commit of the link itself decides who creates it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::record::Link;
use super::unreadable;
use crate::codes;
use crate::commit::{Commit, Condition, Mutation, Outcome, StoreError, key_part, literal};
use crate::ports::Store;

/// Hexadecimal digits of a time, which has 48 bits.
const TIME_DIGITS: usize = 12;
const LAST_TIME: u64 = (1 << 48) - 1;

/// The code that an owner's URL has, and the version of that entry.
pub(super) struct Known {
    pub(super) code: String,
    pub(super) version: u64,
}

/// What must hold of the URL's entry for it to be written.
pub(super) enum Unless<'a> {
    /// Nothing: the newest link wins.
    Never,
    /// It is still as it was read.
    Changed(Option<&'a Known>),
}

fn partition(owner: &str) -> String {
    format!("owner/{}", key_part(owner))
}

/// What the listing of an owner begins with.
pub(super) fn prefix(owner: &str) -> String {
    format!("{}/t/", partition(owner))
}

fn listing_key(owner: &str, created_at: u64, code: &str) -> String {
    let inverted = LAST_TIME - created_at.min(LAST_TIME);
    format!("{}{inverted:0TIME_DIGITS$x}{code}", prefix(owner))
}

fn url_key(owner: &str, url: &str) -> String {
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(url.as_bytes()));
    format!("{}/u/{hash}", partition(owner))
}

/// The code in a key of a listing.
pub(super) fn listed_code<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    key.strip_prefix(prefix)?
        .get(TIME_DIGITS..)
        .filter(|code| codes::is_code(code))
}

/// Whether a key of a listing is that link's own, not left over from another one of the same code.
pub(super) fn is_entry_of(key: &str, owner: &str, link: &Link) -> bool {
    link.record.owner == owner && listing_key(owner, link.record.created_at, &link.code) == key
}

/// The code that the owner's link to `url` has or is about to have.
pub(super) async fn find<S: Store>(store: &S, owner: &str, url: &str) -> Result<Option<Known>, StoreError> {
    let entries = store.get(&partition(owner), &[url_key(owner, url)]).await?;
    let Some(entry) = entries.into_iter().next().flatten() else {
        return Ok(None);
    };
    let code = String::from_utf8(entry.value)
        .ok()
        .filter(|code| codes::is_code(code));
    let code = code.ok_or_else(|| unreadable("index of links"))?;
    Ok(Some(Known {
        code,
        version: entry.version,
    }))
}

/// Enters a link that is about to be created. False if the URL's entry has changed.
pub(super) async fn enter<S: Store>(
    store: &S,
    (owner, url): (&str, &str),
    (created_at, code): (u64, &str),
    unless: Unless<'_>,
) -> Result<bool, StoreError> {
    let key = url_key(owner, url);
    let conditions = match unless {
        Unless::Never => Vec::new(),
        Unless::Changed(None) => vec![Condition::Absent(key.clone())],
        Unless::Changed(Some(known)) => vec![Condition::Version {
            key: key.clone(),
            version: known.version,
        }],
    };
    let listing = listing_key(owner, created_at, code);
    let mutations = vec![
        Mutation::Set {
            key: listing,
            value: literal(Vec::new()),
            expires: None,
        },
        Mutation::Set {
            key,
            value: literal(code),
            expires: None,
        },
    ];
    let commit = Commit {
        partition: partition(owner),
        conditions,
        mutations,
        ..Commit::default()
    };
    Ok(matches!(store.commit(commit).await?, Outcome::Committed(_)))
}

/// Points an owner's new URL of a link at its code.
pub(super) async fn point<S: Store>(store: &S, owner: &str, url: &str, code: &str) -> Result<(), StoreError> {
    let set = Mutation::Set {
        key: url_key(owner, url),
        value: literal(code),
        expires: None,
    };
    let commit = Commit {
        partition: partition(owner),
        mutations: vec![set],
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}

/// Removes the listing of a link that did not come to be. What is left behind is skipped by every reader, so nobody
/// waits for it.
pub(super) fn withdraw<S: Store>(store: &S, owner: &str, created_at: u64, code: &str) {
    let mutations = vec![Mutation::Delete {
        key: listing_key(owner, created_at, code),
    }];
    store.submit(Commit {
        partition: partition(owner),
        mutations,
        ..Commit::default()
    });
}

/// Removes the entries of a link that was deleted: its listing, and its URL if that still leads to it.
pub(super) async fn leave<S: Store>(store: &S, link: &Link) -> Result<(), StoreError> {
    let (owner, url) = (&link.record.owner, &link.record.url);
    if let Some(known) = find(store, owner, url).await?
        && known.code == link.code
    {
        let key = url_key(owner, url);
        let commit = Commit {
            partition: partition(owner),
            conditions: vec![Condition::Version {
                key: key.clone(),
                version: known.version,
            }],
            mutations: vec![Mutation::Delete { key }],
            ..Commit::default()
        };
        // Refused: the URL has found another link meanwhile.
        store.commit(commit).await?;
    }
    withdraw(store, owner, link.record.created_at, &link.code);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::MAX_KEY_BYTES;

    #[test]
    fn newer_links_come_first_and_owners_do_not_mix() {
        let key = |owner, time, code| listing_key(owner, time, code);
        assert!(key("key:a", 2_000, "zzz") < key("key:a", 1_999, "aaa"));
        assert!(!key("key:a/b", 1, "abc").starts_with(&prefix("key:a")));
        assert!(!key("key:ab", 1, "abc").starts_with(&prefix("key:a")));
        assert_eq!(
            listed_code(&key("key:a", 1, "abc"), &prefix("key:a")),
            Some("abc")
        );
    }

    #[test]
    fn the_longest_owner_and_code_fit_into_a_key() {
        let owner = format!("client:{}", "/".repeat(crate::identity::MAX_ID_CHARS));
        assert!(listing_key(&owner, 0, &"c".repeat(codes::MAX_CUSTOM)).len() <= MAX_KEY_BYTES);
        assert!(url_key(&owner, "https://example.com").len() <= MAX_KEY_BYTES);
    }
}
