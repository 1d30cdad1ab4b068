-- What every script of the store begins with. No script writes anything before all is decided, and the first thing that it writes is
-- one that Redis refuses when it may not write (a replica, no memory left, a disk that fails). So a script is carried out or not.
--
-- meta: schema, revision (of the last commit), now (the store's clock at it, Unix milliseconds), sizes (of all others)
-- entries: by key `version expires value`; `expires` is empty for an entry that stays
-- keys: the same keys, in the order of their bytes; expiries: those that expire, soonest first
-- ids: by idempotence id `expires length-of-fingerprint fingerprint answer`; forgets: the same ids, soonest first
-- topics: names in the order of their bytes; extents: by name `last first bytes first-time last-time`
-- messages: by topic, NUL, sequence `time` and what `message.rs` writes
--
-- Numbers of Lua are exact up to 2^53, which no version, sequence, time or weight of ours reaches. Counters go further: see commit.lua.
local META, ENTRIES, KEYS_OF_ENTRIES, EXPIRIES, IDS, FORGETS, TOPICS, EXTENTS, MESSAGES =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local call = redis.call

local function decimal(number)
  return string.format('%.0f', number)
end

-- How much each key holds: all are O(1).
local function sizes()
  local all = {}
  for n, key in ipairs({ ENTRIES, IDS, EXTENTS, MESSAGES }) do all[n] = call('HLEN', key) end
  for n, key in ipairs({ KEYS_OF_ENTRIES, EXPIRIES, FORGETS, TOPICS }) do all[n + 4] = call('ZCARD', key) end
  return table.concat(all, ' ')
end

local meta = call('HMGET', META, 'schema', 'revision', 'now', 'sizes')
if meta[1] and meta[1] ~= '1' then
  return redis.error_reply('TOLLGATE the data are of another version')
end
-- Redis may have evicted a key, or somebody removed it: a stock that is gone must not be sold again.
if sizes() ~= (meta[4] or '0 0 0 0 0 0 0 0') then
  return redis.error_reply('TOLLGATE a part of the data is missing')
end
local clock = call('TIME')
-- The store's time never runs backwards, though the machine's clock may.
local now = math.max(tonumber(meta[3] or '0'), tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000))

-- The version, the expiry and the value's place of an entry as it is stored; nothing for one that has expired.
local function live(raw)
  if not raw then return nil end
  local version, expires, place = string.match(raw, '^(%d+) (%d*) ()')
  if expires ~= '' and tonumber(expires) <= now then return nil end
  return version, expires, place
end

-- Up to which sequence a topic's messages went when it was deleted: 0 if it never was.
local function gone(topic)
  local raw = call('HGET', ENTRIES, 'topic-deleted/' .. topic)
  local _, _, place = live(raw)
  return place and tonumber(string.match(raw, '^[1-9]%d*$', place)) or 0
end

local function extent(topic)
  local last, first, bytes, first_time, last_time = string.match(call('HGET', EXTENTS, topic) or '', '^(%d+) (%d+) (%d+) (%d*) (%d*)$')
  return tonumber(last or 0), tonumber(first or 1), tonumber(bytes or 0), first_time or '', last_time or ''
end

local function set_extent(topic, last, first, bytes, first_time, last_time)
  call('HSET', EXTENTS, topic, table.concat({ decimal(last), decimal(first), decimal(bytes), first_time, last_time }, ' '))
end

local function message(topic, sequence)
  return topic .. '\0' .. decimal(sequence)
end

-- To be called after whatever a script has written.
local function remember_sizes()
  call('HSET', META, 'sizes', sizes())
end

local function remove(key)
  if call('HDEL', ENTRIES, key) == 1 then
    call('ZREM', KEYS_OF_ENTRIES, key)
    call('ZREM', EXPIRIES, key)
  end
end
