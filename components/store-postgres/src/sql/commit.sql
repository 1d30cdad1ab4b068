-- One commit, judged and carried out: one statement, as Spin's connections need it. p_hash: of the partition. p_relaxed: nobody
-- waits for the disk, nor for others for long. What keeps it exact beside the gateways of a fleet is what keeps those: the lane is
-- locked, then the topics by name, then the clock is read; and the lane's revision is compared as it is set.
CREATE OR REPLACE FUNCTION tollgate_commit_1(
  p_hash text, p_body text, p_bytes bytea, p_relaxed boolean,
  OUT verdict text, OUT answer bytea, OUT version bigint, OUT at bigint, OUT sums bigint[], OUT sequences bigint[]
) LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET jit = off SET lock_timeout = '4s' AS $commit$
DECLARE
  v_body jsonb := p_body;
  v_lanes bigint;
  v_lane integer;
  v_seen bigint;
  v_now bigint;
  v_lasts jsonb := '{}';
  v_sums jsonb;
  v_done bigint;
  r record;
  t record;
BEGIN
  SELECT m.value INTO v_lanes FROM tollgate_meta AS m
  WHERE m.name = 'lanes' AND EXISTS (SELECT 1 FROM tollgate_meta AS s WHERE s.name = 'schema' AND s.value = 1);
  IF v_lanes IS NULL THEN
    RAISE EXCEPTION 'the tables are of another version';
  END IF;
  v_lane := mod(p_hash::numeric, v_lanes);
  IF p_relaxed THEN
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '50ms', true);
  ELSE
    IF current_setting('synchronous_commit') = 'off' THEN
      PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- What is refused is mostly refused for good: then it takes no lock and no sync. One snapshot, so one moment.
    SELECT j.verdict, j.answer INTO verdict, answer
    FROM (SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000)::bigint, (SELECT max(l.now) FROM tollgate_lanes AS l WHERE l.lane = v_lane)) AS at) AS c,
      LATERAL tollgate_judge_1(v_body, p_bytes, c.at) AS j;
    IF verdict IS NOT NULL THEN
      RETURN;
    END IF;
  END IF;

  SELECT l.revision, l.now INTO STRICT v_seen, at FROM tollgate_lanes AS l WHERE l.lane = v_lane FOR NO KEY UPDATE;
  FOR r IN
    SELECT o.name, max(o.count) AS count FROM (
      SELECT a.value ->> 0 AS name, (a.value ->> 1)::bigint AS count FROM jsonb_array_elements(v_body -> 'topics') AS a
      UNION ALL SELECT c.value ->> 1, 0 FROM jsonb_array_elements(v_body -> 'conditions') AS c WHERE c.value ->> 0 = 'topic') AS o
    GROUP BY o.name ORDER BY o.name COLLATE "C"
  LOOP
    SELECT o.last, o.time INTO t FROM tollgate_topics AS o WHERE o.name = r.name FOR NO KEY UPDATE;
    IF NOT FOUND AND r.count > 0 THEN
      INSERT INTO tollgate_topics (name, last, bytes, time) VALUES (r.name, 0, 0, 0) ON CONFLICT DO NOTHING;
      SELECT o.last, o.time INTO STRICT t FROM tollgate_topics AS o WHERE o.name = r.name FOR NO KEY UPDATE;
    END IF;
    at := greatest(at, t.time);
    IF r.count > 0 THEN
      v_lasts := v_lasts || jsonb_build_object(r.name, t.last + r.count);
    END IF;
  END LOOP;
  at := greatest(at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);

  SELECT j.verdict, j.answer, j.sums INTO verdict, answer, sums FROM tollgate_judge_1(v_body, p_bytes, at) AS j;
  IF verdict IS NOT NULL THEN
    RETURN;
  END IF;

  -- The next with the lane's residue: no two lanes ever give the same version.
  version := v_seen - mod(v_seen + v_lanes - v_lane, v_lanes) + v_lanes;
  UPDATE tollgate_lanes AS l SET revision = version, now = at WHERE l.lane = v_lane AND l.revision = v_seen;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the lane was changed meanwhile' USING ERRCODE = 'serialization_failure';
  END IF;

  SELECT coalesce(jsonb_object_agg(m.value ->> 1, sums[m.n]), '{}') INTO v_sums
  FROM jsonb_array_elements(v_body -> 'mutations') WITH ORDINALITY AS m(value, n) WHERE m.value ->> 0 = 'add';

  INSERT INTO tollgate_entries AS e (key, value, version, expires)
  SELECT m.value ->> 1, convert_to((sums[m.n])::text, 'UTF8'), tollgate_commit_1.version, NULL
  FROM jsonb_array_elements(v_body -> 'mutations') WITH ORDINALITY AS m(value, n) WHERE m.value ->> 0 = 'add'
  ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version,
    expires = CASE WHEN e.expires > at THEN e.expires END;

  INSERT INTO tollgate_entries AS e (key, value, version, expires)
  SELECT m.value ->> 1, tollgate_render_1(m.value -> 2, p_bytes, v_sums, v_lasts, at), tollgate_commit_1.version, (m.value ->> 3)::bigint
  FROM jsonb_array_elements(v_body -> 'mutations') AS m WHERE m.value ->> 0 = 'set'
  ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires;

  DELETE FROM tollgate_entries AS e WHERE e.key IN (
    SELECT m.value ->> 1 FROM jsonb_array_elements(v_body -> 'mutations') AS m WHERE m.value ->> 0 = 'delete');

  IF v_lasts <> '{}' THEN
    SELECT array_agg((v_lasts ->> (a.value ->> 0))::bigint - (a.value ->> 1)::bigint ORDER BY a.n) INTO sequences
    FROM jsonb_array_elements(v_body -> 'appends') WITH ORDINALITY AS a(value, n);

    WITH written AS (
      INSERT INTO tollgate_messages AS m (topic, sequence, id, key, type, content_type, time, attributes, payload)
      SELECT a.value ->> 0, sequences[a.n], a.value ->> 2, a.value ->> 3, a.value ->> 4, a.value ->> 5, at,
        substr(p_bytes, (a.value #>> '{6,0}')::integer, (a.value #>> '{6,1}')::integer),
        tollgate_render_1(a.value -> 7, p_bytes, v_sums, v_lasts, at)
      FROM jsonb_array_elements(v_body -> 'appends') WITH ORDINALITY AS a(value, n)
      RETURNING m.topic, @weight AS weight),
    weighed AS (SELECT w.topic, sum(w.weight)::bigint AS added FROM written AS w GROUP BY w.topic)
    UPDATE tollgate_topics AS o SET last = (v_lasts ->> o.name)::bigint, bytes = o.bytes + w.added, time = at
    FROM weighed AS w WHERE o.name = w.topic AND o.last < (v_lasts ->> o.name)::bigint;
    GET DIAGNOSTICS v_done = ROW_COUNT;
    IF v_done <> (SELECT count(*) FROM jsonb_object_keys(v_lasts)) THEN
      RAISE EXCEPTION 'a topic was changed meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
  END IF;

  IF jsonb_typeof(v_body -> 'id') = 'array' THEN
    INSERT INTO tollgate_idempotence AS i (id, fingerprint, answer, expires)
    VALUES (v_body #>> '{id,0}', substr(p_bytes, (v_body #>> '{id,1}')::integer, (v_body #>> '{id,2}')::integer),
      tollgate_render_1(v_body #> '{id,4}', p_bytes, v_sums, v_lasts, at),
      at + least((v_body #>> '{id,3}')::bigint, 9223372036854775807 - at))
    ON CONFLICT (id) DO UPDATE SET fingerprint = excluded.fingerprint, answer = excluded.answer, expires = excluded.expires
    WHERE i.expires <= at;
    -- Two lanes may be given one id at once, and no lock is on it before: whoever is later waits here, and finds it.
    GET DIAGNOSTICS v_done = ROW_COUNT;
    IF v_done = 0 THEN
      RAISE EXCEPTION 'the id was used meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
  END IF;
END
$commit$
