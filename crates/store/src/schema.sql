-- The tables of a Tollgate database, schema version 1. The native engine and the store component for Spin use the
-- same ones, so that a file moves between the two. Times are Unix milliseconds.

CREATE TABLE IF NOT EXISTS meta (
  name TEXT NOT NULL PRIMARY KEY,  -- schema (2 while the native engine has the database, or was killed), revision (of the last commit), now (the store's clock at it), weighed
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS entries (
  key TEXT NOT NULL PRIMARY KEY,
  value BLOB NOT NULL,
  version INTEGER NOT NULL,        -- the revision of the commit that wrote it last
  expires INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;

-- What the native engine has not written into `entries` and `idempotence` yet: the keys (and ids, after a NUL) that a group
-- of commits changed, and what they then hold, packed. Newer than those, and in the order of revisions. Empty whenever `meta` says schema 1.
CREATE TABLE IF NOT EXISTS journal (
  revision INTEGER NOT NULL PRIMARY KEY,  -- of the group's last commit
  changes BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS topics (
  name TEXT NOT NULL PRIMARY KEY,
  last INTEGER NOT NULL,           -- the newest sequence given out
  bytes INTEGER NOT NULL           -- what the messages that are kept weigh (`WEIGHT` in schema.rs), once `meta` says `weighed`
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS messages (
  topic TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  id TEXT NOT NULL,
  key TEXT NOT NULL,
  type TEXT NOT NULL,
  content_type TEXT NOT NULL,
  time INTEGER NOT NULL,
  payload BLOB NOT NULL,
  attributes BLOB NOT NULL DEFAULT x'',  -- databases of the version before get it when they are opened
  PRIMARY KEY (topic, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS idempotence (
  id TEXT NOT NULL PRIMARY KEY,
  fingerprint BLOB NOT NULL,
  answer BLOB NOT NULL,
  expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS idempotence_by_expiry ON idempotence (expires);

INSERT OR IGNORE INTO meta (name, value) VALUES ('schema', 1), ('revision', 0), ('now', 0);
