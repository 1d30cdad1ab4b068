-- Removes the messages of the topic ARGV[1] up to and with the sequence ARGV[2], at most ARGV[3], and no more once they had ARGV[4] bytes,
-- each with the entry that goes with it. May be done twice. The number of those that are left to be removed so.
local topic = ARGV[1]
local last, first, bytes, first_time, last_time = extent(topic)
local to = math.min(tonumber(ARGV[2]), last)
if to < first then return { '0' } end
local stop, most, seen, fields, records = first, tonumber(ARGV[4]), 0, {}, {}
for sequence = first, math.min(to, first + tonumber(ARGV[3]) - 1) do
  local field = message(topic, sequence)
  local raw = call('HGET', MESSAGES, field)
  local length, place = string.match(raw, '^%d+ (%d+) %d+ %d+ %d+ %d+ ()')
  bytes = bytes - (512 + #topic + #raw - place + 1)
  fields[#fields + 1], records[#records + 1] = field, 'message/' .. string.sub(raw, place, place + tonumber(length) - 1)
  stop, seen = sequence, seen + #raw
  if seen > most then break end
end
first_time = stop < last and string.match(call('HGET', MESSAGES, message(topic, stop + 1)), '^%d+') or ''
-- First what makes room: Redis takes that although its memory is full, and then the rest of the script, too.
call('HDEL', MESSAGES, unpack(fields))
for _, key in ipairs(records) do remove(key) end
set_extent(topic, last, stop + 1, bytes, first_time, stop < last and last_time or '')
remember_sizes()
return { decimal(to - stop) }
