//! The record of a link, its view in answers, and its state.

mod state;
mod target;
mod view;

pub use state::{Facts, Limits, State, state};
pub(super) use target::Target;
pub(super) use view::{View, short_url};

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::password::Password;
use super::routing::{Rule, Weighted};
use super::stats;
use super::utm::Utm;
use crate::codes;
use crate::config::Config;
use crate::settings::Settings;
use tollgate_store::commit::{Entry, StoreError};
use tollgate_store::ports::Store;
use tollgate_store::stored;

/// How often a change is tried again when the link changed under it, before the caller is told to.
pub(super) const MAX_RACES: usize = 8;

/// The entry of a link, which is also the partition of everything about it.
pub(super) fn link_key(code: &str) -> String {
    ["link/", code].concat()
}

/// The counter of a link's visits, and when it was visited last (Unix milliseconds in decimal). `id`: the
/// link's, if its counters are under it; those of a link that an earlier version made are under its code
/// alone. So a click that arrives late for a deleted link never counts for the next link with its code.
pub(super) fn counter_keys(code: &str, id: Option<&str>) -> [String; 2] {
    let key = |kind: &str| match id {
        Some(id) => [kind, code, "/", id].concat(),
        None => [kind, code].concat(),
    };
    [key("visits/"), key("visited/")]
}

/// The entry `link/<code>`. Its fields are ordered by how soon the redirect needs them, and absent values are left
/// out: the entry is read on every redirect. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) url: String,
    pub(super) redirect: u16,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) limits: Limits,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) forward_query: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) fallback_url: Option<String>,
    /// See [`super::routing`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) rules: Vec<Rule>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) targets: Vec<Weighted>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) password: Option<Password>,
    /// Whether each visit is told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) events: bool,
    /// See [`super::utm`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) utm: Option<Utm>,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
    pub(super) id: String,
    pub(super) owner: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) title: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) tags: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) external_id: Option<String>,
    /// The SHA-256 of the manage token of an anonymous link, in base64url.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) manage: Option<String>,
    /// Whether its idle time is the one that links of strangers have, and not its maker's choice.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) idle_imposed: bool,
    /// Whether its counters are under its id; see [`counter_keys`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) by_id: bool,
    /// Under which time the sweep finds it; see [`super::sweep`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) due: Option<u64>,
    /// The code that its counters are under, if it has had another one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) counters: Option<String>,
    /// Seconds before its end by time at which that is told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) notify_before: Option<u64>,
    /// The end that was told, Unix milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) told_end: Option<u64>,
    /// Of what a former owner leaves behind: the link goes on, and so do its counters.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) goes_on: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Record {
    pub(super) fn of(entry: &Entry) -> Result<Self, StoreError> {
        stored::decode("link", entry)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has string keys only, so it serialises")
    }

    pub(super) fn counter_keys(&self, code: &str) -> [String; 2] {
        let code = self.counters.as_deref().unwrap_or(code);
        counter_keys(code, self.by_id.then_some(self.id.as_str()))
    }

    /// What it takes in memory, roughly, in bytes.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 512;
        let urls = self.rules.iter().map(|rule| &rule.url);
        let urls = urls.chain(self.targets.iter().map(|target| &target.url));
        let texts = urls
            .chain(&self.tags)
            .chain(&self.title)
            .chain(&self.fallback_url);
        FIXED
            + self.url.len()
            + self.utm.as_ref().map_or(0, Utm::weight)
            + texts.map(|text| FIXED / 8 + text.len()).sum::<usize>()
    }

    /// Whether this is the digest of its manage token; in constant time.
    pub(super) fn has_token(&self, digest: &str) -> bool {
        let stored = self.manage.as_deref();
        stored.is_some_and(|stored| bool::from(stored.as_bytes().ct_eq(digest.as_bytes())))
    }

    /// Whether a caller without a key made it.
    pub(super) fn is_anonymous(&self) -> bool {
        self.manage.is_some()
    }
}

/// The name of a link, as an entry has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(default)]
    by_id: bool,
    #[serde(borrow, default)]
    counters: Option<Cow<'a, str>>,
}

impl<'a> Named<'a> {
    pub(super) fn of(entry: &'a Entry) -> Result<Self, StoreError> {
        stored::decode("link", entry)
    }

    /// [`Record::counter_keys`].
    pub(super) fn counter_keys(&self, code: &str) -> [String; 2] {
        let code = self.counters.as_deref().unwrap_or(code);
        counter_keys(code, self.by_id.then_some(&*self.id))
    }
}

/// A link with its counters, as one read found them.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Its name: its code, on a domain behind its host ([`codes::name`]).
    pub(super) code: String,
    pub(super) record: Record,
    /// Of the entry `link/<code>`.
    pub(super) version: u64,
    pub(super) visits: u64,
    pub(super) visited_at: Option<u64>,
    /// Clients that made the visits, roughly.
    pub(super) unique_visitors: u64,
    /// Visits of machines, which are not among the others.
    pub(super) bots: u64,
}

impl Link {
    /// Reads a link and its counters.
    pub(super) async fn read<S: Store>(store: &S, code: &str) -> Result<Option<Self>, StoreError> {
        let partition = link_key(code);
        let found = store.get(&partition, std::slice::from_ref(&partition)).await?;
        match found.into_iter().next().flatten() {
            Some(entry) => Self::counted(store, code, entry).await,
            None => Ok(None),
        }
    }

    /// The link that a code means: under it as it is written, else, where case does not matter, in lower case. Links of a time when it
    /// mattered are found as they are written.
    pub(super) async fn found<S: Store>(
        store: &S,
        config: &Config,
        code: &str,
    ) -> Result<Option<Self>, StoreError> {
        match (Self::read(store, code).await?, codes::folded(config, code)) {
            (None, Cow::Owned(folded)) => Self::read(store, &folded).await,
            (found, _) => Ok(found),
        }
    }

    /// A link whose entry was read, with its counters, all of one moment; as it is by now, if it has changed meanwhile.
    pub(super) async fn counted<S: Store>(
        store: &S,
        code: &str,
        mut entry: Entry,
    ) -> Result<Option<Self>, StoreError> {
        for _ in 0..MAX_RACES {
            let partition = link_key(code);
            let mut record = Record::of(&entry)?;
            let [visits, visited] = record.counter_keys(code);
            let keys = [partition, visits, visited, stats::all_key(&record.id)];
            let mut found = store.get(&keys[0], &keys).await?.into_iter();
            let Some(Some(now)) = found.next() else {
                return Ok(None);
            };
            if now.version != entry.version {
                let changed = Record::of(&now)?;
                if (&changed.id, changed.by_id) != (&record.id, record.by_id) {
                    entry = now;
                    continue;
                }
                record = changed;
            }
            let (visits, visited_at) = counters(&mut found)?;
            let (unique_visitors, bots) = stats::told(found.next().flatten().as_ref());
            return Ok(Some(Self {
                unique_visitors,
                bots,
                code: code.to_owned(),
                record,
                version: now.version,
                visits,
                visited_at,
            }));
        }
        Err(StoreError::Unavailable(
            "the link is being replaced again and again".into(),
        ))
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            created_at: self.record.created_at,
            visits: self.visits,
            visited_at: self.visited_at,
        }
    }

    /// Names this version of its settings. Visits do not change it.
    pub(super) fn etag(&self) -> String {
        format!("\"{}.{}\"", self.record.id, self.version)
    }

    pub(super) fn state(&self, now: u64) -> State {
        state(&self.record.limits, &self.facts(), now)
    }

    /// As answers show it.
    pub(super) fn view<'a>(&'a self, settings: &Settings) -> View<'a> {
        let Record {
            url,
            redirect,
            limits,
            fallback_url,
            tags,
            title,
            external_id,
            owner,
            ..
        } = &self.record;
        View {
            id: &self.record.id,
            code: codes::parts(&self.code).1,
            domain: codes::parts(&self.code).0,
            short_url: short_url(settings, &self.code),
            url,
            redirect: *redirect,
            created_at: self.record.created_at,
            updated_at: self.record.updated_at,
            valid_from: limits.valid_from,
            expires_at: limits.expires_at,
            expire_after_idle: limits.expire_after_idle,
            last_visited_at: self.visited_at,
            visits: self.visits,
            unique_visitors: self.unique_visitors,
            bots: self.bots,
            max_visits: limits.max_visits,
            fallback_url: fallback_url.as_deref(),
            forward_query: self.record.forward_query,
            tags,
            title: title.as_deref(),
            external_id: external_id.as_deref(),
            owner,
            archived: limits.archived,
            has_password: self.record.password.is_some(),
            rules: &self.record.rules,
            targets: &self.record.targets,
            utm: self.record.utm.as_ref(),
            notify_before: self.record.notify_before,
            events: self.record.events,
        }
    }
}

/// The values of [`counter_keys`], in that order.
pub(super) fn counters(
    mut entries: impl Iterator<Item = Option<Entry>>,
) -> Result<(u64, Option<u64>), StoreError> {
    let (visits, visited_at) = (entries.next().flatten(), entries.next().flatten());
    let visited_at = visited_at.as_ref();
    let read = |entry| stored::count("last visit of a link", Some(entry));
    Ok((
        stored::count("number of visits", visits.as_ref())?,
        visited_at.map(read).transpose()?,
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000_000;

    fn facts(visits: u64, visited_at: Option<u64>) -> Facts {
        Facts {
            created_at: NOW - 10_000,
            visits,
            visited_at,
        }
    }

    #[test]
    fn times_are_a_half_open_window() {
        let limits = Limits {
            valid_from: Some(NOW),
            expires_at: Some(NOW + 5),
            ..Limits::default()
        };
        for (now, expected) in [
            (NOW - 1, State::NotYetValid),
            (NOW, State::Live),
            (NOW + 4, State::Live),
            (NOW + 5, State::Expired),
        ] {
            assert_eq!(state(&limits, &facts(0, None), now), expected);
        }
    }

    #[test]
    fn visits_up_to_the_most_are_live() {
        let limits = Limits {
            max_visits: Some(2),
            ..Limits::default()
        };
        assert_eq!(state(&limits, &facts(1, None), NOW), State::Live);
        assert_eq!(state(&limits, &facts(2, None), NOW), State::Exhausted);
    }

    #[test]
    fn idleness_counts_from_the_last_visit_or_the_first_chance_of_one() {
        let idle = Limits {
            expire_after_idle: Some(10),
            ..Limits::default()
        };
        assert_eq!(state(&idle, &facts(0, None), NOW - 1), State::Live);
        assert_eq!(state(&idle, &facts(0, None), NOW), State::Idle);
        assert_eq!(state(&idle, &facts(1, Some(NOW - 1)), NOW + 9_998), State::Live);
        assert_eq!(state(&idle, &facts(1, Some(NOW - 1)), NOW + 9_999), State::Idle);
        let later = Limits {
            valid_from: Some(NOW + 50_000),
            ..idle
        };
        assert_eq!(state(&later, &facts(0, None), NOW + 50_001), State::Live);
    }

    #[test]
    fn archived_hides_every_other_state() {
        let limits = Limits {
            archived: true,
            expires_at: Some(1),
            max_visits: Some(1),
            ..Limits::default()
        };
        assert_eq!(state(&limits, &facts(9, None), NOW), State::Archived);
    }

    proptest! {
        #[test]
        fn a_link_without_limits_is_live_at_all_times(created_at: u64, visits: u64, now: u64) {
            let facts = Facts { created_at, visits, visited_at: None };
            prop_assert_eq!(state(&Limits::default(), &facts, now), State::Live);
        }

        #[test]
        fn what_has_expired_stays_expired(at: u64, now: u64, later: u64) {
            let limits = Limits { expires_at: Some(at), ..Limits::default() };
            let facts = Facts::default();
            if state(&limits, &facts, now) == State::Expired {
                prop_assert_eq!(state(&limits, &facts, now.max(later)), State::Expired);
            }
        }
    }

    /// A link without anything special.
    pub(in super::super) fn record() -> Record {
        Record {
            url: "https://example.com/".into(),
            redirect: 302,
            limits: Limits::default(),
            forward_query: false,
            fallback_url: None,
            rules: Vec::new(),
            targets: Vec::new(),
            password: None,
            events: false,
            utm: None,
            created_at: NOW,
            updated_at: NOW,
            id: "x".into(),
            owner: "o".into(),
            title: None,
            tags: Vec::new(),
            external_id: None,
            manage: None,
            idle_imposed: false,
            by_id: true,
            due: None,
            counters: None,
            notify_before: None,
            told_end: None,
            goes_on: false,
        }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let limits = prop_oneof![
            Just(Limits::default()),
            (any::<Option<u64>>(), any::<bool>()).prop_map(|(expires_at, archived)| Limits {
                expires_at,
                archived,
                ..Limits::default()
            }),
        ];
        let urls = prop_oneof!["https://[a-z]{1,8}\\.example/[ -~é]{0,20}", ".*"];
        let rest = (
            any::<bool>(),
            proptest::option::of(".*"),
            any::<u64>(),
            proptest::option::of(".*"),
            any::<bool>(),
            proptest::option::of(".{1,9}"),
        );
        (urls, any::<u16>(), limits, rest).prop_map(|(url, redirect, limits, rest)| {
            let (forward_query, fallback_url, created_at, title, events, source) = rest;
            Record {
                url,
                redirect,
                limits,
                forward_query,
                fallback_url,
                events,
                utm: source
                    .map(|source| serde_json::from_value(serde_json::json!({ "source": source })).unwrap()),
                created_at,
                updated_at: created_at,
                title,
                ..record()
            }
        })
    }

    proptest! {
        #[test]
        fn a_target_read_at_a_glance_is_the_one_read_as_json(record in any_record()) {
            let value = record.to_bytes();
            let glance = Target::plain(&value);
            let mut whole: Target<'_> = serde_json::from_slice(&value).unwrap();
            whole.id = None;
            let plain = record.limits == Limits::default() && !record.forward_query && record.fallback_url.is_none() && !record.events && record.utm.is_none();
            if !plain {
                prop_assert_eq!(&glance, &None);
            }
            if let Some(glance) = glance {
                prop_assert_eq!(glance, whole);
            }
        }

        #[test]
        fn what_is_no_record_is_not_read_at_a_glance_otherwise_than_as_json(value in "\\{\"url\":\"[a-z\"\\\\]{0,4}\",\"redirect\":[0-9]{0,4},\"createdAt\":[0-9]{0,21},\"updatedAt\":1\\}") {
            if let Some(glance) = Target::plain(value.as_bytes()) {
                prop_assert_eq!(glance, serde_json::from_str(&value).unwrap());
            }
        }
    }

    #[test]
    fn a_link_that_is_only_a_url_is_read_at_a_glance() {
        let value = br#"{"url":"https://example.com/a","redirect":302,"createdAt":1,"updatedAt":1,"id":"x","owner":"o"}"#;
        assert!(Target::plain(value).is_some());
        for cut in 0..value.len() {
            let glance = Target::plain(&value[..cut]);
            assert!(glance.is_none() || cut > 60, "{cut}");
        }
    }

    #[test]
    fn a_link_of_an_earlier_version_is_read_as_one_without_what_came_since() {
        let value = br#"{"url":"https://example.com/a","redirect":301,"limits":{"maxVisits":3},"createdAt":1,"updatedAt":2,"id":"x","owner":"o","title":"T","tags":["a"],"byId":true,"due":9}"#;
        let entry = Entry {
            value: value.to_vec(),
            version: 1,
            expires: None,
        };
        let read = Record::of(&entry).unwrap();
        assert_eq!(read.to_bytes(), value, "and is written as it was");
        assert!(read.rules.is_empty() && read.targets.is_empty() && read.password.is_none());
        assert!(
            !read.events && read.utm.is_none() && read.notify_before.is_none() && read.counters.is_none()
        );
        let target = Target::of(&entry).unwrap();
        assert!(target.has_one_url() && !target.events && target.utm.is_none());
        assert_eq!(
            Named::of(&entry).unwrap().counter_keys("abc"),
            read.counter_keys("abc")
        );
    }

    #[test]
    fn a_record_that_was_read_before_says_what_reading_it_says() {
        let entry = |n: u64, version| {
            let value = format!(
                r#"{{"url":"https://example.com/{n}","redirect":302,"limits":{{"maxVisits":{n}}},"createdAt":1,"updatedAt":2,"id":"x","owner":"o"}}"#
            );
            Entry {
                value: value.into_bytes(),
                version,
                expires: None,
            }
        };
        // Also of another store, whose versions are others.
        for (n, version) in [(1, 1), (1, 1), (2, 1), (1, 1), (3, 65), (1, 1)] {
            let entry = entry(n, version);
            let expected: Target<'_> = serde_json::from_slice(&entry.value).unwrap();
            for _ in 0..2 {
                assert_eq!(*Target::of(&entry).unwrap(), expected, "{n} {version}");
            }
            let damaged = Entry {
                value: entry.value[1..].to_vec(),
                ..entry
            };
            assert!(Target::of(&damaged).is_err());
        }
    }

    #[test]
    fn a_redirect_borrows_its_target_from_the_entry() {
        let value = br#"{"url":"https://example.com/a","redirect":302,"createdAt":1,"updatedAt":1,"id":"x","owner":"o"}"#;
        let entry = Entry {
            value: value.to_vec(),
            version: 1,
            expires: None,
        };
        let target = Target::of(&entry).unwrap();
        assert!(matches!(target.url, Cow::Borrowed("https://example.com/a")));
        assert!(target.limits.are_none() && !target.forward_query);
    }
}
