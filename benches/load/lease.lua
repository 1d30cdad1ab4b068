-- A consumer of a group: leases, and acknowledges what it was given. Arguments: the topic, the group, messages of a lease, the key.
-- Acknowledgements go first. What a thread has leased, whichever of its connections asks next acknowledges.
local lease, path, waiting, headers

function init(args)
   path = "/api/topics/" .. args[1] .. "/groups/" .. args[2] .. "/"
   headers = { ["authorization"] = "Bearer " .. args[4], ["content-type"] = "application/json" }
   lease = wrk.format("POST", path .. "lease", headers, '{"limit":' .. args[3] .. ',"leaseSeconds":60}')
   waiting = {}
end

function request()
   local ids = table.remove(waiting)
   if ids then
      return wrk.format("POST", path .. "ack", headers, '{"leaseIds":[' .. ids .. "]}")
   end
   return lease
end

function response(status, _, body)
   local ids = {}
   for id in body:gmatch('"leaseId":("[^"]+")') do
      ids[#ids + 1] = id
   end
   if #ids > 0 then
      waiting[#waiting + 1] = table.concat(ids, ",")
   end
end
