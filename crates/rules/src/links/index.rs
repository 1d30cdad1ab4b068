//! The index of links by owner. The index lives in the partition `owner/<owner>`, the links in partitions of
//! their own, so one commit cannot change both. The order makes that harmless: entries are written BEFORE
//! their link and removed after it, so that no link is ever missing from the index. Every reader skips an
//! entry whose link is not there, or is another one. Each entry names the link's id. So a request that takes
//! back an entry takes back its own, never that of another request for the same code in the same millisecond.
//!
//! `owner/<owner>/t/<inverted time><code>/<id>` lists links newest first (without the id where an earlier
//! version wrote it). `owner/<owner>/u/<hash of the url>/<inverted time><id>` holds the code of a link with
//! that URL, newest first, for `ifExists: "return"`; the host of a URL in lower case, as it is compared.
//! `owner/<owner>/x/<hash of the externalId>/<inverted time><id>` holds the code of a link with that `externalId`, newest first; links that an
//! earlier version made are there once they were changed. `owner/<owner>/u/<hash of the url>` is the reservation
//! of the last request with `ifExists: "return"`. Requests for the same URL at the same time read the same
//! code there, and the commit of the link itself decides which of them creates it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::record::{Link, Record};
use crate::codes;
use crate::target::comparable;
use tollgate_store::commit::{Commit, Condition, Mutation, Outcome, StoreError, key_part, literal};
use tollgate_store::ports::Store;
use tollgate_store::stored::damaged;

/// Hexadecimal digits of a time, which has 48 bits.
const TIME_DIGITS: usize = 12;
const LAST_TIME: u64 = (1 << 48) - 1;
/// How long a reservation lasts, in milliseconds: longer than any request.
const RESERVED_MS: u64 = 3_600_000;
/// The most links with one URL that are looked at for `ifExists: "return"`, newest first.
const MAX_CANDIDATES: u32 = 32;

/// Entries of one millisecond that are read at once, and how often: a call makes up to 1,000 links in one.
const MOMENT_PAGE: u32 = 1_000;
const MAX_MOMENT_PAGES: usize = 8;

/// The reservation of an owner's URL.
pub(super) struct Reserved {
    /// The code that the last request was about to create. Where an earlier version wrote it: the newest
    /// link's code.
    pub(super) code: Option<String>,
    version: u64,
    /// The id of the link that it was made for, if that is known.
    id: Option<String>,
}

/// The change to the URL's reservation.
pub(super) enum Reserve<'a> {
    /// A link is created in any case: a request that holds a reservation at this moment must look again.
    Disturb,
    /// It is taken over, if it is still as it was read.
    If(Option<&'a Reserved>),
}

fn partition(owner: &str) -> String {
    format!("owner/{}", key_part(owner))
}

/// The prefix of an owner's listing.
pub(super) fn prefix(owner: &str) -> String {
    format!("{}/t/", partition(owner))
}

fn inverted(time: u64) -> String {
    format!("{:0TIME_DIGITS$x}", LAST_TIME - time.min(LAST_TIME))
}

fn listing_key(record: &Record, code: &str) -> String {
    format!("{}/{}", old_listing_key(record, code), record.id)
}

/// As earlier versions wrote it.
fn old_listing_key(record: &Record, code: &str) -> String {
    format!("{}{}{code}", prefix(&record.owner), inverted(record.created_at))
}

fn hashed_key(owner: &str, kind: char, text: &str) -> String {
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()));
    format!("{}/{kind}/{hash}", partition(owner))
}

fn url_key(owner: &str, url: &str) -> String {
    hashed_key(owner, 'u', &comparable(url))
}

fn url_entry_key(record: &Record) -> String {
    let Record {
        owner,
        url,
        created_at,
        id,
        ..
    } = record;
    format!("{}/{}{id}", url_key(owner, url), inverted(*created_at))
}

fn external_entry_key(record: &Record) -> Option<String> {
    let name = record.external_id.as_deref()?;
    let key = hashed_key(&record.owner, 'x', name);
    Some(format!("{key}/{}{}", inverted(record.created_at), record.id))
}

/// The keys under which a link is found by what its owner may change.
fn changing_keys(record: &Record) -> Vec<String> {
    std::iter::once(url_entry_key(record))
        .chain(external_entry_key(record))
        .collect()
}

/// The code in a key of a listing.
pub(super) fn listed_code<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    let named = key.strip_prefix(prefix)?.get(TIME_DIGITS..)?;
    let code = named.split_once('/').map_or(named, |(code, _)| code);
    Some(code).filter(|code| codes::is_name(code))
}

/// Whether a key of a listing is that link's own, not left over from another one of the same code.
pub(super) fn is_entry_of(key: &str, owner: &str, link: &Link) -> bool {
    let Link { record, code, .. } = link;
    record.owner == owner && (listing_key(record, code) == key || old_listing_key(record, code) == key)
}

/// The code of the owner's link with this id: an id says when its link was made, and so where its entry is. A renamed link has its entry
/// under its new code.
pub(super) async fn code_of<S: Store>(
    store: &S,
    owner: &str,
    id: &str,
) -> Result<Option<String>, StoreError> {
    let Some(made) = codes::time_of(id) else {
        return Ok(None);
    };
    let (listing, moment) = (prefix(owner), format!("{}{}", prefix(owner), inverted(made)));
    let mut after: Option<String> = None;
    for _ in 0..MAX_MOMENT_PAGES {
        let items = store.scan(&moment, after.as_deref(), MOMENT_PAGE).await?;
        let is_its = |key: &str| key.rsplit_once('/').is_some_and(|(_, found)| found == id);
        if let Some(item) = items.iter().find(|item| is_its(&item.key)) {
            return Ok(listed_code(&item.key, &listing).map(str::to_owned));
        }
        match items.into_iter().next_back() {
            Some(last) => after = Some(last.key),
            None => break,
        }
    }
    Ok(None)
}

/// The reservation of the owner's URL.
pub(super) async fn reserved<S: Store>(
    store: &S,
    owner: &str,
    url: &str,
) -> Result<Option<Reserved>, StoreError> {
    let entries = store.get(&partition(owner), &[url_key(owner, url)]).await?;
    let Some(entry) = entries.into_iter().next().flatten() else {
        return Ok(None);
    };
    let text = String::from_utf8(entry.value).map_err(|_| damaged("index of links"))?;
    let (code, id) = match text.split_once('/') {
        Some((code, id)) => (code, Some(id.to_owned())),
        None => (&*text, None),
    };
    Ok(Some(Reserved {
        code: Some(code.to_owned()).filter(|code| codes::is_name(code)),
        version: entry.version,
        id,
    }))
}

/// The codes that links of the owner to `url` have, or had: newest first, at most [`MAX_CANDIDATES`].
pub(super) async fn candidates<S: Store>(
    store: &S,
    owner: &str,
    url: &str,
) -> Result<Vec<String>, StoreError> {
    let mut found = named(store, &url_key(owner, url)).await?;
    if comparable(url) != url {
        // As an earlier version wrote it.
        found.extend(named(store, &hashed_key(owner, 'u', url)).await?);
    }
    Ok(found)
}

/// The codes that links of the owner with this `externalId` have, or had: as [`candidates`].
pub(super) async fn with_external<S: Store>(
    store: &S,
    owner: &str,
    external_id: &str,
) -> Result<Vec<String>, StoreError> {
    named(store, &hashed_key(owner, 'x', external_id)).await
}

/// The codes in the entries below a key.
async fn named<S: Store>(store: &S, key: &str) -> Result<Vec<String>, StoreError> {
    let prefix = format!("{key}/");
    let items = store.scan(&prefix, None, MAX_CANDIDATES).await?;
    let codes = items.into_iter().map(|item| {
        let code = String::from_utf8(item.entry.value).ok();
        let code = code.filter(|code| codes::is_name(code));
        code.ok_or_else(|| damaged("index of links"))
    });
    codes.collect()
}

fn set(key: String, value: &str, expires: Option<u64>) -> Mutation {
    let value = literal(value);
    Mutation::Set { key, value, expires }
}

fn entries(record: &Record, code: &str) -> Vec<Mutation> {
    let listed = set(listing_key(record, code), "", None);
    let changing = changing_keys(record).into_iter().map(|key| set(key, code, None));
    std::iter::once(listed).chain(changing).collect()
}

/// The changes for a link under another code: as it was, and as it will be.
pub(super) fn renamed((before, from): (&Record, &str), (after, to): (&Record, &str)) -> Vec<Mutation> {
    let mut gone = vec![listing_key(before, from)];
    if !before.by_id {
        gone.push(old_listing_key(before, from));
    }
    gone.extend(no_longer(before, after));
    let gone = gone.into_iter().map(|key| Mutation::Delete { key });
    entries(after, to).into_iter().chain(gone).collect()
}

/// Enters a link that is about to be created. False if the URL's reservation has changed. `now`: Unix milliseconds.
pub(super) async fn enter<S: Store>(
    store: &S,
    record: &Record,
    code: &str,
    reserve: Reserve<'_>,
    now: u64,
) -> Result<bool, StoreError> {
    let key = url_key(&record.owner, &record.url);
    let (conditions, value) = match reserve {
        Reserve::Disturb => (Vec::new(), "-".to_owned()),
        Reserve::If(known) => {
            let condition = Condition::unchanged(key.clone(), known.map(|entry| entry.version));
            (vec![condition], format!("{code}/{}", record.id))
        }
    };
    let mut mutations = entries(record, code);
    mutations.push(set(key, &value, Some(now.saturating_add(RESERVED_MS))));
    let commit = Commit {
        partition: partition(&record.owner),
        conditions,
        mutations,
        ..Commit::default()
    };
    Ok(matches!(store.commit(commit).await?, Outcome::Committed(_)))
}

/// Enters a link under the URL and the `externalId` that it is about to have.
pub(super) async fn point<S: Store>(store: &S, record: &Record, code: &str) -> Result<(), StoreError> {
    let keys = changing_keys(record).into_iter();
    let commit = Commit {
        partition: partition(&record.owner),
        mutations: keys.map(|key| set(key, code, None)).collect(),
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}

/// The keys that a link had and does not have any more.
fn no_longer(before: &Record, after: &Record) -> Vec<String> {
    let kept = changing_keys(after);
    let mut gone = changing_keys(before);
    gone.retain(|key| !kept.contains(key));
    gone
}

/// Removes the entries under a URL and an `externalId` that the link no longer has. Nobody waits for it: what is left is skipped.
pub(super) fn unpoint<S: Store>(store: &S, before: &Record, after: &Record) {
    let gone = no_longer(before, after);
    if !gone.is_empty() {
        remove(store, &before.owner, gone);
    }
}

/// Removes the entries of a link that did not come to be. What is left behind is skipped by every reader, so nobody
/// waits for it.
pub(super) fn withdraw<S: Store>(store: &S, record: &Record, code: &str) {
    let mut keys = changing_keys(record);
    keys.push(listing_key(record, code));
    remove(store, &record.owner, keys);
}

fn remove<S: Store>(store: &S, owner: &str, keys: Vec<String>) {
    store.defer(Commit {
        partition: partition(owner),
        mutations: keys.into_iter().map(|key| Mutation::Delete { key }).collect(),
        ..Commit::default()
    });
}

/// Removes the entries of a link that was deleted, and the reservation of its URL if that was its own.
pub(super) async fn leave<S: Store>(store: &S, link: &Link) -> Result<(), StoreError> {
    let Link { record, code, .. } = link;
    let mut keys = changing_keys(record);
    keys.push(listing_key(record, code));
    if !record.by_id {
        // Only links of earlier versions are listed so, and no new one ever is.
        keys.push(old_listing_key(record, code));
    }
    let mutations = keys.into_iter().map(|key| Mutation::Delete { key }).collect();
    let commit = Commit {
        partition: partition(&record.owner),
        mutations,
        ..Commit::default()
    };
    store.commit(commit).await?;
    let Some(known) = reserved(store, &record.owner, &record.url).await? else {
        return Ok(());
    };
    let own = match &known.id {
        Some(id) => *id == record.id,
        None => known.code.as_ref() == Some(code) && !record.by_id,
    };
    if own {
        let key = url_key(&record.owner, &record.url);
        let commit = Commit {
            partition: partition(&record.owner),
            conditions: vec![Condition::Version {
                key: key.clone(),
                version: known.version,
            }],
            mutations: vec![Mutation::Delete { key }],
            ..Commit::default()
        };
        // Refused: somebody has reserved it meanwhile.
        store.commit(commit).await?;
    }
    Ok(())
}

/// Enters a link where an earlier version has not: into the listing if it is missing there, and under its URL.
pub(super) async fn mend<S: Store>(store: &S, record: &Record, code: &str) -> Result<(), StoreError> {
    let partition = partition(&record.owner);
    let keys = [
        listing_key(record, code),
        url_entry_key(record),
        old_listing_key(record, code),
    ];
    let found = store.get(&partition, &keys).await?;
    let there = |index: usize| found.get(index).is_some_and(Option::is_some);
    let mut mutations = entries(record, code);
    if there(1) {
        mutations.remove(1);
    }
    if there(0) || there(2) {
        mutations.remove(0);
    }
    if mutations.is_empty() {
        return Ok(());
    }
    let commit = Commit {
        partition,
        mutations,
        ..Commit::default()
    };
    store.commit(commit).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use tollgate_store::commit::MAX_KEY_BYTES;

    fn owned(owner: &str, created_at: u64) -> Record {
        Record {
            owner: owner.into(),
            created_at,
            id: codes::id(created_at, [7; 16]),
            ..record()
        }
    }

    #[test]
    fn newer_links_come_first_and_owners_do_not_mix() {
        let key = |owner, time, code| listing_key(&owned(owner, time), code);
        assert!(key("key:a", 2_000, "zzz") < key("key:a", 1_999, "aaa"));
        assert!(!key("key:a/b", 1, "abc").starts_with(&prefix("key:a")));
        assert!(!key("key:ab", 1, "abc").starts_with(&prefix("key:a")));
        let old = old_listing_key(&owned("key:a", 1), "abc");
        for key in [key("key:a", 1, "abc"), old] {
            assert_eq!(listed_code(&key, &prefix("key:a")), Some("abc"));
        }
    }

    #[test]
    fn the_longest_owner_and_code_fit_into_a_key() {
        let owner = format!("client:{}", "/".repeat(crate::identity::MAX_ID_CHARS));
        let record = owned(&owner, 0);
        assert!(listing_key(&record, &"c".repeat(codes::MAX_CUSTOM)).len() <= MAX_KEY_BYTES);
        assert!(url_entry_key(&record).len() <= MAX_KEY_BYTES);
    }
}
