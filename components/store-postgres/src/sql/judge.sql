-- What becomes of a commit at p_at, as a single snapshot shows it: `verdict` is null if it is carried out, and `sums` has the
-- result of each mutation then. The rules of `interface store`, in its order. p_body is the commit (`encoded.rs` in crates/store),
-- p_bytes all of its values end to end.
CREATE OR REPLACE FUNCTION tollgate_judge_1(
  p_body jsonb, p_bytes bytea, p_at bigint, OUT verdict text, OUT answer bytea, OUT sums bigint[]
) LANGUAGE plpgsql STABLE AS $judge$
DECLARE
  r record;
  v_first bigint;
  v_before numeric;
  v_after numeric;
BEGIN
  IF jsonb_typeof(p_body -> 'id') = 'array' THEN
    SELECT i.fingerprint = substr(p_bytes, (p_body #>> '{id,1}')::integer, (p_body #>> '{id,2}')::integer) AS same, i.answer AS answer
      INTO r FROM tollgate_idempotence AS i WHERE i.id = p_body #>> '{id,0}' AND i.expires > p_at;
    IF FOUND THEN
      IF r.same THEN
        verdict := 'replayed';
        answer := r.answer;
      ELSE
        verdict := 'conflict';
      END IF;
      RETURN;
    END IF;
  END IF;

  SELECT min(c.n) INTO v_first FROM jsonb_array_elements(p_body -> 'conditions') WITH ORDINALITY AS c(value, n)
  WHERE NOT CASE c.value ->> 0
    WHEN 'absent' THEN NOT EXISTS (
      SELECT 1 FROM tollgate_entries AS e WHERE e.key = c.value ->> 1 AND (e.expires IS NULL OR e.expires > p_at))
    WHEN 'version' THEN EXISTS (
      SELECT 1 FROM tollgate_entries AS e WHERE e.key = c.value ->> 1 AND (e.expires IS NULL OR e.expires > p_at)
        AND e.version = (c.value ->> 2)::bigint)
    WHEN 'topic' THEN
      coalesce((SELECT t.bytes FROM tollgate_topics AS t WHERE t.name = c.value ->> 1), 0) < (c.value ->> 2)::bigint
    ELSE p_at >= coalesce((c.value ->> 1)::bigint, p_at) AND (c.value ->> 2 IS NULL OR p_at < (c.value ->> 2)::bigint)
  END;
  IF v_first IS NOT NULL THEN
    verdict := 'refused:condition:' || (v_first - 1);
    RETURN;
  END IF;

  -- A counter is a canonical decimal of 64 bits.
  FOR r IN
    SELECT m.n, m.value ->> 0 AS kind, (m.value ->> 2) AS delta, (m.value ->> 3)::numeric AS low, (m.value ->> 4)::numeric AS high,
      CASE WHEN m.value ->> 0 = 'add' THEN (
        SELECT encode(e.value, 'escape') FROM tollgate_entries AS e
        WHERE e.key = m.value ->> 1 AND (e.expires IS NULL OR e.expires > p_at)) END AS held
    FROM jsonb_array_elements(p_body -> 'mutations') WITH ORDINALITY AS m(value, n) ORDER BY m.n
  LOOP
    IF r.kind <> 'add' THEN
      sums := sums || 0::bigint;
      CONTINUE;
    END IF;
    v_before := 0;
    IF r.held IS NOT NULL THEN
      IF r.held !~ '^(0|-?[1-9][0-9]{0,18})$' OR r.held::numeric NOT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
        verdict := 'invalid:counter:' || (r.n - 1);
        RETURN;
      END IF;
      v_before := r.held::numeric;
    END IF;
    v_after := v_before + r.delta::numeric;
    IF v_after NOT BETWEEN -9223372036854775808 AND 9223372036854775807 OR v_after < r.low OR v_after > r.high THEN
      verdict := 'refused:mutation:' || (r.n - 1);
      RETURN;
    END IF;
    sums := sums || v_after::bigint;
  END LOOP;
END
$judge$
