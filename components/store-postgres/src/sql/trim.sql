WITH gone AS (DELETE FROM tollgate_messages AS m WHERE m.topic = $1 AND m.sequence <= $2 RETURNING m.id, @weight AS weight),
  freed AS (UPDATE tollgate_topics SET bytes = greatest(bytes - (SELECT coalesce(sum(weight), 0) FROM gone)::bigint, 0) WHERE name = $1),
  records AS (DELETE FROM tollgate_entries WHERE key IN (SELECT '@record' || id FROM gone))
SELECT count(*) FROM gone
