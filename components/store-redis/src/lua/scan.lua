-- Entries from ARGV[1] (a bound of ZRANGEBYLEX) to before ARGV[2], at most ARGV[3] and no more than ARGV[4] bytes, but for the first. It
-- looks at no more than ARGV[5] keys. First the key to go on after, empty at the end; then key and entry in turn.
local limit, most, looks = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local found = call('ZRANGEBYLEX', KEYS_OF_ENTRIES, ARGV[1], ARGV[2], 'LIMIT', 0, looks)
local reply, bytes = { '' }, 0
for n, key in ipairs(found) do
  local raw = call('HGET', ENTRIES, key)
  if live(raw) then
    bytes = bytes + #key + #raw
    if #reply > 1 and bytes > most then
      return reply
    end
    reply[#reply + 1] = key
    reply[#reply + 1] = raw
    if #reply > 2 * limit then
      return reply
    end
  end
  if n == looks then reply[1] = key end
end
return reply
