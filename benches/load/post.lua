-- Messages, each posted by itself. Arguments: the key, and how many.
local left, all

function init(args)
   wrk.headers["authorization"] = "Bearer " .. args[1]
   wrk.headers["content-type"] = "application/json"
   all = tonumber(args[2])
   left = all
   wrk.method = "POST"
   wrk.body = '{"event":"order.paid","order":"0123456789","amount":1999}'
end

function request()
   if left <= 0 then
      finish(all)
   end
   left = left - 1
   return wrk.format()
end
