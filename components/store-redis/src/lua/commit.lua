-- One commit, judged and carried out, as `interface store` in wit/edge.wit has it. What is asked for is a flat list (arguments.rs); a flat
-- list is the answer, too:
--   committed version time sums… sequences… | replayed answer | conflict | condition index | mutation index | counter index
local at = 0
local function argument()
  at = at + 1
  return ARGV[at]
end
local function count()
  return tonumber(argument())
end

-- A number of 64 bits as two that Lua has exactly: high * 10^9 + low, where low is never negative. So pairs compare as they stand.
local BASE = 1000000000
local function pair(text)
  local digits = string.match(text, '%d+')
  local high, low = tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
  if string.sub(text, 1, 1) == '-' then
    high, low = 0 - high, 0 - low
    if low < 0 then high, low = high - 1, low + BASE end
  end
  return { high, low }
end
local function less(a, b)
  return a[1] < b[1] or a[1] == b[1] and a[2] < b[2]
end
local function sum(a, b)
  local high, low = a[1] + b[1], a[2] + b[2]
  if low >= BASE then high, low = high + 1, low - BASE end
  return { high, low }
end
local function text_of(a)
  local high, low, sign = a[1], a[2], ''
  if high < 0 then
    sign = '-'
    if low > 0 then high, low = high + 1, BASE - low end
    high = 0 - high
  end
  if high == 0 then return sign .. decimal(low) end
  return sign .. decimal(high) .. string.format('%09.0f', low)
end
local LEAST, MOST = pair('-9223372036854775808'), pair('9223372036854775807')
local function between(a, least, most)
  return not less(a, least) and not less(most, a)
end
-- A counter's value has one form only: no sign `+`, no leading zeros, no spaces.
local function counter(text)
  if text ~= '0' and not string.match(text, '^%-?[1-9]%d*$') or #text > 20 then return nil end
  local value = pair(text)
  return between(value, LEAST, MOST) and value or nil
end

local function template()
  local parts = {}
  for n = 1, count() do parts[n] = argument() end
  return parts
end

local id, fingerprint, ttl, answer = argument()
if id ~= '' then
  fingerprint, ttl, answer = argument(), count(), template()
  local raw = call('HGET', IDS, id)
  if raw then
    local expires, length, place = string.match(raw, '^(%d+) (%d+) ()')
    if tonumber(expires) > now then
      local after = place + tonumber(length)
      if string.sub(raw, place, after - 1) ~= fingerprint then return { 'conflict' } end
      return { 'replayed', string.sub(raw, after) }
    end
  end
end

for index = 0, count() - 1 do
  local kind, holds = argument(), nil
  if kind == 'absent' then
    holds = not live(call('HGET', ENTRIES, argument()))
  elseif kind == 'version' then
    local version = live(call('HGET', ENTRIES, argument()))
    holds = version == argument()
  elseif kind == 'now' then
    local from, to = argument(), argument()
    holds = (from == '' or tonumber(from) <= now) and (to == '' or now < tonumber(to))
  else
    local _, _, bytes = extent(argument())
    holds = bytes < count()
  end
  if not holds then return { 'condition', index } end
end

local mutations = {}
for index = 0, count() - 1 do
  local kind, key = argument(), argument()
  local one = { kind = kind, key = key, expires = '', sum = '0' }
  if kind == 'set' then
    one.expires, one.value = argument(), template()
  elseif kind == 'add' then
    local delta, least, most = argument(), argument(), argument()
    local raw = call('HGET', ENTRIES, key)
    local _, expires, place = live(raw)
    local before = place and counter(string.sub(raw, place))
    if place and not before then return { 'counter', index } end
    local after = sum(before or pair('0'), pair(delta))
    local is_within = between(after, least == '' and LEAST or pair(least), most == '' and MOST or pair(most))
    if not is_within or not between(after, LEAST, MOST) then return { 'mutation', index } end
    one.sum, one.expires = text_of(after), expires or ''
  end
  mutations[index + 1] = one
end

local appends, extents, order = {}, {}, {}
for n = 1, count() do
  local topic = argument()
  if not extents[topic] then
    extents[topic] = { extent(topic) }
    order[#order + 1] = topic
  end
  local last = extents[topic][1] + 1
  extents[topic][1] = last
  local weight, head, payload = count(), argument(), template()
  appends[n] = { topic = topic, sequence = last, weight = weight, head = head, payload = payload }
end

-- A part is what it says after its first letter, or a number that is known only now.
local time = decimal(now)
local function render(parts)
  local out = {}
  for n, part in ipairs(parts) do
    local kind, rest = string.sub(part, 1, 1), string.sub(part, 2)
    if kind == 'b' then
      out[n] = rest
    elseif kind == 's' then
      out[n] = mutations[tonumber(rest) + 1].sum
    elseif kind == 'q' then
      out[n] = decimal(appends[tonumber(rest) + 1].sequence)
    else
      out[n] = time
    end
  end
  return table.concat(out)
end

local version = decimal(tonumber(meta[2] or '0') + 1)
call('HSET', META, 'schema', '1', 'revision', version, 'now', time)
local reply = { 'committed', version, time }

for n, one in ipairs(mutations) do
  if one.kind == 'delete' then
    remove(one.key)
  else
    local value = one.kind == 'add' and one.sum or render(one.value)
    local is_new = call('HSET', ENTRIES, one.key, version .. ' ' .. one.expires .. ' ' .. value) == 1
    if is_new then call('ZADD', KEYS_OF_ENTRIES, 0, one.key) end
    if one.expires ~= '' then
      call('ZADD', EXPIRIES, one.expires, one.key)
    elseif not is_new then
      call('ZREM', EXPIRIES, one.key)
    end
  end
  reply[n + 3] = one.sum
end

for _, one in ipairs(appends) do
  local payload, grown = render(one.payload), extents[one.topic]
  call('HSET', MESSAGES, message(one.topic, one.sequence), time .. ' ' .. one.head .. payload)
  grown[3] = grown[3] + one.weight + #payload
  reply[#reply + 1] = decimal(one.sequence)
end
for _, topic in ipairs(order) do
  local grown = extents[topic]
  set_extent(topic, grown[1], grown[2], grown[3], grown[4] == '' and time or grown[4], time)
  call('ZADD', TOPICS, 0, topic)
end

if id ~= '' then
  local expires = decimal(now + ttl)
  call('HSET', IDS, id, expires .. ' ' .. #fingerprint .. ' ' .. fingerprint .. render(answer))
  call('ZADD', FORGETS, expires, id)
end
remember_sizes()
return reply
