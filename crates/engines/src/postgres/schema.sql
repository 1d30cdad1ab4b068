-- The tables of a Tollgate store on Postgres, schema version 1. Times are Unix milliseconds.

CREATE TABLE IF NOT EXISTS tollgate_meta (
  name text COLLATE "C" PRIMARY KEY,   -- schema, lanes
  value bigint NOT NULL
);

-- A lane is the lock, the clock and the counter of versions of the partitions that fall to it.
CREATE TABLE IF NOT EXISTS tollgate_lanes (
  lane integer PRIMARY KEY,
  revision bigint NOT NULL,            -- of the last commit; versions of different lanes never meet
  now bigint NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE IF NOT EXISTS tollgate_entries (
  key text COLLATE "C" PRIMARY KEY,
  value bytea NOT NULL,
  version bigint NOT NULL,
  expires bigint
);

CREATE INDEX IF NOT EXISTS tollgate_entries_by_expiry ON tollgate_entries (expires) WHERE expires IS NOT NULL;

CREATE TABLE IF NOT EXISTS tollgate_topics (
  name text COLLATE "C" PRIMARY KEY,
  last bigint NOT NULL,                -- the newest sequence given out; 0 for a topic that has had no message yet
  bytes bigint NOT NULL,
  time bigint NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE IF NOT EXISTS tollgate_messages (
  topic text COLLATE "C" NOT NULL,
  sequence bigint NOT NULL,
  id text NOT NULL,
  key text NOT NULL,
  type text NOT NULL,
  content_type text NOT NULL,
  time bigint NOT NULL,
  attributes bytea NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (topic, sequence)
);

CREATE TABLE IF NOT EXISTS tollgate_idempotence (
  id text COLLATE "C" PRIMARY KEY,
  fingerprint bytea NOT NULL,
  answer bytea NOT NULL,
  expires bigint NOT NULL
);

CREATE INDEX IF NOT EXISTS tollgate_idempotence_by_expiry ON tollgate_idempotence (expires);

-- What each writer has committed last: it tells what became of a COMMIT whose answer was lost.
CREATE TABLE IF NOT EXISTS tollgate_writers (
  id text PRIMARY KEY,
  number bigint NOT NULL,
  seen bigint NOT NULL
) WITH (fillfactor = 10);

-- Limits that gateways share: levels, in fractions of a token, at a time in microseconds. Empty after a crash: buckets are full.
CREATE UNLOGGED TABLE IF NOT EXISTS tollgate_buckets (
  key text COLLATE "C" PRIMARY KEY,
  level bigint NOT NULL,               -- below zero where gateways admitted before they told
  at bigint NOT NULL,
  token bigint NOT NULL,
  rate bigint NOT NULL,                -- each nanosecond
  whole bigint NOT NULL,
  charge bigint NOT NULL
) WITH (fillfactor = 50);

-- The last report of each gateway, so that one that is repeated is charged once.
CREATE UNLOGGED TABLE IF NOT EXISTS tollgate_reports (
  gateway text PRIMARY KEY,
  number bigint NOT NULL,
  seen bigint NOT NULL
) WITH (fillfactor = 10);
