-- Every cost or none. A refusal only brings the levels up to date, which changes none of them.
INSERT INTO buckets (key, units, last, token, full_at, taken)
SELECT key, units - cost * enough, now, token, now + (full - (units - cost * enough) + rate - 1) / rate, enough
FROM levels, (SELECT NOT EXISTS (SELECT 1 FROM levels WHERE units < cost) AS enough)
WHERE true
ON CONFLICT (key) DO UPDATE SET units = excluded.units, last = excluded.last, token = excluded.token,
  full_at = excluded.full_at, taken = excluded.taken
RETURNING key, units, taken
