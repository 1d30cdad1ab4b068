//! The sweep: removes expired entries and ids, and messages past their retention. Each step is one statement that may be
//! done twice, so gateways that sweep at once do not get in each other's way.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error};
use tollgate_store::commit::RECORD_PREFIX;
use tollgate_store::deleted;
use tollgate_store::retention::{Cut, Keeping};
use tollgate_store::schema::WEIGHT;

/// Rows of one kind at which a batch ends.
const BATCH: i64 = 2_000;
/// Where there are more topics, all of them are looked at less often.
const MANY_TOPICS: usize = 256;
/// How often, then.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Writers of gateways that were not seen for so long are forgotten, milliseconds.
const FORGOTTEN_MS: u64 = 86_400_000;

/// The result of a batch.
#[derive(Default)]
pub struct Swept {
    /// Rows.
    pub rows: u64,
    /// Whether there may be more.
    pub more: bool,
}

impl Swept {
    fn count(&mut self, rows: u64) {
        self.rows += rows;
        self.more |= i64::try_from(rows).unwrap_or(i64::MAX) >= BATCH;
    }
}

/// When topics are looked at again.
#[derive(Debug, Default)]
pub struct Turns {
    next: Option<Instant>,
}

impl Turns {
    fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// So many were looked at.
    fn looked(&mut self, topics: usize, has_more: bool) {
        let is_seldom = topics > MANY_TOPICS && !has_more;
        self.next = is_seldom.then(|| Instant::now() + LOOK_EVERY);
    }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Removes one batch of each kind. What a commit has locked is left for the next time.
pub async fn sweep(client: &Client, turns: &mut Turns, keeping: &Keeping, now: u64) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let at = i64::try_from(now).unwrap_or(i64::MAX);
    for sql in [
        "DELETE FROM tollgate_entries WHERE key IN (SELECT key FROM tollgate_entries WHERE expires <= $1
           ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)",
        "DELETE FROM tollgate_idempotence WHERE id IN (SELECT id FROM tollgate_idempotence WHERE expires <= $1
           ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)",
    ] {
        swept.count(client.execute(sql, &[&at, &BATCH]).await?);
    }
    let forgotten = i64::try_from(now.saturating_sub(FORGOTTEN_MS)).unwrap_or(0);
    client
        .execute("DELETE FROM tollgate_writers WHERE seen < $1", &[&forgotten])
        .await?;
    if keeping.default.is_none() {
        return Ok(swept);
    }
    if !turns.is_due(Instant::now()) {
        return Ok(swept);
    }
    // A topic with nothing in it has no oldest message.
    let sql = format!(
        "SELECT t.name, t.bytes, o.sequence, o.time, convert_from(e.value, 'UTF8')::bigint FROM tollgate_topics t
         CROSS JOIN LATERAL (SELECT m.sequence, m.time FROM tollgate_messages m WHERE m.topic = t.name
           ORDER BY m.sequence LIMIT 1) o
         LEFT JOIN tollgate_entries e ON e.key = '{}' || t.name",
        deleted::PREFIX
    );
    let topics = client.query(&sql, &[]).await?;
    for row in &topics {
        let (topic, bytes, sequence, time): (String, i64, i64, i64) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let Some((retention, low_water)) = keeping.of(&topic) else {
            continue;
        };
        let gone = row.get::<_, Option<i64>>(4).unwrap_or(0);
        let mut cut = Cut::new(retention, low_water, unsigned(bytes), now).after(unsigned(gone));
        if cut.takes(unsigned(sequence), unsigned(time), 0) {
            swept.count(sweep_topic(client, keeping, &topic, gone, now).await?);
        }
    }
    turns.looked(topics.len(), swept.more);
    Ok(swept)
}

/// Removes a topic's oldest messages, and the entries that go with them. Those up to `gone` went with the topic.
async fn sweep_topic(
    client: &Client,
    keeping: &Keeping,
    topic: &str,
    gone: i64,
    now: u64,
) -> Result<u64, Error> {
    let Some((retention, low_water)) = keeping.of(topic) else {
        return Ok(0);
    };
    // The bytes and the messages of one state: two who sweep at once choose the same.
    let sql = format!(
        "SELECT t.bytes, o.sequence, o.time, o.weight::bigint FROM tollgate_topics t, LATERAL (
           SELECT m.sequence, m.time, {} AS weight FROM tollgate_messages AS m
           WHERE m.topic = t.name AND m.sequence < $2 ORDER BY m.sequence LIMIT $3) o
         WHERE t.name = $1 ORDER BY o.sequence",
        WEIGHT
    );
    let before = i64::try_from(retention.end(low_water)).unwrap_or(i64::MAX);
    let before = before.max(gone.saturating_add(1));
    let (mut end, mut cut) = (None, None);
    for row in client.query(&sql, &[&topic, &before, &BATCH]).await? {
        let (bytes, sequence, time, weight): (i64, i64, i64, i64) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let cut = cut.get_or_insert_with(|| {
            Cut::new(retention, low_water, unsigned(bytes), now).after(unsigned(gone))
        });
        if !cut.takes(unsigned(sequence), unsigned(time), unsigned(weight)) {
            break;
        }
        end = Some(sequence);
    }
    let Some(end) = end else { return Ok(0) };
    let sql = format!(
        "WITH gone AS (DELETE FROM tollgate_messages AS m WHERE m.topic = $1 AND m.sequence <= $2
             RETURNING m.id, {} AS weight),
           freed AS (UPDATE tollgate_topics SET bytes = greatest(bytes - (SELECT coalesce(sum(weight), 0) FROM gone)::bigint, 0)
             WHERE name = $1),
           records AS (DELETE FROM tollgate_entries WHERE key IN (SELECT '{RECORD_PREFIX}' || id FROM gone))
         SELECT count(*) FROM gone",
        WEIGHT
    );
    let removed: i64 = client.query_one(&sql, &[&topic, &end]).await?.get(0);
    Ok(u64::try_from(removed).unwrap_or(0))
}
