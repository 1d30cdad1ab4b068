-- Any of the first LINKS links, one client. Argument: links. For more links than requests could be made beforehand.
local links, tail

function init(args)
   links = tonumber(args[1])
   wrk.headers["x-client-id"] = "client-1"
   tail = wrk.format("GET", "/"):match("^GET /( .*)$")
end

function request()
   return string.format("GET /%07d", math.random(links) - 1) .. tail
end
