-- Removes what has expired: at most ARGV[1] entries, and as many idempotence ids. Whether there may be more.
local limit = tonumber(ARGV[1])
local ended = call('ZRANGEBYSCORE', EXPIRIES, '-inf', decimal(now), 'LIMIT', 0, limit)
for _, key in ipairs(ended) do remove(key) end
local forgotten = call('ZRANGEBYSCORE', FORGETS, '-inf', decimal(now), 'LIMIT', 0, limit)
if #forgotten > 0 then
  call('HDEL', IDS, unpack(forgotten))
  call('ZREM', FORGETS, unpack(forgotten))
end
if #ended + #forgotten > 0 then remember_sizes() end
return { (#ended == limit or #forgotten == limit) and '1' or '0' }
