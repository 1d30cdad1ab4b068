-- Messages of the topic ARGV[1] after ARGV[2], at most ARGV[3] and no more than ARGV[4] bytes, but for the first: sequence and message in
-- turn. None that went when a topic of this name was deleted.
local topic, most = ARGV[1], tonumber(ARGV[4])
local last, first = extent(topic)
local from = math.max(tonumber(ARGV[2]), gone(topic), first - 1) + 1
local reply, bytes = {}, 0
for sequence = from, math.min(last, from + tonumber(ARGV[3]) - 1) do
  local raw = call('HGET', MESSAGES, message(topic, sequence))
  bytes = bytes + #raw
  if #reply > 0 and bytes > most then break end
  reply[#reply + 1] = decimal(sequence)
  reply[#reply + 1] = raw
end
return reply
