-- A topic that was deleted and of which messages are left: its name, and the newest sequence that went. It looks at ARGV[3] deletions from
-- ARGV[1] (a bound of ZRANGEBYLEX) to before ARGV[2]. First the key to go on after, empty at the end.
local keys = call('ZRANGEBYLEX', KEYS_OF_ENTRIES, ARGV[1], ARGV[2], 'LIMIT', 0, tonumber(ARGV[3]))
for _, key in ipairs(keys) do
  local topic = string.sub(key, #'topic-deleted/' + 1)
  local last, first = extent(topic)
  local through = math.min(gone(topic), last)
  if first <= through then return { '', topic, decimal(through) } end
end
return { #keys == tonumber(ARGV[3]) and keys[#keys] or '' }
