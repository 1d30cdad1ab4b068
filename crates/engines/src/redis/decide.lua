-- Decides token buckets, each on its own, by the server's clock. KEYS[1]: the number of the last batch of this gateway, kept for ARGV[2]
-- milliseconds; ARGV[1]: the number of this one. A batch that comes again charges nothing and gives nothing back.
-- KEYS[n + 1]: the nth bucket, "level microsecond token", or none: full. ARGV has seven numbers of each: units of a token, units gained
-- each microsecond, units of a full bucket, tokens wanted, in multiples of how many they are granted (0: all, also below zero), tokens
-- that are given back first, and the microsecond at which those were granted. No number is above 2^53, so that all are exact.
-- Answers the microsecond, and of each bucket its level in units and the tokens granted.
local LEAST = -4503599627370496
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local is_new = tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or '0')
if is_new then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
local answer = { now }
local place = 3
for n = 2, #KEYS do
  local token, rate, full = tonumber(ARGV[place]), tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])
  local wanted, step = tonumber(ARGV[place + 3]), tonumber(ARGV[place + 4])
  local back, back_at = tonumber(ARGV[place + 5]), tonumber(ARGV[place + 6])
  place = place + 7
  local level, at = full, now
  local kept = redis.call('GET', KEYS[n])
  if kept then
    local units, since, before = string.match(kept, '^(-?%d+) (%d+) (%d+)$')
    level, at, before = tonumber(units), tonumber(since), tonumber(before)
    if before ~= token then
      -- Rounded down: a change of settings admits no more.
      local whole = math.floor(level / before)
      level = whole * token + math.max(math.floor((level - whole * before) / before * token) - 1, 0)
    end
    if now > at then
      level = level + (now - at) * rate
      at = now
    end
    if is_new and back > 0 and at >= back_at then
      level = level + math.max(back * token - (at - back_at) * rate, 0)
    end
    level = math.min(level, full)
  end
  local granted = 0
  if step > 0 then
    local each, there = token * step, math.max(level, 0)
    granted = math.min(wanted, (there - math.fmod(there, each)) / each * step)
  elseif is_new then
    granted = wanted
  end
  level = math.max(level - granted * token, LEAST)
  if level >= full then
    redis.call('DEL', KEYS[n])
  else
    -- A bucket that is full by then is as if it had never been seen.
    local wait = math.ceil(((full - level) / rate + at - now) / 1000) + 1000
    redis.call('SET', KEYS[n], string.format('%.0f %.0f %.0f', level, at, token), 'PX', string.format('%.0f', wait))
  end
  answer[#answer + 1] = level
  answer[#answer + 1] = granted
end
return answer
