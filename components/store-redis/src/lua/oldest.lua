-- The oldest messages of the topic ARGV[1], at most ARGV[2], and no more once ARGV[3] bytes were looked at: the newest sequence, the bytes
-- of all, the store's time; then of each sequence, time and weight.
local topic, most = ARGV[1], tonumber(ARGV[3])
local last, first, bytes = extent(topic)
local reply, seen = { decimal(last), decimal(bytes), decimal(now) }, 0
for sequence = first, math.min(last, first + tonumber(ARGV[2]) - 1) do
  local raw = call('HGET', MESSAGES, message(topic, sequence))
  local sent, place = string.match(raw, '^(%d+) %d+ %d+ %d+ %d+ %d+ ()')
  for _, one in ipairs({ decimal(sequence), sent, decimal(512 + #topic + #raw - place + 1) }) do
    reply[#reply + 1] = one
  end
  seen = seen + #raw
  if seen > most then break end
end
return reply
