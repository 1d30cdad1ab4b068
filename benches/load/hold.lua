-- Holds and their confirmations, by turns: every user is a new one. Argument: the number of the first user. What a thread holds,
-- whichever of its connections asks next confirms.
local user, head, tail, path, waiting

function init(args)
   user, path, waiting = tonumber(args[1]), wrk.path, {}
   wrk.headers["x-user-id"] = "@"
   wrk.headers["content-length"] = "0"
   head, tail = wrk.format("POST", path):match("^(.*)@(.*)$")
end

function request()
   local claim = table.remove(waiting)
   if claim then
      return wrk.format("POST", path .. "/" .. claim.id .. "/confirm", { ["x-user-id"] = claim.user, ["content-length"] = "0" })
   end
   user = user + 1
   return head .. "u" .. user .. tail
end

function response(status, _, body)
   if status == 201 then
      waiting[#waiting + 1] = { id = body:match('"id":"([^"]+)"'), user = body:match('"user":"([^"]+)"') }
   end
end
