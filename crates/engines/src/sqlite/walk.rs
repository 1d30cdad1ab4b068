//! Which topics a sweep looks at. Where there are few: all of them, each time. Where there are many: those that were appended to, or
//! of whose messages fewer are needed than before, each time; and all of them less often, for the age of their messages. So what many
//! topics cost that nobody uses is next to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, params};
use tollgate_store::retention::{Keeping, Retention};

/// Topics that one batch looks at for each reason.
const TOPICS: usize = 64;
/// How often all are looked at, where one batch does not have all.
const WALK_EVERY: Duration = Duration::from_secs(10);
/// Topics that wait for the next sweep; beyond that, they wait for the next walk.
const MAX_TOUCHED: usize = 1_024;

/// What the next batch looks at.
#[derive(Debug)]
pub struct Walk {
    touched: BTreeSet<String>,
    /// The topic after which the walk goes on; between walks none.
    after: Option<String>,
    /// When the last walk began.
    began: Instant,
    /// Whether it took more than one batch.
    is_long: bool,
}

impl Walk {
    /// One that begins with all topics.
    pub fn new(now: Instant) -> Self {
        Self {
            touched: BTreeSet::new(),
            after: Some(String::new()),
            began: now,
            is_long: false,
        }
    }

    /// The next batch looks at this topic, if it has room.
    pub fn touch(&mut self, topic: &str) {
        if self.touched.len() < MAX_TOUCHED && !self.touched.contains(topic) {
            self.touched.insert(topic.to_owned());
        }
    }

    /// All topics are looked at once more.
    pub fn begin(&mut self, now: Instant) {
        self.began = now;
        self.after = Some(String::new());
    }

    /// Whether the next batch need not wait.
    pub fn has_more(&self) -> bool {
        self.after.is_some() || !self.touched.is_empty()
    }

    /// The topics of the next batch with their bytes, each once.
    pub fn next(&mut self, connection: &Connection, now: Instant) -> rusqlite::Result<Vec<(String, i64)>> {
        let mut topics = Vec::new();
        let mut bytes = connection.prepare_cached("SELECT bytes FROM topics WHERE name = ?1")?;
        while topics.len() < TOPICS
            && let Some(topic) = self.touched.pop_first()
        {
            let found = bytes.query_row([&topic], |row| row.get(0)).optional()?;
            topics.extend(found.map(|bytes| (topic, bytes)));
        }
        if self.after.is_none() && (!self.is_long || now.duration_since(self.began) >= WALK_EVERY) {
            self.begin(now);
        }
        if let Some(after) = self.after.take() {
            let page = connection
                .prepare_cached("SELECT name, bytes FROM topics WHERE name > ?1 ORDER BY name LIMIT ?2")?
                .query_map(params![after, TOPICS as i64], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
            self.is_long = page.len() == TOPICS || !after.is_empty();
            if page.len() == TOPICS {
                self.after = page.last().map(|(name, _)| name.clone());
            }
            let known: BTreeSet<String> = topics.iter().map(|(name, _)| name.clone()).collect();
            topics.extend(page.into_iter().filter(|(name, _)| !known.contains(name)));
        }
        Ok(topics)
    }
}

/// What is kept, and what has changed about it since the last sweep.
#[derive(Debug, Default)]
pub struct Kept {
    keeping: Arc<Keeping>,
    /// Topics of which other messages are needed than before: at most those that have subscriptions.
    moved: BTreeSet<String>,
    /// Whether the retention is another.
    is_other: bool,
}

impl Kept {
    /// How long topics are kept: all, and those that are named.
    pub fn set_retention(
        &mut self,
        default: Retention,
        named: impl IntoIterator<Item = (String, Retention)>,
    ) {
        let keeping = Arc::make_mut(&mut self.keeping);
        keeping.default = Some(default);
        keeping.retention = named.into_iter().collect();
        self.is_other = true;
    }

    /// From which sequence on a topic's messages are needed.
    pub fn set_low_water(&mut self, topic: &str, sequence: u64) {
        let low_water = &mut Arc::make_mut(&mut self.keeping).low_water;
        if low_water.insert(topic.to_owned(), sequence) != Some(sequence) {
            self.moved.insert(topic.to_owned());
        }
    }

    /// What is kept, for a sweep of these topics, to which those are added that it has changed for.
    pub fn told(&mut self, walk: &mut Walk) -> Arc<Keeping> {
        if std::mem::take(&mut self.is_other) {
            walk.begin(Instant::now());
        }
        for topic in std::mem::take(&mut self.moved) {
            walk.touch(&topic);
        }
        Arc::clone(&self.keeping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topics: i64) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute("CREATE TABLE topics (name TEXT PRIMARY KEY, bytes INTEGER)", [])
            .unwrap();
        for n in 0..topics {
            connection
                .execute(
                    "INSERT INTO topics VALUES (?1, ?2)",
                    params![format!("t{n:03}"), n],
                )
                .unwrap();
        }
        connection
    }

    fn names(walk: &mut Walk, connection: &Connection, now: Instant) -> Vec<String> {
        let found = walk.next(connection, now).unwrap();
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn few_topics_are_looked_at_each_time_and_each_once() {
        let (connection, now) = (of(3), Instant::now());
        let mut walk = Walk::new(now);
        for _ in 0..3 {
            walk.touch("t001");
            walk.touch("gone");
            assert_eq!(names(&mut walk, &connection, now), ["t001", "t000", "t002"]);
            assert!(!walk.has_more());
        }
    }

    #[test]
    fn many_are_looked_at_when_they_are_touched_and_all_of_them_in_turn() {
        let (connection, began) = (of(200), Instant::now());
        let mut walk = Walk::new(began);
        for _ in 0..2 {
            let mut seen = Vec::new();
            while walk.has_more() {
                seen.extend(names(&mut walk, &connection, began));
            }
            assert_eq!(seen.len(), 200);
            assert!(seen.is_sorted());
            walk.begin(began);
        }
        while walk.has_more() {
            names(&mut walk, &connection, began);
        }
        let soon = began + WALK_EVERY / 2;
        assert!(names(&mut walk, &connection, soon).is_empty());
        walk.touch("t150");
        assert_eq!(names(&mut walk, &connection, soon), ["t150"]);
        assert!(names(&mut walk, &connection, soon).is_empty());
        // A walk does not hold up those that are touched.
        let later = began + WALK_EVERY;
        assert_eq!(names(&mut walk, &connection, later).len(), TOPICS);
        walk.touch("t000");
        let found = names(&mut walk, &connection, later);
        assert_eq!(
            (found.len(), found[0].as_str(), found[1].as_str()),
            (TOPICS + 1, "t000", "t064")
        );
    }

    #[test]
    fn more_than_are_remembered_are_found_by_the_walk() {
        let now = Instant::now();
        let mut walk = Walk::new(now);
        for n in 0..2 * MAX_TOUCHED {
            walk.touch(&n.to_string());
        }
        assert_eq!(walk.touched.len(), MAX_TOUCHED);
    }
}
