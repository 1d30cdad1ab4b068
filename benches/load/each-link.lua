-- Every link once, by a machine: its visits are not counted, so only the link itself comes into memory.
-- Arguments: the first link, and how many.
local first, next, last, tail

function init(args)
   first = tonumber(args[1])
   next = first
   last = next + tonumber(args[2])
   wrk.headers["x-client-id"] = "client-1"
   wrk.headers["user-agent"] = "bench-bot"
   tail = wrk.format("GET", "/"):match("^GET /( .*)$")
end

function request()
   if next >= last then
      finish(last - first)
   end
   next = next + 1
   return string.format("GET /%07d", next - 1) .. tail
end
