-- Token buckets: volatile, so any row may be dropped, though best one that is nearly full. Times are nanoseconds.
CREATE TABLE IF NOT EXISTS buckets (
  key TEXT NOT NULL PRIMARY KEY,
  units INTEGER NOT NULL,          -- held at `last`
  last INTEGER NOT NULL,
  token INTEGER NOT NULL,          -- units of a token
  full_at INTEGER NOT NULL,
  taken INTEGER NOT NULL           -- whether the last take of it was granted
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS buckets_by_full ON buckets (full_at);
