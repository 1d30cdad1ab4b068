-- A claim in Redis: one per user, while stock lasts, and a message for the origin.
-- KEYS: the users who claimed, the stock, the stream. ARGV: the user. The sequence, or why there is none.
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 'already-claimed' end
if tonumber(redis.call('GET', KEYS[2]) or '0') <= 0 then return 'sold-out' end
redis.call('DECR', KEYS[2])
redis.call('SADD', KEYS[1], ARGV[1])
return redis.call('XADD', KEYS[3], '*', 'user', ARGV[1])
