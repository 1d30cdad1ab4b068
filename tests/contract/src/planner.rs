//! A store against the planner, over commits that dice make up: whatever is committed, both decide alike, and leave the same behind. For
//! engines that read the rules of a commit in a language of their own.

use tollgate_store::commit::{
    Append, Commit, Condition, Idempotence, Mutation, Outcome, Part, StoreError, Template,
};
use tollgate_store::memory::InMemoryStore;
use tollgate_store::ports::Store;

use crate::StoreHarness;

const COMMITS: usize = 1_500;
/// Texts that have gone wrong somewhere: quotes of SQL, JSON and arrays, bounds of UTF-8.
const NAMES: [&str; 12] = [
    "a",
    "b",
    "c",
    "it's",
    "\"$.a[0]\"",
    "\\u0000",
    "{a,NULL}",
    "\u{1}",
    "ключ",
    "\u{10ffff}",
    "$judge$",
    "a\nb",
];
const VALUES: [&str; 12] = [
    "",
    "0",
    "-0",
    "7",
    "07",
    "+1",
    " 1",
    "9223372036854775807",
    "9223372036854775808",
    "1e3",
    "-9223372036854775808",
    "\\x00",
];
const NUMBERS: [i64; 9] = [0, 1, -1, 2, 9, i64::MAX, i64::MIN, i64::MAX - 1, (1 << 53) + 1];

/// A generator of numbers: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn name(&mut self) -> String {
        // Mostly a few that meet again.
        let most = if self.below(3) == 0 { NAMES.len() } else { 4 };
        NAMES[self.below(most)].to_owned()
    }

    fn template(&mut self, mutations: &[Mutation], appends: usize) -> Template {
        let adds: Vec<u32> = (0u32..)
            .zip(mutations)
            .filter_map(|(n, one)| matches!(one, Mutation::Add { .. }).then_some(n))
            .collect();
        let count = self.below(4);
        (0..count)
            .map(|_| match self.below(5) {
                0 if !adds.is_empty() => Part::Sum(self.of(&adds)),
                1 if appends > 0 => Part::Sequence(self.below(appends) as u32),
                2 => Part::Time,
                3 => Part::Bytes(vec![0, 255, b'\\', b'\'']),
                _ => Part::Bytes(self.of(&VALUES).into()),
            })
            .collect()
    }

    fn commit(&mut self, now: u64) -> Commit {
        let mut keys: Vec<String> = (0..self.below(5)).map(|_| self.name()).collect();
        keys.sort_unstable();
        keys.dedup();
        let bound = |dice: &mut Self| (dice.below(3) == 0).then(|| dice.of(&NUMBERS));
        let mut mutations: Vec<Mutation> = Vec::new();
        for key in keys {
            mutations.push(match self.below(6) {
                0 => Mutation::Delete { key },
                1..=2 => Mutation::Set {
                    key,
                    value: Template::new(),
                    expires: None,
                },
                _ => Mutation::Add {
                    key,
                    delta: self.of(&NUMBERS),
                    min: bound(self),
                    max: bound(self),
                },
            });
        }
        let count = self.below(4);
        let all = mutations.clone();
        for mutation in &mut mutations {
            if let Mutation::Set { value, expires, .. } = mutation {
                *value = self.template(&all, count);
                *expires = (self.below(4) == 0).then(|| now + self.below(200) as u64);
            }
        }
        let appends: Vec<Append> = (0..count)
            .map(|_| Append {
                topic: self.name(),
                id: format!("m{}", self.below(1_000)),
                key: self.of(&VALUES).to_owned(),
                kind: self.name(),
                content_type: String::new(),
                attributes: self.of(&VALUES).into(),
                payload: self.template(&all, count),
            })
            .collect();
        let conditions = (0..self.below(3))
            .map(|_| match self.below(5) {
                0 => Condition::NowIn {
                    start: (self.below(2) == 0).then(|| now + self.below(3) as u64 - 1),
                    end: (self.below(2) == 0).then(|| now + self.below(40) as u64),
                },
                1 => Condition::TopicBelow {
                    topic: self.name(),
                    bytes: self.below(40_000) as u64,
                },
                // Of the store, or a wrong one: see `fitted`.
                2 => Condition::Version {
                    key: self.name(),
                    version: self.below(2) as u64,
                },
                _ => Condition::Absent(self.name()),
            })
            .collect();
        let idempotence = (self.below(3) == 0).then(|| Idempotence {
            id: self.name(),
            fingerprint: vec![self.below(2) as u8],
            answer: self.template(&all, count),
            ttl: [0, 50, 1_000, u64::MAX][self.below(4)],
        });
        Commit {
            partition: "of all".into(),
            idempotence,
            conditions,
            mutations,
            appends,
        }
    }
}

/// With the versions that this store has: they are numbered differently.
async fn fitted(store: &impl Store, mut commit: Commit) -> Commit {
    for condition in &mut commit.conditions {
        if let Condition::Version {
            key,
            version: wanted @ 1,
        } = condition
        {
            let found = store
                .get("of all", std::slice::from_ref(key))
                .await
                .unwrap()
                .remove(0);
            *wanted = found.map_or(7, |entry| entry.version);
        }
    }
    commit
}

/// What does not depend on how a store numbers its versions.
fn seen(outcome: Result<Outcome, StoreError>) -> String {
    match outcome {
        Ok(Outcome::Committed(done)) => format!("{:?} {:?} {}", done.sums, done.sequences, done.time),
        Err(StoreError::Invalid(_)) => "invalid".into(),
        other => format!("{other:?}"),
    }
}

async fn left(store: &impl Store) -> String {
    let entries = store.scan("", None, 1_000).await.unwrap().into_iter();
    let entries: Vec<_> = entries
        .map(|item| (item.key, item.entry.value, item.entry.expires))
        .collect();
    let topics = store.topics(None, 1_000).await.unwrap();
    let mut messages = Vec::new();
    for topic in &topics {
        messages.extend(
            store
                .read(&topic.name, topic.last.saturating_sub(20), 1_000, 0)
                .await
                .unwrap(),
        );
    }
    format!("{entries:?}\n{topics:?}\n{messages:?}")
}

/// A fresh store of the harness, whose clock stands still but for its `pass`, decides as the planner does.
pub async fn decides_as_the_planner_does(harness: &impl StoreHarness) {
    let store = harness.fresh().await;
    let Ok(Outcome::Committed(first)) = store.commit(Commit::default()).await else {
        panic!("an empty commit is carried out")
    };
    let (mut now, model) = (first.time, InMemoryStore::bounded(first.time, u64::MAX));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut committed, mut refused, mut invalid, mut replayed) = (0, 0, 0, 0);
    for step in 0..COMMITS {
        let commit = dice.commit(now);
        let wanted = model.commit(fitted(&model, commit.clone()).await).await;
        match &wanted {
            Ok(Outcome::Committed(_)) => committed += 1,
            Ok(Outcome::Refused(_)) => refused += 1,
            Ok(_) => replayed += 1,
            Err(_) => invalid += 1,
        }
        let found = store.commit(fitted(&store, commit.clone()).await).await;
        assert_eq!(seen(found), seen(wanted), "step {step}: {commit:#?}");
        if step % 50 == 0 {
            assert_eq!(
                left(&store).await,
                left(&model).await,
                "after step {step}: {commit:#?}"
            );
        }
        if dice.below(10) == 0 {
            let ms = dice.below(60) as u64;
            now += ms;
            harness.pass(&store, ms).await;
            model.set_now(now);
        }
    }
    assert_eq!(left(&store).await, left(&model).await);
    // All kinds were met, each many times.
    assert!(
        committed.min(refused).min(invalid).min(replayed) > 50,
        "{committed} {refused} {invalid} {replayed}"
    );
}
