-- One link, every client once. Arguments: the first client, and how many.
local first, next, last, head, tail

function init(args)
   first = tonumber(args[1])
   next = first
   last = next + tonumber(args[2])
   wrk.headers["x-client-id"] = "@"
   head, tail = wrk.format("GET", wrk.path):match("^(.*)@(.*)$")
end

function request()
   if next >= last then
      finish(last - first)
   end
   next = next + 1
   return head .. "client-" .. next .. tail
end
