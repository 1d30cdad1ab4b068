-- What the buckets asked for hold at ?2: the arithmetic of core's `bucket::State::advance`, in 64-bit integers. ?1 is
-- a list of [key, token, rate, full, cost], in units, each key once. A clock that stepped back stands still.
WITH found AS MATERIALIZED (
  SELECT a.value ->> 0 AS key, a.value ->> 1 AS token, a.value ->> 2 AS rate, a.value ->> 3 AS full,
    a.value ->> 4 AS cost,
    max(coalesce(b.last, ?2), ?2) AS now,
    max(?2 - coalesce(b.last, ?2), 0) AS elapsed,
    CASE
      WHEN b.key IS NULL THEN a.value ->> 3
      WHEN b.token = a.value ->> 1 THEN min(b.units, a.value ->> 3)
      -- The parameters changed: whole tokens are kept up to the new capacity, and of the rest what 64 bits can tell.
      WHEN b.units / b.token >= (a.value ->> 3) / (a.value ->> 1) THEN a.value ->> 3
      ELSE b.units / b.token * (a.value ->> 1)
        + CASE typeof(b.units % b.token * (a.value ->> 1))
            WHEN 'integer' THEN b.units % b.token * (a.value ->> 1) / b.token
            ELSE 0
          END
    END AS units
  FROM json_each(?1) AS a LEFT JOIN buckets AS b ON b.key = a.value ->> 0
),
levels AS MATERIALIZED (
  SELECT key, token, rate, full, cost, now,
    -- Elapsed time times rate may overflow, but not before the bucket is full.
    CASE WHEN elapsed >= (full - units + rate - 1) / rate THEN full ELSE units + elapsed * rate END AS units
  FROM found
)
