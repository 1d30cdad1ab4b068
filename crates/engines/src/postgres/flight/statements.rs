//! The statements that a writer has prepared. Those that write compare first, and raise.

use futures::future::try_join_all;
use tokio_postgres::{Client, Error, Statement};

/// The statements of a writer.
pub struct Statements {
    pub(super) own: Statement,
    pub(super) lanes: Statement,
    pub(super) topics: Statement,
    pub(super) clock: Statement,
    pub(super) entries: Statement,
    pub(super) records: Statement,
    pub(super) set_lanes: Statement,
    pub(super) update: Statement,
    pub(super) insert: Statement,
    pub(super) delete: Statement,
    pub(super) messages: Statement,
    pub(super) set_topics: Statement,
    pub(super) set_records: Statement,
    pub(super) make_topics: Statement,
}

/// The clock of the database, Unix milliseconds.
pub const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

impl Statements {
    /// Prepares them.
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let all = [
            "UPDATE tollgate_writers SET number = $2, seen = (extract(epoch FROM clock_timestamp()) * 1000)::bigint WHERE id = $1",
            "SELECT lane, revision, now FROM tollgate_lanes WHERE lane = ANY($1) ORDER BY lane FOR NO KEY UPDATE",
            "SELECT name, last, bytes, time FROM tollgate_topics WHERE name = ANY($1) ORDER BY name FOR NO KEY UPDATE",
            CLOCK,
            "SELECT key, value, version, expires FROM tollgate_entries WHERE key = ANY($1)",
            "SELECT id, fingerprint, answer, expires FROM tollgate_idempotence WHERE id = ANY($1)",
            "WITH done AS (UPDATE tollgate_lanes l SET revision = $3, now = $4
               FROM unnest($1::integer[], $2::bigint[]) AS w(lane, seen) WHERE l.lane = w.lane AND l.revision = w.seen RETURNING 1)
             SELECT 1 / (count(*) = cardinality($1))::integer FROM done",
            "WITH done AS (UPDATE tollgate_entries e SET value = w.value, version = w.version, expires = w.expires
               FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[]) AS w(key, value, version, expires, seen)
               WHERE e.key = w.key AND e.version = w.seen RETURNING 1)
             SELECT 1 / (count(*) = cardinality($1))::integer FROM done",
            // Raises if a key is there. ON CONFLICT DO NOTHING would log each row once more (48 bytes).
            "INSERT INTO tollgate_entries (key, value, version, expires)
             SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[])",
            "WITH done AS (DELETE FROM tollgate_entries e USING unnest($1::text[], $2::bigint[]) AS w(key, seen)
               WHERE e.key = w.key AND e.version = w.seen RETURNING 1)
             SELECT 1 / (count(*) = cardinality($1))::integer FROM done",
            "INSERT INTO tollgate_messages (topic, sequence, id, key, type, content_type, time, attributes, payload)
             SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bytea[], $9::bytea[])",
            "WITH done AS (UPDATE tollgate_topics t SET last = w.last, bytes = t.bytes + w.added, time = $5
               FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w(name, seen, last, added)
               WHERE t.name = w.name AND t.last = w.seen RETURNING 1)
             SELECT 1 / (count(*) = cardinality($1))::integer FROM done",
            // Two lanes may be given one id at once, and no lock is on it before: whoever is later waits here, and finds it.
            "WITH done AS (INSERT INTO tollgate_idempotence AS i (id, fingerprint, answer, expires)
               SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bigint[]) AS w(id, fingerprint, answer, expires) ORDER BY w.id
               ON CONFLICT (id) DO UPDATE SET fingerprint = excluded.fingerprint, answer = excluded.answer, expires = excluded.expires
               WHERE i.expires <= $5::bigint RETURNING 1)
             SELECT 1 / (count(*) = cardinality($1))::integer FROM done",
            "INSERT INTO tollgate_topics (name, last, bytes, time) SELECT unnest($1::text[]), 0, 0, 0 ON CONFLICT DO NOTHING",
        ];
        let mut all = try_join_all(all.map(|sql| client.prepare(sql)))
            .await?
            .into_iter();
        // As many as there are fields.
        let mut next = || all.next().expect("one for each statement above");
        Ok(Self {
            own: next(),
            lanes: next(),
            topics: next(),
            clock: next(),
            entries: next(),
            records: next(),
            set_lanes: next(),
            update: next(),
            insert: next(),
            delete: next(),
            messages: next(),
            set_topics: next(),
            set_records: next(),
            make_topics: next(),
        })
    }
}
