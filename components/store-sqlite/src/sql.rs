//! All SQL of the component. Each statement is complete in itself: Spin keeps nothing together but one `execute`.

use tollgate_store::commit::RECORD_PREFIX;
use tollgate_store::schema;

/// The view that a commit is inserted into. The number grows with every change of the trigger, so that
/// instances of an older version keep theirs.
pub const COMMIT_VIEW: &str =
    "CREATE VIEW IF NOT EXISTS tollgate_commit_3 (body, bytes, now) AS SELECT NULL, NULL, NULL";

/// The view that the end of what is to be trimmed is inserted into, numbered as [`COMMIT_VIEW`].
pub const TRIM_VIEW: &str = "CREATE VIEW IF NOT EXISTS tollgate_trim_1 (topic, through) AS SELECT NULL, NULL";

/// The prefix of all messages of the trigger.
pub const PREFIX: &str = "tollgate:";

const BUCKETS: &str = include_str!("sql/buckets.sql");
const TRIGGER: &str = include_str!("sql/trigger.sql");
const TRIM_TRIGGER: &str = include_str!("sql/trim.sql");
/// A value, from the column `template`: literal bytes, or parts put together.
const RENDER: &str = include_str!("sql/render.sql");

/// Whether everything that [`creation`] makes is there: its last object.
pub const IS_READY: &str = "SELECT count(*) FROM sqlite_schema WHERE name = 'tollgate_commit_3_insert'";
/// Whether the database has no file.
pub const IS_IN_MEMORY: &str = "SELECT count(*) FROM pragma_database_list WHERE name = 'main' AND file = ''";
/// The version of the tables.
pub const SCHEMA_VERSION: &str = "SELECT value FROM meta WHERE name = 'schema'";

/// The statements that make the tables. Each may be repeated.
pub fn tables() -> Vec<String> {
    let tables = [schema::SQL, BUCKETS]
        .into_iter()
        .flat_map(|sql| sql.split(";\n"));
    tables
        .map(str::trim)
        .filter(|sql| !sql.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The statements that make the rest: the views with their triggers, [`IS_READY`]'s last. Each may be repeated.
pub fn creation() -> Vec<String> {
    let mut statements = vec![schema::weigh(), schema::WEIGHED.to_owned()];
    statements.push(format!("PRAGMA application_id = {}", schema::APPLICATION_ID));
    statements.push(format!("PRAGMA user_version = {}", schema::VERSION));
    statements.push(TRIM_VIEW.to_owned());
    statements.push(
        TRIM_TRIGGER
            .replace("@record", RECORD_PREFIX)
            .replace("@weight", schema::WEIGHT),
    );
    statements.push(COMMIT_VIEW.to_owned());
    statements.push(
        TRIGGER
            .replace("@render", RENDER)
            .replace("@weight", schema::WEIGHT),
    );
    statements
}

/// Per connection, before anything else. Spin cannot run two statements as one, so no transaction ever stays open.
///
/// `wal_autocheckpoint` is off because of a defect of SQLite before 3.51.3 (Spin has 3.49): two checkpoints, one right
/// after the other, can lose what is committed during the second. [`CHECKPOINT`] is rarer, and keeps writers out.
pub const PRAGMAS: [&str; 4] = [
    "PRAGMA busy_timeout = 100",
    "PRAGMA journal_mode = WAL",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA journal_size_limit = 67108864",
];
/// A commit is on the disk when it returns.
pub const DURABLE: &str = "PRAGMA synchronous = FULL";
/// It is there with the next durable one, or the next checkpoint. A process that dies loses nothing; a machine may.
pub const RELAXED: &str = "PRAGMA synchronous = NORMAL";
/// Copies the log into the database, with the write lock held; without it only where writers leave no gap.
pub const CHECKPOINT: &str = "PRAGMA wal_checkpoint(FULL)";

/// One commit: ?1 its body, ?2 its values. One row: version, time, sums, sequences (the last two as JSON).
pub const COMMIT: &str = include_str!("sql/commit.sql");

/// The entries of ?1, a list of keys, by their place in it.
pub const GET: &str = "
SELECT k.key, e.value, e.version, e.expires FROM json_each(?1) AS k CROSS JOIN entries AS e ON e.key = k.value
WHERE e.expires IS NULL OR e.expires > max((SELECT value FROM meta WHERE name = 'now'),
  CAST(round(unixepoch('subsec') * 1000) AS INTEGER))";

/// Live entries from ?1 to before ?2 (to the end if null), ?3 of them.
pub const SCAN: &str = "
SELECT key, value, version, expires FROM entries
WHERE key >= ?1 AND key < coalesce(?2, x'') AND (expires IS NULL OR expires > max(
  (SELECT value FROM meta WHERE name = 'now'), CAST(round(unixepoch('subsec') * 1000) AS INTEGER)))
ORDER BY key LIMIT ?3";

/// Messages of ?1 after ?2, ?3 of them; none that went with a topic of this name.
pub const READ: &str = "
SELECT sequence, id, key, type, content_type, time, attributes, payload FROM messages
WHERE topic = ?1 AND sequence > max(?2, coalesce((SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM entries
  WHERE key = 'topic-deleted/' || ?1), 0)) ORDER BY sequence LIMIT ?3";

/// Topics after ?1, ?2 of them.
pub const TOPICS: &str = "
SELECT name, last,
  (SELECT sequence FROM messages WHERE topic = name AND sequence > gone ORDER BY sequence LIMIT 1),
  (SELECT time FROM messages WHERE topic = name AND sequence > gone ORDER BY sequence LIMIT 1),
  (SELECT time FROM messages WHERE topic = name AND sequence > gone ORDER BY sequence DESC LIMIT 1),
  iif(last <= gone, 0, bytes)
FROM (SELECT name, last, bytes, coalesce((SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM entries
    WHERE key = 'topic-deleted/' || name), 0) AS gone
  FROM topics WHERE name > ?1 ORDER BY name LIMIT ?2) ORDER BY name";

/// Removes up to ?1 messages of a topic that was deleted. A row if there were any: there may be more.
pub const FORGET: &str = "
INSERT INTO tollgate_trim_1 (topic, through)
SELECT name, (SELECT max(sequence) FROM (
    SELECT m.sequence FROM messages AS m WHERE m.topic = name AND m.sequence <= gone ORDER BY m.sequence LIMIT ?1))
FROM (SELECT substr(key, 15) AS name, CAST(CAST(value AS TEXT) AS INTEGER) AS gone FROM entries
  WHERE key >= 'topic-deleted/' AND key < 'topic-deleted0')
WHERE EXISTS (SELECT 1 FROM messages AS m WHERE m.topic = name AND m.sequence <= gone)
  AND (SELECT value FROM meta WHERE name = 'schema') = 1 LIMIT 1
RETURNING through";

/// Removes ?1 entries that have expired.
pub const SWEEP_ENTRIES: &str = "
DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE expires <= max(
  (SELECT value FROM meta WHERE name = 'now'), CAST(round(unixepoch('subsec') * 1000) AS INTEGER))
ORDER BY expires LIMIT ?1) AND (SELECT value FROM meta WHERE name = 'schema') = 1 RETURNING 1";
/// Removes ?1 idempotence ids that are to be forgotten.
pub const SWEEP_IDS: &str = "
DELETE FROM idempotence WHERE id IN (SELECT id FROM idempotence WHERE expires <= max(
  (SELECT value FROM meta WHERE name = 'now'), CAST(round(unixepoch('subsec') * 1000) AS INTEGER))
ORDER BY expires LIMIT ?1) AND (SELECT value FROM meta WHERE name = 'schema') = 1 RETURNING 1";
/// Removes the messages of ?1 up to and with the sequence ?2, with the entries that go with them. May be done twice.
pub const TRIM: &str = "
INSERT INTO tollgate_trim_1 (topic, through) SELECT ?1, ?2 WHERE (SELECT value FROM meta WHERE name = 'schema') = 1";

/// The oldest messages of ?1, ?2 of them, of one moment: the bytes of all, the store's time, and of each sequence, time and weight.
pub fn oldest() -> String {
    format!(
        "SELECT t.bytes, max((SELECT value FROM meta WHERE name = 'now'), CAST(round(unixepoch('subsec') * 1000) AS INTEGER)),
           m.sequence, m.time, {}
         FROM topics AS t JOIN messages AS m ON m.topic = t.name WHERE t.name = ?1 ORDER BY m.sequence LIMIT ?2",
        schema::WEIGHT
    )
}
/// Removes the ?1 buckets that are full soonest: those that are full already at ?2, and those beyond the ?3 that may
/// be kept.
pub const SWEEP_BUCKETS: &str = "
DELETE FROM buckets WHERE key IN (
  SELECT key FROM buckets WHERE full_at <= ?2 OR (SELECT count(*) FROM buckets) > ?3 ORDER BY full_at LIMIT ?1)";

/// The levels of buckets, without taking: key, units.
pub const LOOK: &str = concat!(include_str!("sql/levels.sql"), "SELECT key, units FROM levels");
/// Takes: key, units it holds now, whether all was granted; without buckets that are full where it was not.
pub const TAKE: &str = concat!(include_str!("sql/levels.sql"), include_str!("sql/take.sql"));
