-- One claim per user, every user a new one. Argument: the number of the first user.
local user, head, tail

function init(args)
   user = tonumber(args[1])
   wrk.headers["x-user-id"] = "@"
   wrk.headers["content-length"] = "0"
   head, tail = wrk.format("POST", wrk.path):match("^(.*)@(.*)$")
end

function request()
   user = user + 1
   return head .. "u" .. user .. tail
end
