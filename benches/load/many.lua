-- Any of the first LINKS links, any of CLIENTS clients. Arguments: links, clients.
-- The requests are made beforehand, so that the generator's own cost stays small.
local READY = 100000
local ready = {}

function init(args)
   local links, clients = tonumber(args[1]), tonumber(args[2])
   for n = 1, READY do
      wrk.headers["x-client-id"] = "client-" .. math.random(clients)
      ready[n] = wrk.format("GET", string.format("/%07d", math.random(links) - 1))
   end
end

function request()
   return ready[math.random(READY)]
end
