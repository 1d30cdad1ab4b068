-- One claim per user, every user a new one. Arguments: the number of the first user; whether users come in the order of their
-- ids or (`scattered`) in none.
local user, scattered, head, tail

function init(args)
   user, scattered = tonumber(args[1]), args[2] == "scattered"
   wrk.headers["x-user-id"] = "@"
   wrk.headers["content-length"] = "0"
   head, tail = wrk.format("POST", wrk.path):match("^(.*)@(.*)$")
end

function request()
   user = user + 1
   -- 2654435761 is odd, so that no two of 2^32 users get the same id.
   local id = scattered and string.format("%010d", user * 2654435761 % 4294967296) or user
   return head .. "u" .. id .. tail
end
