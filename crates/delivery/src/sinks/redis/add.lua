-- Adds entries to the stream KEYS[1] that are not known yet. KEYS[n + 1] marks the nth as known for ARGV[1] milliseconds,
-- unless that is 0: then it is added in any case.
-- ARGV[2]: about how many entries the stream keeps, or 0. Then, of each entry: how many arguments follow, and its fields.
-- Marked after it was added: an error in between may add one twice, and loses none.
local known, at = ARGV[1] ~= '0', 3
for n = 2, #KEYS do
  local count = tonumber(ARGV[at])
  if not known or redis.call('EXISTS', KEYS[n]) == 0 then
    local entry = { 'XADD', KEYS[1] }
    if ARGV[2] ~= '0' then
      entry[3], entry[4], entry[5] = 'MAXLEN', '~', ARGV[2]
    end
    entry[#entry + 1] = '*'
    for field = at + 1, at + count do
      entry[#entry + 1] = ARGV[field]
    end
    redis.call(unpack(entry))
    if known then
      redis.call('SET', KEYS[n], '', 'PX', ARGV[1])
    end
  end
  at = at + count + 1
end
return redis.status_reply('OK')
