-- Decides and applies one commit: the rules of `interface store`, in its order. NEW.body is the commit (see encode.rs),
-- NEW.bytes all of its values end to end, NEW.now the store's time. A commit that is not carried out aborts the whole
-- statement with a message that says why. Needs SQLite 3.47 (RAISE with an expression).
CREATE TRIGGER IF NOT EXISTS tollgate_commit_3_insert INSTEAD OF INSERT ON tollgate_commit_3 BEGIN

  SELECT RAISE(ABORT, CASE
      WHEN fingerprint = substr(NEW.bytes, NEW.body ->> '$.id[1]', NEW.body ->> '$.id[2]')
      THEN 'tollgate:replayed:' || hex(answer)
      ELSE 'tollgate:conflict'
    END)
  FROM idempotence WHERE id = NEW.body ->> '$.id[0]' AND expires > NEW.now;

  SELECT RAISE(ABORT, 'tollgate:refused:condition:' || failed)
  FROM (
    SELECT min(c.key) AS failed FROM json_each(NEW.body, '$.conditions') AS c
    WHERE NOT CASE c.value ->> 0
      WHEN 'absent' THEN NOT EXISTS (
        SELECT 1 FROM entries AS e
        WHERE e.key = c.value ->> 1 AND (e.expires IS NULL OR e.expires > NEW.now))
      WHEN 'version' THEN EXISTS (
        SELECT 1 FROM entries AS e
        WHERE e.key = c.value ->> 1 AND (e.expires IS NULL OR e.expires > NEW.now)
          AND e.version = c.value ->> 2)
      WHEN 'topic' THEN
        coalesce((SELECT t.bytes FROM topics AS t WHERE t.name = c.value ->> 1), 0) < c.value ->> 2
      ELSE NEW.now >= coalesce(c.value ->> 1, NEW.now) AND NEW.now < coalesce(c.value ->> 2, NEW.now + 1)
    END)
  WHERE failed IS NOT NULL;

  -- A counter is a canonical decimal: what an integer looks like once it is written again. A sum beyond 64 bits
  -- is a real number here.
  SELECT RAISE(ABORT, verdict || first)
  FROM (
    SELECT min(a.step) AS first, CASE
        WHEN e.value IS NOT CAST(CAST(CAST(e.value AS TEXT) AS INTEGER) AS BLOB) THEN 'tollgate:invalid:counter:'
        ELSE 'tollgate:refused:mutation:'
      END AS verdict
    FROM (
      SELECT m.key AS step, m.value ->> 1 AS name, m.value ->> 2 AS delta, m.value ->> 3 AS low,
        m.value ->> 4 AS high
      FROM json_each(NEW.body, '$.mutations') AS m WHERE m.value ->> 0 = 'add') AS a
    LEFT JOIN entries AS e ON e.key = a.name AND (e.expires IS NULL OR e.expires > NEW.now)
    WHERE e.value IS NOT CAST(CAST(CAST(e.value AS TEXT) AS INTEGER) AS BLOB)
      OR typeof(coalesce(CAST(CAST(e.value AS TEXT) AS INTEGER), 0) + a.delta) <> 'integer'
      OR coalesce(CAST(CAST(e.value AS TEXT) AS INTEGER), 0) + a.delta < a.low
      OR coalesce(CAST(CAST(e.value AS TEXT) AS INTEGER), 0) + a.delta > a.high)
  WHERE first IS NOT NULL;

  UPDATE meta SET value = value + 1 WHERE name = 'revision';
  UPDATE meta SET value = NEW.now WHERE name = 'now';

  -- Sums and sequences first: the values below are filled in from them.
  INSERT INTO entries (key, value, version, expires)
  SELECT a.name, CAST(coalesce(CAST(CAST(e.value AS TEXT) AS INTEGER), 0) + a.delta AS BLOB),
    (SELECT value FROM meta WHERE name = 'revision'), e.expires
  FROM (
    SELECT m.value ->> 1 AS name, m.value ->> 2 AS delta
    FROM json_each(NEW.body, '$.mutations') AS m WHERE m.value ->> 0 = 'add') AS a
  LEFT JOIN entries AS e ON e.key = a.name AND (e.expires IS NULL OR e.expires > NEW.now)
  WHERE true
  ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires;

  INSERT INTO topics (name, last, bytes)
  SELECT t.value ->> 0, t.value ->> 1, 0 FROM json_each(NEW.body, '$.topics') AS t
  WHERE true
  ON CONFLICT (name) DO UPDATE SET last = last + excluded.last;

  INSERT INTO entries (key, value, version, expires)
  SELECT name, @render, (SELECT value FROM meta WHERE name = 'revision'), expires
  FROM (
    SELECT m.value ->> 1 AS name, m.value -> 2 AS template, m.value ->> 3 AS expires
    FROM json_each(NEW.body, '$.mutations') AS m WHERE m.value ->> 0 = 'set')
  WHERE true
  ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires;

  DELETE FROM entries WHERE key IN (
    SELECT m.value ->> 1 FROM json_each(NEW.body, '$.mutations') AS m WHERE m.value ->> 0 = 'delete');

  INSERT INTO messages (topic, sequence, id, key, type, content_type, time, attributes, payload)
  SELECT topic, (SELECT last FROM topics WHERE name = topic) - before_last, id, key, type, content_type, NEW.now,
    attributes, @render
  FROM (
    SELECT a.value ->> 0 AS topic, a.value ->> 1 AS before_last, a.value ->> 2 AS id, a.value ->> 3 AS key,
      a.value ->> 4 AS type, a.value ->> 5 AS content_type,
      substr(NEW.bytes, a.value ->> '$[6][0]', a.value ->> '$[6][1]') AS attributes, a.value -> 7 AS template
    FROM json_each(NEW.body, '$.appends') AS a);

  UPDATE topics SET bytes = bytes + (
    SELECT sum(@weight) FROM messages AS m
    WHERE m.topic = topics.name AND m.sequence > topics.last - (
      SELECT t.value ->> 1 FROM json_each(NEW.body, '$.topics') AS t WHERE t.value ->> 0 = topics.name))
  WHERE name IN (SELECT t.value ->> 0 FROM json_each(NEW.body, '$.topics') AS t);

  INSERT INTO idempotence (id, fingerprint, answer, expires)
  SELECT id, fingerprint, @render, expires
  FROM (
    SELECT NEW.body ->> '$.id[0]' AS id,
      substr(NEW.bytes, NEW.body ->> '$.id[1]', NEW.body ->> '$.id[2]') AS fingerprint,
      NEW.body -> '$.id[4]' AS template,
      NEW.now + min(NEW.body ->> '$.id[3]', 9223372036854775807 - NEW.now) AS expires)
  WHERE id IS NOT NULL
  ON CONFLICT (id) DO UPDATE
  SET fingerprint = excluded.fingerprint, answer = excluded.answer, expires = excluded.expires;

END
