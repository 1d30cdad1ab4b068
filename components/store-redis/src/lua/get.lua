-- The entries of the keys in ARGV, in their order; nothing (false) for one that is not there.
local reply = {}
if #ARGV > 0 then
  for n, raw in ipairs(call('HMGET', ENTRIES, unpack(ARGV))) do
    reply[n] = live(raw) and raw or ''
  end
end
return reply
