-- Every cost or none, of token buckets: the arithmetic of `bucket::State` in crates/store. p_asked: a list of [key, token, rate,
-- full, cost], in units, each key once. p_now: nanoseconds since 1970; the database's clock if it is null. p_look: nothing is taken.
-- A clock that stepped back stands still. Buckets are volatile: none of it waits for the disk.
CREATE OR REPLACE FUNCTION tollgate_take_1(p_asked text, p_now bigint, p_look boolean)
RETURNS TABLE (bucket text, level bigint, granted boolean)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET jit = off SET lock_timeout = '2s' AS $take$
DECLARE
  v_now bigint := least(coalesce(p_now, (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint), 4611686018427387903);
  v_keys text[];
  v_units bigint[];
  v_at bigint[];
  v_enough boolean := true;
  v_held numeric;
  a record;
  b record;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  FOR a IN
    SELECT o.value ->> 0 AS key, (o.value ->> 1)::bigint AS token, (o.value ->> 2)::bigint AS rate, (o.value ->> 3)::bigint AS full_units,
      (o.value ->> 4)::bigint AS cost
    FROM jsonb_array_elements(p_asked::jsonb) AS o(value) ORDER BY (o.value ->> 0) COLLATE "C"
  LOOP
    b := NULL;
    IF p_look THEN
      SELECT k.units, k.last, k.token INTO b FROM tollgate_spin_buckets AS k WHERE k.key = a.key;
    ELSE
      SELECT k.units, k.last, k.token INTO b FROM tollgate_spin_buckets AS k WHERE k.key = a.key FOR NO KEY UPDATE;
      IF NOT FOUND THEN
        INSERT INTO tollgate_spin_buckets (key, units, last, token, full_at) VALUES (a.key, a.full_units, v_now, a.token, v_now)
        ON CONFLICT DO NOTHING;
        SELECT k.units, k.last, k.token INTO b FROM tollgate_spin_buckets AS k WHERE k.key = a.key FOR NO KEY UPDATE;
      END IF;
    END IF;
    v_keys := v_keys || a.key;
    IF b.units IS NULL THEN
      v_held := a.full_units;
      v_at := v_at || v_now;
    ELSE
      -- The parameters may have changed: whole tokens are kept up to the new capacity, and of the rest its share.
      v_held := CASE
        WHEN b.token = a.token THEN least(b.units, a.full_units)
        WHEN b.units / b.token >= a.full_units / a.token THEN a.full_units
        ELSE (b.units / b.token)::numeric * a.token + div((b.units % b.token)::numeric * a.token, b.token)
      END;
      v_held := least(a.full_units, v_held + greatest(v_now - b.last, 0)::numeric * a.rate);
      v_at := v_at || greatest(b.last, v_now);
    END IF;
    v_units := v_units || v_held::bigint;
    v_enough := v_enough AND v_held >= a.cost;
  END LOOP;
  IF v_enough AND NOT p_look THEN
    UPDATE tollgate_spin_buckets AS k
    SET units = w.units - w.cost, last = w.at, token = w.token, full_at = w.at + div(w.full_units - (w.units - w.cost) + w.rate - 1, w.rate)::bigint
    FROM (
      SELECT u.key, u.units, u.at, (o.value ->> 1)::bigint AS token, (o.value ->> 2)::numeric AS rate,
        (o.value ->> 3)::numeric AS full_units, (o.value ->> 4)::bigint AS cost
      FROM unnest(v_keys, v_units, v_at) AS u(key, units, at)
      JOIN jsonb_array_elements(p_asked::jsonb) AS o(value) ON o.value ->> 0 = u.key) AS w
    WHERE k.key = w.key;
    RETURN QUERY SELECT u.key, u.units - (o.value ->> 4)::bigint, true
      FROM unnest(v_keys, v_units) AS u(key, units) JOIN jsonb_array_elements(p_asked::jsonb) AS o(value) ON o.value ->> 0 = u.key;
  ELSE
    RETURN QUERY SELECT u.key, u.units, v_enough FROM unnest(v_keys, v_units) AS u(key, units);
  END IF;
END
$take$
