-- Every cost or none. `level` and `taken` only tell RETURNING what came of it: a refusal changes nothing else, and leaves
-- out buckets that were never seen (they are full). At least the one that lacks its cost was seen.
INSERT INTO buckets (key, units, last, token, full_at, level, taken)
SELECT key,
  CASE WHEN enough THEN units - cost ELSE held END,
  CASE WHEN enough THEN now ELSE last END,
  CASE WHEN enough THEN token ELSE held_token END,
  CASE WHEN enough THEN now + (full - (units - cost) + rate - 1) / rate ELSE full_at END,
  units - cost * enough,
  enough
FROM levels, (SELECT NOT EXISTS (SELECT 1 FROM levels WHERE units < cost) AS enough)
WHERE enough OR held IS NOT NULL
ON CONFLICT (key) DO UPDATE SET units = excluded.units, last = excluded.last, token = excluded.token,
  full_at = excluded.full_at, level = excluded.level, taken = excluded.taken
RETURNING key, level, taken
