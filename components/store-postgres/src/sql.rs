//! All SQL of the component. Each statement is a transaction of its own.

use tollgate_store::commit::{MAX_PAGE_BYTES, RECORD_PREFIX};
use tollgate_store::deleted;
use tollgate_store::schema::WEIGHT;

/// The tables, which the native engine makes too.
const TABLES: &str = include_str!("../../../crates/engines/src/postgres/schema.sql");
/// Their version.
const VERSION: i64 = 1;
/// The lanes of tables that this component makes: the native engine's default.
const LANES: u32 = 16;
/// Each may be repeated. A function that changes gets another number, so that instances of an older version keep theirs.
const FUNCTIONS: [&str; 4] = [
    include_str!("sql/judge.sql"),
    include_str!("sql/render.sql"),
    include_str!("sql/commit.sql"),
    include_str!("sql/take.sql"),
];
/// Token buckets: volatile. No index on `full_at`, so that a take changes no index.
const BUCKETS: &str = "CREATE UNLOGGED TABLE IF NOT EXISTS tollgate_spin_buckets (
  key text COLLATE \"C\" PRIMARY KEY, units bigint NOT NULL, last bigint NOT NULL, token bigint NOT NULL, full_at bigint NOT NULL
) WITH (fillfactor = 20)";
/// Held while tables are made. Any number, but always the same: "toll".
const LOCK: i64 = 0x746f_6c6c;

/// One statement that makes everything. It does nothing to tables that are there.
pub fn creation() -> String {
    let mut steps = vec![
        format!("IF to_regclass('tollgate_writers') IS NULL THEN EXECUTE $sql${TABLES}$sql$; END IF"),
        format!(
            "INSERT INTO tollgate_lanes (lane, revision, now) SELECT n, n, 0 FROM generate_series(0, {LANES} - 1) AS n
             WHERE NOT EXISTS (SELECT 1 FROM tollgate_meta WHERE name = 'lanes') ON CONFLICT DO NOTHING"
        ),
        format!(
            "INSERT INTO tollgate_meta (name, value) VALUES ('schema', {VERSION}), ('lanes', {LANES}) ON CONFLICT DO NOTHING"
        ),
        BUCKETS.to_owned(),
    ];
    for function in FUNCTIONS {
        steps.push(format!(
            "EXECUTE $sql${}$sql$",
            function.replace("@weight", WEIGHT)
        ));
    }
    format!(
        "DO $do$ BEGIN
           PERFORM set_config('client_min_messages', 'warning', true), pg_advisory_xact_lock({LOCK});
           {};
         END $do$",
        steps.join(";\n")
    )
}

/// One commit: $1 the hash of its partition, $2 its body, $3 its values, $4 whether nobody waits for the disk (1).
pub const COMMIT: &str = "SELECT verdict, answer, version, at, sums, sequences
FROM tollgate_commit_1($1::text, $2::text, $3::bytea, $4::bigint = 1)";

/// The store's time, as far as a read knows it. Of a clock that stands still within the statement, so that an index by time is used.
const NOW: &str = "greatest((extract(epoch FROM statement_timestamp()) * 1000)::bigint, (SELECT max(now) FROM tollgate_lanes))";

/// The entries of $1, a list of keys.
pub fn get() -> String {
    format!(
        "SELECT key, value, version, expires FROM tollgate_entries WHERE key = ANY($1::text[]) AND (expires IS NULL OR expires > {NOW})"
    )
}

/// Live entries from $1 (after it, if $4 is 1) to before $2 (to the end if null), $3 of them, and no more than a page has room for.
pub fn scan() -> String {
    bounded(
        "key, value, version, expires",
        "key, value, version, expires, sum(octet_length(value)) OVER (ORDER BY key) - octet_length(value) AS before",
        &format!(
            "tollgate_entries WHERE key >= $1::text AND ($4::bigint = 0 OR key > $1::text) AND ($2::text IS NULL OR key < $2::text)
             AND (expires IS NULL OR expires > {NOW}) ORDER BY key LIMIT $3::bigint"
        ),
        "key",
    )
}

/// Up to which sequence the messages of a topic went with it; none for one that was never deleted.
fn gone(topic: &str) -> String {
    format!(
        "(SELECT convert_from(value, 'UTF8')::bigint FROM tollgate_entries WHERE key = '{}' || {topic})",
        deleted::PREFIX
    )
}

/// Messages of $1 after $2, $3 of them, and no more than a page has room for; none that went with a topic of this name.
pub fn read() -> String {
    bounded(
        "sequence, id, key, type, content_type, time, attributes, payload",
        "*, sum(octet_length(payload)) OVER (ORDER BY sequence) - octet_length(payload) AS before",
        &format!(
            "tollgate_messages WHERE topic = $1::text AND sequence > greatest($2::bigint, {}) ORDER BY sequence LIMIT $3::bigint",
            gone("$1::text")
        ),
        "sequence",
    )
}

/// So that an instance never holds many large values: rows are left out once those before fill a page.
fn bounded(columns: &str, measured: &str, from: &str, order: &str) -> String {
    format!(
        "SELECT {columns} FROM (SELECT {measured} FROM (SELECT * FROM {from}) AS found) AS measured
         WHERE before < {MAX_PAGE_BYTES} ORDER BY {order}"
    )
}

/// Topics after $1, $2 of them.
pub fn topics() -> String {
    format!(
        "SELECT name, last,
           (SELECT sequence FROM tollgate_messages WHERE topic = name AND sequence > gone ORDER BY sequence LIMIT 1),
           (SELECT time FROM tollgate_messages WHERE topic = name AND sequence > gone ORDER BY sequence LIMIT 1),
           (SELECT time FROM tollgate_messages WHERE topic = name AND sequence > gone ORDER BY sequence DESC LIMIT 1),
           CASE WHEN last <= gone THEN 0 ELSE bytes END
         FROM (SELECT name, last, bytes, coalesce({}, 0) AS gone
           FROM tollgate_topics WHERE name > $1::text AND last > 0 ORDER BY name LIMIT $2::bigint) AS t ORDER BY name",
        gone("name")
    )
}

/// A topic that was deleted and of which messages are left, and the sequence of the $1-th of those, or of the last.
pub fn deleted() -> String {
    format!(
        "SELECT name, (SELECT max(sequence) FROM (SELECT m.sequence FROM tollgate_messages AS m
           WHERE m.topic = name AND m.sequence <= gone ORDER BY m.sequence LIMIT $1::bigint) AS o)
         FROM (SELECT substr(key, {}) AS name, convert_from(value, 'UTF8')::bigint AS gone FROM tollgate_entries
           WHERE key >= '{prefix}' AND key < '{end}') AS d
         WHERE EXISTS (SELECT 1 FROM tollgate_messages AS m WHERE m.topic = name AND m.sequence <= gone) LIMIT 1",
        deleted::PREFIX.len() + 1,
        prefix = deleted::PREFIX,
        end = deleted::END,
    )
}

/// Removes $1 entries that have expired; what a commit has locked is left for the next time.
pub fn expire_entries() -> String {
    format!(
        "DELETE FROM tollgate_entries WHERE key IN (SELECT key FROM tollgate_entries WHERE expires <= {NOW}
         ORDER BY expires LIMIT $1::bigint FOR UPDATE SKIP LOCKED) RETURNING 1::bigint"
    )
}

/// Removes $1 idempotence ids that are to be forgotten.
pub fn expire_ids() -> String {
    format!(
        "DELETE FROM tollgate_idempotence WHERE id IN (SELECT id FROM tollgate_idempotence WHERE expires <= {NOW}
         ORDER BY expires LIMIT $1::bigint FOR UPDATE SKIP LOCKED) RETURNING 1::bigint"
    )
}

/// The oldest messages of $1, $2 of them, of one moment: the bytes of all, the store's time, and of each sequence, time and weight.
pub fn oldest() -> String {
    format!(
        "SELECT t.bytes, {NOW}, o.sequence, o.time, o.weight FROM tollgate_topics AS t, LATERAL (
           SELECT m.sequence, m.time, {WEIGHT}::bigint AS weight FROM tollgate_messages AS m
           WHERE m.topic = t.name ORDER BY m.sequence LIMIT $2::bigint) AS o
         WHERE t.name = $1::text ORDER BY o.sequence"
    )
}

/// Removes the messages of $1 up to and with the sequence $2, with the entries that go with them. May be done twice.
pub fn trim() -> String {
    include_str!("sql/trim.sql")
        .replace("@record", RECORD_PREFIX)
        .replace("@weight", WEIGHT)
}

/// Takes, or looks: $1 what is asked for, $2 the clock (the database's if null), $3 whether it only looks (1). Key, units, whether granted.
pub const TAKE: &str = "SELECT bucket, level, granted::integer::bigint FROM tollgate_take_1($1::text, $2::bigint, $3::bigint = 1)";

/// Removes the $1 buckets that are full soonest: those that are full already at $2 (the database's clock if null), and those beyond
/// the $3 that may be kept.
pub const SWEEP_BUCKETS: &str = "DELETE FROM tollgate_spin_buckets WHERE key IN (
  SELECT key FROM tollgate_spin_buckets
  WHERE full_at <= coalesce($2::bigint, (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint)
    OR (SELECT count(*) FROM tollgate_spin_buckets) > $3::bigint
  ORDER BY full_at LIMIT $1::bigint FOR UPDATE SKIP LOCKED)";
