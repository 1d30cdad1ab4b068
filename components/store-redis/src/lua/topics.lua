-- Topics from ARGV[1] (a bound of ZRANGEBYLEX) on, at most ARGV[2]: name, last, first, bytes, and the times of the first and the last
-- message that is kept, or empty texts.
local reply = {}
for _, topic in ipairs(call('ZRANGEBYLEX', TOPICS, ARGV[1], '+', 'LIMIT', 0, tonumber(ARGV[2]))) do
  local last, first, bytes, first_time, last_time = extent(topic)
  local through = gone(topic)
  if last <= through then
    first, bytes, first_time, last_time = last + 1, 0, '', ''
  elseif first <= through then
    first = through + 1
    first_time = string.match(call('HGET', MESSAGES, message(topic, first)), '^%d+')
  end
  for _, one in ipairs({ topic, decimal(last), decimal(first), decimal(bytes), first_time, last_time }) do
    reply[#reply + 1] = one
  end
end
return reply
