-- Every cost or none, of token buckets: the arithmetic of `bucket::State` in crates/store, whose numbers have 62 bits and products of
-- them 124. ARGV: the time (nanoseconds since 1970; empty: Redis' clock), whether it only looks (1), how many buckets are kept; then key,
-- token, rate, full and cost of each bucket, each key once. The answer: whether all was granted, then key and units of each.
--
-- buckets: by key `units last token`; fulls: the same keys, soonest full first, in milliseconds
local BUCKETS, FULLS = KEYS[1], KEYS[2]
local call = redis.call

-- Numbers as limbs of seven digits, the lowest first: products of two limbs, and sums of some, are exact.
local BASE, DIGITS = 10000000, 7
local function shorten(a)
  while #a > 1 and a[#a] == 0 do a[#a] = nil end
  return a
end
local function number(text)
  local limbs = {}
  for last = #text, 1, -DIGITS do
    limbs[#limbs + 1] = tonumber(string.sub(text, math.max(1, last - DIGITS + 1), last))
  end
  return shorten(limbs)
end
local function text_of(a)
  local out = { string.format('%d', a[#a]) }
  for n = #a - 1, 1, -1 do out[#out + 1] = string.format('%07d', a[n]) end
  return table.concat(out)
end
local function less(a, b)
  if #a ~= #b then return #a < #b end
  for n = #a, 1, -1 do
    if a[n] ~= b[n] then return a[n] < b[n] end
  end
  return false
end
local function least(a, b)
  return less(b, a) and b or a
end
local function add(a, b)
  local out, carry = {}, 0
  for n = 1, math.max(#a, #b) do
    local limb = (a[n] or 0) + (b[n] or 0) + carry
    carry = limb >= BASE and 1 or 0
    out[n] = limb - carry * BASE
  end
  if carry > 0 then out[#out + 1] = carry end
  return out
end
-- Of a and one that is not greater.
local function subtract(a, b)
  local out, borrow = {}, 0
  for n = 1, #a do
    local limb = a[n] - (b[n] or 0) - borrow
    borrow = limb < 0 and 1 or 0
    out[n] = limb + borrow * BASE
  end
  return shorten(out)
end
local function multiply(a, b)
  local out = {}
  for n = 1, #a + #b do out[n] = 0 end
  for i = 1, #a do
    local carry = 0
    for j = 1, #b do
      local limb = out[i + j - 1] + a[i] * b[j] + carry
      carry = math.floor(limb / BASE)
      out[i + j - 1] = limb - carry * BASE
    end
    out[i + #b] = out[i + #b] + carry
  end
  return shorten(out)
end
-- Digit by digit, as on paper: it is needed only when a bucket's parameters were changed.
local function divide(a, b)
  local out, rest = {}, { 0 }
  for digit in string.gmatch(text_of(a), '%d') do
    rest = shorten(add(multiply(rest, { 10 }), { tonumber(digit) }))
    local times = 0
    while not less(rest, b) do rest, times = subtract(rest, b), times + 1 end
    out[#out + 1] = string.format('%d', times)
  end
  return number(table.concat(out))
end
local function approximately(a)
  local value = 0
  for n = #a, 1, -1 do value = value * BASE + a[n] end
  return value
end

local now = ARGV[1]
if now == '' then
  local clock = call('TIME')
  now = clock[1] .. string.format('%06d', tonumber(clock[2])) .. '000'
end
now = number(now)
local looks, kept = ARGV[2] == '1', tonumber(ARGV[3])

local asked, reply, granted = {}, { '1' }, true
for at = 4, #ARGV, 5 do
  local one = { key = ARGV[at], token = ARGV[at + 1], rate = number(ARGV[at + 2]), full = number(ARGV[at + 3]), cost = number(ARGV[at + 4]) }
  one.units, one.last = one.full, now
  local raw = call('HGET', BUCKETS, one.key)
  if raw then
    local units, last, token = string.match(raw, '^(%d+) (%d+) (%d+)$')
    units, last = number(units), number(last)
    if token ~= one.token then
      -- It keeps its tokens and their fraction, up to its new capacity.
      units = divide(multiply(units, number(one.token)), number(token))
    end
    -- A clock that stepped back stands still.
    if less(now, last) then
      one.last = last
    else
      units = add(units, multiply(subtract(now, last), one.rate))
    end
    one.units = least(one.full, units)
  end
  if less(one.units, one.cost) then granted = false end
  asked[#asked + 1] = one
end
if granted and not looks then
  for _, one in ipairs(asked) do one.units = subtract(one.units, one.cost) end
end
reply[1] = granted and '1' or '0'
for _, one in ipairs(asked) do
  reply[#reply + 1] = one.key
  reply[#reply + 1] = text_of(one.units)
end
if not granted or looks then return reply end

for _, one in ipairs(asked) do
  call('HSET', BUCKETS, one.key, text_of(one.units) .. ' ' .. text_of(one.last) .. ' ' .. one.token)
  local missing = approximately(subtract(one.full, one.units)) / approximately(one.rate)
  call('ZADD', FULLS, string.format('%.0f', (approximately(one.last) + missing) / 1000000), one.key)
end
-- A full bucket and one that was never seen are the same, but for a clock that steps back: so it goes a minute later. More go than
-- come, so that this keeps the bound; beyond it those that are full soonest, whose loss lets the least through.
local over = call('ZCARD', FULLS) - kept
local before = string.format('%.0f', approximately(now) / 1000000 - 60000)
local gone = call('ZRANGEBYSCORE', FULLS, '-inf', before, 'LIMIT', 0, 2 * #asked)
if over > #gone then
  gone = call('ZRANGE', FULLS, 0, math.min(over, 2 * #asked) - 1)
end
if #gone > 0 then
  call('HDEL', BUCKETS, unpack(gone))
  call('ZREM', FULLS, unpack(gone))
end
return reply
